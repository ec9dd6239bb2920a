"""How good are scores, given the labels? Everything here is a pure function of arrays."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.floating[Any]]
Classes = NDArray[np.integer[Any]]

EPSILON = 1e-7
OF_CLASSIFIERS = (
    "accuracy",
    "f1_macro",
    "f1_micro",
    "precision_macro",
    "recall_macro",
    "auc_macro",
    "log_loss",
    "calibration_error",
)
"""What `summarise` tells that a model's objective may name."""


def class_indices(labels: Sequence[str], names: Sequence[str]) -> NDArray[np.int64]:
    """Return the index in `names` of each label, shape (n,).

    Raises:
        KeyError: a label is not among the names.
    """
    index = {name: position for position, name in enumerate(names)}
    return np.asarray([index[label] for label in labels], dtype=np.int64)


def confusion(truth: Classes, predicted: Classes, n_classes: int) -> NDArray[np.int64]:
    """Return counts, shape (k, k): rows are the truth, columns the predictions."""
    flat = truth * n_classes + predicted
    return np.bincount(flat, minlength=n_classes**2).reshape(n_classes, n_classes)


def accuracy(truth: Classes, scores: Scores) -> float:
    """Return the share of rows whose largest score is the true class; NaN without rows."""
    return float(np.mean(scores.argmax(axis=1) == truth)) if len(truth) else float("nan")


def log_loss(truth: Classes, scores: Scores) -> float:
    """Return the mean negative log of the true class's probability, in nats; lower is better."""
    if not len(truth):
        return float("nan")
    chosen = scores[np.arange(len(truth)), truth].astype(np.float64)
    return float(-np.log(np.clip(chosen, EPSILON, 1.0)).mean())


def expected_calibration_error(truth: Classes, scores: Scores, *, n_bins: int = 15) -> float:
    """Return the mean gap between confidence and accuracy over equal-width bins, in [0, 1].

    The estimator of Guo et al. (2017); biased upwards in small samples. Lower is better.
    """
    if not len(truth):
        return float("nan")
    confidence = scores.max(axis=1)
    right = (scores.argmax(axis=1) == truth).astype(np.float64)
    bins = np.clip(np.ceil(confidence * n_bins).astype(int) - 1, 0, n_bins - 1)
    gap = np.abs(np.bincount(bins, weights=right - confidence, minlength=n_bins))
    return float(gap.sum() / len(truth))


def binary_auc(positive: NDArray[np.bool_], score: Scores) -> float:
    """Return the area under the ROC curve by ranks (ties count half); NaN if one side is empty."""
    n_positive = int(positive.sum())
    n_negative = len(positive) - n_positive
    if n_positive == 0 or n_negative == 0:
        return float("nan")
    _, inverse, counts = np.unique(score, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    won = float(ranks[positive].sum()) - n_positive * (n_positive + 1) / 2
    return won / (n_positive * n_negative)


def auc_macro(truth: Classes, scores: Scores) -> float:
    """Return the mean one-versus-rest AUC over the classes present; NaN if there is none."""
    areas = [binary_auc(truth == k, scores[:, k]) for k in range(scores.shape[1])]
    known = [area for area in areas if not np.isnan(area)]
    return float(np.mean(known)) if known else float("nan")


def _ratio(part: NDArray[np.int64], whole: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return part / whole, 0 where the whole is empty."""
    return np.divide(part, whole, out=np.zeros(len(part)), where=whole > 0)


def by_class(truth: Classes, scores: Scores, labels: Sequence[str]) -> dict[str, dict[str, float]]:
    """Return n, precision, recall and F1 of each label; a ratio without rows is 0."""
    table = confusion(truth, scores.argmax(axis=1), len(labels))
    hits = np.diag(table)
    precision = _ratio(hits, table.sum(axis=0))
    recall = _ratio(hits, table.sum(axis=1))
    f1 = _ratio(2 * hits, table.sum(axis=0) + table.sum(axis=1))
    return {
        label: {
            "n": int(table[k].sum()),
            "precision": float(precision[k]),
            "recall": float(recall[k]),
            "f1": float(f1[k]),
        }
        for k, label in enumerate(labels)
    }


def summarise(truth: Classes, scores: Scores, labels: Sequence[str]) -> dict[str, Any]:
    """Return every metric of one evaluation.

    Macro means run over the classes that are in the truth; a metric without enough rows is None.

    Args:
        truth: index of the true class, shape (n,).
        scores: probabilities, shape (n, k).
        labels: the k names.
    """
    classes = by_class(truth, scores, labels)
    present = [row for row in classes.values() if row["n"]]

    def macro(name: str) -> float:
        return float(np.mean([row[name] for row in present])) if present else float("nan")

    values = {
        "accuracy": accuracy(truth, scores),
        "precision_macro": macro("precision"),
        "recall_macro": macro("recall"),
        "f1_macro": macro("f1"),
        "f1_micro": accuracy(truth, scores),
        "auc_macro": auc_macro(truth, scores) if len(truth) else float("nan"),
        "log_loss": log_loss(truth, scores),
        "calibration_error": expected_calibration_error(truth, scores),
    }
    known = {name: None if np.isnan(value) else value for name, value in values.items()}
    return {"n": len(truth), **known, "by_class": classes}

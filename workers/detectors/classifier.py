"""Can a classifier tell the current window's embeddings from the reference's?"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from app.domain.drift import Measurement
from workers.detectors import (
    Kind,
    comparable_rows,
    detectors,
    impossible,
    options_schema,
    resampled_p_value,
    share_option,
)
from workers.statistics.resampling import rank_error, stretches, tolerated_by

N_FOLDS: Final = 5
PENALTY: Final = 0.3  # of the mean eigenvalue
FEWEST_ROWS: Final = 2 * N_FOLDS


def components(rows: NDArray[np.float64], n_components: int) -> NDArray[np.float64]:
    """Return the first principal components of pooled rows (n, d), scaled, as (n, k).

    Each is scaled to the fourth root of its variance: half-way between raw components, which hide
    a shift across a narrow direction, and whitened ones, which are mostly noise.
    """
    centred = rows - rows.mean(axis=0)
    d = centred.shape[1]
    largest = [max(0, d - n_components), d - 1]
    variances, directions = linalg.eigh(
        centred.T @ centred / len(rows), subset_by_index=largest, check_finite=False
    )  # in rising order
    kept = variances > 1e-10 * max(float(variances[-1]), 1e-300)
    scaled = centred @ (directions[:, kept] / variances[kept] ** 0.25)[:, ::-1]
    return np.asarray(scaled / scaled.std()) if scaled.size else scaled


def cross_fitted_scores(
    rows: NDArray[np.float64], labels: NDArray[np.float64], fold: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return each row's score by a ridge discriminant fitted without the row's fold, (n, b).

    Ridge regression of the label is Fisher's discriminant up to scale. Being linear in the labels,
    it is fitted to b labellings at once.

    Args:
        rows: (n, k), centred.
        labels: (n, b), 1 for current rows and 0 for reference rows.
        fold: (n,), in 0..N_FOLDS - 1.
    """
    scores = np.empty_like(labels)
    for held_out in (fold == k for k in range(N_FOLDS)):
        fitted, targets = rows[~held_out], labels[~held_out]
        gram = fitted.T @ fitted  # (k, k)
        ridge = PENALTY * np.trace(gram) / len(gram) * np.eye(len(gram))
        weights = np.linalg.solve(gram + ridge, fitted.T @ (targets - targets.mean(axis=0)))
        scores[held_out] = rows[held_out] @ weights
    return scores


def mean_auc(
    scores: NDArray[np.float64], labels: NDArray[np.float64], fold: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return the area under the ROC curve of each column, (b,): the mean over the folds.

    Equal scores are ordered as the rows are, which must therefore come in random order.
    """
    areas, weights = [], []
    for held_out in (fold == k for k in range(N_FOLDS)):
        order = np.argsort(scores[held_out], axis=0, kind="stable")
        sorted_labels = np.take_along_axis(labels[held_out], order, axis=0)  # (n_f, b)
        m = sorted_labels.sum(axis=0)
        pairs = m * (len(sorted_labels) - m)
        rank_sum = np.arange(1, len(sorted_labels) + 1) @ sorted_labels
        areas.append(rank_sum - m * (m + 1) / 2)  # pairs in the right order
        weights.append(pairs)
    return np.asarray(np.sum(areas, axis=0) / np.maximum(np.sum(weights, axis=0), 1.0))


@dataclass(frozen=True, slots=True)
class DomainClassifier:
    """Classifier two-sample test (Lopez-Paz and Oquab, 2017), cross-fitted.

    Each row is scored by a regularised discriminant that has not seen it, and the scores are
    compared by ranks within each fold. The folds share training rows, so their ranks are not
    independent (adding them up as if they were alarms on 12 to 17 % of quiet windows at 5 %); the
    null therefore permutes the labels and fits anew. The effect is 2 AUC - 1: 0 where the windows
    cannot be told apart, 1 where they always can; it must pass how well stretches of the
    reference can be told from the rest of it (`tolerated_by`).
    """

    tolerated_effect: float = 0.05
    max_rows: int = 1000
    n_components: int = 64
    n_permutations: int = 299

    description: ClassVar[str] = (
        "Domain classifier on embeddings, cross-fitted, judged by ranks and permutations."
    )
    kinds: ClassVar[tuple[Kind, ...]] = ("embedding",)
    sees: ClassVar[str] = "embedding"
    schema: ClassVar[Mapping[str, Any]] = options_schema(
        tolerated_effect=share_option(0.05, "Tolerated 2 AUC - 1 of the domain classifier."),
        max_rows={"type": "integer", "minimum": 50, "maximum": 10_000, "default": 1000},
        n_components={"type": "integer", "minimum": 1, "maximum": 512, "default": 64},
        n_permutations={"type": "integer", "minimum": 99, "maximum": 9999, "default": 299},
    )

    def measure(self, reference: NDArray[Any], current: NDArray[Any], *, seed: int) -> Measurement:
        """Compare two embeddings, shapes (n, d) and (m, d)."""
        generator = np.random.default_rng(seed)
        sides = comparable_rows(
            reference, current, generator, fewest=FEWEST_ROWS, at_most=self.max_rows
        )
        if isinstance(sides, Measurement):
            return sides
        before, after = sides
        rows = components(np.concatenate([before, after]), self.n_components)
        if not rows.size:
            return impossible("all rows are the same")
        shuffled = generator.permutation(len(rows))
        rows, labels = rows[shuffled], (shuffled >= len(before)).astype(np.float64)
        fold = np.arange(len(rows)) % N_FOLDS

        def auc_of(labellings: NDArray[np.float64]) -> NDArray[np.float64]:
            return mean_auc(cross_fitted_scores(rows, labellings, fold), labellings, fold)

        auc = float(auc_of(labels[:, None])[0])
        p_value = resampled_p_value(
            auc,
            lambda b: auc_of(generator.permuted(np.tile(labels[:, None], (1, b)), axis=0)),
            at_most=self.n_permutations,
            has_light_tail=True,
        )
        n, m = len(before), len(after)
        parts = stretches(n, m)[:, shuffled[shuffled < n]].T.astype(np.float64)  # (n, k)
        of_reference = rows[shuffled < n], parts, fold[shuffled < n]
        quiet = mean_auc(cross_fitted_scores(*of_reference), *of_reference[1:])
        return Measurement(
            auc,
            p_value,
            max(2 * auc - 1, 0.0),
            {"auc": auc, "n_reference": n, "n_current": m},
            tolerated_by(2 * quiet - 1, rank_error(n, m), at_least=self.tolerated_effect),
        )


detectors.add("classifier", DomainClassifier())

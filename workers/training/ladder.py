"""How far must a run climb? To the cheapest version that answers the newest rows well enough.

The rungs, cheapest first: `prior` fits the head's bias, where the mix of the classes shows, and
leaves its weights; `centroid` gives each new class a row of the head from the mean of its features
and leaves all else as it is; `probe` fits the whole head to the features of all rows; `top` trains
the upper layers. Each is judged on the newest rows, none of which it learned from: left out of
their own centroid, or out of the fit by cross-validation.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from app.domain.performance import standard_error
from workers.training.probe import Features

PULL = 0.01
"""How strongly the scale of new rows is drawn to that of the old ones, per unit of its log squared;
matters only where a handful of rows leave it open."""


N_PARTS = 5
"""Of the newest rows, each judged by what the others say of the mix of classes."""
FEWEST = 30
"""Rows below which what a rung says of them is luck."""
FEWEST_LAST = 60
"""Of the last rows, which are judged by themselves too."""


@dataclass(frozen=True, slots=True)
class Judged:
    """What a rung's version says of the newest rows.

    Attributes:
        name: of the rung.
        accuracy: on the newest rows; None where none could be judged.
        n: how many were.
        cpu_seconds: of the run, once it stood here.
        is_enough: no further rung is needed.
    """

    name: str
    accuracy: float | None
    n: int
    cpu_seconds: float
    is_enough: bool


def judged(
    name: str, is_right: NDArray[np.float64], sufficient: float | None, cpu_seconds: float
) -> Judged:
    """Judge a rung by the newest rows: by all of them, and by the last half, quarter and so on.

    What made the run necessary is in the last of them most of all; those before it may be as easy
    as ever, and would speak for a version that the rest does not.

    Args:
        name: of the rung.
        is_right: of each newest row 1 or 0, NaN where it was not judged, in order of arrival, (n,).
        sufficient: the accuracy to reach; None is never reached.
        cpu_seconds: of the run so far.
    """
    known = is_right[~np.isnan(is_right)]
    if not len(known):
        return Judged(name, None, 0, cpu_seconds, is_enough=False)
    n, lowers = len(known), [_lower(known)]
    while n // 2 >= FEWEST_LAST:
        n //= 2
        lowers.append(_lower(known[-n:]))
    is_enough = sufficient is not None and len(known) >= FEWEST and min(lowers) >= sufficient
    return Judged(name, float(known.mean()), len(known), cpu_seconds, is_enough)


def _lower(is_right: NDArray[np.float64]) -> float:
    """Return the accuracy less one standard error."""
    accuracy = float(is_right.mean())
    return accuracy - standard_error(accuracy, len(is_right))


def prior_shift(
    logits: NDArray[Any], truth: NDArray[np.int64], *, seed: int
) -> tuple[Features, NDArray[np.float64]]:
    """Return what to add to a head's bias, (k,), and which rows it gets right, (n,).

    Where nothing but the mix of the classes has moved, the right answers differ from the old ones
    by log ratios of their shares (Saerens et al., 2002), and those are the biases of least log loss
    on labelled rows; drawn to none by what one row of doubt is worth. Rows are judged by shifts
    fitted without them, in `N_PARTS` parts.

    Args:
        logits: of the head as it is, for the newest rows, shape (n, k).
        truth: class indices, shape (n,).
        seed: of the parts.
    """
    parts = np.random.default_rng(seed).permutation(len(truth)) % N_PARTS
    is_right = np.full(len(truth), np.nan)
    for part in range(min(N_PARTS, len(truth))):
        judged, others = parts == part, parts != part
        if others.any():
            shift = _fitted_shift(logits[others], truth[others])
            is_right[judged] = _named(logits[judged] + shift, truth[judged])
    return _fitted_shift(logits, truth), is_right


def _fitted_shift(logits: NDArray[Any], truth: NDArray[np.int64]) -> Features:
    """Return the biases of least log loss, of mean 0, shape (k,)."""
    table = torch.from_numpy(np.asarray(logits, dtype=np.float64))
    target = torch.from_numpy(truth)
    shift = torch.zeros(table.shape[1], dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([shift], max_iter=100, line_search_fn="strong_wolfe")

    def closure() -> Any:
        optimiser.zero_grad()
        loss = nn.functional.cross_entropy(table + shift, target)
        loss = loss + shift.square().sum() / (2 * len(target))
        loss.backward()
        return loss

    optimiser.step(closure)
    found: Features = (shift - shift.mean()).detach().numpy().astype(np.float32)
    return found


def centroid_rows(
    features: Features,
    truth: NDArray[np.int64],
    weight: Features,
    bias: Features,
    is_new: NDArray[np.bool_],
) -> tuple[Features, Features, NDArray[np.float64]]:
    """Return a head with rows for new classes from their centroids, and which rows it gets right.

    A new class's logit is s (x - m) (c - m) - s |c - m|^2 / 2 + t with its centroid c and the mean
    m of all features: nearest centroid, but on the scale of the rows that are there. s and t are
    those of least log loss over the rows, each left out of its own centroid. Known classes count by
    how many they are, absent ones too: new rows are mostly of new classes, and what is asked
    afterwards need not be.

    Args:
        features: what the head sees of the newest rows, shape (n, d).
        truth: class indices, shape (n,).
        weight: of the head, shape (k, d); rows of new classes are replaced.
        bias: shape (k,).
        is_new: which classes are new, shape (k,); one without rows stays as it is.

    Returns:
        weight, bias, and of each row 1 or 0; NaN for the only row of a new class.
    """
    counts = np.bincount(truth, minlength=len(bias))
    fresh = np.flatnonzero(is_new & (counts > 0))
    if not len(fresh):
        return weight, bias, _named(features @ weight.T + bias, truth)
    centre = features.mean(axis=0)
    x = (features - centre).astype(np.float64)
    totals = np.stack([x[truth == k].sum(axis=0) for k in fresh])
    near = _closeness(x, totals / counts[fresh, None])
    for column, k in enumerate(fresh.tolist()):
        rows = np.flatnonzero(truth == k)
        if counts[k] > 1:
            own = (totals[column] - x[rows]) / (counts[k] - 1)
            near[rows, column] = (x[rows] * own).sum(axis=1) - np.square(own).sum(axis=1) / 2
    old = np.flatnonzero(~is_new)
    logits = features @ weight.T + bias
    logits[:, is_new] = -np.inf
    norms = np.linalg.norm(weight[old] - weight[old].mean(axis=0), axis=1).mean() if len(old) else 1
    start = float(norms / max(1e-12, np.linalg.norm(totals / counts[fresh, None], axis=1).mean()))
    places = _places(truth, old, fresh)
    scale, shift = _fitted_scale(
        logits[:, old], near, places, _weights(places, len(old), len(fresh)), max(start, 1e-6)
    )
    centroids = totals / counts[fresh, None]
    weight, bias = weight.copy(), bias.copy()
    weight[fresh] = scale * centroids
    bias[fresh] = shift - scale * (np.square(centroids).sum(axis=1) / 2 + centroids @ centre)
    logits[:, fresh] = scale * near + shift
    is_right = _named(logits, truth)
    is_right[is_new[truth] & (counts[truth] < 2)] = np.nan
    return weight.astype(np.float32), bias.astype(np.float32), is_right


def _closeness(x: NDArray[np.float64], centroids: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how near each row is to each centroid: half of |x|^2 - |x - c|^2, shape (n, m)."""
    return np.asarray(x @ centroids.T - np.square(centroids).sum(axis=1) / 2)


def _named(logits: NDArray[Any], truth: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.asarray(logits.argmax(axis=1) == truth, dtype=np.float64)


def _places(
    truth: NDArray[np.int64], old: NDArray[np.int64], fresh: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return where each true class stands among the old ones followed by the fresh ones."""
    place = {int(k): position for position, k in enumerate([*old.tolist(), *fresh.tolist()])}
    return np.asarray([place[int(k)] for k in truth], dtype=np.int64)


def _weights(places: NDArray[np.int64], n_old: int, n_fresh: int) -> NDArray[np.float64]:
    """Return how much rows count: those of known classes and those of new ones by their number."""
    is_fresh = places >= n_old
    n_rows = np.bincount(is_fresh, minlength=2)
    if not n_rows.all():
        return np.full(len(places), 1 / len(places))
    each = np.array([n_old, n_fresh]) / (n_old + n_fresh) / n_rows
    return np.asarray(each[is_fresh.astype(np.int64)])


def _fitted_scale(
    known: NDArray[Any],
    near: NDArray[np.float64],
    truth: NDArray[np.int64],
    weights: NDArray[np.float64],
    start: float,
) -> tuple[float, float]:
    """Return the scale and shift of least log loss; the weights of the rows add up to 1."""
    left, right = torch.from_numpy(np.asarray(known, dtype=np.float64)), torch.from_numpy(near)
    target, each = torch.from_numpy(truth), torch.from_numpy(weights)
    knobs = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([knobs], max_iter=50, line_search_fn="strong_wolfe")

    def closure() -> Any:
        optimiser.zero_grad()
        fresh = start * knobs[0].exp() * right + knobs[1]
        losses = nn.functional.cross_entropy(
            torch.cat([left, fresh], dim=1), target, reduction="none"
        )
        loss = (each * losses).sum() + PULL * knobs[0].square()
        loss.backward()
        return loss

    optimiser.step(closure)
    scale, shift = knobs.detach().tolist()
    return start * float(np.exp(scale)), float(shift)


def new_classes(labels: Sequence[str], known: Sequence[str]) -> NDArray[np.bool_]:
    """Return which labels the start's head has never learned, shape (k,)."""
    before = set(known)
    return np.asarray([label not in before for label in labels], dtype=bool)

"""How good are numbers, given the labels? Everything here is a pure function of arrays."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.domain.answers import closeness

Numbers = NDArray[np.float64]

OF_NUMBERS = ("rmse", "mae", "r2", "median_absolute_error")
"""What `summarise` tells that a model's objective may name, the default first."""
SQUARED = frozenset({"rmse", "r2"})
"""Those that rest on squared errors; the others rest on absolute ones."""


def r2(truth: Numbers, answers: Numbers) -> float:
    """Return the share of the labels' variance that answers explain; NaN where there is none.

    1 is all of it, 0 as much as their mean does; below 0 is worse than that.
    """
    spread = float(((truth - truth.mean()) ** 2).sum()) if len(truth) else 0.0
    return 1.0 - float(((answers - truth) ** 2).sum()) / spread if spread > 0 else float("nan")


def summarise(truth: Numbers, answers: Numbers, scale: float | None) -> dict[str, Any]:
    """Return every metric of one evaluation; one without enough rows is None.

    Errors are in the unit of the labels: root mean squared (`rmse`), mean absolute (`mae`), median
    absolute, largest, and `bias`, the mean of answer minus label. `closeness` is the mean score of
    answers by their scale, `right_share` that of answers whose error is below it.

    Args:
        truth: labels, shape (n,).
        answers: what was answered, shape (n,).
        scale: the error that counts as entirely wrong; None where it is not known.
    """
    n = len(truth)
    error = answers - truth
    size = np.abs(error)
    values = {
        "rmse": float(np.sqrt((error**2).mean())) if n else float("nan"),
        "mae": float(size.mean()) if n else float("nan"),
        "r2": r2(truth, answers),
        "median_absolute_error": float(np.median(size)) if n else float("nan"),
        "largest_error": float(size.max()) if n else float("nan"),
        "bias": float(error.mean()) if n else float("nan"),
    }
    known = {name: None if np.isnan(value) else value for name, value in values.items()}
    scored: dict[str, float | None] = {"closeness": None, "right_share": None}
    if n and scale is not None:
        scores = closeness(answers, truth, scale)
        scored = {"closeness": float(scores.mean()), "right_share": float((size < scale).mean())}
    return {"n": n, **known, **scored, "scale": scale}

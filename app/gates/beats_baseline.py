"""A challenger must be better than the model's fixed yardstick."""

from collections.abc import Mapping
from typing import Any, Final

from app.domain.answers import MINIMIZE
from app.domain.evaluation import Evidence
from app.domain.performance import standard_error
from app.domain.promotion import Verdict
from app.gates import gates

SHARES: Final = frozenset({"accuracy", "f1_micro", "closeness", "f1_samples", "exact_match"})
"""Metrics that are means of a score of each row in [0, 1], or are as certain as such a mean."""


@gates.register("beats-baseline")
class BeatsBaseline:
    """Fails when the primary metric on the frozen holdout is surely worse than the baseline.

    Surely: by more than the objective's margin (a share of the baseline where smaller is better)
    and, of a metric that is a share of the rows, one standard error; a first version is judged on
    few.
    """

    description = "not surely worse than the baseline on the frozen holdout"
    options: Mapping[str, Any] = {"type": "object", "properties": {}, "additionalProperties": False}

    def judge(self, evidence: Evidence, options: Mapping[str, Any]) -> Verdict:
        """Compare the challenger with the baseline."""
        found = evidence.comparison("holdout") or evidence.comparison("window")
        if evidence.baseline is None or found is None:
            return Verdict("beats-baseline", True, "no baseline is set")
        score = float(found.challenger[evidence.metric])
        error = 0.0
        if evidence.direction == MINIMIZE:
            passed = score <= evidence.baseline * (1 + evidence.margin)
            word = "reaches" if passed else "is above"
        else:
            error = standard_error(score, found.n) if evidence.metric in SHARES else 0.0
            passed = score >= evidence.baseline - evidence.margin - error
            word = "reaches" if passed else "is under"
        return Verdict(
            "beats-baseline",
            passed,
            f"{evidence.metric} {_shown(score)} on {found.n} {found.role} rows {word} the baseline "
            f"{_shown(evidence.baseline)} (margin {evidence.margin:g}"
            + (f", standard error {error:.3f})" if error else ")"),
            {
                "score": score,
                "baseline": evidence.baseline,
                "n": found.n,
                "standard_error": error,
            },
        )


def _shown(value: float) -> str:
    """Return three digits after the point, or four that count of what is no share."""
    return f"{value:.3f}" if abs(value) <= 1 else f"{value:.4g}"

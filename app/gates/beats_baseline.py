"""A challenger must be better than the model's fixed yardstick."""

from collections.abc import Mapping
from typing import Any

from app.domain.answers import MINIMIZE
from app.domain.evaluation import Evidence
from app.domain.promotion import Verdict
from app.gates import gates


@gates.register("beats-baseline")
class BeatsBaseline:
    """Passes when the primary metric on the frozen holdout is at least the baseline.

    Within the objective's margin, which is a share of the baseline where smaller is better.
    """

    description = "at least the baseline's score on the frozen holdout"
    options: Mapping[str, Any] = {"type": "object", "properties": {}, "additionalProperties": False}

    def judge(self, evidence: Evidence, options: Mapping[str, Any]) -> Verdict:
        """Compare the challenger with the baseline."""
        found = evidence.comparison("holdout") or evidence.comparison("window")
        if evidence.baseline is None or found is None:
            return Verdict("beats-baseline", True, "no baseline is set")
        score = float(found.challenger[evidence.metric])
        if evidence.direction == MINIMIZE:
            passed = score <= evidence.baseline * (1 + evidence.margin)
            word = "reaches" if passed else "is above"
        else:
            passed = score >= evidence.baseline - evidence.margin
            word = "reaches" if passed else "is under"
        return Verdict(
            "beats-baseline",
            passed,
            f"{evidence.metric} {_shown(score)} on {found.n} {found.role} rows {word} the baseline "
            f"{_shown(evidence.baseline)} (margin {evidence.margin:g})",
            {"score": score, "baseline": evidence.baseline, "n": found.n},
        )


def _shown(value: float) -> str:
    """Return three digits after the point, or four that count of what is no share."""
    return f"{value:.3f}" if abs(value) <= 1 else f"{value:.4g}"

"""A challenger must be better than the model's fixed yardstick."""

from collections.abc import Mapping
from typing import Any

from app.domain.evaluation import Evidence
from app.domain.performance import standard_error
from app.domain.promotion import Verdict
from app.gates import gates


@gates.register("beats-baseline")
class BeatsBaseline:
    """Fails when the primary metric on the frozen holdout is surely under the baseline.

    Surely: by more than the margin and one standard error, as if the metric were a share of the
    rows; a first version is judged on few.
    """

    description = "not surely under the baseline's score on the frozen holdout"
    options: Mapping[str, Any] = {"type": "object", "properties": {}, "additionalProperties": False}

    def judge(self, evidence: Evidence, options: Mapping[str, Any]) -> Verdict:
        """Compare the challenger with the baseline."""
        found = evidence.comparison("holdout") or evidence.comparison("window")
        if evidence.baseline is None or found is None:
            return Verdict("beats-baseline", True, "no baseline is set")
        score = float(found.challenger[evidence.metric])
        error = standard_error(score, found.n) if 0.0 <= score <= 1.0 else 0.0
        passed = score >= evidence.baseline - evidence.margin - error
        word = "reaches" if passed else "is under"
        return Verdict(
            "beats-baseline",
            passed,
            f"{evidence.metric} {score:.3f} on {found.n} {found.role} rows {word} the baseline "
            f"{evidence.baseline:.3f} (margin {evidence.margin:g}, standard error {error:.3f})",
            {
                "score": score,
                "baseline": evidence.baseline,
                "n": found.n,
                "standard_error": error,
            },
        )

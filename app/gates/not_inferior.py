"""On the newest labelled rows the challenger must not be worse than the champion."""

from collections.abc import Mapping
from typing import Any

from app.domain.evaluation import Evidence
from app.domain.promotion import Verdict
from app.gates import gates


@gates.register("not-inferior")
class NotInferior:
    """A paired non-inferiority test on the newest labelled rows.

    Passes when the lower end of the gain's interval is above minus the objective's margin, or,
    where the rows are too few for that, when the challenger is better outright. A challenger that
    answers with numbers must also tell more than one constant does, by the margin, and one that
    answers with spans more than none at all.
    """

    description = "not worse than the champion on the newest labelled rows (paired, one-sided)"
    options: Mapping[str, Any] = {
        "type": "object",
        "properties": {
            "confidence": {
                "type": "number",
                "exclusiveMinimum": 0,
                "exclusiveMaximum": 1,
                "default": 0.9,
                "description": "two-sided level of the interval; 0.9 is one-sided 5 %",
            }
        },
        "additionalProperties": False,
    }

    def judge(self, evidence: Evidence, options: Mapping[str, Any]) -> Verdict:
        """Test the paired difference in accuracy, in scores or in losses."""
        name = "not-inferior"
        found = evidence.comparison("window") or evidence.comparison("holdout")
        if evidence.champion_id is None:
            return Verdict(name, True, "there is no champion yet")
        if found is None or found.pairs is None or found.n == 0:
            return Verdict(name, False, "no labelled rows to compare champion and challenger on")
        lower, upper = found.pairs.interval(options.get("confidence", 0.9))
        p_value = found.pairs.p_value
        is_idle = found.pairs.is_idle(evidence.margin)
        passed = lower > -evidence.margin or (found.pairs.gain > 0 and p_value <= 0.2)
        passed = passed and not is_idle
        return Verdict(
            name,
            passed,
            f"{found.pairs.in_words()} on {found.n} {found.role} rows: gain "
            f"{found.pairs.gain:+.3f} [{lower:+.3f}, {upper:+.3f}], may be worse by at most "
            f"{evidence.margin:g}"
            + ("; it tells no more than one constant answer" if is_idle else ""),
            {
                "gain": found.pairs.gain,
                "lower": lower,
                "upper": upper,
                "p_value": p_value,
                "n": found.n,
                "margin": evidence.margin,
            },
        )

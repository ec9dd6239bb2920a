"""A challenger must not forget: the frozen holdout has a floor of its own."""

from collections.abc import Mapping
from typing import Any

from app.domain.evaluation import Evidence
from app.domain.promotion import Verdict
from app.gates import gates


@gates.register("keeps-the-old")
class KeepsTheOld:
    """Passes unless the challenger is shown to lose more than is tolerated on the old rows."""

    description = "loses no more than is tolerated on the frozen holdout"
    options: Mapping[str, Any] = {
        "type": "object",
        "properties": {
            "tolerated_loss": {"type": "number", "minimum": 0, "maximum": 1, "default": 0.02}
        },
        "additionalProperties": False,
    }

    def judge(self, evidence: Evidence, options: Mapping[str, Any]) -> Verdict:
        """Compare both versions on the frozen holdout."""
        name = "keeps-the-old"
        found = evidence.comparison("holdout")
        if found is None or found.pairs is None or found.n == 0:
            return Verdict(name, True, "there is no champion or no frozen holdout to compare on")
        tolerated = float(options.get("tolerated_loss", 0.02))
        lower, upper = found.pairs.interval(0.9)
        gain = found.pairs.gain
        passed = gain >= -tolerated or (upper >= -tolerated and gain >= -2 * tolerated)
        return Verdict(
            name,
            passed,
            f"gain {gain:+.3f} [{lower:+.3f}, {upper:+.3f}] on {found.n} frozen holdout rows; "
            f"a loss of {tolerated:g} is tolerated",
            {"gain": gain, "lower": lower, "upper": upper, "n": found.n, "tolerated": tolerated},
        )

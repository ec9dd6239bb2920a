"""Nothing that the champion gets right on the golden set may be lost."""

from collections.abc import Mapping
from typing import Any, Final

from app.domain.evaluation import Evidence
from app.domain.promotion import Verdict
from app.gates import gates

RIGHT: Final = ("accuracy", "right_share", "exact_match")
"""What the share of right answers is called, by the kind of answer."""


@gates.register("golden-set")
class GoldenSet:
    """Passes when the challenger answers enough of the golden set rightly.

    A number is right when its error is below the scale that counts as entirely wrong, spans are
    when they are exactly those of the row.
    """

    description = "answers at least so large a share of the golden set rightly"
    options: Mapping[str, Any] = {
        "type": "object",
        "properties": {
            "minimum_share": {"type": "number", "minimum": 0, "maximum": 1, "default": 1.0}
        },
        "additionalProperties": False,
    }

    def judge(self, evidence: Evidence, options: Mapping[str, Any]) -> Verdict:
        """Compare the challenger's answers with the curated ones."""
        found = evidence.comparison("golden")
        if found is None or found.n == 0:
            return Verdict("golden-set", False, "no golden set was uploaded; upload one first")
        needed = float(options.get("minimum_share", 1.0))
        summary = found.challenger
        share = float(next(summary[name] for name in RIGHT if name in summary))
        return Verdict(
            "golden-set",
            share >= needed,
            f"{share:.3f} of {found.n} golden rows right; {needed:g} needed",
            {"share": share, "needed": needed, "n": found.n},
        )

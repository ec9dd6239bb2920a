"""No row that a version is judged on may be in its own training snapshot."""

from collections.abc import Mapping
from typing import Any

from app.domain.evaluation import Evidence
from app.domain.promotion import Verdict
from app.gates import gates


@gates.register("no-leakage")
class NoLeakage:
    """Passes when no judged row occurs in the training snapshot, by content hash."""

    description = "no row judged on was trained on, by content hash"
    options: Mapping[str, Any] = {"type": "object", "properties": {}, "additionalProperties": False}

    def judge(self, evidence: Evidence, options: Mapping[str, Any]) -> Verdict:
        """Read the number of leaked rows."""
        return Verdict(
            "no-leakage",
            evidence.leaked_rows == 0,
            f"{evidence.leaked_rows} judged rows were in the training snapshot",
            {"leaked_rows": evidence.leaked_rows},
        )

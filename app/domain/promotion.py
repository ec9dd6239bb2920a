"""May the challenger take the champion's place? What a gate answers, and how gates are asked."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from app.domain.evaluation import Evidence


@dataclass(frozen=True, slots=True)
class Verdict:
    """One gate's answer, with its reason in words and the numbers it read."""

    gate: str
    passed: bool
    reason: str
    values: Mapping[str, Any] = field(default_factory=dict)


class Gate(Protocol):
    """One condition of promotion; a pure function of the evidence."""

    description: str
    options: Mapping[str, Any]
    """JSON Schema of the gate's options, defaults included."""

    def judge(self, evidence: Evidence, options: Mapping[str, Any]) -> Verdict:
        """Answer for one challenger."""
        ...

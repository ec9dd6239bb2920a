"""A maintained model: what it learns, from what, and what counts as good."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from app.domain.answers import Answer, Classes
from app.domain.observations import InputContract


@dataclass(frozen=True, slots=True)
class Objective:
    """What counts as good.

    Attributes:
        metric: primary metric; larger is better when `direction` is "maximize".
        margin: a challenger may be worse by so much and still count as not inferior; of numbers, as
            a share of what one constant answer would lose.
        slices: input fields by whose values the evidence is split too.
        baseline: the fixed yardstick its owner states; None = the probe-head score, set once.
    """

    metric: str = "accuracy"
    direction: str = "maximize"
    margin: float = 0.01
    slices: Sequence[str] = ()
    baseline: float | None = None


@dataclass(frozen=True, slots=True)
class MaintainedModel:
    """One model that Upkeep keeps good.

    Attributes:
        answers_with: what it answers with, where that is not one of its labels.
    """

    id: UUID
    project_id: UUID
    name: str
    task_type: str
    base_model: str
    labels: Sequence[str]
    contract: InputContract
    objective: Objective
    policy_version: int
    policy: Mapping[str, Any]
    is_paused: bool
    created_at: datetime
    measured_baseline: float | None = None
    watch: Mapping[str, Any] = field(default_factory=dict)
    answers_with: Answer | None = None

    @property
    def answer(self) -> Answer:
        """Return the kind of its answers: one of its labels, unless it is stated otherwise."""
        return self.answers_with or Classes(self.labels)

"""Where is a run, and what does it read? What a loop keeps of itself, and its rows made ready."""

from dataclasses import dataclass, field, replace
from typing import Any

from workers.training.data import Rows
from workers.training.lower import RowStates
from workers.training.targets import Targets
from workers.training.task_type import Examples, Learner, ReadsAnswers


@dataclass(slots=True)
class Position:
    """Where a run is; everything in it goes into a checkpoint.

    Attributes:
        best: what the targets are judged by, such as (share right, -log loss), on validation of
            the best epoch so far, more being better; empty without.
        best_epoch: how many epochs that version had seen; 0 is the head alone.
        is_judged: whether the version of the last whole epoch was.
        history: one object of validation figures an epoch.
        rungs: what each rung climbed so far says of the newest rows.
        is_enough: the last of them suffices.
        accumulation: parts that each batch is cut into; their gradients make one step.
        inference_budget: largest padded cost of a batch without gradients; 0 is not known yet.
        shortages: where memory ran out, and what was done about it.
        n_averaged: steps whose weights are averaged so far.
        is_settled: training has ended, and the weights are those of the version.
        n_features_taken: rows whose features were taken from the run of the start.
    """

    step: int = 0
    epoch: int = 0
    batch: int = 0
    is_head_ready: bool = False
    smooth_loss: float | None = None
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    best: list[float] = field(default_factory=list)
    best_epoch: int = 0
    is_judged: bool = True
    history: list[dict[str, float]] = field(default_factory=list)
    rungs: list[dict[str, Any]] = field(default_factory=list)
    is_enough: bool = False
    accumulation: int = 1
    inference_budget: int = 0
    shortages: list[dict[str, Any]] = field(default_factory=list)
    n_averaged: int = 0
    n_features_taken: int = 0
    is_settled: bool = False


@dataclass(frozen=True, slots=True)
class Prepared:
    """Rows made ready: encoded once, what to answer, and what frozen layers say of them."""

    rows: Rows
    examples: Examples
    targets: Targets
    states: RowStates

    @classmethod
    def of(cls, learner: Learner, rows: Rows) -> "Prepared":
        """Encode rows."""
        if isinstance(learner, ReadsAnswers):
            examples = learner.encode_rows(rows)
        else:
            examples = learner.encode(rows.inputs)
        return cls(rows, examples, learner.targets(examples, rows), RowStates(examples.lengths))

    def anew(self) -> "Prepared":
        """Return the same rows for another version, whose frozen layers say something else."""
        return replace(self, states=RowStates(self.examples.lengths))

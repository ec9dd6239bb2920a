"""What was a training process told to do?"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workers.training.errors import RecipeError
from workers.training.files import read_json

JOB = "job.json"
RESULT = "result.json"
ERROR = "error.json"
LOG = "process.log"
FEATURES = "features.safetensors"

EXIT_DONE = 0
EXIT_REFUSED = 1
EXIT_CRASHED = 70
EXIT_BUSY = 73
EXIT_PREEMPTED = 75


@dataclass(frozen=True, slots=True)
class Job:
    """The order of one run, read from JOB_DIR/job.json and never changed.

    Attributes:
        start: a version's directory; or a base model (directory, preset or hub id).
        checkpoint_every_seconds: most work that a kill may lose.
        deadline_seconds: time the run may take, all its attempts together.
        n_newest: how many of the training rows, the last ones, no version has learned from
            before; None = all. Rows are in the order of their arrival.
        validation_share: of the newest rows, set apart to judge by where the recipe sets none
            apart itself and no `validation` is given.
        features: what the start's layers say of rows that its own run learned from.
        keeps_features: whether anybody may go on from this run's version.
        least_accumulation: fewest parts of a batch, since the kernel killed an earlier attempt
            for memory.
    """

    directory: Path
    run_id: str
    task_type: str
    start: str
    start_is_base: bool
    labels: tuple[str, ...]
    train: Path
    validation: Path | None
    recipe: Mapping[str, Any]
    seed: int
    output: Path
    checkpoint_every_seconds: float = 60.0
    threads: int | None = None
    deadline_seconds: float | None = None
    progress_fd: int | None = None
    input_contract: tuple[Mapping[str, Any], ...] | None = None
    n_newest: int | None = None
    least_accumulation: int = 1
    validation_share: float = 0.0
    features: Path | None = None
    keeps_features: bool = True


def read_job(directory: Path) -> Job:
    """Read JOB_DIR/job.json.

    Raises:
        RecipeError: it is absent or lacks something.
    """
    value = read_json(directory / JOB)
    if not isinstance(value, dict):
        raise RecipeError(f"{directory / JOB} is absent or no JSON object")
    try:
        contract = value.get("input_contract")
        return Job(
            directory=directory,
            run_id=str(value["run_id"]),
            task_type=str(value["task_type"]),
            start=str(value["start"]),
            start_is_base=bool(value["start_is_base"]),
            labels=tuple(str(label) for label in value["labels"]),
            train=Path(value["train"]),
            validation=Path(value["validation"]) if value.get("validation") else None,
            recipe=dict(value.get("recipe") or {}),
            seed=int(value["seed"]),
            output=Path(value["output"]),
            checkpoint_every_seconds=float(value.get("checkpoint_every_seconds") or 60.0),
            threads=int(value["threads"]) if value.get("threads") else None,
            deadline_seconds=(
                float(value["deadline_seconds"]) if value.get("deadline_seconds") else None
            ),
            progress_fd=value.get("progress_fd"),
            input_contract=tuple(contract) if contract else None,
            n_newest=None if value.get("n_newest") is None else int(value["n_newest"]),
            least_accumulation=int(value.get("least_accumulation") or 1),
            validation_share=float(value.get("validation_share") or 0.0),
            features=Path(value["features"]) if value.get("features") else None,
            keeps_features=bool(value.get("keeps_features", True)),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise RecipeError(f"{directory / JOB} cannot be used: {error!r}") from error

"""The job that lets champion and challenger answer the same rows, and asks the gates."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

import numpy as np
import structlog
from celery import shared_task
from numpy.typing import NDArray

from app.domain.errors import Conflict, StaleVerdict, Unavailable, UpkeepError
from app.domain.evaluation import Comparison, Evidence, count_pairs
from app.domain.models import MaintainedModel
from app.domain.versions import ModelVersion
from app.services import evaluation
from app.services.documents import document
from app.services.evaluation import ToJudge
from app.services.ports import Example
from app.services.snapshots import evenly
from workers.jobs.champions import loaded
from workers.jobs.context import current, kept_alive
from workers.task_types import task_types
from workers.training.baseline import probe_baseline
from workers.training.data import Rows
from workers.training.metrics import summarise
from workers.training.probe import N_FIT_ROWS

log = structlog.get_logger()


@shared_task(name="upkeep.evaluate")
def evaluate(run_id: str) -> None:
    """Compare, judge, promote or reject."""
    context = current()
    work = context.open_work()
    while True:
        begun = evaluation.begin(
            work,
            context.artifacts,
            UUID(run_id),
            owner=context.owner,
            seconds=context.lease_seconds,
        )
        if begun is None:
            return
        lease, found = begun
        with kept_alive(lambda other: other.runs.renew(lease, seconds=context.lease_seconds)):  # noqa: B023  ends with this turn
            try:
                evidence = evidence_of(found)
                baseline = baseline_of(found) if found.needs_baseline else None
                outcome = evaluation.finish(work, lease, evidence, baseline=baseline)
            except StaleVerdict:
                with work:
                    work.runs.release(lease)
                continue
            except (Conflict, Unavailable) as error:
                log.warning("evaluation.given_away", run_id=run_id, detail=str(error))
                return
            except Exception as error:  # a run must end, and the worker must outlive it
                log.exception("evaluation.failed", run_id=run_id)
                detail = str(error) if isinstance(error, UpkeepError) else repr(error)
                evaluation.fail(work, lease, detail)
                return
        log.info("evaluation.completed", run_id=run_id, outcome=outcome)
        return


def evidence_of(found: ToJudge) -> Evidence:
    """Return what the gates are shown."""
    comparisons = [
        compared(role, rows, found.model, found.challenger, found.champion)
        for role, rows in found.examples.items()
    ]
    return Evidence(
        challenger_id=found.challenger.id,
        champion_id=found.champion.id if found.champion else None,
        comparisons=comparisons,
        metric=found.model.objective.metric,
        margin=found.model.objective.margin,
        leaked_rows=found.leaked_rows,
    )


def compared(
    role: str,
    rows: Sequence[Example],
    model: MaintainedModel,
    challenger: ModelVersion,
    champion: ModelVersion | None,
) -> Comparison:
    """Let both versions answer the same rows."""
    labels = model.labels
    index = {label: position for position, label in enumerate(labels)}
    truth = np.asarray([index[row.label] for row in rows])
    inputs = [row.inputs for row in rows]
    ours = scores_of(model, challenger, inputs)
    right = ours.argmax(axis=1) == truth
    summary = summarise(truth, ours, labels)
    if champion is None:
        return Comparison(role, len(rows), summary)
    theirs = scores_of(model, champion, inputs)
    their_right = theirs.argmax(axis=1) == truth
    their_summary = summarise(truth, theirs, labels)
    groups = {
        f"{name}={value}": np.asarray([str(row.inputs.get(name)) == value for row in rows])
        for name in model.objective.slices
        for value in sorted({str(row.inputs.get(name)) for row in rows})[:50]
    }
    return Comparison(
        role,
        len(rows),
        summary,
        their_summary,
        count_pairs(right, their_right),
        by_class={
            label: _accuracies(truth == position, right, their_right)
            for label, position in index.items()
            if bool((truth == position).any())
        },
        by_slice={name: _accuracies(mask, right, their_right) for name, mask in groups.items()},
    )


def _accuracies(
    mask: NDArray[np.bool_], challenger: NDArray[np.bool_], champion: NDArray[np.bool_]
) -> Mapping[str, Any]:
    return {
        "n": int(mask.sum()),
        "challenger": float(challenger[mask].mean()),
        "champion": float(champion[mask].mean()),
    }


def scores_of(
    model: MaintainedModel, version: ModelVersion, inputs: Sequence[Mapping[str, Any]]
) -> NDArray[np.float32]:
    """Return probabilities, shape (n, k), columns in the order of the model's labels."""
    classifier = loaded(model, version)
    scores = classifier.scores(inputs)
    if tuple(classifier.labels) == tuple(model.labels):
        return scores
    known = {label: column for column, label in enumerate(classifier.labels)}
    ordered = np.zeros((len(inputs), len(model.labels)), dtype=np.float32)
    for column, label in enumerate(model.labels):
        if label in known:
            ordered[:, column] = scores[:, known[label]]
    return ordered


def baseline_of(found: ToJudge) -> float | None:
    """Return the fixed yardstick: the base with a probe head, on the rows of the first gate."""
    rows = found.examples.get("holdout") or found.examples.get("window")
    if not rows:
        return None
    train = evenly(found.snapshot.train, N_FIT_ROWS)
    scores = probe_baseline(
        task_types.get(found.model.task_type),
        found.model.base_model,
        found.model.labels,
        Rows(
            [row.id for row in train],
            [row.inputs for row in train],
            [row.label for row in train],
        ),
        [row.inputs for row in rows],
        seed=found.run.spec.seed,
        input_contract=document(found.model.contract.fields),
    )
    index = {label: position for position, label in enumerate(found.model.labels)}
    truth = np.asarray([index[row.label] for row in rows])
    value = summarise(truth, scores, found.model.labels)[found.model.objective.metric]
    return None if value is None else float(value)

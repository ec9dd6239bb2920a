"""What a run learns from and is judged on: gathered once, kept by its content's hash."""

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import chain, islice
from pathlib import Path
from uuid import UUID

import numpy as np

from app.domain.answers import Answer
from app.domain.errors import Conflict, Invalid
from app.domain.holdout import held_out
from app.domain.identity import new_id
from app.domain.models import MaintainedModel
from app.domain.policies import SelectionPolicy
from app.domain.training import Lease, RunSpec, TrainingRun
from app.domain.versions import ModelVersion
from app.services.examples import KeptRows, SnapshotHash, keep, row_key, stored
from app.services.policies import read_policy
from app.services.ports import Artifacts, Dataset, Example, Json, UnitOfWork
from app.services.selecting import Selected, as_seen_by, datasets_learned_through

HOLDOUT_SHARE = 0.2
MINIMUM_REFERENCE_ROWS = 50


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a run learns from and is judged on; determined by its spec and the database.

    Attributes:
        train: rows to learn from.
        holdout: frozen rows that no version may ever learn from.
        window: the newest labelled rows kept out of training.
        golden: the curated rows.
        reference: rows that stand for what the version is accepted on: the newer half of the
            window, lest a version trained because of drift is compared with the time before it.
        n_forgotten: labelled rows left out because retention has forgotten their inputs.
        n_newest: how many of the rows to learn from, the last ones, came since the champion was
            trained; all of them where there is none.
        selection: which rows were to be trained on, and how many old and new ones that left;
            empty for runs of before there was a choice.
    """

    train: KeptRows
    holdout: KeptRows
    window: KeptRows
    golden: KeptRows
    reference: KeptRows
    sha256: str
    n_forgotten: int = 0
    n_newest: int | None = None
    selection: Json = field(default_factory=dict)


_PARTS = ("train", "holdout", "window", "golden", "reference")


def snapshot_of(work: UnitOfWork, artifacts: Artifacts, lease: Lease) -> Snapshot:
    """Return the rows of a run: gathered and kept by its first attempt, read back by the next.

    Raises:
        Invalid: there is too little to learn from.
        Conflict: the lease was lost.
    """
    with work:
        run = work.runs.get(lease.job_id)
        if run.snapshot is None:
            snapshot = take_snapshot(work, artifacts, run)
            parts: Json = {
                "labels": list(work.models.by_id(run.model_id).labels),
                "n_forgotten": snapshot.n_forgotten,
                "n_newest": snapshot.n_newest,
                "selection": snapshot.selection,
            }
            for part in _PARTS:
                rows: KeptRows = getattr(snapshot, part)
                parts[part] = {
                    "sha256": rows.sha256,
                    "size_bytes": rows.size_bytes,
                    "n_rows": len(rows),
                }
            work.runs.set_snapshot(lease, snapshot.sha256, parts)
            return snapshot
    return read_snapshot(artifacts, run)


def read_snapshot(artifacts: Artifacts, run: TrainingRun) -> Snapshot:
    """Read back the rows that a run's first attempt kept."""
    if run.snapshot is None or run.snapshot_sha256 is None:
        raise Conflict(f"training run {run.id} has no snapshot yet")
    train, holdout, window, golden, reference = (
        KeptRows(artifacts, run.snapshot[part]["sha256"]) for part in _PARTS
    )
    return Snapshot(
        train,
        holdout,
        window,
        golden,
        reference,
        run.snapshot_sha256,
        run.snapshot.get("n_forgotten", 0),
        run.snapshot.get("n_newest"),
        run.snapshot.get("selection", {}),
    )


def take_snapshot(work: UnitOfWork, artifacts: Artifacts, run: TrainingRun) -> Snapshot:
    """Gather the rows of a run, in an open transaction.

    The frozen holdout is set aside once, from the first training set; of the labelled rows that
    came since the champion was trained, a share is held out to judge on. No row that is judged on
    is in the training rows, by content hash; of columns, by content hash and id. What is selected
    to train on is selected of the rest.

    Raises:
        Invalid: there is too little to learn from; says what would help.
    """
    spec, model = run.spec, work.models.by_id(run.model_id)
    policy, answer = read_policy(model.policy), model.answer
    champion = work.versions.by_id(spec.champion) if spec.champion else None
    uploaded = _uploaded(work, artifacts, model, spec, champion)
    curated = work.datasets.of(model.id, "golden", through=spec.through_dataset)
    golden = keep(artifacts, _all_of(artifacts, curated))
    holdout = keep(artifacts, _all_of(artifacts, work.datasets.of(model.id, "holdout")))
    since = champion.trained_through if champion else 0

    def labelled(after: int, through: int) -> Found:
        rows = work.observations.labelled(model.id, after_label=after, through_label=through)
        return Found(as_seen_by(champion, answer, rows))

    older, newer = labelled(0, since), labelled(since, spec.through_label)
    with tempfile.TemporaryDirectory() as scratch:
        new = stored(Path(scratch) / "newer.parquet", newer)
        strata = answer.strata([row.label for row in new])
        mask = held_out(strata, share=policy.retrain.holdout_share)
        window = keep(artifacts, (row for row, out in zip(new, mask, strict=True) if out))
        may_repeat = rows_may_repeat(work, model)
        judged = {row_key(row, may_repeat=may_repeat) for row in chain(holdout, golden, window)}
        older_rows = ((row, champion is None) for row in older)
        newest = Found(
            row
            for row, out in zip(new, mask, strict=True)
            if not out and row_key(row, may_repeat=may_repeat) not in judged
        )
        candidates = chain(
            (
                (row, is_new)
                for row, is_new in chain(uploaded, older_rows)
                if row_key(row, may_repeat=may_repeat) not in judged
            ),
            ((row, True) for row in newest),
        )
        chosen = Selected(selection_of(spec), answer, candidates, Path(scratch))
        learned = SnapshotHash()
        train = keep(artifacts, learned.of(chosen))
    gone = older.n_forgotten + newer.n_forgotten
    if learned.n_labels < 2:
        raise _too_few(len(train), answer, chosen.by, gone)
    n_late = max(MINIMUM_REFERENCE_ROWS, len(window) // 2)
    if len(window) >= MINIMUM_REFERENCE_ROWS:
        reference = keep(artifacts, islice(window, max(0, len(window) - n_late), None))
    else:
        reference = keep(artifacts, chain(holdout, window))
    return Snapshot(
        train,
        holdout,
        window,
        golden,
        reference or train,
        learned.hexdigest(),
        gone,
        chosen.n_of_last(newest.n) if champion else None,
        chosen.record(),
    )


def selection_of(spec: RunSpec) -> SelectionPolicy:
    """Return which rows a run was asked to train on; all, of runs that do not say."""
    return SelectionPolicy(**spec.selection)


def _too_few(n: int, answer: Answer, by: str, n_forgotten: int) -> Invalid:
    """Return what is wrong with rows that all have one answer, and what would help."""
    distinct = answer.distinct
    hints = [
        f"{n_forgotten} labelled rows were left out: their inputs are forgotten"
        if n_forgotten
        else "",
        f"the selection {by!r} left these; try 'all'" if by != "all" else "",
    ]
    said = "; ".join(hint for hint in hints if hint)
    return Invalid(
        f"the {n} rows to learn from hold fewer than two {distinct}; upload a training dataset or "
        f"send labels of at least two {distinct}" + (f" ({said})" if said else "")
    )


class Found:
    """Rows as they are found, once.

    Attributes:
        n: how many were found so far.
        n_forgotten: how many more have inputs that are forgotten; those are not passed on.
    """

    def __init__(self, rows: Iterable[Example | None]) -> None:
        self._rows = rows
        self.n = self.n_forgotten = 0

    def __iter__(self) -> Iterator[Example]:
        for row in self._rows:
            if row is None:
                self.n_forgotten += 1
            else:
                self.n += 1
                yield row


def _all_of(artifacts: Artifacts, datasets: Sequence[Dataset]) -> Iterator[Example]:
    return chain.from_iterable(KeptRows(artifacts, dataset.sha256) for dataset in datasets)


def rows_may_repeat(work: UnitOfWork, model: MaintainedModel) -> bool:
    """Return whether different rows of a model may well look alike: it reads columns."""
    plugin = work.plugins.find("task_type", model.task_type)
    return plugin is not None and bool(plugin.detail.get("column_types"))


def _uploaded(
    work: UnitOfWork,
    artifacts: Artifacts,
    model: MaintainedModel,
    spec: RunSpec,
    champion: ModelVersion | None,
) -> Iterator[tuple[Example, bool]]:
    """Return the uploaded history, and whether each row of it came after the champion's.

    A frozen holdout is set aside from it where there is none yet.
    """
    datasets = work.datasets.of(model.id, "training", through=spec.through_dataset)
    datasets = datasets or work.datasets.of(model.id, "reference", through=spec.through_dataset)[:1]
    if datasets and not work.datasets.of(model.id, "holdout"):
        strata = model.answer.strata([row.label for row in _all_of(artifacts, datasets)])
        mask = held_out(strata, share=HOLDOUT_SHARE)
        if mask.any():
            rows = zip(_all_of(artifacts, datasets), mask, strict=True)
            aside = (row for row, out in rows if out)
            add_dataset(work, artifacts, model.id, "holdout", aside, spec.through_dataset)
    known = datasets_learned_through(work, champion) if champion else None
    return (
        (row, known is None or dataset.created_at > known)
        for dataset in datasets
        for row in KeptRows(artifacts, dataset.sha256)
    )


def add_dataset(
    work: UnitOfWork,
    artifacts: Artifacts,
    model_id: UUID,
    role: str,
    rows: Iterable[Example],
    at: datetime,
) -> Dataset:
    """Store rows as a dataset in an open transaction."""
    kept = keep(artifacts, rows)
    dataset = Dataset(new_id(), model_id, role, kept.sha256, kept.size_bytes, len(kept), at)
    work.datasets.add(dataset)
    return dataset


def evenly(rows: Sequence[Example], n: int) -> Sequence[Example]:
    """Return at most n rows, spread evenly over them."""
    if len(rows) <= n:
        return rows
    chosen = set(np.linspace(0, len(rows) - 1, n).astype(int).tolist())
    return [row for index, row in enumerate(rows) if index in chosen]

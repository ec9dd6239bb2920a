"""The job that leases a run, starts its training process, and reports how that ended."""

import json
import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import structlog
from celery import shared_task

from app.domain.errors import Conflict, IllegalTransition, NotFound, Unavailable, UpkeepError
from app.domain.models import MaintainedModel
from app.domain.training import Lease, RunEvent, TrainingRun
from app.domain.versions import ModelFile
from app.services import training
from app.services.documents import document
from app.services.ports import UnitOfWork
from app.services.snapshots import Snapshot, snapshot_of
from app.services.training import problem
from workers.jobs.context import Context, current, kept_alive, now
from workers.jobs.metering import Meter
from workers.jobs.searching import Search, Watch
from workers.training.errors import NO_SPACE, OutOfSpace
from workers.training.files import read_json, write_json
from workers.training.job import FEATURES
from workers.training.supervise import Outcome, StopReason, run_process

log = structlog.get_logger()

SHORTAGE = "shortage.json"
REFUSED = 1  # the exit code of a training process that no retry would help


@shared_task(name="upkeep.train")
def train(run_id: str) -> None:
    """Work on the run that goes next until it is trained, stopped or given up.

    The job's own run may be another: it says no more than that some run waits.
    """
    context = current()
    work = context.open_work()
    lease = training.begin(
        work, owner=context.owner, seconds=context.lease_seconds, devices=context.devices
    )
    if lease is None:
        log.info("training_run.none_waits", called_for=run_id)
        return
    try:
        with kept_alive(
            lambda other: other.runs.renew(lease, seconds=context.lease_seconds)
        ) as lost:
            snapshot = snapshot_of(work, context.artifacts, lease)
            job_dir, output = prepared(work, context, lease, snapshot)
            with work:
                run = work.runs.get(lease.job_id)
            meter = Meter(lease.device, run.usage, context.rates)
            supervision = Supervision(work, context, lease, lost.is_set, meter)
            outcome = trained(work, run, lease, job_dir, supervision)
            record(work, context, lease, outcome, snapshot, output)
    except Conflict as error:
        log.warning("training_run.given_away", run_id=str(lease.job_id), detail=str(error))
    except Unavailable as error:
        log.warning("training_run.interrupted", run_id=str(lease.job_id), detail=str(error))
    except Exception as error:  # a run must end, and the worker must outlive it
        log.exception("training_run.failed", run_id=str(lease.job_id))
        ended(work, lease, RunEvent.FAILED, problem_of(error))


def trained(
    work: UnitOfWork, run: TrainingRun, lease: Lease, job_dir: Path, supervision: "Supervision"
) -> Outcome:
    """Run the training process of a job, after those of its search if it has one."""
    if run.spec.search is None:
        return supervision.run(job_dir)
    search = Search(work, lease, run, job_dir, supervision.run)
    ended = search.run()
    if ended is not None:
        return ended
    outcome = supervision.run(job_dir)
    if outcome.result is None:
        return outcome
    return replace(outcome, result={**outcome.result, "search": search.figures()})


def only_on(device: str | None) -> dict[str, str]:
    """Return what makes a training process see its GPU alone."""
    return {} if device is None else {"CUDA_VISIBLE_DEVICES": device}


def problem_of(error: Exception) -> dict[str, Any]:
    """Return what a run says of an error that its worker met around the training process."""
    if isinstance(error, OSError) and error.errno in NO_SPACE:
        return OutOfSpace(f"no space left ({error}); free some and retrain").as_problem()
    detail = str(error) if isinstance(error, UpkeepError | OSError) else repr(error)
    return problem("training-failed", detail)


def ended(
    work: UnitOfWork, lease: Lease, event: RunEvent, error: dict[str, Any] | None = None
) -> None:
    """Record an end without a version, unless the run has gone to another worker."""
    try:
        training.end_early(work, lease, event, error)
    except (Conflict, IllegalTransition) as conflict:
        log.warning("training_run.given_away", run_id=str(lease.job_id), detail=str(conflict))
    log.info(f"training_run.{event}", run_id=str(lease.job_id), error=error)


class Supervision:
    """What the training process's supervisor asks and is told."""

    def __init__(
        self, work: UnitOfWork, context: Context, lease: Lease, is_lost: Any, meter: Meter
    ) -> None:
        self._work = work
        self._meter = meter
        self._context = context
        self._lease = lease
        self._is_lost = is_lost
        self._asked_at = 0.0

    def run(self, job_dir: Path, watch: Watch | None = None) -> Outcome:
        """Run one process to its end, and keep what it has used; of a trial, as it is watched."""

        def on_progress(line: dict[str, Any]) -> None:
            self.on_progress(line if watch is None else {**line, **watch.place})
            if watch is not None:
                watch.on_progress(line)

        def should_stop() -> StopReason | None:
            return self.should_stop() or (watch.should_stop() if watch else None)

        outcome = run_process(
            job_dir,
            on_progress=on_progress,
            should_stop=should_stop,
            environment=only_on(self._lease.device),
            fork_server=self._context.fork_server,
        )
        self.settle()
        self._meter.process_ended()
        return outcome

    def on_progress(self, progress: dict[str, Any]) -> None:
        """Keep a line of progress, and what was used until then, where REST can see them."""
        self._meter.hear(progress)
        try:
            with self._work as work:
                usage = self._meter.usage()
                work.runs.set_progress(self._lease, document(progress), usage=usage)
        except Unavailable:
            log.warning("training_run.progress_lost", run_id=str(self._lease.job_id))

    def settle(self) -> None:
        """Keep what the attempt has used in all, however it ended."""
        with self._work as work:
            work.runs.set_usage(self._lease, self._meter.usage())

    def should_stop(self) -> StopReason | None:
        """Say why the process must stop, if it must; asks Postgres once a second."""
        if self._is_lost():
            return "lease_lost"
        if self._context.is_stopping.is_set():
            return "shutdown"
        if time.monotonic() - self._asked_at < 1.0:
            return None
        self._asked_at = time.monotonic()
        try:
            with self._work as work:
                return "cancel" if work.runs.is_cancelled(self._lease.job_id) else None
        except Unavailable:
            return None


def prepared(
    work: UnitOfWork, context: Context, lease: Lease, snapshot: Snapshot
) -> tuple[Path, Path]:
    """Lay out the folder of a run; what an earlier attempt left there (checkpoints) stays.

    Returns:
        The job's folder, and the one that the version will be written to.
    """
    with work:
        run = work.runs.get(lease.job_id)
        model = work.models.by_id(run.model_id)
        policy = training.policy_of(work, model.id)
        champion = work.versions.by_id(run.spec.champion) if run.spec.champion else None
        made_by = work.runs.get(champion.run_id) if champion and champion.run_id else None
    job_dir = context.work_directory / str(run.id)
    job_dir.mkdir(parents=True, exist_ok=True)
    for stale in ("result.json", "error.json"):
        (job_dir / stale).unlink(missing_ok=True)
    shutil.copyfile(snapshot.train.path, job_dir / "train.parquet")
    start, features = model.base_model, None
    from_champion = run.spec.start_from == "champion" and champion is not None
    if from_champion and champion is not None:
        place = job_dir / "start"
        shutil.rmtree(place, ignore_errors=True)
        context.artifacts.checkout(champion.files, place)
        start = str(place)
        features = features_of(context, made_by, job_dir)
    output = job_dir / f"output-{run.attempt}"
    shutil.rmtree(output, ignore_errors=True)
    job = _job(run, model, start, from_champion, job_dir, output)
    job |= {
        **(read_json(job_dir / SHORTAGE) or {}),
        "n_newest": snapshot.n_newest,
        "features": features,
        "checkpoint_every_seconds": policy.retrain.checkpoint_every_seconds,
        "deadline_seconds": policy.retrain.deadline_seconds,
        "threads": context.threads,
    }
    (job_dir / "job.json").write_text(json.dumps(job))
    return job_dir, output


def _job(
    run: TrainingRun,
    model: MaintainedModel,
    start: str,
    from_champion: bool,
    job_dir: Path,
    output: Path,
) -> dict[str, Any]:
    return {
        "run_id": str(run.id),
        "task_type": model.task_type,
        "start": start,
        "start_is_base": not from_champion,
        "labels": list((run.snapshot or {}).get("labels", model.labels)),
        "train": str(job_dir / "train.parquet"),
        "validation": None,
        "recipe": dict(run.spec.recipe),
        "seed": run.spec.seed,
        "output": str(output),
        "input_contract": document(model.contract.fields),
    }


def features_of(context: Context, made_by: TrainingRun | None, job_dir: Path) -> str | None:
    """Lay out what the run of the start kept of its rows; None if it kept none, or it is lost."""
    kept = ((made_by.result if made_by else None) or {}).get("features") or {}
    if "sha256" not in kept:
        return None
    target = job_dir / f"start-{FEATURES}"
    try:
        shutil.copyfile(context.artifacts.checked(kept["sha256"]), target)
    except (NotFound, Unavailable, OSError) as error:
        log.warning("training_run.features_lost", detail=str(error))
        return None
    return str(target)


def keep_features(context: Context, job_dir: Path, result: dict[str, Any]) -> dict[str, Any]:
    """Store what a training process left of its rows' features; return the result that names it."""
    if not result.get("features"):
        return result
    try:
        sha256, size_bytes = context.artifacts.put_file(job_dir / FEATURES)
    except OSError as error:  # the version is whole without
        log.warning("training_run.features_lost", detail=str(error))
        return {**result, "features": None}
    kept = {**result["features"], "sha256": sha256, "size_bytes": size_bytes}
    return {**result, "features": kept}


def halve_batches(job_dir: Path) -> None:
    """Have the next attempt of a run compute each batch in twice as many parts."""
    before = read_json(job_dir / SHORTAGE) or {}
    write_json(
        job_dir / SHORTAGE, {"least_accumulation": 2 * int(before.get("least_accumulation", 1))}
    )


def record(
    work: UnitOfWork,
    context: Context,
    lease: Lease,
    outcome: Outcome,
    snapshot: Snapshot,
    output: Path,
) -> None:
    """Turn the process's end into the run's."""
    job_dir = output.parent
    if outcome.kind == "succeeded" and outcome.result is not None:
        files = [
            ModelFile(item["path"], *context.artifacts.put_file(output / item["path"]))
            for item in outcome.result["files"]
        ]
        result = {key: value for key, value in outcome.result.items() if key != "output"}
        result = keep_features(context, job_dir, result)
        version = training.succeed(
            work, context.artifacts, lease, files, result, snapshot, now=now()
        )
        shutil.rmtree(job_dir, ignore_errors=True)
        log.info(
            "training_run.trained",
            run_id=str(lease.job_id),
            version=version.number if version else None,
        )
    elif outcome.kind == "preempted":
        ended(work, lease, RunEvent.PREEMPTED)
    elif outcome.kind == "cancelled":
        ended(work, lease, RunEvent.CANCELLED)
        shutil.rmtree(job_dir, ignore_errors=True)
    elif outcome.kind == "killed" or outcome.exit_code != REFUSED:
        log.warning("training_run.killed", run_id=str(lease.job_id), error=outcome.error)
        if outcome.is_for_memory:
            halve_batches(job_dir)
        ended(work, lease, RunEvent.PREEMPTED, outcome.error)
    else:
        ended(work, lease, RunEvent.FAILED, outcome.error)
        shutil.rmtree(job_dir, ignore_errors=True)

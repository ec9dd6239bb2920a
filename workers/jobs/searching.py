"""A search for a recipe: one training process a trial, until the best is known.

Postgres keeps the trials, under the run's lease. One is written down before its process starts and
again when it has told a score or ended: whoever takes the run over goes on with the trial under
way, from its last checkpoint if that is on its disk, and proposes the next as the first worker
would have.
"""

import importlib
import math
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import structlog

from app.domain.searches import (
    COMPLETE,
    FAILED,
    PRUNED,
    RUNNING,
    best_of,
    may_go_on,
    seconds_of,
)
from app.domain.training import Lease, TrainingRun
from app.services.ports import Json, UnitOfWork
from app.services.training import problem
from workers.training.files import read_json, write_json
from workers.training.job import JOB
from workers.training.supervise import Outcome, StopReason

log = structlog.get_logger()

SEARCH: Final = "workers.training.search"
"""Named, not imported: it loads Optuna, which most runs do without."""
REFUSED: Final = 1
Supervised = Callable[[Path, "Watch"], Outcome]
"""Runs the job of a folder, watched."""


class Search:
    """The search of one run."""

    def __init__(
        self,
        work: UnitOfWork,
        lease: Lease,
        run: TrainingRun,
        job_dir: Path,
        supervised: Supervised,
    ) -> None:
        """Go on where the run's record says.

        Args:
            work: a unit of work.
            lease: under which the trials are written.
            run: one that searches.
            job_dir: holds the job that each trial changes the recipe of.
            supervised: runs a process.
        """
        self._work, self._lease, self._run, self._job_dir = work, lease, run, job_dir
        self._supervised = supervised
        self._wanted: Mapping[str, Any] = run.spec.search or {}
        self._trials: list[Json] = [dict(one) for one in run.trials]
        job: Json = read_json(job_dir / JOB) or {}
        self._deadline_seconds = float(job.get("deadline_seconds") or math.inf)
        self._library = importlib.import_module(SEARCH)

    def run(self) -> Outcome | None:
        """Try until trials or budget are spent; return how it ended if no version can be trained.

        The job then has the recipe of the best trial, and the time that is left.
        """
        wanted = self._wanted
        while seconds_of(self._trials) < self._deadline_seconds and may_go_on(
            self._trials, n_trials=wanted["n_trials"], budget_seconds=wanted["budget_seconds"]
        ):
            ended = self._try(self._next())
            if ended is not None:
                return ended
        for one in self._trials:  # the budget was spent when its worker was lost
            if one["state"] == RUNNING:
                one |= {"state": FAILED, "error": "the budget was spent before it ended"}
        self._keep()
        best = best_of(self._trials, direction=wanted["direction"])
        if best is None:
            said = "; ".join(sorted({str(one["error"]) for one in self._trials if one["error"]}))
            detail = f"none of {len(self._trials)} trials came to its end: {said}"
            return Outcome("failed", None, problem("search-failed", detail), REFUSED)
        self._write_job(self._job_dir, _to_its_best_epoch(best), {})
        log.info("training_run.searched", run_id=str(self._run.id), trial=best["number"])
        return None

    def figures(self) -> Json:
        """Return what a result says of the search."""
        best = best_of(self._trials, direction=self._wanted["direction"])
        return {
            "n_trials": len(self._trials),
            "seconds": seconds_of(self._trials),
            "best": best,
            "metric": self._wanted["metric"],
        }

    def _keep(self) -> None:
        with self._work as work:
            work.runs.set_trials(self._lease, self._trials)

    def _next(self) -> Json:
        """Return the trial that was interrupted, or a new one, written down."""
        if self._trials and self._trials[-1]["state"] == RUNNING:
            return self._trials[-1]
        recipe = self._library.proposed(self._wanted, self._trials, seed=self._run.spec.seed)
        trial: Json = {
            "number": len(self._trials),
            "recipe": recipe,
            "state": RUNNING,
            "score": None,
            "scores": [],
            "seconds": 0.0,
            "best_epoch": None,
            "error": None,
        }
        self._trials.append(trial)
        self._keep()
        return trial

    def _try(self, trial: Json) -> Outcome | None:
        """Run one trial to its end; return how the run ended if that is over too."""
        directory = self._job_dir / f"trial-{trial['number']}"
        directory.mkdir(exist_ok=True)
        share = self._wanted["validation_share"]
        own = {
            "validation_share": share,
            "output": str(directory / "output"),
            "keeps_features": False,
        }
        self._write_job(directory, trial["recipe"], own)
        racing = self._library.Racing(self._wanted, self._others(), trial["recipe"])
        watch = Watch(self, trial, racing)
        outcome = self._supervised(directory, watch)
        trial["seconds"] = watch.seconds()
        if outcome.kind == "preempted" or (outcome.kind == "cancelled" and not watch.is_over):
            self._keep()
            return outcome
        trial |= self._ending(outcome, trial)
        self._keep()
        shutil.rmtree(directory, ignore_errors=True)
        if outcome.kind == "succeeded" and trial["state"] == FAILED:  # so would all others
            return Outcome("failed", None, problem("search-failed", trial["error"]), REFUSED)
        return None

    def _others(self) -> list[Json]:
        return [one for one in self._trials if one["state"] != RUNNING]

    def _ending(self, outcome: Outcome, trial: Json) -> Json:
        """Return how a trial ended: by itself, stopped because it fell behind, or not well."""
        metric = self._wanted["metric"]
        if outcome.kind == "succeeded" and outcome.result is not None:
            score = outcome.result["metrics"].get(metric)
            if score is not None:
                return {
                    "state": COMPLETE,
                    "score": float(score),
                    "best_epoch": _best_epoch(outcome.result),
                }
            metrics = outcome.result["metrics"].items()
            told = ", ".join(name for name, value in metrics if isinstance(value, float))
            detail = f"trials do not tell {metric}, the model's objective, but {told}"
            return {"state": FAILED, "error": detail}
        if outcome.kind == "cancelled" and trial["scores"]:
            return {"state": PRUNED, "score": trial["scores"][-1][1]}
        if outcome.kind == "cancelled":
            return {"state": FAILED, "error": "the budget was spent before it told a score"}
        return {"state": FAILED, "error": str((outcome.error or {}).get("detail", outcome.kind))}

    def _write_job(self, directory: Path, recipe: Mapping[str, Any], more: Json) -> None:
        """Write the run's job with other knobs, and with the time that trials have left it."""
        job: Json = read_json(self._job_dir / JOB) or {}
        if math.isfinite(self._deadline_seconds):
            left = self._deadline_seconds - seconds_of(self._others())
            job["deadline_seconds"] = max(1.0, left)
        write_json(directory / JOB, {**job, "recipe": {**job["recipe"], **recipe}, **more})

    def is_budget_spent(self, seconds: float) -> bool:
        """Return whether a trial under way for so long must end, as another has ended well."""
        budget = self._wanted["budget_seconds"]
        if budget is None or not any(one["state"] == COMPLETE for one in self._trials):
            return False
        return seconds_of(self._others()) + seconds >= float(budget)

    def told(self, trial: Json, epoch: int, score: float) -> None:
        """Keep what a trial told of an epoch."""
        trial["scores"].append([epoch, score])
        self._keep()

    @property
    def metric(self) -> str:
        """Return the metric to search by."""
        return str(self._wanted["metric"])

    def place_of(self, trial: Json) -> Json:
        """Return what each line of progress says of the trial that it comes from."""
        return {"trial": trial["number"], "n_trials": int(self._wanted["n_trials"])}


def _best_epoch(result: Json) -> int | None:
    """Return how many epochs a trial's version had seen, of those that its recipe allows.

    None of boosted trees, and of recipes that set rows apart: they find out by themselves. A head
    that has neither been fitted nor was to be kept learns for one at least.
    """
    recipe = result["recipe"]
    if "epochs" not in recipe or recipe.get("validation_share"):
        return None
    fitted = {rung["name"] for rung in result["rungs"]} & {"prior", "centroid", "probe"}
    return max(int(result["best_epoch"]), 0 if fitted or recipe.get("head") == "keep" else 1)


def _to_its_best_epoch(trial: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a trial's knobs with as many epochs as its score is of, and nothing to wait for."""
    n_epochs = trial.get("best_epoch")
    knobs: Mapping[str, Any] = trial["recipe"]
    return knobs if n_epochs is None else {**knobs, "epochs": n_epochs, "patience": None}


class Watch:
    """What the supervisor of a trial's process asks and is told.

    Attributes:
        is_over: the trial is not worth going on with; the run is.
        place: of the trial in the search, for lines of progress.
    """

    def __init__(self, search: Search, trial: Json, racing: Any) -> None:
        self._search, self._trial, self._racing = search, trial, racing
        self.place = search.place_of(trial)
        self._began, self._before = time.monotonic(), float(trial["seconds"])
        self.is_over = False
        for epoch, score in trial["scores"]:
            self.is_over = racing.told(epoch, score)

    def seconds(self) -> float:
        """Return how long the trial has taken, in all its attempts."""
        return self._before + time.monotonic() - self._began

    def on_progress(self, line: Json) -> None:
        """Take the score of an epoch, once."""
        score = (line.get("validation") or {}).get(self._search.metric)
        epoch = line.get("epoch")
        known = {one[0] for one in self._trial["scores"]}
        if self.is_over or score is None or epoch is None or epoch in known:
            return
        self._search.told(self._trial, int(epoch), float(score))
        self.is_over = self._racing.told(int(epoch), float(score))

    def should_stop(self) -> StopReason | None:
        """Say whether the trial must end, as it fell behind or the budget is spent."""
        if not self.is_over and self._search.is_budget_spent(self.seconds()):
            self.is_over = True
        return "cancel" if self.is_over else None

"""How does a version of boosted trees learn from rows, so that it can stop and go on anywhere?

Candidates compete on held-out rows of the newest: fresh trees, or more trees on those of the start;
from all of history alike, from history that fades, or from the newest rows alone. Of those whose
loss is not clearly above the least, the one with the most history is grown anew on all rows, for as
many rounds as suited it: what is forgotten must be worth it. What the loss is, and what else hangs
on whether trees tell classes or numbers, is their goal's to say (`workers.training.goals`).

Trees grow in stretches of `ROUNDS_EACH` rounds. A stretch is a pure function of the trees before
it, the rows, the recipe and seeds of its own, and every stretch starts from the trees as text, so a
run that was stopped goes on at the end of a stretch and ends with the same bits.

LightGBM loads scikit-learn and pandas with it: `workers.training.tree_task` names this module and
loads it only when there are trees to grow or to ask.
"""

import math
import time
from dataclasses import asdict, dataclass, field
from typing import Any, Final

import lightgbm
import numpy as np
from lightgbm.basic import LightGBMError
from numpy.typing import NDArray

from app.domain.holdout import held_out
from upkeep.tables import CATEGORY, Matrix, feature_names
from upkeep.trees import Trees
from workers.training import checkpoints
from workers.training.data import Rows
from workers.training.device import cpu_quota, memory_bytes
from workers.training.errors import DataError, Diverged, RecipeError
from workers.training.goals import goal_of
from workers.training.histories import (
    CONTINUE,
    FADING,
    FRESH,
    Candidate,
    ages,
    can_be_continued,
    candidates,
    even_ages,
    history_weights,
    least_forgetful,
)
from workers.training.progress import Preempted
from workers.training.tables import encoded, fitted
from workers.training.trainer import Order, Trained
from workers.training.tree_versions import TreesVersion

ROUNDS_EACH: Final = 10
DIVERGED_FACTOR: Final = 3.0
PATIENT_ROUNDS: Final = 20
FEWEST_NEWEST: Final = 50
"""Newest rows below which all rows count as such."""
LEAF_SHARE: Final = 20
"""Without a knob, a leaf has at least this part of the rows, if that is less than `LEAF_ROWS`."""
LEAF_ROWS: Final = 20
MODEL: Final = "model"
TRIED: Final = "tried-"


@dataclass(slots=True)
class Position:
    """Where a run is; all of it goes into a checkpoint, with the text of the present trees.

    Attributes:
        candidate: which one grows; as many as there are when the chosen one grows anew.
        rounds: how many it has grown.
        losses: its held-out loss before the first round (None for fresh trees) and after each.
        step: names checkpoints; grows with every stretch and every candidate.
        grown: rounds of all candidates.
        results: what became of the candidates before it.
        threads: of every attempt, so that all of them add in the same order.
    """

    candidate: int = 0
    rounds: int = 0
    step: int = 0
    grown: int = 0
    threads: int = 1
    losses: list[float | None] = field(default_factory=lambda: [None])
    results: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0
    cpu_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Table:
    """Rows as LightGBM takes them: numbers (n, c), classes or numbers (n,), weights (n,)."""

    matrix: Matrix
    truth: NDArray[Any]
    weights: NDArray[np.float64]

    def rows(self, mask: NDArray[np.bool_]) -> "Table":
        """Return some of the rows."""
        return Table(self.matrix[mask], self.truth[mask], self.weights[mask])


class Boosting:
    """One run over columns: `train`, and the version is in `text`."""

    def __init__(self, order: Order, start: TreesVersion) -> None:
        self.order, self.recipe, self.start = order, order.recipe, start
        self.labels = start.labels
        rows, job = order.data.train, order.job
        self.columns, self.cleaning = fitted(start.columns, rows.inputs)
        self.goal = goal_of(start.labels, self.recipe)
        self.table = self._table(rows)
        n_newest = len(rows) if job.n_newest is None else min(job.n_newest, len(rows))
        self.n_newest = n_newest if n_newest >= FEWEST_NEWEST else len(rows)
        self.ages = ages(len(rows), self.n_newest)
        each = self.recipe["fading_rows"]
        self.fading_ages = self.ages if each is None else even_ages(len(rows), float(each))
        self.held = self._held_out(rows)
        self.validation = None
        if order.data.validation is not None:
            self.validation = self._table(order.data.validation)
        self.position = Position(threads=job.threads or cpu_quota())
        self.text = ""
        self.tried: list[str] = []
        self.plan = candidates(
            self.recipe,
            can_continue=can_be_continued(start.text, self.goal.objective),
            has_history=self.n_newest < len(rows),
        )
        self._saved_at = time.monotonic()
        self._saved_step = -1
        self._cpu_before = 0.0
        if order.checkpoint is not None:
            self._resume(order.checkpoint)

    def _table(self, rows: Rows) -> Table:
        return Table(encoded(self.columns, rows.inputs), self.goal.truth(rows), np.ones(len(rows)))

    def _held_out(self, rows: Rows) -> NDArray[np.bool_]:
        """Mark the rows that decide, of the newest ones; none where validation rows were given."""
        mask = np.zeros(len(rows), dtype=bool)
        if self.order.data.validation is None:
            first = len(rows) - self.n_newest
            strata = self.goal.strata(rows.labels[first:])
            mask[first:] = held_out(strata, share=float(self.recipe["held_out_share"]))
        return mask

    # -- checkpoints

    def _save(self) -> None:
        """Write a checkpoint of this moment, unless it is on the disk already."""
        if self._saved_step == self.position.step:
            return
        self.position.seconds = self.order.stop.seconds()
        self.position.cpu_seconds = self.cpu_seconds()
        texts = {f"{TRIED}{place}": text for place, text in enumerate(self.tried)}
        texts[MODEL] = self.text
        checkpoints.write(
            self.order.job.directory,
            self.position.step,
            {},
            {"position": asdict(self.position)},
            {name: text for name, text in texts.items() if text},
        )
        self._saved_step, self._saved_at = self.position.step, time.monotonic()

    def _resume(self, checkpoint: checkpoints.Checkpoint) -> None:
        self.position = Position(**checkpoint.state["position"])
        self.text = checkpoint.texts.get(MODEL, "")
        self.tried = [
            checkpoint.texts.get(f"{TRIED}{place}", "") for place in range(self.position.candidate)
        ]
        self._saved_step = self.position.step
        self.order.stop.spent_before_seconds = self.position.seconds
        self._cpu_before = self.position.cpu_seconds

    def cpu_seconds(self) -> float:
        """Return CPU time spent, earlier attempts included."""
        return self._cpu_before + time.process_time()

    # -- the run

    @property
    def total_steps(self) -> int:
        """Rounds of all candidates and of the last growth, at most."""
        return int(self.recipe["rounds"]) * (len(self.plan) + (self.validation is None))

    def train(self) -> Trained:
        """Run to the end.

        Raises:
            Preempted: SIGTERM came; a whole checkpoint is on the disk.
            TrainingError: the run cannot end well.
        """
        try:
            while self.position.candidate < len(self.plan):
                self._try(self.plan[self.position.candidate])
            place = self._chosen()
            n_rounds = int(self.position.results[place]["rounds"])
            if self.validation is not None:
                self.text = self.tried[place]
            else:
                self._grow(self.plan[place], self._learns(self.plan[place]), n_rounds)
        except Preempted:
            self._save()
            raise
        except LightGBMError as error:
            raise RecipeError(f"LightGBM cannot grow trees on these rows: {error}") from error
        if not self.text:
            raise DataError(
                f"the rows that count, of the {self.n_newest} newest, hold one {self.goal.one} "
                "alone; take history 'auto', or more fading_rows"
            )
        version = TreesVersion(self.labels, self.columns, self.text, self.start.contract)
        figures = self._figures(place, n_rounds)
        return Trained(version.write, self.position.grown, self.total_steps, figures)

    def _try(self, candidate: Candidate) -> None:
        """Grow one candidate and note how it did; the run goes on to the next."""
        position = self.position
        learn = self._learns(candidate) & ~self.held
        if len(set(self.table.truth[learn].tolist())) > 1:
            self._grow(candidate, learn, int(self.recipe["rounds"]))
        losses = [math.inf if loss is None else loss for loss in position.losses]
        best = int(np.argmin(losses))
        known = math.isfinite(losses[best])
        n_rounds = best if known else position.rounds
        found = {
            "trees": candidate.trees,
            "history": candidate.history,
            "rounds": n_rounds,
            self.goal.loss: losses[best] if known else None,
        }
        self.tried.append(self._cut(candidate, n_rounds))
        position.results.append(found)
        position.candidate, position.rounds, position.losses = position.candidate + 1, 0, [None]
        position.step += 1  # a checkpoint of the next candidate's beginning has a name of its own
        self.text = ""

    def _learns(self, candidate: Candidate) -> NDArray[np.bool_]:
        """Return which rows count at all."""
        return self._counts(candidate) > 0

    def _counts(self, candidate: Candidate) -> NDArray[np.float64]:
        """Return what rows count for because of their age, shape (n,)."""
        old = self.fading_ages if candidate.history == FADING else self.ages
        return history_weights(candidate.history, old)

    def _chosen(self) -> int:
        """Return the place of the candidate that becomes the version."""
        grown = [place for place, text in enumerate(self.tried) if text]
        judges = self._judges()
        if judges is None or len(grown) < 2:
            return grown[0] if grown else 0
        return grown[least_forgetful([self._losses(self.tried[at], judges) for at in grown])]

    def _cut(self, candidate: Candidate, n_rounds: int) -> str:
        """Return the present trees as they were after so many rounds."""
        if candidate.trees == CONTINUE and n_rounds == 0:
            return self.start.text
        if not self.text:
            return ""
        before = self._n_before(candidate)
        booster = lightgbm.Booster(model_str=self.text)
        return str(booster.model_to_string(num_iteration=before + max(1, n_rounds)))

    def _n_before(self, candidate: Candidate) -> int:
        """Return how many rounds the trees had that a candidate continues."""
        if candidate.trees == FRESH:
            return 0
        return int(lightgbm.Booster(model_str=self.start.text).current_iteration())

    def _grow(self, candidate: Candidate, learn: NDArray[np.bool_], n_rounds: int) -> None:
        """Grow trees from where the position is, on some rows, until enough or no better."""
        position = self.position
        table = self._weighted(candidate).rows(learn)
        watched = self._judges() if position.candidate < len(self.plan) else None
        data = self._dataset(table)
        held = None if watched is None else self._dataset(watched, data)
        if candidate.trees == CONTINUE and not self.text:
            self.text = self.start.text
            if watched is not None:
                position.losses = [float(self._losses(self.text, watched).mean())]
        while position.rounds < n_rounds and not self._is_out_of_patience():
            self.order.stop.check()
            if time.monotonic() - self._saved_at >= self.order.job.checkpoint_every_seconds:
                self._save()
            n = min(ROUNDS_EACH, n_rounds - position.rounds)
            if not self._stretch(data, held, n, len(table.truth)):
                return

    def _judges(self) -> Table | None:
        """Return the rows that decide; None where there are too few for any."""
        if self.validation is not None:
            return self.validation
        return self.table.rows(self.held) if self.held.any() else None

    def _weighted(self, candidate: Candidate) -> Table:
        weights = self._counts(candidate) * self.goal.weights(self.table.truth)
        return Table(self.table.matrix, self.table.truth, weights)

    def _is_out_of_patience(self) -> bool:
        patience, losses = self.recipe["patience"], self.position.losses
        known = [math.inf if loss is None else loss for loss in losses]
        if patience is None or not math.isfinite(min(known)):
            return False
        return len(known) - 1 - int(np.argmin(known)) >= int(patience)

    def _stretch(
        self, data: lightgbm.Dataset, held: lightgbm.Dataset | None, n_rounds: int, n_rows: int
    ) -> bool:
        """Grow so many rounds; return whether there was anything left to split."""
        position, started = self.position, time.monotonic()
        losses: list[float] = []

        def after(env: Any) -> None:  # LightGBM's callback
            said = {(name, metric): value for name, metric, value, *_ in env.evaluation_result_list}
            ours = next(value for (name, _), value in said.items() if name == "training")
            theirs = [value for (name, _), value in said.items() if name != "training"]
            if env.model.current_iteration() - n_before > len(losses):
                losses.extend(theirs)
            n_done = env.iteration - env.begin_iteration + 1
            self._watch(theirs[0] if theirs else ours, position.rounds + n_done)
            self._report(ours, n_done, n_rows, time.monotonic() - started)
            self.order.stop.check()

        before = lightgbm.Booster(model_str=self.text) if self.text else None
        n_before = 0 if before is None else int(before.current_iteration())
        booster = lightgbm.train(
            self._settings(),
            data,
            num_boost_round=n_rounds,
            valid_sets=[data] if held is None else [data, held],
            valid_names=["training"] if held is None else ["training", "held out"],
            init_model=before,
            callbacks=[after],
        )
        grown = int(booster.current_iteration()) - n_before
        if grown > 0:
            self.text = str(booster.model_to_string(num_iteration=-1))
        position.rounds += grown
        position.grown += grown
        position.losses += losses
        position.step += max(1, grown)
        return grown > 0

    def _settings(self) -> dict[str, Any]:
        """Return LightGBM's parameters of the next stretch."""
        recipe, position = self.recipe, self.position
        draws = np.random.SeedSequence(
            (self.order.job.seed, position.candidate, position.rounds)
        ).generate_state(3)
        by_row, by_column, extra = (int(draw) % 2**31 for draw in draws)
        stated = recipe["minimum_leaf_rows"]
        fewest = max(1, min(LEAF_ROWS, len(self.table.truth) // LEAF_SHARE))
        return {
            **self.goal.settings,
            "learning_rate": float(recipe["learning_rate"]),
            "num_leaves": int(recipe["leaves"]),
            "min_data_in_leaf": fewest if stated is None else int(stated),
            "lambda_l2": float(recipe["l2"]),
            "feature_fraction": float(recipe["column_share"]),
            "bagging_fraction": float(recipe["row_share"]),
            "bagging_freq": 1 if float(recipe["row_share"]) < 1 else 0,
            "bagging_seed": by_row,
            "feature_fraction_seed": by_column,
            "extra_seed": extra,
            "num_threads": position.threads,
            **self._binning(),
        }

    def _binning(self) -> dict[str, Any]:
        """Return the parameters that a data set is made with, the same for all of a run."""
        return {
            "data_random_seed": self.order.job.seed % 2**31,
            "deterministic": True,
            "force_row_wise": True,
            "feature_pre_filter": False,
            "verbosity": -1,
        }

    def _dataset(self, table: Table, like: lightgbm.Dataset | None = None) -> lightgbm.Dataset:
        places = [at for at, column in enumerate(self.columns) if column.type == CATEGORY]
        return lightgbm.Dataset(
            table.matrix,
            label=table.truth,
            weight=table.weights,
            reference=like,
            feature_name=feature_names(self.columns),
            categorical_feature=places,
            params={**self._binning(), "num_threads": self.position.threads},
            free_raw_data=False,
        )

    def _losses(self, text: str, table: Table) -> NDArray[np.float64]:
        """Return the loss of some trees on each row, shape (n,)."""
        return self.goal.losses(Trees(text, self.labels, self.columns), table.matrix, table.truth)

    def _watch(self, loss: float, n_rounds: int) -> None:
        """Stop a run whose loss is no number, or far above what guessing would give."""
        lower = f"lower learning_rate (now {self.recipe['learning_rate']:g})"
        if not math.isfinite(loss):
            raise Diverged(f"after {n_rounds} rounds the loss is not finite; {lower}")
        guessing = self.goal.guessing(self.table.truth)
        if n_rounds >= PATIENT_ROUNDS and loss > DIVERGED_FACTOR * guessing:
            raise Diverged(
                f"after {n_rounds} rounds the loss is {loss:.{self.goal.digits}}; guessing gives "
                f"{guessing:.{self.goal.digits}}; "
                f"{lower}"
            )

    def _report(self, loss: float, n_done: int, n_rows: int, seconds: float) -> None:
        step = self.position.grown + n_done
        each = max(1e-9, seconds) / n_done
        self.order.progress.say(
            "train",
            step=step,
            total_steps=self.total_steps,
            epoch=self.position.candidate,
            loss=loss,
            learning_rate=float(self.recipe["learning_rate"]),
            rows_per_second=n_rows / each,
            eta_seconds=(self.total_steps - step) * each,
            memory_bytes=memory_bytes(),
        )

    def _figures(self, place: int, n_rounds: int) -> dict[str, Any]:
        position = self.position
        metrics: dict[str, Any] = {}
        if self.validation is not None:
            trees = Trees(self.text, self.labels, self.columns)
            metrics = self.goal.metrics(trees, self.validation.matrix, self.validation.truth)
        return {
            "metrics": metrics,
            "history": position.results,
            "chosen": {name: position.results[place][name] for name in ("trees", "history")},
            "cleaning": self.cleaning.document(),
            "n_train": len(self.table.truth),
            "n_validation": 0 if self.validation is None else len(self.validation.truth),
            "n_held_out": int(self.held.sum()),
            "n_newest": self.n_newest,
            "epochs": n_rounds,
            "best_epoch": n_rounds,
            "cpu_seconds": self.cpu_seconds(),
            "device": "cpu",
            "threads": position.threads,
            "precision": "fp64",
            "deterministic": True,
            "final_loss": position.results[place][self.goal.loss],
        }

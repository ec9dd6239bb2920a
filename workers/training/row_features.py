"""What do the layers below the head say of a run's rows? While they stand still, asked once."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from app.domain.selection import draw
from workers.training import probe
from workers.training.device import Device, memory_bytes
from workers.training.kept_features import Digests, KeptFeatures, Places, agree, digests_of
from workers.training.lower import LowerLayers
from workers.training.position import Prepared
from workers.training.probe import Features
from workers.training.progress import Progress, Stop
from workers.training.targets import N_FIT_ROWS, RowTargets, sampled
from workers.training.task_type import Learner

N_CHECKED = 64
"""Rows that are computed though their features were kept: what was kept must agree with them."""


def _rows_to_fit(rows: Prepared, seed: int) -> Places:
    """Return the rows that a probe is fitted to; of very many, mostly those of the run before."""
    targets = rows.targets
    if not isinstance(targets, RowTargets) or len(targets) <= N_FIT_ROWS:
        return targets.sample(seed=seed)
    lots = np.fromiter((draw(0, row) for row in rows.rows.ids), dtype=np.uint64, count=len(targets))
    return sampled(targets.truth, order=np.argsort(lots, kind="stable"))


class RowFeatures:
    """What a version's head is given of its rows.

    Attributes:
        n_taken: rows whose features the run of its start had kept; None: nobody has looked.
        rows_to_fit: those that a probe is fitted to, in order.
    """

    def __init__(
        self,
        learner: Learner,
        rows: Prepared,
        device: Device,
        lower: LowerLayers | None,
        *,
        taken_from: Path | None,
        seed: int,
        budget: Callable[[], int],
        on_shortage: Callable[[str, int, str], None],
        progress: Progress,
        stop: Stop,
    ) -> None:
        """Compute none yet.

        Args:
            learner: the version.
            rows: those of the run.
            device: to compute on.
            lower: frozen layers, which are run once.
            taken_from: where the start's run kept what its layers said of rows; None: nowhere.
            seed: draws the rows to fit to, of very many.
            budget: tells the largest padded cost of a batch.
            on_shortage: told the phase, the next, halved budget and what was said when memory ran
                out.
            progress: where it is told.
            stop: asked between batches.
        """
        self.n_taken: int | None = None
        self._learner, self._rows, self._device, self._lower = learner, rows, device, lower
        self._taken_from = taken_from
        self._budget, self._on_shortage = budget, on_shortage
        self._progress, self._stop = progress, stop
        self.rows_to_fit = _rows_to_fit(rows, seed)
        self._remembers = isinstance(rows.targets, RowTargets)
        self._place = np.full(len(rows.targets), -1, dtype=np.int32)
        self._known: list[Features] = []
        self._digests: Digests | None = None
        self._has_run_frozen = False

    def of(self, rows: Places, *, phase: str = "probe") -> Features:
        """Return the features of rows, (m, d); of tokens, of all that the rows have.

        Raises:
            Preempted: SIGTERM came.
            OutOfMemory: a single row does not fit.
        """
        is_of_fit = len(rows) == len(self.rows_to_fit) and bool((rows == self.rows_to_fit).all())
        if not self._remembers:
            return self._computed(rows, phase, is_of_fit=is_of_fit)
        missing = rows[self._place[rows] < 0]
        if len(missing) and is_of_fit and not self.n_taken:
            self.forget()  # one pass over all of them is what the frozen layers need
            self._put(rows, self._computed(rows, phase, is_of_fit=True))
        elif len(missing) or not self._known:
            self._put(missing, self._computed(missing, phase))
        if len(self._known) > 1:
            self._put_in_order()
        places = self._place[rows]
        is_whole = len(rows) == len(self._known[0]) and bool((np.diff(places) == 1).all())
        return self._known[0] if is_whole else np.asarray(self._known[0][places])

    def forget(self) -> None:
        """Note that the layers are about to move: what they have said no longer holds."""
        self._place[:] = -1
        self._known = []

    def take_over(self) -> int:
        """Take over what the start's run kept of rows, if its layers say the same of some now.

        Returns:
            of how many; again the same when asked again.

        Raises:
            Preempted: SIGTERM came.
            OutOfMemory: a single row does not fit.
        """
        if self.n_taken is None:
            found = None if self._taken_from is None else KeptFeatures.read(self._taken_from)
            self.n_taken = 0 if found is None else self._take(found)
        return self.n_taken

    def _take(self, kept: KeptFeatures) -> int:
        rows = self.rows_to_fit
        places = kept.places(self._digests_of(rows))
        is_there = places >= 0
        if not is_there.any():
            return 0
        tried = np.union1d(
            np.arange(min(N_CHECKED, len(rows))), np.flatnonzero(is_there)[:N_CHECKED]
        )
        fresh = self.of(rows[tried])
        there = is_there[tried]
        if not agree(kept.values[places[tried[there]]], fresh[there]):
            return 0
        is_there[tried] = False
        is_there &= self._place[rows] < 0
        if is_there.any():
            self._put(rows[is_there], kept.values[places[is_there]].astype(np.float32))
        return int(is_there.sum())

    def kept(self, *, has_trained: bool) -> KeptFeatures | None:
        """Return what the layers say of the rows to fit to, for the next run; None if it cannot be.

        Args:
            has_trained: the layers are no longer those of the start.

        Raises:
            Preempted: SIGTERM came.
            OutOfMemory: a single row does not fit.
        """
        if has_trained:
            self.run_frozen()  # unless that is done: so that an attempt that goes on does likewise
        rows = self.rows_to_fit
        return KeptFeatures.of(self._digests_of(rows), self.of(rows, phase="keep"))

    def logits(self, rows: Places) -> Features:
        """Return what the whole version says of rows now, (m, k); of tokens, of all they have.

        Raises:
            OutOfMemory: a single row does not fit.
        """
        _, logits = probe.infer(
            self._learner,
            self._rows.examples,
            budget=self._budget(),
            rows=rows,
            lower=self._lower,
            states=self._rows.states,
            autocast=self._device.autocast,
        )
        return logits

    def run_frozen(self) -> None:
        """Have the frozen layers done with all rows.

        What they say of a row depends in its last bits on the rows that share its batch: whoever
        comes here, an attempt that goes on or another rank too, runs the same batches.
        """
        if self._lower is None or self._rows.states.is_full:
            return
        if not self._has_run_frozen:
            self._run(self._lower, self.rows_to_fit, 0)
            self._has_run_frozen = True
        others = np.setdiff1d(np.arange(len(self._place)), self.rows_to_fit)
        self._run(self._lower, others, len(self.rows_to_fit))

    def _run(self, lower: LowerLayers, rows: Places, n_before: int) -> None:
        states, model = self._rows.states, self._learner.model
        was_training, done = model.training, n_before
        model.eval()

        def run(places: NDArray[np.int64]) -> None:
            batch = self._learner.collate(self._rows.examples, rows[places])
            with self._device.autocast(), lower.alone():
                model(**batch)
            states.keep(rows[places], lower.taken)

        lengths = self._rows.examples.lengths[rows]
        try:
            with torch.inference_mode():
                batches = probe.fitting_batches(lengths, self._budget(), run, self._short("probe"))
                for places in batches:
                    done += len(places)
                    self._say("probe", done)
        finally:
            model.train(was_training)

    def _put(self, rows: Places, features: Features) -> None:
        n = sum(map(len, self._known))
        self._place[rows] = np.arange(n, n + len(rows))
        self._known.append(features)

    def _put_in_order(self) -> None:
        """Have one table, in the order of the rows."""
        rows = np.flatnonzero(self._place >= 0)
        table = np.concatenate(self._known)[self._place[rows]]
        self._known, self._place[rows] = [table], np.arange(len(rows))

    def _digests_of(self, rows: Places) -> Digests:
        if self._digests is None:
            self._digests = digests_of(self._rows.rows, rows)
        return self._digests

    def _computed(self, rows: Places, phase: str, *, is_of_fit: bool = False) -> Features:
        """Ask the layers; of all rows to fit to, what the frozen ones say is kept for training."""
        n_before = int(np.count_nonzero(self._place >= 0))
        states = self._rows.states if is_of_fit or self._rows.states.is_full else None

        def between(done: int) -> None:
            self._say(phase, n_before + done)

        between(0)
        features, _ = probe.infer(
            self._learner,
            self._rows.examples,
            budget=self._budget(),
            between=between,
            rows=rows,
            lower=self._lower,
            states=states,
            autocast=self._device.autocast,
            on_shortage=self._short(phase),
        )
        self._has_run_frozen = self._has_run_frozen or is_of_fit
        return features

    def _say(self, phase: str, done: int) -> None:
        self._stop.check()
        n_rows = len(self._place)
        self._progress.say(phase, step=done, total_steps=n_rows, memory_bytes=memory_bytes())

    def _short(self, phase: str) -> Callable[[int, str], None]:
        return lambda budget, said: self._on_shortage(phase, budget, said)

"""Which head answers best while the layers below stand still? The rungs that train no layer."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workers.training import ladder, probe
from workers.training.device import Device
from workers.training.errors import Diverged, RecipeError
from workers.training.job import Job
from workers.training.layers import find_head
from workers.training.position import Position
from workers.training.row_features import N_CHECKED, RowFeatures
from workers.training.targets import IGNORED, RowTargets, Targets, sampled
from workers.training.task_type import Learner

PROBE_TOLERANCE = {"fp32": 1e-3, "bf16": 2e-2}
"""Gap in probability: bf16 keeps eight bits of a logit."""


class HeadRungs:
    """Climbs from the start's head to one that suffices, or to the best of these rungs."""

    def __init__(
        self,
        job: Job,
        recipe: Mapping[str, Any],
        learner: Learner,
        device: Device,
        targets: Targets,
        features: RowFeatures,
        position: Position,
        *,
        known: Sequence[str],
        check: Callable[[], None],
        cpu_seconds: Callable[[], float],
        is_budget_spent: Callable[[], bool],
    ) -> None:
        """Climb nothing yet.

        Args:
            job: whose newest rows judge each rung.
            recipe: complete.
            learner: the start, widened to the job's labels; its head is what changes.
            device: to compute on.
            targets: of the rows to learn from.
            features: what the head is given of them.
            position: where rungs are noted.
            known: outputs that the start's head has learned.
            check: called again and again; may raise to stop.
            cpu_seconds: tells what the run has spent.
            is_budget_spent: tells whether no further rung is to be begun.
        """
        self._job, self._recipe, self._learner, self._device = job, recipe, learner, device
        self._targets, self._features, self._position = targets, features, position
        self._is_new = ladder.new_classes(learner.outputs, known) if known else None
        self._check, self._cpu_seconds, self._is_budget_spent = check, cpu_seconds, is_budget_spent

    def climb(self) -> bool:
        """Set the head as the recipe says; return whether it has learned anything.

        Raises:
            RecipeError: neither these rungs nor an epoch after them would learn anything.
            Preempted: SIGTERM came.
            OutOfMemory: a single row does not fit.
            Diverged: the model does not say what the head fitted to its features says.
        """
        wanted, rungs = str(self._recipe["head"]), self._recipe["rungs"]
        position, targets, is_new = self._position, self._targets, self._is_new
        probes = wanted == "probe" or (wanted == "auto" and self._learner.is_pretrained)
        probes = probes and "probe" in rungs
        adds_classes = isinstance(targets, RowTargets) and wanted in {"auto", "keep"}
        shifts = "prior" in rungs and wanted != "random"
        if shifts and isinstance(targets, RowTargets) and is_new is not None:
            self._climb_to_prior(is_new, targets.truth)
        is_seen = "centroid" in rungs or not probes  # else the probe overwrites them unseen
        if adds_classes and is_seen and is_new is not None and is_new.any():
            self._climb_to_centroids(is_new, targets.flat(np.arange(len(targets))))
        is_over = position.is_enough or (position.rungs and self._is_budget_spent())
        if probes and not is_over:
            self._climb_to_probe()
        elif not position.rungs and wanted != "keep" and not self._trains():
            raise RecipeError(
                "this recipe learns nothing here: allow an epoch of a rung that trains layers, or "
                "the rung 'probe' (of a base that has learned nothing yet, with head 'probe')"
            )
        return wanted != "random" and (bool(position.rungs) or is_new is not None)

    def _trains(self) -> bool:
        return int(self._recipe["epochs"]) > 0 and "top" in self._recipe["rungs"]

    def _newest(self, truth: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return rows that no version has learned from before; of new classes wherever they are."""
        n = len(truth)
        count = n if self._job.n_newest is None else min(n, self._job.n_newest)
        is_newest = np.arange(n) >= n - count
        if self._is_new is not None:
            is_newest |= self._is_new[truth]
        return np.flatnonzero(is_newest)

    def _climb_to_prior(self, is_new: NDArray[np.bool_], truth: NDArray[np.int64]) -> None:
        """Shift the head's bias to the newest rows' mix of classes, unless one of them is new."""
        head = find_head(self._learner.model, len(self._learner.outputs))
        rows = self._newest(truth)
        if head.bias is None or is_new.any() or not len(rows):
            return
        rows = rows[sampled(truth[rows], seed=self._job.seed)]
        weight, bias = (one.detach().cpu().numpy() for one in (head.weight, head.bias))
        logits = self._features.of(rows) @ weight.T + bias
        shift, is_right = ladder.prior_shift(logits, truth[rows], seed=self._job.seed)
        probe.put_rows(head, weight, bias + shift)
        self._reached("prior", is_right)

    def _climb_to_centroids(self, is_new: NDArray[np.bool_], truth: NDArray[np.int64]) -> None:
        """Give the new classes rows of the head; all other classes stay as they are."""
        rows = self._newest(truth)
        head = find_head(self._learner.model, len(self._learner.outputs))
        if head.bias is None or not is_new[truth].any():
            return
        rows = rows[sampled(truth[rows], seed=self._job.seed)]
        weight, bias, is_right = ladder.centroid_rows(
            self._features.of(rows),
            truth[rows],
            head.weight.detach().cpu().numpy(),
            head.bias.detach().cpu().numpy(),
            is_new,
        )
        probe.put_rows(head, weight, bias)
        if "centroid" in self._recipe["rungs"]:
            self._reached("centroid", is_right)

    def _climb_to_probe(self) -> None:
        """Fit the head to what the layers below say of rows, or of their tokens.

        Of tokens it is a start only: how right a row's answer is, its tokens left out one by one
        cannot tell.
        """
        learner, targets = self._learner, self._targets
        self._position.n_features_taken = self._features.take_over()
        rows = self._features.rows_to_fit
        features, truth = self._features.of(rows), targets.flat(rows)
        first = rows[:N_CHECKED]
        checked = features[: len(targets.flat(first))]
        known = truth != IGNORED
        if not known.all():
            features, truth = features[known], truth[known]
        fitted = probe.fit(
            features, truth, len(learner.outputs), seed=self._job.seed, between=self._check
        )
        probe.put_into(learner.model, fitted)
        self._check_step_0(fitted, first, checked)
        is_right = np.empty(0)
        if isinstance(targets, RowTargets):
            is_right = fitted.is_right[np.isin(rows, self._newest(targets.truth))]
        self._reached("probe", is_right)

    def _check_step_0(
        self, fitted: probe.Probe, rows: NDArray[np.int64], features: probe.Features
    ) -> None:
        """Make sure that the model now says what the probe says: step 0 is the probe."""
        gap = probe.disagreement(fitted, features, self._features.logits(rows))
        if not gap <= PROBE_TOLERANCE[self._device.precision]:
            raise Diverged(f"the model does not say what its probe says: {gap:.2g} apart")

    def _reached(self, rung: str, is_right: NDArray[np.float64]) -> None:
        """Note what a rung's version says of the newest rows, and whether that is enough."""
        sufficient = self._recipe["sufficient"]
        found = ladder.judged(rung, is_right, sufficient, self._cpu_seconds())
        self._position.rungs.append(asdict(found))
        self._position.is_enough = found.is_enough

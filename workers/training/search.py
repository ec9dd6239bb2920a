"""Which knobs does the next trial of a search get, and has it fallen behind?

Optuna proposes and prunes; it keeps nothing. Its study is made anew from the trials that the run's
record holds, and its sampler has a seed for each trial, so that what is proposed depends on the
run's seed and on the trials before it alone, whichever process asks.

Optuna takes half a second to load: `workers.jobs.searching` names this module and loads it only for
a run that searches.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner
from optuna.trial import FrozenTrial, TrialState

from app.domain.searches import COMPLETE, FAILED, PRUNED, Trial

STATES: Final[Mapping[str, TrialState]] = {
    COMPLETE: TrialState.COMPLETE,
    PRUNED: TrialState.PRUNED,
    FAILED: TrialState.FAIL,
}
N_COMPARED: Final = 3
"""Trials without which the median says little."""

optuna.logging.set_verbosity(optuna.logging.WARNING)


def distributions(space: Mapping[str, Mapping[str, Any]]) -> dict[str, BaseDistribution]:
    """Return Optuna's form of a space: ranges of whole numbers, of numbers, and choices."""
    return {name: _distribution(wanted) for name, wanted in sorted(space.items())}


def _distribution(wanted: Mapping[str, Any]) -> BaseDistribution:
    if "choices" in wanted:
        return CategoricalDistribution(wanted["choices"])
    low, high, log = wanted["low"], wanted["high"], bool(wanted["log"])
    if isinstance(low, int) and isinstance(high, int):
        return IntDistribution(low, high, log=log)
    return FloatDistribution(float(low), float(high), log=log)


def proposed(search: Mapping[str, Any], before: Sequence[Trial], *, seed: int) -> dict[str, Any]:
    """Return the knobs of the trial after these, all of which have ended.

    The tree-structured Parzen estimator (Bergstra et al., 2011), after ten trials at random.

    Args:
        search: its `space`, `pruner` and `direction`.
        before: the trials so far.
        seed: of the run.
    """
    study = _study(search, before, seed=seed)
    return dict(study.ask(distributions(search["space"])).params)


class Racing:
    """A trial under way, beside those that have ended."""

    def __init__(
        self, search: Mapping[str, Any], before: Sequence[Trial], recipe: Mapping[str, Any]
    ) -> None:
        study = _study(search, before, seed=0)
        study.enqueue_trial(dict(recipe))
        self._trial = study.ask(distributions(search["space"]))

    def told(self, epoch: int, score: float) -> bool:
        """Take the score after an epoch; return whether the trial has fallen behind."""
        self._trial.report(score, epoch)
        return bool(self._trial.should_prune())


def _study(search: Mapping[str, Any], before: Sequence[Trial], *, seed: int) -> optuna.Study:
    study = optuna.create_study(
        study_name="search",  # Hyperband's brackets are drawn by the name
        direction=search["direction"],
        sampler=optuna.samplers.TPESampler(seed=_seed_of(seed, len(before))),
        pruner=_pruner(search["pruner"]),
    )
    known = distributions(search["space"])
    study.add_trials([_frozen(one, known) for one in before])
    return study


def _seed_of(seed: int, number: int) -> int:
    """Return a trial's own seed, unlike that of any other trial of any run."""
    return int(np.random.SeedSequence((seed, number)).generate_state(1)[0])


def _pruner(name: str) -> BasePruner:
    if name == "median":
        return MedianPruner(n_startup_trials=N_COMPARED)
    return HyperbandPruner() if name == "hyperband" else NopPruner()


def _frozen(trial: Trial, known: dict[str, BaseDistribution]) -> FrozenTrial:
    return optuna.trial.create_trial(
        state=STATES[trial["state"]],
        value=None if trial["state"] == FAILED else float(trial["score"]),
        params=dict(trial["recipe"]),
        distributions=known,
        intermediate_values={int(epoch): float(score) for epoch, score in trial["scores"]},
    )

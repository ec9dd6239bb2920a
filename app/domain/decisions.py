"""Retrain, skip or defer: what was concluded from the evidence, and why."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final, Protocol
from uuid import UUID

from app.domain.drift import Finding
from app.domain.estimation import Bounded
from app.domain.label_lag import LabelLag
from app.domain.performance import PerformanceEvidence
from app.domain.policies import Policy

MINIMUM_SPAN: Final = 30
"""Answers since a change below which its accuracy is not worth naming."""
_LARGEST: Final = 700.0
"""Natural logarithm of about the largest float."""


class Outcome(StrEnum):
    """What a decision concludes."""

    RETRAIN = "retrain"
    SKIP = "skip"
    DEFER = "defer"


@dataclass(frozen=True, slots=True)
class Situation:
    """Everything a decision reads; two equal situations get equal decisions.

    Attributes:
        now: the clock.
        finding: of the newest drift report; None when no check ran.
        drifted: names of the signals that drifted.
        performance: labelled accuracy of the champion; None without labels.
        fallen_slices: declared slices whose fall is proved, the surest first, in words.
        estimated: its accuracy on the newest rows by an estimate that no label contradicts; None
            where there is none.
        champion_age_seconds: since the champion took over; None before the first.
        n_labels: labelled observations that the champion answered.
        n_labels_since_drift: labelled rows of the window that arrived since the drift that stands
            began; None while none stands, or where nobody counted.
        drift_began_at: time of the first row of the drift that stands; None while none stands.
        label_lag: how long labels take, and what share of the rows old enough has one: the
            champion's, or the model's where the champion's own rows do not tell yet.
        n_new_labels: labelled observations that no run has been started on yet.
        n_training_rows: rows in the champion's training snapshot.
        regret: avoidable errors of the champion since it took over: labelled answers times the
            yardstick, minus the right ones; negative when it does better.
        n_classes_labelled: distinct labels among all rows a run could learn from.
        runs_in_flight: those that are queued, running or being judged.
        last_run_ended_at: end of the newest run.
        last_triggered_at: when a schedule last fired, or the model was made.
        request: reason of a person's request, when there is one.
        incidents: what is broken upstream, in words: nothing is retrained by itself meanwhile.
        is_forced: the request is to be met in spite of that.
    """

    now: datetime
    is_paused: bool
    finding: Finding | None = None
    drifted: Sequence[str] = ()
    performance: PerformanceEvidence | None = None
    estimated: Bounded | None = None
    fallen_slices: Sequence[str] = ()
    champion_age_seconds: float | None = None
    n_labels: int = 0
    n_labels_since_drift: int | None = None
    drift_began_at: datetime | None = None
    label_lag: LabelLag | None = None
    n_new_labels: int = 0
    n_training_rows: int = 0
    regret: float = 0.0
    n_classes_labelled: int = 0
    runs_in_flight: Sequence[UUID] = ()
    last_run_ended_at: datetime | None = None
    last_triggered_at: datetime | None = None
    request: str | None = None
    incidents: Sequence[str] = ()
    is_forced: bool = False


@dataclass(frozen=True, slots=True)
class Signal:
    """What one trigger made of a situation.

    Attributes:
        fired: it asks for a retrain.
        waits: it would, but something it needs (labels, say) has not come yet.
        waits_until: when that should have come; None where nobody knows.
        reason: in words, with the numbers.
    """

    trigger: str
    fired: bool
    reason: str
    waits: bool = False
    waits_until: datetime | None = None
    values: Mapping[str, Any] = field(default_factory=dict)


class Trigger(Protocol):
    """One reason to retrain; a pure function of the situation."""

    description: str
    options: Mapping[str, Any]
    """JSON Schema of the trigger's options, defaults included."""

    def read(self, situation: Situation, policy: Policy, options: Mapping[str, Any]) -> Signal:
        """Say whether this situation calls for a retrain."""
        ...


@dataclass(frozen=True, slots=True)
class Decision:
    """What was concluded, and why.

    Attributes:
        trigger: the one that fired; None when none did.
        defer_until: earliest time at which the same evidence may start a run, or when what a
            trigger waits for should have come; None where nobody knows.
    """

    outcome: Outcome
    reason: str
    trigger: str | None = None
    signals: Sequence[Signal] = ()
    defer_until: datetime | None = None


def decide(situation: Situation, signals: Sequence[Signal], policy: Policy) -> Decision:
    """Conclude from what the triggers say.

    A trigger that fires starts a run, unless the inputs are broken upstream, the model is paused, a
    run is in flight, the cool-down lasts, or there is too little new to learn from: then it is
    deferred, not dropped.
    """
    fired = [signal for signal in signals if signal.fired]
    if not fired:
        waiting = [signal for signal in signals if signal.waits]
        reason = "; ".join(signal.reason for signal in (waiting or signals))
        outcome = Outcome.DEFER if waiting else Outcome.SKIP
        until = min((s.waits_until for s in waiting if s.waits_until is not None), default=None)
        return Decision(outcome, reason or "no trigger is configured", None, signals, until)
    first = fired[0]
    held = _held_back(situation, first, policy)
    if held is not None:
        reason, until = held
        return Decision(
            Outcome.DEFER, f"{first.reason}; deferred: {reason}", first.trigger, signals, until
        )
    others = ", ".join(signal.trigger for signal in fired[1:])
    reason = f"{first.reason}; {others} agrees" if others else first.reason
    return Decision(Outcome.RETRAIN, reason, first.trigger, signals)


def _held_back(
    situation: Situation, signal: Signal, policy: Policy
) -> tuple[str, datetime | None] | None:
    """Return why a trigger that fired may not start a run now, and until when; None if it may."""
    is_asked_for = signal.trigger == "manual"
    most = policy.retrain.maximum_in_flight if is_asked_for else 1
    if len(situation.runs_in_flight) >= most:
        return f"run {situation.runs_in_flight[0]} is in flight", None
    if situation.incidents and not situation.is_forced:
        return "; ".join(situation.incidents), None
    if is_asked_for:
        return None
    if situation.is_paused:
        return "the model is paused", None
    if situation.last_run_ended_at is not None:
        until = situation.last_run_ended_at + timedelta(seconds=policy.retrain.cool_down_seconds)
        if situation.now < until:
            return f"cooling down until {until.isoformat(timespec='seconds')}", until
    lacking = _too_little_to_learn(situation, policy)
    return (lacking, None) if lacking else None


def _too_little_to_learn(situation: Situation, policy: Policy) -> str | None:
    rules, have = policy.retrain, situation.n_new_labels
    growth = round(rules.minimum_growth_share * situation.n_training_rows)
    if have < rules.minimum_new_labels:
        return f"{have} new labels of the {rules.minimum_new_labels} needed"
    unbearable = rules.sufficient_regret_share * situation.n_training_rows
    if have < growth and situation.regret < unbearable:
        return (
            f"{have} new labels would grow the training set by less than "
            f"{rules.minimum_growth_share:.0%} ({growth} needed), and {situation.regret:.0f} "
            f"avoidable errors can be borne ({unbearable:.0f} could not)"
        )
    if situation.n_classes_labelled < 2:
        return "the labelled rows hold one class only"
    return None


def no_fall_in_words(labelled: PerformanceEvidence) -> str:
    """Return what labels say that prove no fall: no more than their interval does."""
    name = labelled.measure
    claim = f"{name} holds" if labelled.holds else f"no fall of {name} is proved"
    return f"{claim}: {in_words(labelled)}"


def in_words(labelled: PerformanceEvidence) -> str:
    """Return what the labels say of accuracy, with its numbers."""
    text = f"{labelled.measure} {labelled.accuracy or 0:.3f}"
    if labelled.lower is not None and labelled.upper is not None:
        text += f" [{labelled.lower:.3f}, {labelled.upper:.3f}]"
    text += f" over {labelled.n} labelled answers"
    if labelled.accuracy_since is not None and labelled.n_since >= MINIMUM_SPAN:
        text += f", {labelled.accuracy_since:.3f} over the last {labelled.n_since}"
    now, most = _of_logarithm(labelled.log_e_value), _of_logarithm(labelled.log_e_value_max)
    found = "".join(f"; {name} {value:.4g}" for name, value in labelled.errors.items())
    return f"{text} (floor {labelled.floor:.3f}, evidence of a fall {now}, at most {most}{found})"


def _of_logarithm(value: float) -> str:
    """Return the number of that natural logarithm in three digits, however large it is."""
    if value < _LARGEST:
        return f"{math.exp(value):.3g}"
    exponent = math.floor(value / math.log(10))
    return f"{math.exp(value - exponent * math.log(10)):.3g}e+{exponent}"


def estimate_in_words(estimated: Bounded, floor: float) -> str:
    """Return what the estimate says of accuracy, with its numbers."""
    return (
        f"accuracy is estimated at {estimated.value:.3f} [{estimated.lower:.3f}, "
        f"{estimated.upper:.3f}] over {estimated.n_rows} rows, tested by {estimated.n_labels} "
        f"labels (floor {floor:.3f})"
    )

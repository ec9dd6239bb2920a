"""Retrain when the inputs or answers drifted and accuracy, as far as is known, agrees it hurts."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from app.domain.decisions import (
    Signal,
    Situation,
    estimate_in_words,
    in_words,
    no_fall_in_words,
)
from app.domain.drift import Finding
from app.domain.label_lag import lag_in_words
from app.domain.policies import Policy
from app.triggers import triggers


@triggers.register("drift")
class Drift:
    """Fires when drift was found and accuracy has fallen, at a weaker proof than accuracy alone.

    The proof comes from labels, or from an estimate that labels of the drifted rows have tested
    and not contradicted. Drift that does no harm starts nothing. Drift without labels waits for
    them: nothing could be learned from it yet.
    """

    description = "drift was found, and the labels since agree that accuracy fell"
    options: Mapping[str, Any] = {"type": "object", "properties": {}, "additionalProperties": False}

    def read(self, situation: Situation, policy: Policy, options: Mapping[str, Any]) -> Signal:
        """Say whether drift calls for a retrain."""
        if situation.finding is not Finding.DRIFT:
            found = situation.finding or "no report yet"
            return Signal("drift", False, f"drift finding: {found}")
        named = ", ".join(situation.drifted)
        labelled = situation.performance
        needed = policy.performance.minimum_labels
        if labelled is None or labelled.n < needed:
            return _waiting(situation, 0 if labelled is None else labelled.n, needed)
        harmful = labelled.is_doubtful(policy.performance.suspicion_run_length)
        values = {
            "drifted": list(situation.drifted),
            "log_e_value": labelled.log_e_value,
            "needed": policy.performance.suspicion_run_length,
        }
        since = situation.n_labels_since_drift
        if not harmful and since is not None and since < needed:
            return _waiting(situation, since, needed)
        estimated = situation.estimated
        if not harmful and since is not None and estimated and estimated.upper < labelled.floor:
            values["estimated"] = estimated.value
            said = estimate_in_words(estimated, labelled.floor)
            return Signal("drift", True, f"drift in {named}, and {said}", values=values)
        if not harmful:
            return Signal(
                "drift",
                False,
                f"drift in {named}, but {no_fall_in_words(labelled)}",
                values=values,
            )
        return Signal("drift", True, f"drift in {named}, and {in_words(labelled)}", values=values)


def _waiting(situation: Situation, n_labels: int, needed: int) -> Signal:
    """Return the signal of drift that nobody can judge yet, and until when it waits.

    That is when 95 % of the labels that come should be there for the rows the drift began with.
    """
    lag, until, when = situation.label_lag, None, ""
    if situation.drift_began_at and lag and lag.is_settled and lag.p95_seconds is not None:
        due = situation.drift_began_at + timedelta(seconds=lag.p95_seconds)
        until = due if due > situation.now else None
        when = f", {'until' if until else 'overdue since'} {due.isoformat(timespec='seconds')}"
    return Signal(
        "drift",
        False,
        f"drift in {', '.join(situation.drifted)}; waiting for labels of these rows to tell "
        f"whether it hurts ({n_labels} of {needed}){when}; {lag_in_words(lag)}",
        waits=True,
        waits_until=until,
        values={"drifted": list(situation.drifted), "n_labels": n_labels},
    )

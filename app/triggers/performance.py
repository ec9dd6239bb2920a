"""Retrain when labelled accuracy has fallen beyond what is tolerated."""

from collections.abc import Mapping
from typing import Any

from app.domain.decisions import Signal, Situation, in_words, no_fall_in_words
from app.domain.label_lag import coverage_in_words, lag_in_words
from app.domain.policies import Policy
from app.triggers import triggers


@triggers.register("performance")
class Performance:
    """Fires on a proof from labels alone, valid however often it is looked at.

    Of all answers, or of the answers of one declared slice where the others hide its fall.
    """

    description = "labelled accuracy fell under what was accepted, by more than is tolerated"
    options: Mapping[str, Any] = {"type": "object", "properties": {}, "additionalProperties": False}

    def read(self, situation: Situation, policy: Policy, options: Mapping[str, Any]) -> Signal:
        """Say whether labelled accuracy calls for a retrain."""
        labelled, rules = situation.performance, policy.performance
        if labelled is None or labelled.n < rules.minimum_labels:
            have = 0 if labelled is None else labelled.n
            lacking = f"{have} labelled answers of {rules.minimum_labels} needed"
            return Signal("performance", False, f"{lacking}; {lag_in_words(situation.label_lag)}")
        needed = rules.average_run_length
        values = {
            "log_e_value_max": labelled.log_e_value_max,
            "needed": needed,
            "log_e_value": labelled.log_e_value,
            "still_needed": rules.suspicion_run_length,
        }
        # A burst of errors that the answers after it made good is nothing to retrain for.
        stands = labelled.is_doubtful(rules.suspicion_run_length)
        fired = labelled.is_decayed(needed) and stands
        reason = in_words(labelled) if fired else no_fall_in_words(labelled)
        if situation.fallen_slices:
            fired, reason = True, "; ".join([*situation.fallen_slices[:3], f"of all, {reason}"])
        reason += f"; {coverage_in_words(situation.label_lag)}"
        return Signal("performance", fired, reason, values=values)

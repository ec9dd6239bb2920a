"""Retrain when enough new labels have come."""

from collections.abc import Mapping
from typing import Any

from app.domain.decisions import Signal, Situation
from app.domain.policies import Policy
from app.triggers import triggers


@triggers.register("volume")
class Volume:
    """Fires when so many labels arrived that no run has learned from."""

    description = "so many new labels arrived"
    options: Mapping[str, Any] = {
        "type": "object",
        "properties": {"n_labels": {"type": "integer", "minimum": 1}},
        "required": ["n_labels"],
        "additionalProperties": False,
    }

    def read(self, situation: Situation, policy: Policy, options: Mapping[str, Any]) -> Signal:
        """Say whether the number of new labels calls for a retrain."""
        needed = int(options["n_labels"])
        reason = f"{situation.n_new_labels} new labels of {needed}"
        return Signal("volume", situation.n_new_labels >= needed, reason)

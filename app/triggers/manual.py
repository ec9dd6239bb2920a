"""Retrain because a person or a program asked."""

from collections.abc import Mapping
from typing import Any

from app.domain.decisions import Signal, Situation
from app.domain.policies import Policy
from app.triggers import triggers


@triggers.register("manual")
class Manual:
    """Fires on a request; it needs no cool-down, but still one run at a time."""

    description = "a person or a program asked for it"
    options: Mapping[str, Any] = {"type": "object", "properties": {}, "additionalProperties": False}

    def read(self, situation: Situation, policy: Policy, options: Mapping[str, Any]) -> Signal:
        """Say whether there is a request."""
        if situation.request is None:
            return Signal("manual", False, "nobody asked")
        return Signal("manual", True, f"asked for: {situation.request}")

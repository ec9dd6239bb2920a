"""Retrain at fixed times."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from croniter import croniter

from app.domain.decisions import Signal, Situation
from app.domain.policies import Policy
from app.triggers import triggers


@triggers.register("schedule")
class Schedule:
    """Fires once for each time a cron expression (UTC) names."""

    description = "a cron expression came due"
    options: Mapping[str, Any] = {
        "type": "object",
        "properties": {
            "cron": {
                "type": "string",
                "format": "cron",
                "description": "five fields, UTC, e.g. '0 3 * * 1'",
            }
        },
        "required": ["cron"],
        "additionalProperties": False,
    }

    def read(self, situation: Situation, policy: Policy, options: Mapping[str, Any]) -> Signal:
        """Say whether a scheduled time passed since the last one that was acted on."""
        since = situation.last_triggered_at or situation.now
        due: datetime = croniter(options["cron"], since).get_next(datetime)
        fired = due <= situation.now
        when = due.isoformat(timespec="seconds")
        reason = f"scheduled for {when}" if fired else f"next scheduled for {when}"
        return Signal("schedule", fired, reason, values={"due_at": when})

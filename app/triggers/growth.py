"""Retrain when there is much more to learn from than the champion learned from."""

from collections.abc import Mapping
from typing import Any, Final

from app.domain.decisions import Signal, Situation
from app.domain.policies import Policy
from app.triggers import triggers

SHARE: Final = 2.0


@triggers.register("growth")
class Growth:
    """Fires when the labels since the last run are so many times the champion's training rows.

    No harm need be proved: error falls with rows about as a power of their number (Hestness et
    al., 2017), so that each promotion makes the next wait for a multiple of its rows.
    """

    description = "there is much more to learn from than the champion learned from"
    options: Mapping[str, Any] = {
        "type": "object",
        "properties": {
            "share": {
                "type": "number",
                "exclusiveMinimum": 0,
                "default": SHARE,
                "description": "New labels for each row that the champion was trained on.",
            }
        },
        "additionalProperties": False,
    }

    def read(self, situation: Situation, policy: Policy, options: Mapping[str, Any]) -> Signal:
        """Say whether the data has grown enough."""
        share = float(options.get("share", SHARE))
        have, rows = situation.n_new_labels, situation.n_training_rows
        reason = (
            f"{have} labels since the last run, {share:g} times the {rows} rows that the champion "
            "was trained on needed"
            if rows
            else "the champion was trained elsewhere, on nobody knows how many rows"
        )
        fired = rows > 0 and have >= share * rows
        values = {"n_new_labels": have, "n_training_rows": rows, "share": share}
        return Signal("growth", fired, reason, values=values)

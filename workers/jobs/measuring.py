"""Which detectors read which signals of a window, and what they say."""

from collections.abc import Mapping
from typing import Any, Final

from app.domain.drift import DriftScore
from app.services.windows import Window
from workers.detectors import Kind, Selection
from workers.detectors.measure import measure_window
from workers.jobs.class_scores import SIGNAL, chosen_for, comparable, with_classes
from workers.jobs.columns import labels_of
from workers.jobs.looking import Sight

NEVER: Final = 1e-300
"""A level at which nothing is found."""


def measured(window: Window, sight: Sight) -> list[DriftScore]:
    """Return the judged scores of all signals of a window, by the policy's detectors."""
    rules = window.policy.check
    chosen = selected(rules.detectors)
    scores = measure_window(
        *comparable(sight.reference, sight.sample),
        chosen,
        fdr=max(sight.looked.look(window)[0], NEVER),
        seed=window.through[0] % 2**31,
        minimum_rows=rules.minimum_rows,
        counted=sight.counted,
        own={SIGNAL: chosen_for(chosen.get("embedding", ()))},
    )
    labels = labels_of(window) if sight.reference else ()
    return with_classes(scores, sight.reference, sight.sample, labels)


def selected(
    detectors: Mapping[str, Mapping[str, Mapping[str, Any]]],
) -> dict[Kind, Selection]:
    """Return a policy's detectors in the form that measuring takes."""
    return {kind: list(chosen.items()) for kind, chosen in detectors.items()}  # type: ignore[misc]  # kinds come from JSON

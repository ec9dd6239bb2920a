"""Which detectors read which signals of a window, and what they say."""

from collections.abc import Mapping
from typing import Any, Final

from app.domain.drift import DriftScore
from app.domain.policies import CheckPolicy
from app.services.windows import Window
from workers.detectors import Kind, Selection
from workers.detectors.measure import Counted, measure_window
from workers.jobs.class_scores import SIGNAL, Columns, chosen_for, comparable, with_classes
from workers.jobs.columns import labels_of
from workers.jobs.looking import Sight

NEVER: Final = 1e-300
"""A level at which nothing is found."""


def measured(window: Window, sight: Sight) -> list[DriftScore]:
    """Return the judged scores of all signals of a window, by the policy's detectors."""
    scores = compared(
        sight.reference,
        sight.sample,
        window.policy.check,
        fdr=max(sight.looked.look(window)[0], NEVER),
        seed=window.through[0] % 2**31,
        counted=sight.counted,
    )
    labels = labels_of(window) if sight.reference else ()
    return with_classes(scores, sight.reference, sight.sample, labels)


def compared(
    reference: Columns,
    sample: Columns,
    rules: CheckPolicy,
    *,
    fdr: float,
    seed: int,
    counted: Counted | None = None,
) -> list[DriftScore]:
    """Return the judged scores of a sample beside a reference; arguments as `measure_window`'s."""
    chosen = selected(rules.detectors)
    return measure_window(
        *comparable(reference, sample),
        chosen,
        fdr=fdr,
        seed=seed,
        minimum_rows=rules.minimum_rows,
        counted=counted,
        own={SIGNAL: chosen_for(chosen.get("embedding", ()))},
    )


def selected(
    detectors: Mapping[str, Mapping[str, Mapping[str, Any]]],
) -> dict[Kind, Selection]:
    """Return a policy's detectors in the form that measuring takes."""
    return {kind: list(chosen.items()) for kind, chosen in detectors.items()}  # type: ignore[misc]  # kinds come from JSON

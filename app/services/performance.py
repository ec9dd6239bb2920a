"""What is known of a champion's accuracy: how a report keeps it, and what a reader wants of it."""

from datetime import datetime
from typing import Final

from app.domain.calibration import Calibration
from app.domain.estimation import Bias, Bounded, Estimate, EstimateState
from app.domain.models import MaintainedModel
from app.services.ports import Json, Page, UnitOfWork

_OF_THE_MACHINE: Final = frozenset({"calibration", "wealth", "bias", "through", "reference"})


def read_estimate(document: Json) -> Estimate:
    """Return the estimate that a report kept."""
    calibration, since = document["calibration"], document["since"]
    bounded = {
        name: Bounded(**document[name]) if document[name] else None
        for name in ("without_labels", "accuracy")
    }
    return Estimate(
        **{
            **document,
            **bounded,
            "state": EstimateState(document["state"]),
            "since": datetime.fromisoformat(since) if since else None,
            "calibration": Calibration(**calibration) if calibration else None,
            "wealth": tuple(document["wealth"]),
            "bias": Bias(**{name: tuple(values) for name, values in document["bias"].items()}),
        }
    )


def shown_estimate(document: Json | None) -> Json | None:
    """Return what a reader wants of an estimate: numbers, what they rest on, whether they stand."""
    if document is None:
        return None
    calibration = document["calibration"]
    kept = {name: value for name, value in document.items() if name not in _OF_THE_MACHINE}
    return {**kept, "n_calibration": sum(calibration["n_rows"]) if calibration else 0}


def of_champion(work: UnitOfWork, model: MaintainedModel) -> Json:
    """Return what labels and estimates say of the champion in its newest report."""
    champion = work.versions.champion(model.id)
    newest = next(iter(work.checks.reports(model.id, Page(1)).items), None)
    is_its = newest is not None and champion and newest["version"] == champion.number
    report = newest if is_its and newest else {}
    return {
        "version": champion.number if champion else None,
        "accepted": champion.accepted if champion else {},
        "labelled": report.get("performance"),
        "estimate": report.get("estimate"),
        "slices": report.get("slices") or [],
        "report": report.get("id"),
        "as_of": report.get("created_at"),
    }

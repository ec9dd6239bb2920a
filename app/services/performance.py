"""What is known of a champion's accuracy: how a report keeps it, and what a reader wants of it."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from app.domain.calibration import Calibration
from app.domain.estimation import Bias, Bounded, Estimate, EstimateState
from app.domain.models import MaintainedModel
from app.domain.performance import standard_error
from app.domain.policies import Policy
from app.domain.slices import Slice, SliceDrift, SliceFinding
from app.domain.versions import ModelVersion, VersionState
from app.services.ports import Json, Page, UnitOfWork

MOST_SHOWN: Final = 200_000
MOST_BUCKETS: Final = 1000
_OF_THE_MACHINE: Final = frozenset({"calibration", "wealth", "bias", "through", "reference"})


def read_estimate(document: Json) -> Estimate:
    """Return the estimate that a report kept."""
    calibration = document["calibration"]
    bounded = {
        name: Bounded(**document[name]) if document[name] else None
        for name in ("without_labels", "accuracy")
    }
    return Estimate(
        **{
            **document,
            **bounded,
            "state": EstimateState(document["state"]),
            "since": _time(document["since"]),
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
    return {
        **kept,
        "since": _time(document["since"]),
        "n_calibration": sum(calibration["n_rows"]) if calibration else 0,
    }


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def read_slices(document: Sequence[Json] | None) -> list[Slice]:
    """Return the slices that a report kept; Postgres gives large numbers back as integers."""
    return [
        Slice(
            **{
                **one,
                "values": [float(value) for value in one["values"]],
                "drift": read_drift(one.get("drift")),
            }
        )
        for one in document or ()
    ]


def read_drift(document: Json | None) -> SliceDrift | None:
    """Return what a report kept of the drift of a slice."""
    if document is None:
        return None
    return SliceDrift(
        **{
            **document,
            "finding": SliceFinding(document["finding"]),
            "drifted": tuple(document["drifted"]),
        }
    )


def shown_slice(document: Json) -> Json:
    """Return what a reader wants of a slice: its numbers, and whether they suffice to watch it."""
    hidden = {"values", "rises", "since"}
    n, right = max(zip(document["rises"], document["since"], strict=True))[1]
    return {
        **{name: value for name, value in document.items() if name not in hidden},
        "drift": document.get("drift"),
        "state": "insufficient_data" if document["floor"] is None else "watched",
        "accuracy": document["n_right"] / document["n"] if document["n"] else None,
        "n_since": n,
        "accuracy_since": right / n if n else None,
    }


def timeline(work: UnitOfWork, model: MaintainedModel, bucket: int) -> Sequence[Json]:
    """Return the accuracy that users of a model got lately, by bucket of so many observations."""
    most = min(MOST_SHOWN, MOST_BUCKETS * bucket, model.answer.most_read)
    return work.observations.timeline(model.id, bucket=bucket, most=most, answer=model.answers_with)


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


def yardstick(work: UnitOfWork, policy: Policy, champion: ModelVersion) -> tuple[float, int] | None:
    """Return the accuracy a champion is held to, and on how many rows it was measured."""
    held_to = [champion]
    if policy.performance.yardstick == "best":
        held_to = [
            version
            for version in work.versions.served(champion.model_id)
            if version.state is not VersionState.QUARANTINED
        ]
    # What was accepted on fewer classes had an easier question.
    n_classes = _n_classes(champion)
    scores = [
        (float(version.accepted["accuracy"]), int(version.accepted["n"]))
        for version in held_to
        if version.accepted.get("accuracy") is not None and _n_classes(version) >= n_classes
    ]
    return max(scores, key=lambda score: score[0] - standard_error(*score), default=None)


def _n_classes(version: ModelVersion) -> int:
    """Return how many classes there were when a version was accepted; 0 where there are none."""
    judged_on = version.metrics.get(version.accepted.get("role", ""), {})
    return len(judged_on.get("by_class", ()))

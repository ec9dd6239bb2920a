"""What has training a model taken in all, and what has it brought?"""

from functools import reduce
from uuid import UUID

from app.domain.models import MaintainedModel
from app.domain.usage import together
from app.services.ports import Json, UnitOfWork

POINTS = 100.0


def of_model(work: UnitOfWork, model: MaintainedModel) -> Json:
    """Return what all training runs of a model took, and each promoted point of accuracy.

    A point is a hundredth of accuracy by which a promoted version beat the champion of its time
    on the same rows; the first champion beat none. What runs took that led to nothing is part of
    the price of those that did.
    """
    runs = work.runs.used(model.id)
    known = [run["usage"] for run in runs if run["usage"] is not None]
    total = reduce(together, known) if known else None
    promoted = [run["version_id"] for run in runs if run["outcome"] == "promoted"]
    gains = [gain for version in promoted if (gain := _gain(work, version)) is not None]
    points = POINTS * sum(gains)
    per_point = {
        name: total[name] / points
        for name in ("cpu_seconds", "gpu_seconds", "energy_joules", "cost", "co2_grams")
        if total is not None and points > 0.0 and total[name] is not None
    }
    return {
        "n_runs": len(runs),
        "n_runs_unstated": len(runs) - len(known),
        "total": total,
        "n_promoted": len(promoted),
        "n_compared": len(gains),
        "points_gained": points if gains else None,
        "per_point": per_point or None,
    }


def _gain(work: UnitOfWork, version_id: UUID) -> float | None:
    """Return by how much a version was more accurate than the champion that it replaced."""
    evidence = work.versions.evidence(version_id)
    role = work.versions.by_id(version_id).accepted.get("role")
    for found in evidence[-1]["evidence"].get("comparisons", ()) if evidence else ():
        mine = (found["challenger"] or {}).get("accuracy")
        theirs = (found["champion"] or {}).get("accuracy")
        if found["role"] == role and mine is not None and theirs is not None:
            return float(mine - theirs)
    return None

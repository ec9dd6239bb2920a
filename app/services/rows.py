"""Is one row of a batch good, and if not, what is wrong with it?"""

from collections.abc import Mapping
from datetime import datetime
from functools import partial
from typing import Any, Final

from app.domain.errors import Fault, printable
from app.domain.identity import canonical_json
from app.domain.observations import MAXIMUM_ID_LENGTH, NO_TIME, Intake, Observation, time_of

OWN: Final = ("id", "at", "prediction", "scores", "version", "shadow", "label")
"""The fields of an observation beside its inputs."""

FIELDS: Final = frozenset({*OWN, "inputs"})


def observation_faults(row: Any, intake: Intake) -> list[Fault]:
    """Return everything wrong with one observation as it was sent; empty when it is good."""
    if not isinstance(row, Mapping):
        return [Fault("", "must be an object with id, inputs and prediction")]
    return [
        *(
            Fault(f"/{key}", f"unknown field; known: {', '.join(sorted(FIELDS))}")
            for key in row
            if key not in FIELDS
        ),
        *intake.contract.faults(row.get("inputs")),
        *(fault for key in OWN for fault in own_faults(key, row, intake)),
    ]


def own_faults(key: str, row: Mapping[str, Any], intake: Intake) -> list[Fault]:
    """Return everything wrong with one of an observation's own fields."""
    value = row.get(key)
    if key in {"prediction", "label", "shadow"}:
        check = shadow_faults if key == "shadow" else partial(label_faults, key)
        return check(value, intake, text=text_of(row.get("inputs"), intake))
    if key == "scores":
        return scores_faults(value, intake)
    return {"id": id_faults, "at": time_faults, "version": version_faults}[key](value)


def late_label_faults(row: Any, intake: Intake, texts: Mapping[str, Any]) -> list[Fault]:
    """Return everything wrong with one late label as it was sent; empty when it is good.

    Args:
        row: as it was sent.
        intake: what it is held to.
        texts: by the observation's id, what labels point into, as far as that is known.
    """
    if not isinstance(row, Mapping):
        return [Fault("", "must be an object with id and label")]
    text = texts.get(row["id"]) if isinstance(row.get("id"), str) else None
    return [
        *id_faults(row.get("id")),
        *label_faults("label", row.get("label"), intake, text=text, is_required=True),
        *time_faults(row.get("at")),
    ]


def id_faults(value: Any) -> list[Fault]:
    """Return what is wrong with an id."""
    if isinstance(value, str) and 0 < len(value) <= MAXIMUM_ID_LENGTH and printable(value) == value:
        return []
    return [Fault("/id", f"must be a string of 1 to {MAXIMUM_ID_LENGTH} characters")]


def text_of(inputs: Any, intake: Intake) -> Any:
    """Return what the model's answers point into; None where they do not, or it is not there."""
    about = intake.answer.about
    return inputs.get(about) if about is not None and isinstance(inputs, Mapping) else None


def label_faults(
    key: str, value: Any, intake: Intake, *, text: Any = None, is_required: bool = False
) -> list[Fault]:
    """Return what is wrong with a label or prediction."""
    if value is None and not is_required:
        return []
    found = intake.answer.fault(value, is_label=key == "label", text=text)
    return [Fault(f"/{key}{found.pointer}", found.detail)] if found else []


def scores_faults(scores: Any, intake: Intake) -> list[Fault]:
    """Return what is wrong with scores."""
    if scores is None:
        return []
    if intake.answers_with is not None:
        return [
            Fault("/scores", f"must be left out: this model answers with {intake.answer.plural}")
        ]
    if not isinstance(scores, Mapping):
        return [Fault("/scores", "must map labels to probabilities")]
    return [
        Fault(f"/scores/{label}", "must be a label of the model with a probability in [0, 1]")
        for label, value in scores.items()
        if label not in intake.labels
        or isinstance(value, bool)
        or not isinstance(value, int | float)
        or not -1e-6 <= value <= 1 + 1e-6
    ]


def version_faults(value: Any) -> list[Fault]:
    """Return what is wrong with a version's number."""
    if value is None or (
        isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**31
    ):
        return []
    return [Fault("/version", "must be the number of a model version, such as 1")]


def shadow_faults(shadow: Any, intake: Intake, *, text: Any = None) -> list[Fault]:
    """Return what is wrong with the answers of other versions."""
    if shadow is None or (
        isinstance(shadow, Mapping)
        and all(
            key.isdecimal() and not intake.answer.fault(value, is_label=False, text=text)
            for key, value in shadow.items()
        )
    ):
        return []
    return [Fault("/shadow", f"must map version numbers to {intake.answer.plural}")]


def time_faults(value: Any) -> list[Fault]:
    """Return what is wrong with a time."""
    if value is None or time_of(value) is not None:
        return []
    return [Fault("/at", NO_TIME)]


def id_of(row: Any) -> str | None:
    """Return the id of a refused row as far as it can be shown; None when it has none."""
    value = row.get("id") if isinstance(row, Mapping) else None
    return printable(value[:MAXIMUM_ID_LENGTH]) if isinstance(value, str) else None


def body_of(row: Any) -> str:
    """Return a refused row as text, for whoever must mend it."""
    try:
        text = canonical_json(row)
    except (TypeError, ValueError):
        text = repr(row)
    except RecursionError:
        text = "nested too deeply to be shown"
    return printable(text[:10_000])


def kept_shadow(shadow: Mapping[str, Any] | None, intake: Intake) -> Mapping[str, str] | None:
    """Return good answers of other versions as they are kept."""
    if not shadow:
        return None
    return {version: intake.answer.stored(value) for version, value in shadow.items()}


def observation(row: Mapping[str, Any], now: datetime, intake: Intake) -> Observation:
    """Return the value of a good row.

    Args:
        row: one without faults.
        now: the time of a row that states none.
        intake: what it was held to.
    """

    def kept(key: str) -> str | None:
        value = row.get(key)
        return None if value is None else intake.answer.stored(value)

    return Observation(
        id=row["id"],
        at=time_of(row.get("at")) or now,
        inputs=intake.stored(row["inputs"]),
        prediction=kept("prediction"),
        scores=row.get("scores"),
        version=row.get("version") or intake.serving,
        shadow=kept_shadow(row.get("shadow"), intake) or {},
        label=kept("label"),
    )

"""Is a change of what a model sees a fault upstream, or drift?

Drift is the world's: a model can learn from it. A fault is a break on the way: it would teach
nonsense, and somebody has to mend it. They are told apart by size and form: drift moves values
among those there were; a fault takes them away, freezes them, scales them or puts others in their
place.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from app.domain import fault_marks as marks
from app.domain.fault_marks import Mark, Side, Values
from app.domain.policies import FaultPolicy

Table = Mapping[str, NDArray[Any]]
Gap = tuple[float, float, float]
"""A difference of shares with the ends of its interval."""

Z: Final = 3.29
"""Standard errors of an interval of 99.9 %: a fault must be beyond its limit by so much."""
CHANCE: Final = 1e-6
"""What is likelier than this may be chance."""
MINIMUM_REFERENCE: Final = 30
NO_INPUTS: Final = frozenset(
    {"prediction", "n_spans", "span_share", "main_label", "confidence", "unseen_word_share"}
)
"""Signals that tell of the model or of its reference, not of what reached it."""


class FaultKind(StrEnum):
    """How an input is broken."""

    SCHEMA = "schema"
    MISSING = "missing"
    CONSTANT = "constant"
    BLANK = "blank"
    SCALE = "scale"
    RANGE = "range"
    CATEGORIES = "categories"


_KINDS_OF_NUMBER: Final[tuple[FaultKind, ...]] = (
    FaultKind.MISSING,
    FaultKind.CONSTANT,
    FaultKind.SCALE,
    FaultKind.RANGE,
)
_KINDS_OF_CATEGORY: Final[tuple[FaultKind, ...]] = (
    FaultKind.MISSING,
    FaultKind.CONSTANT,
    FaultKind.CATEGORIES,
)
_FREEZES: Final = frozenset({FaultKind.CONSTANT, FaultKind.BLANK})

Place = tuple[str, FaultKind]
"""A field and how it is broken: a model has at most one incident of each at a time."""

SCHEMA: Final[Place] = ("observations", FaultKind.SCHEMA)


@dataclass(frozen=True, slots=True)
class UpstreamFault:
    """One field that arrives broken.

    Attributes:
        reason: in words, with the numbers and what to look at upstream.
        numbers: `column` that shows it, `share` of the newest rows that are broken, `usual` share
            in the reference, `interval` of the difference (99.9 %), `n_rows` looked at, and what
            belongs to the kind.
        first_sequence, last_sequence: arrival numbers between which rows are broken; None where
            none was stored.
    """

    field: str
    kind: FaultKind
    reason: str
    numbers: Mapping[str, Any]
    first_sequence: int | None = None
    last_sequence: int | None = None

    @property
    def place(self) -> Place:
        """Where it is."""
        return self.field, self.kind


@dataclass(frozen=True, slots=True)
class Look:
    """What a look at the newest rows says of faults.

    Attributes:
        found: faults that show, those that stood before included.
        mended: those that stood and no longer show, with the arrival number of the last broken row.
    """

    found: Sequence[UpstreamFault] = ()
    mended: Mapping[Place, int | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Refusals:
    """What became of the observations since refusals were last judged.

    Attributes:
        n_refused: those that broke the contract, each id once, and did not come in right later.
        n_accepted: those that were stored.
        n_refusals: how often any was refused.
        reasons: (JSON pointer, what was wrong there, rows) of the most frequent.
        through: newest quarantine number and newest arrival number counted.
    """

    n_refused: int = 0
    n_accepted: int = 0
    n_refusals: int = 0
    reasons: Sequence[tuple[str, str, int]] = ()
    through: tuple[int, int] = (0, 0)

    @property
    def n(self) -> int:
        """How many came."""
        return self.n_refused + self.n_accepted


def look_at_refusals(refusals: Refusals, *, is_standing: bool, rules: FaultPolicy) -> Look:
    """Say whether so many observations break the contract that the schema must have changed."""
    n = refusals.n
    if n < rules.minimum_rows:
        return Look()
    gap = _gap((refusals.n_refused, n), (0, n))
    if not _is_far(gap, rules.refused_share, is_standing=is_standing):
        return Look(mended={SCHEMA: None} if is_standing else {})
    said = "; ".join(f"{where or '/'} {what} ({count})" for where, what, count in refusals.reasons)
    numbers = {
        "share": refusals.n_refused / n,
        "usual": 0.0,
        "interval": gap[1:],
        "n_rows": n,
        "reasons": refusals.reasons,
    }
    reason = (
        f"{refusals.n_refused} of the last {n} observations were refused "
        f"({refusals.n_refused / n:.0%}): {said}. Look for a release upstream that renamed, "
        "dropped or retyped a field; the quarantine has the rows"
    )
    return Look([UpstreamFault(*SCHEMA, reason, numbers)])


@dataclass(frozen=True, slots=True)
class Standing:
    """A fault that stood before a look: its numbers, and its last broken row."""

    last_sequence: int
    numbers: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Prior:
    """What is known of the columns before a look.

    Attributes:
        fields: the columns that show a field of the input, and that field's name. The others are
            measured of its text or picture, whose form may change honestly, but not freeze.
        media: what the text or picture is called.
        presence: columns of `fields` that are judged only by whether anything is there.
        standing: faults that stood.
        settled: what somebody said is no fault.
        seen_through: arrival number of the newest row that the last look saw.
    """

    fields: Mapping[str, str]
    media: str = "input"
    presence: Collection[str] = ()
    standing: Mapping[Place, Standing] = field(default_factory=dict)
    settled: Collection[Place] = ()
    seen_through: int = 0


def look_at_columns(
    reference: Mapping[str, Side],
    current: Table,
    *,
    sequences: Sequence[int],
    prior: Prior,
    rules: FaultPolicy,
) -> Look:
    """Say which fields of the newest rows arrive broken, and which of the broken ones are mended.

    A fault is called on the rows since the last look, at least the newest `rules.minimum_rows`. One
    that stood is judged on the rows that came after it, at half the limits, lest it come and go.

    Args:
        reference: the columns of the reference by name.
        current: name to (n,) float with NaN, or (n,) object with None, in order of arrival.
        sequences: arrival numbers of the window's rows, ascending.
        prior: what is known before.
        rules: the limits.
    """
    numbers = np.asarray(sequences, dtype=np.int64)
    n_fresh = int((numbers > prior.seen_through).sum())
    n_newest = max(n_fresh, rules.minimum_rows) if n_fresh else 0
    newest = {name: Side(values[len(values) - n_newest :]) for name, values in current.items()}
    found: dict[str, UpstreamFault] = {}
    again: list[UpstreamFault] = []
    mended: dict[Place, int | None] = {}
    for place, name in _places(reference, prior):
        stood = prior.standing.get(place)
        if name not in current or place in prior.settled or (not stood and place[0] in found):
            continue
        after = newest[name]
        if stood is not None:
            if stood.numbers.get("column") != name:
                continue
            after = Side(current[name][numbers > stood.last_sequence])
        if len(after) < rules.minimum_rows:
            continue
        mark, shows = _test(place[1], reference[name], after, stood, rules)
        if mark is not None and shows:
            fault = _told(place, name, mark, after, current[name], numbers)
            if stood is None:
                found[place[0]] = fault
            else:
                again.append(fault)
        elif stood is not None:
            n_broken = _length(mark, after.values) if mark else 0
            mended[place] = int(numbers[-len(after) :][n_broken - 1]) if n_broken else None
    return Look([*again, *found.values()], mended)


def _places(reference: Mapping[str, Side], prior: Prior) -> list[tuple[Place, str]]:
    """Return what may be broken, with the column that would show it, the plainest name first."""
    found: list[tuple[Place, str]] = []
    measured: list[str] = []
    for name, before in reference.items():
        if name in NO_INPUTS or len(before) < MINIMUM_REFERENCE:
            continue
        if name in prior.fields:
            kinds = _KINDS_OF_NUMBER if before.is_numeric else _KINDS_OF_CATEGORY
            kinds = kinds[:1] if name in prior.presence else kinds
            found += [((prior.fields[name], kind), name) for kind in kinds]
        else:
            measured.append(name)
    found += [((prior.media, FaultKind.MISSING), name) for name in measured[:1]]
    found += [((prior.media, FaultKind.BLANK), name) for name in measured]
    return found


def _test(
    kind: FaultKind, before: Side, after: Side, stood: Standing | None, rules: FaultPolicy
) -> tuple[Mark | None, bool]:
    """Return how broken values of a column are marked, and whether they show."""
    if kind is FaultKind.SCALE:
        return _test_scale(before, after, stood, rules)
    mark, limit = _marked(kind, before, after, stood, rules)
    there = after.values if kind is FaultKind.MISSING else after.there
    if mark is None or (stood is None and len(there) < rules.minimum_rows):
        return mark, False
    hits = int(mark.flags(there).sum()), len(there)
    if not hits[1]:  # nothing is there that could be sound
        return mark, True
    if hits[0] == hits[1] and limit < 1 and _is_total(kind, mark, hits[1]):
        return mark, True
    # One category may honestly crowd out the others, as long as some of them are left.
    if kind is FaultKind.CONSTANT and not before.is_numeric:
        return mark, False
    gap = _gap(hits, mark.usual)
    if kind in _FREEZES:  # of the values that used to be others
        rest = max(1 - mark.share, 1e-9)
        gap = gap[0] / rest, gap[1] / rest, gap[2] / rest
    return mark, _is_far(gap, limit, is_standing=stood is not None)


def _marked(
    kind: FaultKind, before: Side, after: Side, stood: Standing | None, rules: FaultPolicy
) -> tuple[Mark | None, float]:
    if kind is FaultKind.MISSING:
        return marks.missing(before), rules.missing_share
    if kind is FaultKind.CATEGORIES:
        return marks.unseen(before, after), rules.unseen_share
    if kind is FaultKind.RANGE:
        return marks.far_out(before), rules.beyond_share
    value = stood.numbers["value"] if stood else after.commonest
    return marks.repeated(before, value), rules.constant_share


def _is_total(kind: FaultKind, mark: Mark, n: int) -> bool:
    """Whether n broken values and no other cannot be chance: a field vanished, or froze."""
    if kind not in {FaultKind.MISSING, FaultKind.CONSTANT}:
        return False
    share = (mark.usual[0] + 1) / (mark.usual[1] + 2)
    return mark.usual[0] < mark.usual[1] and n * math.log(share) < math.log(CHANCE)


def _test_scale(
    before: Side, after: Side, stood: Standing | None, rules: FaultPolicy
) -> tuple[Mark | None, bool]:
    at_least = math.sqrt(rules.scale_factor) if stood else rules.scale_factor
    factors = marks.factor_of(before, after, z=Z, at_least=at_least)
    if factors is None:
        return (marks.scaled(before, stood.numbers["factor"]) if stood else None), False
    factor, sure = factors
    is_sure = sure >= at_least if factor > 1 else sure <= 1 / at_least
    return marks.scaled(before, factor), stood is not None or is_sure


def _gap(hits: tuple[int, int], usual: tuple[int, int]) -> Gap:
    """Return how much larger a share is than the usual one, and the ends of its interval.

    Wald's after two observations were added to each side (Agresti and Caffo, 2000).
    """
    after, before = ((k + 1) / (n + 2) for k, n in (hits, usual))
    error = Z * math.sqrt(
        after * (1 - after) / (hits[1] + 2) + before * (1 - before) / (usual[1] + 2)
    )
    difference = hits[0] / max(hits[1], 1) - usual[0] / max(usual[1], 1)
    middle = after - before
    return difference, max(-1.0, middle - error), min(1.0, middle + error)


def _is_far(gap: Gap, limit: float, *, is_standing: bool) -> bool:
    return gap[0] >= limit / 2 if is_standing else gap[1] >= limit


def _told(
    place: Place,
    name: str,
    mark: Mark,
    after: Side,
    window: Values,
    sequences: NDArray[np.int64],
) -> UpstreamFault:
    """Return a fault that shows in the newest rows, with where it began and why it is one."""
    there = after.values if place[1] is FaultKind.MISSING else after.there
    hits = int(mark.flags(there).sum()), len(there)
    numbers = {
        "column": name,
        "share": hits[0] / max(hits[1], 1),
        "usual": mark.share,
        "interval": _gap(hits, mark.usual)[1:],
        "n_rows": len(after),
        **mark.detail,
    }
    said = {**numbers, "examples": ", ".join(mark.detail.get("examples", ()))}
    length = _length(mark, window[::-1], share=numbers["share"])
    return UpstreamFault(
        *place,
        _REASONS[place[1]].format(field=place[0], **said),
        numbers,
        first_sequence=int(sequences[len(window) - max(length, 1)]),
        last_sequence=int(sequences[-1]),
    )


def _length(mark: Mark, values: Values, *, share: float = 1.0) -> int:
    """Return how many of the first values belong to a broken stretch that starts there.

    The place after which the count of broken values exceeds what is midway between the usual share
    and the broken one by most (Page, 1954).
    """
    ahead = np.cumsum(mark.flags(values) - (mark.share + share) / 2)
    best = int(ahead.argmax()) if len(ahead) else 0
    return best + 1 if len(ahead) and ahead[best] > 0 else 0


_REASONS: Final[Mapping[FaultKind, str]] = {
    FaultKind.MISSING: "{field} is missing in {share:.0%} of the newest {n_rows} rows, in "
    "{usual:.1%} of the reference. Look at what fills it: a join that fails, a renamed column, a "
    "source that stopped",
    FaultKind.CONSTANT: "{field} is {value} in {share:.0%} of the newest {n_rows} rows; no "
    "value made up more than {usual:.1%} of the reference. Look for a default that stands in for "
    "a source that failed",
    FaultKind.BLANK: "{column} is {value:g} in {share:.0%} of the newest {n_rows} rows; no "
    "value made up more than {usual:.1%} of the reference: {field} looks blank or cut off. Look at "
    "how it is captured, decoded and passed on",
    FaultKind.SCALE: "{field} is about {factor:.3g} times what it was in the reference, in the "
    "newest {n_rows} rows. Look for a change of unit",
    FaultKind.RANGE: "{field} lies far outside of the reference's {low:.3g} to {high:.3g} in "
    "{share:.0%} of the newest {n_rows} rows, {usual:.1%} there. Look for another unit, a "
    "placeholder such as -999, or another column in its place",
    FaultKind.CATEGORIES: "{share:.0%} of the values of {field} in the newest {n_rows} rows are "
    "none that the reference had (such as {examples}), {usual:.1%} expected. Look for a change of "
    "spelling, case or coding",
}

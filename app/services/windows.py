"""What a check compares: the champion's reference, what it saw, and what is new since."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray

from app.domain.drift import Watch, next_look
from app.domain.estimation import Estimate
from app.domain.models import MaintainedModel
from app.domain.observations import Observation
from app.domain.performance import standard_error
from app.domain.policies import Policy
from app.domain.reference import ReferenceProfile
from app.domain.slices import Slice
from app.domain.versions import ModelVersion
from app.domain.windows import WindowCounts
from app.services.batches import Columns
from app.services.examples import rows_of
from app.services.incidents import Known, known_before
from app.services.ports import Artifacts, Dataset, Example, Json, UnitOfWork

AT_A_TIME: Final = 4096
"""Rows read from Postgres at once."""
LABELS_A_CHECK: Final = 5_000
MOST_AT_FIRST: Final = 100_000
"""A watch that begins does not look further back."""


@dataclass(frozen=True)
class Window:
    """What a worker compares: the champion's reference and what it sees now.

    Attributes:
        pinned: the reference as a dataset; none or one.
        current: the newest rows, at most `check.sample_rows`, oldest first.
        counts: the rows seen up to the last report, as counts.
        start: arrival number after which rows are to be read.
        correct: whether each labelled answer of the champion was right, or its score in [0, 1], in
            order of arrival; empty where answers cannot be scored yet.
        errors: what else is known of these answers, by name.
        accepted: accuracy that the champion is held to, and the rows it was measured on.
        through: the newest arrival number and label number that this check looks at.
        watch: where the watch of the champion stood after its last report.
        n_labels_since: labelled rows of the window since the last look, or since the drift that
            stands began.
        n_forgotten: rows of the window that retention has forgotten the inputs of.
        profile: what was kept of the reference; None before the first check.
        estimate: what was estimated of the champion's accuracy at the last report; None before, or
            for another reference.
        slices: where its declared slices stood then.
        labelled: its answers labelled since, in the order of the labels, at most `LABELS_A_CHECK`.
        labelled_through: label number of the newest of them.
        known: what is known of faults upstream.
    """

    model: MaintainedModel
    policy: Policy
    champion: ModelVersion
    artifacts: Artifacts
    pinned: Sequence[Dataset]
    current: Sequence[Observation]
    counts: WindowCounts
    start: int
    correct: Sequence[bool] | NDArray[np.float64]
    accepted: tuple[float, int] | None
    through: tuple[int, int]
    watch: Watch = field(default_factory=Watch)
    n_labels_since: int = 0
    n_forgotten: int = 0
    profile: ReferenceProfile | None = None
    estimate: Estimate | None = None
    slices: Sequence[Slice] = ()
    labelled: Sequence[Observation] = ()
    labelled_through: int = 0
    errors: Mapping[str, float] = field(default_factory=dict)

    @property
    def floor(self) -> float | None:
        """Return the lowest accuracy that is no harm; None without an accepted score."""
        if self.accepted is None:
            return None
        rules = self.policy.performance
        error = rules.allowance_errors * standard_error(*self.accepted)
        return self.accepted[0] - rules.tolerance - error

    known: Known = field(default_factory=Known)

    @property
    def is_broken(self) -> bool:
        """Whether rows have come in broken since the last look that found all sound."""
        return any(one.first_sequence for one in self.known.standing)

    @cached_property
    def reference(self) -> Sequence[Example]:
        """The rows of the reference, read when first asked for."""
        return rows_of(self.artifacts, self.pinned)

    @property
    def n_reference(self) -> int:
        """How many rows the reference has."""
        return sum(dataset.n_rows for dataset in self.pinned)

    @property
    def last(self) -> int:
        """Arrival number of the newest row; 0 without any."""
        return self.current[-1].sequence if self.current else 0


@dataclass(frozen=True, slots=True)
class Looked:
    """What a worker made of the rows that are new.

    Attributes:
        watch: where the watch stands after them.
        counts: the window with them.
        n_read: how many were read.
        profile: of the reference, where it was fitted by this check.
        season: what the window was compared with by season; None where the policy names none.
    """

    watch: Watch
    counts: WindowCounts
    n_read: int = 0
    profile: ReferenceProfile | None = None
    season: Json | None = None

    def look(self, window: Window) -> tuple[float, int]:
        """Return the false discovery rate the tests may have, and what the last look reached."""
        rules = window.policy.check
        level, is_new = next_look(
            window.watch,
            n_fresh=min(self.watch.n_unlooked, self.counts.n_rows),
            minimum_rows=rules.minimum_rows,
            fdr=rules.fdr,
            false_alarm_rows=rules.false_alarm_rows,
        )
        return level, self.counts.through if is_new else window.watch.looked_through


def load(
    work: UnitOfWork,
    artifacts: Artifacts,
    model: MaintainedModel,
    policy: Policy,
    champion: ModelVersion,
    accepted: tuple[float, int] | None,
) -> Window:
    """Load what a check of a champion compares, in an open transaction."""
    through = work.observations.horizon(model.id)
    watch = work.checks.watch(champion.id)
    profile = None
    counts = WindowCounts(policy.check.window_rows)
    if champion.reference:
        profile = work.profiles.of(champion.id, reference=champion.reference)
    if profile is not None:
        counts = work.profiles.window(champion.id, window_rows=policy.check.window_rows)
    start = _start(work, model, champion, watch, counts)
    estimate = work.checks.estimate(champion.id)
    if estimate is not None and estimate.reference != str(champion.reference):
        estimate = None
    labelled, labelled_through = work.observations.newly_labelled(
        model.id,
        version=champion.number,
        after_label=estimate.through if estimate else 0,
        limit=LABELS_A_CHECK,
    )
    began = watch.began_after if watch.stood else watch.looked_through
    known = known_before(work, model.id, champion)
    oldest = min(start, counts.first - 1) if counts.blocks else start
    ends = [one.last_sequence for one in known.standing if one.last_sequence]
    correct, errors = _scored(work, model, champion)
    return Window(
        model=model,
        policy=policy,
        champion=champion,
        artifacts=artifacts,
        pinned=[work.datasets.get(champion.reference, model.id)] if champion.reference else [],
        current=work.observations.newest(
            model.id,
            version=champion.number,
            limit=policy.check.most_read,
            after_sequence=min([oldest, *ends]),
        ),
        counts=counts,
        start=start,
        correct=correct,
        accepted=accepted,
        through=through,
        watch=watch,
        n_labels_since=work.observations.n_labels_after(
            model.id, version=champion.number, sequence=max(began or 0, counts.first - 1)
        ),
        n_forgotten=work.observations.n_forgotten(
            model.id, version=champion.number, limit=policy.check.window_rows
        ),
        profile=profile,
        estimate=estimate,
        slices=work.checks.slices(champion.id) if estimate else (),
        labelled=labelled,
        labelled_through=labelled_through,
        known=known,
        errors=errors,
    )


def _scored(
    work: UnitOfWork, model: MaintainedModel, champion: ModelVersion
) -> tuple[Sequence[bool] | NDArray[np.float64], Mapping[str, float]]:
    """Return how right each labelled answer of a champion was, and what else is known of them."""
    if model.answers_with is None:
        return work.observations.correctness(model.id, version=champion.number), {}
    answers = work.observations.answers(model.id, version=champion.number)
    if not answers or not model.answer.is_scored:
        return (), {}
    predictions, labels = zip(*answers, strict=True)
    errors = model.answer.errors(predictions, labels)
    return model.answer.scores(predictions, labels), errors


def _start(
    work: UnitOfWork,
    model: MaintainedModel,
    champion: ModelVersion,
    watch: Watch,
    counts: WindowCounts,
) -> int:
    """Return the arrival number after which the watch or the window has not seen every row."""
    if counts.blocks:
        return min(watch.through, counts.through)
    if not watch.n_rows and watch.through:
        return watch.through
    n_rows = counts.window_rows if watch.n_rows else max(counts.window_rows, MOST_AT_FIRST)
    before = work.observations.start_of_newest(model.id, version=champion.number, limit=n_rows)
    return min(watch.through, before) if watch.n_rows else before


def emptied(work: UnitOfWork, window: Window) -> Window:
    """Return a window whose rows are to be counted anew, as the bins changed."""
    with work:
        counts = WindowCounts(window.counts.window_rows)
        start = _start(work, window.model, window.champion, window.watch, counts)
    return replace(window, counts=counts, start=start, profile=None)


def unread(work: UnitOfWork, window: Window) -> Iterator[Columns]:
    """Yield the rows that the watch or the window has not seen, in order, some at a time."""
    after = window.start
    while after < window.last:
        with work:
            rows = work.observations.columns(
                window.model.id,
                version=window.champion.number,
                after_sequence=after,
                limit=AT_A_TIME,
            )
        if rows.through <= after:
            return
        after = rows.through
        rows = rows.cut_at(window.last)
        if len(rows):
            yield rows

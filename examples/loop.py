"""What does a program do whose model is kept good? It answers, logs, and sends labels when known.

Everything else - finding drift, deciding, training, judging, promoting - the service does by
itself with its default policy; what follows here is only how to watch it.
"""

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

from digits import LABELS, Slice, Stream

from upkeep import Model, StillWaiting, Upkeep
from upkeep.champion import Champion, Prediction
from upkeep.documents import DecisionDocument, ReportDocument, RunDocument, VersionDocument
from upkeep.images import encode

BASE_MODEL: Final = "preset:resnet-tiny-gray"
TASK_TYPE: Final = "image-classification"
FIRST: Final = 1
"""Number of the first version, the one that the frozen answers come from."""
REFRESH_SECONDS: Final = 1.0
LOOK_SECONDS: Final = 0.25
PATIENCE_SECONDS: Final = 600.0
FALL_SHARE: Final = 0.03
"""Accuracy has fallen, or has not come back, if it is lower by more than this."""
N_LAST: Final = 2
"""The last slices, on which accuracy must be back."""
RUN_ENDS: Final = frozenset({"succeeded", "failed", "cancelled"})


@dataclass(frozen=True, slots=True)
class Answered:
    """One slice, answered by the champion of its time and by the frozen first version.

    Attributes:
        accuracy: share of the champion's answers that were right.
        frozen_accuracy: the same of the first version, never retrained.
    """

    number: int
    is_drifted: bool
    n: int
    version: int
    accuracy: float
    frozen_accuracy: float


@dataclass(frozen=True, slots=True)
class Looked:
    """What the service found and concluded at one look.

    Attributes:
        after: number of the slice whose answers were the newest.
        labels_of: number of the slice whose labels were the newest; 0 before any.
    """

    after: int
    labels_of: int
    report: ReportDocument | None
    decision: DecisionDocument


@dataclass(frozen=True, slots=True)
class Ran:
    """One training run that the service started by itself, and what became of it.

    Attributes:
        labels_of: number of the slice whose labels were the newest when it started.
        swap_seconds: from its end until the answering program had taken the new version up.
    """

    labels_of: int
    run: RunDocument
    trigger: str | None
    version: VersionDocument | None
    swap_seconds: float | None

    @property
    def is_promoted(self) -> bool:
        """Whether its version became the champion."""
        return self.run["outcome"] == "promoted"


@dataclass(slots=True)
class Story:
    """All that happened in one play."""

    n_quiet: int
    answered: list[Answered] = field(default_factory=list)
    looked: list[Looked] = field(default_factory=list)
    ran: list[Ran] = field(default_factory=list)

    def before(self, *, frozen: bool = False) -> float:
        """Return the accuracy on the quiet slices."""
        return _accuracy((one for one in self.answered if not one.is_drifted), frozen=frozen)

    def during(self, *, frozen: bool = False) -> float:
        """Return the accuracy on all drifted slices."""
        return _accuracy((one for one in self.answered if one.is_drifted), frozen=frozen)

    def last(self) -> float:
        """Return the champion's accuracy on the last slices."""
        return _accuracy(self.answered[-N_LAST:], frozen=False)

    @property
    def fell(self) -> bool:
        """Whether the drift did harm: the frozen version is worse on the drifted slices."""
        return self.before(frozen=True) - self.during(frozen=True) > FALL_SHARE

    @property
    def n_early(self) -> int:
        """How many runs were started before any label of a drifted slice had come."""
        return sum(one.labels_of <= self.n_quiet for one in self.ran)

    @property
    def n_promoted(self) -> int:
        """How many of the runs led to a new champion."""
        return sum(one.is_promoted for one in self.ran)


class Onlooker(Protocol):
    """Is told what happens, as it happens."""

    def opens(self, slice_: Slice, labels_of: int) -> None:
        """A slice begins, and the labels of an earlier one (0: none) have just been sent."""

    def answered(self, answered: Answered) -> None:
        """A slice has been answered and logged."""

    def looked(self, looked: Looked) -> None:
        """The service has looked, and decided."""

    def progressed(self, run: RunDocument) -> None:
        """A training run has come further."""

    def ran(self, ran: Ran) -> None:
        """A training run has ended, its version been judged."""


def first_champion(
    upkeep: Upkeep, name: str, stream: Stream, onlooker: Onlooker, *, seed: int
) -> Model:
    """Register a model, send it what it learns from, and wait for its first champion.

    Args:
        upkeep: the service.
        name: of the model.
        stream: whose training rows are sent.
        onlooker: is told of the run's progress.
        seed: of the run.

    Raises:
        StillWaiting: the first run did not end in time.
        RuntimeError: it did not lead to a champion.
    """
    model = upkeep.create_model(
        name, task_type=TASK_TYPE, base_model=BASE_MODEL, labels=list(LABELS)
    )
    model.upload("training", stream.training)
    run = model.retrain(
        "the first version",
        seed=seed,
        wait=True,
        timeout_seconds=PATIENCE_SECONDS,
        on_progress=onlooker.progressed,
    )
    if run["outcome"] != "promoted":
        raise RuntimeError(f"the first run ended {run['state']}, {run['outcome']}: {run['error']}")
    return model


@dataclass(slots=True)
class Play:
    """Sends a stream through a model, slice by slice.

    Attributes:
        cache: where versions are kept.
    """

    model: Model
    stream: Stream
    cache: Path
    onlooker: Onlooker
    story: Story = field(init=False)
    _known: set[str] = field(init=False, default_factory=set)
    _labels_of: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        quiet = [one for one in self.stream.slices if not one.is_drifted]
        self.story = Story(n_quiet=len(quiet))
        self._known = {run["id"] for run in self.model.runs()}
        self._known |= {decision["id"] for decision in self.model.decisions()}

    def run(self) -> Story:
        """Play every slice, and send the last labels too; return what happened.

        Raises:
            StillWaiting: the service is not done with a slice in time.
            UpkeepError: it refuses, or stays away.
        """
        frozen = Champion.pinned(self.model, FIRST, self.cache, device="cpu")
        with Champion(self.model, self.cache, REFRESH_SECONDS, device="cpu") as champion:
            earlier: Slice | None = None
            for slice_ in self.stream.slices:
                self._send_labels(earlier)
                self.onlooker.opens(slice_, self._labels_of)
                self._settle(champion)
                self._answer(slice_, champion, frozen)
                self._settle(champion)
                earlier = slice_
            self._send_labels(earlier)
            self._settle(champion)
        return self.story

    def _send_labels(self, slice_: Slice | None) -> None:
        if slice_ is not None:
            self.model.labels(dict(zip(slice_.ids, slice_.labels, strict=True)))
            self._labels_of = slice_.number

    def _answer(self, slice_: Slice, champion: Champion, frozen: Champion) -> None:
        """Answer a slice; log what the champion said, and what the first version would have."""
        given = champion.predict(slice_.pictures)
        shadow = frozen.predict(slice_.pictures)
        self.model.log(
            {
                "id": id_,
                "inputs": {"image": encode(picture)},
                "prediction": one.label,
                "scores": one.scores,
                "version": one.version,
                "shadow": {str(FIRST): other.label},
            }
            for id_, picture, one, other in zip(
                slice_.ids, slice_.pictures, given, shadow, strict=True
            )
        )
        answered = Answered(
            slice_.number,
            slice_.is_drifted,
            len(given),
            given[0].version,
            _share_right(given, slice_.labels),
            _share_right(shadow, slice_.labels),
        )
        self.story.answered.append(answered)
        self.onlooker.answered(answered)

    def _settle(self, champion: Champion) -> None:
        """Wait until the service has looked at everything, telling what it does meanwhile."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            is_settled = self.model.document()["watch"]["is_settled"]
            self._tell_decisions()
            run = next(self.model.runs(limit=1))
            if run["id"] not in self._known:
                self._known.add(run["id"])
                self._tell_decisions()  # the one that started it, if it came since
                self._follow(run, champion)
            elif is_settled:
                return
            elif time.monotonic() > deadline:
                raise StillWaiting(f"{self.model} is not settled after {PATIENCE_SECONDS:.0f} s")
            else:
                time.sleep(LOOK_SECONDS)

    def _tell_decisions(self) -> None:
        fresh = [one for one in self.model.decisions(limit=20) if one["id"] not in self._known]
        for decision in reversed(fresh):
            self._known.add(decision["id"])
            report = decision["report"]
            looked = Looked(
                after=self.story.answered[-1].number if self.story.answered else 0,
                labels_of=self._labels_of,
                report=self.model.report(report) if report else None,
                decision=decision,
            )
            self.story.looked.append(looked)
            self.onlooker.looked(looked)

    def _follow(self, run: RunDocument, champion: Champion) -> None:
        """Watch a run to its end, and the answering program take up what it leads to."""
        ended = self.model.wait_for_run(
            run["id"], timeout_seconds=PATIENCE_SECONDS, on_progress=self.onlooker.progressed
        )
        cause = self.model.decision(ended["decision"]) if ended["decision"] else None
        number = ended["version"]
        ran = Ran(
            labels_of=self._labels_of,
            run=ended,
            trigger=cause["trigger"] if cause else None,
            version=self.model.version(number) if number else None,
            swap_seconds=self._swapped(champion, number) if number else None,
        )
        self.story.ran.append(ran)
        self.onlooker.ran(ran)

    def _swapped(self, champion: Champion, number: int) -> float | None:
        """Return how long the answering program took to take up a version; None if not in charge.

        Nothing tells it to: it goes on answering, and asks now and then by itself.
        """
        if self.model.document()["champion"] != number:
            return None
        started_at_seconds = time.monotonic()
        while champion.version != number:
            champion.predict(self.stream.before[:1])
            waited_seconds = time.monotonic() - started_at_seconds
            if waited_seconds > PATIENCE_SECONDS:
                raise StillWaiting(f"version {number} was not taken up in time")
            time.sleep(LOOK_SECONDS / 5)
        return time.monotonic() - started_at_seconds


def _share_right(answers: list[Prediction], labels: list[str]) -> float:
    right = [one.label == label for one, label in zip(answers, labels, strict=True)]
    return sum(right) / len(right)


def _accuracy(slices: Iterable[Answered], *, frozen: bool) -> float:
    """Return the accuracy over several slices."""
    chosen = list(slices)
    right = sum(one.n * (one.frozen_accuracy if frozen else one.accuracy) for one in chosen)
    return right / sum(one.n for one in chosen)

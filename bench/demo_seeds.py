"""Does the demo's loop retrain when, and only when, accuracy falls - for other orders and shifts?

Plays the stream of `examples/demo.py` once for each seed and strength of the drift, each with a
model of its own in one service of its own, with the default policy, and prints a table. Fails if
a model was retrained though the frozen version did not fall, or fell and was not retrained.

    python bench/demo_seeds.py [--cases SEED:STRENGTH ...]

About two minutes a case on two cores.
"""

import argparse
import logging
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table

from upkeep import Upkeep

sys.path.insert(0, str(Path(__file__).parent.parent / "examples"))

from digits import Slice, digits_stream
from loop import FALL_SHARE, Answered, Looked, Play, Ran, Story, first_champion
from playing import claims_of
from service import own_service, wait_for_workers

from upkeep.documents import RunDocument

CASES: Final = ((1, 0.0), (2, 0.2), (3, 0.6), (4, 0.8), (5, 1.0))
"""Seeds and strengths: none, one that is seen but does no harm, and three that do."""

WIDTH: Final = 120
"""Of the table, in characters."""


@dataclass(frozen=True, slots=True)
class Case:
    """One play."""

    seed: int
    strength: float

    @property
    def model(self) -> str:
        """Name of its model."""
        return f"digits-{self.seed}-{self.strength:g}".replace(".", "-")


class Line:
    """Says in a line what is decided and done."""

    def __init__(self, console: Console, case: Case) -> None:
        self._console = console
        self._case = case

    def _say(self, text: str) -> None:
        name = f"{self._case.seed}:{self._case.strength:g}"
        self._console.print(f"[dim]{time.strftime('%X')} {name}[/] {text}", markup=True)

    def opens(self, slice_: Slice, labels_of: int) -> None:
        """Say nothing."""

    def answered(self, answered: Answered) -> None:
        """Say how right both versions were."""
        self._say(
            f"slice {answered.number}: version {answered.version} {answered.accuracy:.1%}, "
            f"version 1 {answered.frozen_accuracy:.1%}"
        )

    def looked(self, looked: Looked) -> None:
        """Say what was decided."""
        self._say(f"{looked.decision['outcome']}: {looked.decision['reason']}")

    def progressed(self, run: RunDocument) -> None:
        """Say nothing."""

    def ran(self, ran: Ran) -> None:
        """Say what became of a run, and what a gate had against it."""
        verdicts = ran.version["verdicts"] if ran.version else []
        failed = [str(one["reason"]) for one in verdicts if not one["passed"]]
        self._say(f"run {ran.run['state']} {ran.run['outcome']} {' '.join(failed)}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Play every case; return 1 if one contradicts itself."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", nargs="+", type=_case, metavar="SEED:STRENGTH")
    options = parser.parse_args(arguments)
    cases = options.cases or [Case(*each) for each in CASES]
    console = Console(highlight=False, soft_wrap=True, width=WIDTH)
    logging.basicConfig(level=logging.WARNING)
    stories = []
    with (
        own_service("demo-seeds", console.print) as service,
        Upkeep(service.url, actor="bench") as upkeep,
    ):
        wait_for_workers(upkeep)
        for case in cases:
            stream, line = digits_stream(case.seed, case.strength), Line(console, case)
            model = first_champion(upkeep, case.model, stream, line, seed=case.seed)
            stories.append(Play(model, stream, service.home / "cache", line).run())
    console.print(table_of(cases, stories))
    return 0 if all(agrees(story) for story in stories) else 1


def _case(text: str) -> Case:
    seed, _, strength = text.partition(":")
    return Case(int(seed), float(strength))


def agrees(story: Story) -> bool:
    """Whether it was retrained exactly if the frozen version fell."""
    return story.fell == bool(story.ran)


def table_of(cases: Sequence[Case], stories: Sequence[Story]) -> Table:
    """Return a row for each play."""
    table = Table(
        title="Right answers. Frozen: version 1, never retrained; it fell if it is worse on the "
        f"drifted slices by more than {FALL_SHARE:.0%}"
    )
    for name in (
        "seed",
        "strength",
        "frozen,\nquiet",
        "frozen,\ndrifted",
        "fell",
        "drift\nfound",
        "retrains",
        "promoted",
        "served,\ndrifted",
        "served,\nat the end",
        "agrees",
        "the demo's\nclaims",
    ):
        table.add_column(name, justify="right")
    for case, story in zip(cases, stories, strict=True):
        found = [one.report for one in story.looked if one.report is not None]
        table.add_row(
            str(case.seed),
            f"{case.strength:g}",
            f"{story.before(frozen=True):.1%}",
            f"{story.during(frozen=True):.1%}",
            "yes" if story.fell else "no",
            "yes" if any(one["finding"] == "drift" for one in found) else "no",
            str(len(story.ran)),
            str(story.n_promoted),
            f"{story.during():.1%}",
            f"{story.last():.1%}",
            "yes" if agrees(story) else "NO",
            "hold" if all(holds for holds, _ in claims_of(story)) else "FAIL",
        )
    return table


if __name__ == "__main__":
    sys.exit(main())

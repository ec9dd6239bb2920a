"""How is a play shown in a terminal?"""

import time
from collections.abc import Iterable
from typing import Any, Final

from digits import N_EACH, Slice, Stream
from loop import Answered, Looked, Ran, Story
from PIL import Image
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.table import Table
from rich.text import Text

from upkeep.documents import ChampionDocument, RunDocument

QUIET_LINE_SECONDS: Final = 5.0
"""Between two lines of progress where no bar can be drawn."""
N_SHOWN: Final = 5
CELLS: Final = 12
"""Width of one shown picture in characters, each two pixels high."""


class Screen:
    """Tells of a play as it happens."""

    def __init__(self, console: Console, stream: Stream) -> None:
        self._console = console
        self._stream = stream
        self._progress: Progress | None = None
        self._task: TaskID | None = None
        self._line_at_seconds = 0.0
        self._was_drifted = False

    def first(self, champion: ChampionDocument) -> None:
        """Show the first champion and what it was accepted with."""
        accepted = champion["accepted"]
        self.verdicts(champion["verdicts"])
        self._console.print(
            f"  [bold green]version {champion['number']} is promoted[/]: "
            f"{_share(accepted['accuracy'])} right on {accepted['n']} pictures kept out of training"
        )

    def opens(self, slice_: Slice, labels_of: int) -> None:
        """Name the slice, and say if the scanner was changed."""
        self._console.print()
        if slice_.is_drifted and not self._was_drifted and self._stream.strength:
            self._was_drifted = True
            self._console.rule(
                "[bold yellow]somebody changes the scanner: pictures are turned, blurred, re-inked"
            )
            self.pictures("before", self._stream.before)
            self.pictures("from now on", self._stream.after)
        kind = "[yellow]drifted[/]" if slice_.is_drifted else "quiet"
        came = f", and the true labels of slice {labels_of} arrive" if labels_of else ""
        self._console.print(f"[bold]Slice {slice_.number}[/] ({kind}) opens{came}")

    def answered(self, answered: Answered) -> None:
        """Show the accuracy of champion and frozen version."""
        frozen = answered.frozen_accuracy
        self._console.print(
            f"  answered {answered.n} pictures: version {answered.version} "
            f"{_share(answered.accuracy)} right, frozen version 1 {_share(frozen)}"
        )

    def looked(self, looked: Looked) -> None:
        """Show what was found in the answers and labels so far, and what follows from it."""
        report, decision = looked.report, looked.decision
        if report is not None and report["finding"] == "drift":
            drifted = [score for score in report["scores"] if score["drifted"]]
            self._console.print(f"  [yellow]drift found[/] in {_signals(drifted)}")
        elif report is not None:
            finding = report["finding"].replace("_", " ")
            self._console.print(f"  {finding} in {len(report['scores'])} signals")
        style = "bold magenta" if decision["outcome"] == "retrain" else "dim"
        self._console.print(f"  [{style}]{decision['outcome']}[/]: {escape(decision['reason'])}")

    def progressed(self, run: RunDocument) -> None:
        """Move the bar of a run on; a line now and then where no bar can be drawn."""
        state = run["progress"] or {}
        if not self._console.is_terminal:
            self._print_line(run, state)
            return
        if self._progress is None:
            self._progress = Progress(
                TextColumn("  training run: {task.fields[phase]}"),
                BarColumn(40),
                TextColumn("{task.fields[detail]}"),
                console=self._console,
                transient=True,
            )
            self._progress.start()
            self._task = self._progress.add_task("", phase="", detail="", total=None)
        if self._task is not None:
            self._progress.update(
                self._task,
                phase=_phase(run, state),
                detail=_detail(state),
                total=state.get("total_steps"),
                completed=state.get("step", 0),
            )

    def _print_line(self, run: RunDocument, state: dict[str, Any]) -> None:
        now = time.monotonic()
        if now - self._line_at_seconds >= QUIET_LINE_SECONDS:
            self._line_at_seconds = now
            self._console.print(f"  training run: {_phase(run, state)} {_detail(state)}")

    def close_bar(self) -> None:
        """Take the bar away, if there is one."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None

    def ran(self, ran: Ran) -> None:
        """Show what a run has made, what the gates said, and who answers now."""
        self.close_bar()
        self.result(ran.run)
        if ran.version is None:
            return
        self.verdicts(ran.version["verdicts"])
        number = ran.version["number"]
        if ran.swap_seconds is None:
            self._console.print(f"  [red]version {number} is {ran.version['state']}[/]")
        else:
            self._console.print(
                f"  [bold green]version {number} is promoted[/]; the answering program took it up "
                f"by itself {ran.swap_seconds:.1f} s later"
            )

    def result(self, run: RunDocument) -> None:
        """Show how a run ended."""
        if run["error"]:
            self._console.print(f"  [red]run {run['state']}[/]: {run['error'].get('detail')}")
            return
        result = run["result"] or {}
        self._console.print(
            f"  trained on {result.get('n_train')} rows for {result.get('epochs')} epochs "
            f"in {result.get('seconds', 0):.0f} s, loss {result.get('final_loss') or 0:.3f}"
        )

    def verdicts(self, verdicts: Iterable[dict[str, Any]]) -> None:
        """Show what each gate said, with its numbers."""
        for verdict in sorted(verdicts, key=lambda one: str(one["gate"])):
            word = "[green]passed[/]" if verdict["passed"] else "[red]failed[/]"
            self._console.print(f"  gate {verdict['gate']} {word}: {escape(verdict['reason'])}")

    def pictures(self, title: str, pictures: list[Image.Image]) -> None:
        """Draw a few pictures, two pixels a character; in a terminal only."""
        if not self._console.is_terminal:
            return
        small = [one.resize((CELLS, CELLS)) for one in pictures[:N_SHOWN]]
        self._console.print(f"  {title}")
        for y in range(0, CELLS, 2):
            line = Text("    ")
            for picture in small:
                for x in range(CELLS):
                    line.append("▀", f"{_gray(picture, x, y)} on {_gray(picture, x, y + 1)}")
                line.append("  ")
            self._console.print(line)

    def summary(self, story: Story) -> None:
        """Show every slice in a table."""
        table = Table(title=f"Share of right answers, {N_EACH} pictures a slice")
        for name in ("slice", "", "answered by", "champion", "frozen version 1"):
            table.add_column(name, justify="right" if name else "left")
        for one in story.answered:
            table.add_row(
                str(one.number),
                "drifted" if one.is_drifted else "quiet",
                f"version {one.version}",
                _share(one.accuracy),
                _share(one.frozen_accuracy),
            )
        self._console.print()
        self._console.print(table)


def _gray(picture: Image.Image, x: int, y: int) -> str:
    level = int(str(picture.getpixel((x, y))))
    return f"rgb({level},{level},{level})"


def _share(accuracy: float) -> str:
    return f"{accuracy:.1%}"


def _signals(scores: list[dict[str, Any]]) -> str:
    """Name the signals that moved, the furthest first."""
    ordered = sorted(scores, key=lambda score: -(score["effect"] or 0.0))
    return ", ".join(f"{score['feature']} (effect {score['effect'] or 0:.2f})" for score in ordered)


def _phase(run: RunDocument, state: dict[str, Any]) -> str:
    if run["state"] == "trained":
        return "champion and challenger are compared"
    return str(state.get("phase") or run["state"])


def _detail(state: dict[str, Any]) -> str:
    """Return step, loss, speed and what is left, as far as they are known."""
    if state.get("loss") is None:
        return ""
    speed, left = state.get("rows_per_second") or 0.0, state.get("eta_seconds") or 0.0
    return (
        f"step {state['step']}/{state['total_steps']}  loss {state['loss']:.3f}  "
        f"{speed:.0f} rows/s  {left:.0f} s left"
    )

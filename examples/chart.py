"""What does a play look like in one picture?"""

from pathlib import Path
from typing import Any, Final

import numpy as np
from digits import Stream
from loop import FALL_SHARE, Ran, Story
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from numpy.typing import NDArray
from PIL import Image

BLUE: Final = "#1764ab"
GRAY: Final = "#777777"
AMBER: Final = "#fdf0d5"
ORANGE: Final = "#b35c00"
GREEN: Final = "#2a7f3f"
RED: Final = "#b3261e"
N_SHOWN: Final = 5


def draw(story: Story, stream: Stream, path: Path) -> None:
    """Draw accuracy by slice, champion against the frozen first version, with what happened.

    Args:
        story: what happened.
        stream: whose pictures are shown above.
        path: of the PNG.
    """
    figure = Figure(figsize=(11, 6.4), layout="constrained")
    FigureCanvasAgg(figure)
    strip, axes = figure.subplots(2, 1, sharex=True, height_ratios=[1, 5])
    last = len(story.answered)
    axes.set_xlim(0.5, last + 0.5)
    for part in (strip, axes):
        part.axvspan(story.n_quiet + 0.5, last + 0.5, color=AMBER, zorder=0)
    _pictures(strip, story, stream)
    _lines(axes, story)
    _drift_found(axes, story)
    for ran in story.ran:
        _run(axes, ran)
    figure.suptitle(
        "A model kept good: the scanner changes, the service notices, retrains and promotes",
        fontsize=14,
        fontweight="bold",
    )
    axes.set_xlabel(f"slice of the stream, {story.answered[0].n} handwritten digits each")
    axes.set_ylabel("right answers")
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.set_xticks(range(1, last + 1))
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#dddddd", linewidth=0.6)
    figure.savefig(path, dpi=130)


def _pictures(strip: Any, story: Story, stream: Stream) -> None:
    """Show what the model sees, before and after."""
    strip.axis("off")
    strip.set_ylim(0, 1)
    last = len(story.answered)
    sides = (
        (0.5, story.n_quiet, "what the model learned from", stream.before),
        (story.n_quiet + 0.5, last - story.n_quiet, "the changed scanner", stream.after),
    )
    for start, width, title, pictures in sides:
        x = (start - 0.5 + width / 2) / last
        strip.text(x, 1.0, title, transform=strip.transAxes, ha="center", va="top", fontsize=11)
        inset = strip.inset_axes([(start - 0.5) / last, 0.0, width / last, 0.7])
        inset.imshow(_row(pictures[:N_SHOWN]), cmap="gray", vmin=0, vmax=255)
        inset.axis("off")


def _row(pictures: list[Image.Image]) -> NDArray[np.float64]:
    """Return pictures side by side, NaN (nothing is drawn) in the gaps between them."""
    gap = np.full((pictures[0].height, 3), np.nan)
    parts = [part for one in pictures for part in (np.asarray(one, dtype=np.float64), gap)]
    return np.concatenate(parts[:-1], axis=1)


def _lines(axes: Any, story: Story) -> None:
    numbers = [one.number for one in story.answered]
    served = [one.accuracy for one in story.answered]
    frozen = [one.frozen_accuracy for one in story.answered]
    shown = {"linewidth": 3, "markersize": 8, "zorder": 3}
    axes.plot(numbers, served, "o-", color=BLUE, label="what users get: the champion", **shown)
    axes.plot(numbers, frozen, "o--", color=GRAY, linewidth=2, label="version 1, never retrained")
    axes.set_ylim(max(0.0, min(*served, *frozen) - 0.18), 1.07)
    axes.legend(loc="lower left", frameon=False, fontsize=11)
    for at, one in enumerate(story.answered):
        is_dip = one.accuracy < max(served[max(0, at - 1) : at + 2]) - FALL_SHARE
        _number(axes, one.number, one.accuracy, BLUE, above=not is_dip)
        if one.frozen_accuracy != one.accuracy:
            is_under = one.frozen_accuracy < one.accuracy
            _number(axes, one.number, one.frozen_accuracy, GRAY, above=not is_under)


def _number(axes: Any, x: float, accuracy: float, colour: str, *, above: bool) -> None:
    axes.annotate(
        f"{accuracy:.0%}",
        (x, accuracy),
        (0, 9 if above else -20),
        textcoords="offset points",
        ha="center",
        color=colour,
        fontweight="bold",
    )


def _drift_found(axes: Any, story: Story) -> None:
    """Mark the slice in which drift was found first."""
    found = [
        looked.after
        for looked in story.looked
        if looked.report is not None and looked.report["finding"] == "drift"
    ]
    if not found:
        return
    at = story.answered[found[0] - 1]
    axes.annotate(
        "drift found",
        (at.number, at.accuracy),
        (-58, 34),
        textcoords="offset points",
        ha="right",
        color=ORANGE,
        fontsize=11,
        fontweight="bold",
        arrowprops={"arrowstyle": "->", "color": ORANGE, "shrinkB": 8},
    )


def _run(axes: Any, ran: Ran) -> None:
    """Mark a training run, between the slice whose labels started it and the next."""
    x = ran.labels_of + 0.5
    colour = GREEN if ran.is_promoted else RED
    number = ran.version["number"] if ran.version else "none"
    end = f"version {number} promoted" if ran.is_promoted else f"version {number} rejected"
    axes.axvline(x, color=colour, linestyle=":", linewidth=2)
    axes.text(
        x + 0.06,
        0.5,
        f"labels of slice {ran.labels_of} arrive:\nretrained on them,\n{end}",
        transform=axes.get_xaxis_transform(),
        color=colour,
        fontsize=10.5,
        fontweight="bold",
        va="center",
    )

"""The whole loop on bundled data, from nothing: `make demo`.

A service comes up, trains a first model on handwritten digits and watches it answer. Some slices
of the stream are quiet; then somebody changes the scanner. Ends with a picture, a summary, and
a failure if the service did not do what it is for.

    python examples/demo.py [--seed N] [--strength S]

The service stays up until Ctrl-C, to be looked at; with DEMO_EXIT=1 it ends by itself.
"""

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from chart import draw
from digits import digits_stream
from loop import FALL_SHARE, Play, Story, first_champion
from rich.console import Console
from screen import Screen
from service import Service, own_service, wait_for_workers

from app.domain.errors import UpkeepError as ServiceError
from upkeep import Upkeep, UpkeepError

MODEL: Final = "digits"
PICTURE: Final = Path("demo-digits.png")
FIRST_ANSWER_SECONDS: Final = 10.0

FAILED: Final = 1
BROKEN: Final = 2
INTERRUPTED: Final = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo; return 0 if the service did what it is for."""
    parser = argparse.ArgumentParser(description="the whole loop on bundled data")
    parser.add_argument("--seed", type=int, default=0, help="order of the pictures")
    parser.add_argument(
        "--strength",
        type=float,
        default=0.8,
        help="of the scanner's change; 0 = none (default 0.8)",
    )
    options = parser.parse_args(arguments)
    console = Console(highlight=False, soft_wrap=True)
    verdict = None
    try:
        with own_service("demo", lambda text: console.print(f"[dim]{text}")) as service:
            verdict = play(console, service, options.seed, options.strength)
            if os.environ.get("DEMO_EXIT") != "1":
                console.print("\nThe service stays up to be looked at; Ctrl-C ends it.")
                service.stay_up()
    except KeyboardInterrupt:
        return INTERRUPTED if verdict is None else verdict
    except (OSError, RuntimeError, ServiceError, UpkeepError) as error:
        console.print(f"[red]the demo cannot go on:[/] {error}", markup=True)
        return BROKEN
    return verdict


def play(console: Console, service: Service, seed: int, strength: float) -> int:
    """Play the stream on a service that has just come up; return the exit code."""
    started_at_seconds = time.monotonic()
    seconds = service.first_answer_seconds
    late = (
        ""
        if seconds <= FIRST_ANSWER_SECONDS
        else "; [yellow]a busy machine: less than 10 s is usual[/]"
    )
    console.print(f"First HTTP 200 after [bold]{seconds:.1f} s[/] at {service.url}{late}")
    stream = digits_stream(seed, strength)
    screen = Screen(console, stream)
    with Upkeep(service.url, actor="demo") as upkeep:
        console.print(f"Workers announced themselves {wait_for_workers(upkeep):.1f} s later")
        page = f"{service.url}/models/{MODEL}"
        console.print(f"The same as here is shown at [bold underline]{page}[/]")
        console.print(f"\nA first version is trained on {len(stream.training)} pictures")
        try:
            model = first_champion(upkeep, MODEL, stream, screen, seed=seed)
            screen.close_bar()
            screen.first(model.champion())
            story = Play(model, stream, service.home / "cache", screen).run()
        finally:
            screen.close_bar()
    screen.summary(story)
    draw(story, stream, PICTURE)
    console.print(f"The picture of it: [bold]{PICTURE.resolve()}[/]")
    console.print(f"The page of it:    [bold]{page}[/]")
    console.print(f"Played in {time.monotonic() - started_at_seconds:.0f} s\n")
    claims = claims_of(story)
    for holds, claim in claims:
        console.print(f"{'[green]yes[/]' if holds else '[bold red]NO [/]'}  {claim}")
    return 0 if all(holds for holds, _ in claims) else FAILED


def claims_of(story: Story) -> list[tuple[bool, str]]:
    """Return what the service is for, and whether it did it."""
    before, during, last = story.before(), story.during(frozen=True), story.last()
    claims = [(story.n_early == 0, f"{story.n_early} retrains on quiet slices")]
    if story.fell:
        n_by_drift = sum(one.is_promoted and one.trigger == "drift" for one in story.ran)
        claims.append(
            (
                n_by_drift > 0,
                f"{n_by_drift} promotions started by drift, which made version 1 fall from "
                f"{story.before(frozen=True):.1%} to {during:.1%}",
            )
        )
    else:
        claims.append(
            (
                not story.ran,
                f"{len(story.ran)} retrains, as the drift did version 1 no harm "
                f"({story.before(frozen=True):.1%} before, {during:.1%} after)",
            )
        )
    claims.append(
        (
            before - last <= FALL_SHARE,
            f"{last:.1%} right at the end, against {before:.1%} before the drift",
        )
    )
    return claims


if __name__ == "__main__":
    sys.exit(main())

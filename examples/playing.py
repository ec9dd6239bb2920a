"""What the demo plays on a service that runs: a first version, the stream, the summary."""

import time
from pathlib import Path
from typing import Final

from chart import draw
from digits import digits_stream
from loop import FALL_SHARE, Play, Story, first_champion
from rich.console import Console
from screen import Screen
from service import Service, wait_for_workers

from upkeep import Upkeep

MODEL: Final = "digits"
PICTURE: Final = Path("demo-digits.png")
FIRST_ANSWER_SECONDS: Final = 10.0

FAILED: Final = 1


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

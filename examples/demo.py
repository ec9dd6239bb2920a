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
from collections.abc import Sequence
from typing import Final

from rich.console import Console
from service import own_service

from app.domain.errors import UpkeepError as ServiceError
from upkeep import UpkeepError

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
            from playing import play  # noqa: PLC0415  # heavy, and the service need not wait for it

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


if __name__ == "__main__":
    sys.exit(main())

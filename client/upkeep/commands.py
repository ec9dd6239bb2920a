"""What does `upkeep` on the command line do? Its own sub-commands, and those plugged in.

Exit codes: 0 done; 1 refused, failed or given up; 2 the command line makes no sense.
"""

import argparse
import getpass
import os
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import EntryPoint, entry_points
from typing import Final

from upkeep.arguments import Command, Subparsers, add_own, service_options
from upkeep.client import Upkeep
from upkeep.errors import UpkeepError
from upkeep.output import remark
from upkeep.retrying import Retries
from upkeep.subcommands.doing import UnusableFile

PLUGINS: Final = "upkeep.commands"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line; return its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        args = _parse(arguments)
        code = int(args.run(args))
        sys.stdout.flush()
    except SystemExit as ended:
        if isinstance(ended.code, str):
            remark(ended.code)
        return ended.code if isinstance(ended.code, int) else int(bool(ended.code))
    except (UpkeepError, UnusableFile) as error:
        remark(f"upkeep: {error}")
        return 2 if isinstance(error, UnusableFile) else 1
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the exit complains
        return 1
    except KeyboardInterrupt:
        return 130
    return code


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="upkeep",
        description="Keeps deployed models good.",
        parents=[service_options(are_defaults=True)],
        allow_abbrev=False,
    )
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True, title="commands")
    add_own(subparsers, _talks)
    if _command_of(arguments) not in subparsers.choices:
        # our own commands neither pay for the plug-ins' imports nor can be broken by them
        for point in sorted(entry_points(group=PLUGINS), key=lambda point: point.name):
            _plug_in(point, subparsers)
    args = parser.parse_args(arguments)
    if not callable(getattr(args, "run", None)):
        parser.error(f"{_command_of(arguments)} is not fully installed")
    return args


def _plug_in(point: EntryPoint, subparsers: Subparsers) -> None:
    """Let an installed distribution add its commands; one that cannot is passed over."""
    try:
        point.load()(subparsers)
    except (Exception, SystemExit) as error:  # noqa: BLE001  # another's code fails in any way
        remark(
            f"upkeep: warning: the commands of {point.name} ({point.value}) are unavailable: "
            f"{type(error).__name__}: {error}"
        )


def _command_of(arguments: list[str]) -> str | None:
    """Return the sub-command that a command line names, if any."""
    options = service_options(are_defaults=True)
    options.add_argument("command", nargs="?")
    known, _ = options.parse_known_args(arguments)
    return known.command if isinstance(known.command, str) else None


def _talks(command: Command) -> Callable[[argparse.Namespace], int]:
    """Return a command as argparse calls it, with a service to talk to."""

    def run(args: argparse.Namespace) -> int:
        key = args.key or os.environ.get("UPKEEP_KEY")
        retries = Retries(patience_seconds=args.patience)
        with Upkeep(args.url, key, retries=retries, actor=_user()) as service:
            return command(service, args)

    return run


def _user() -> str | None:
    """Return who runs the command, for the audit of a service without keys."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return None


if __name__ == "__main__":
    sys.exit(main())

"""What does `upkeep` on the command line do? Its own sub-commands, and those plugged in.

Exit codes: 0 done; 1 refused, failed or given up; 2 the command line makes no sense.
"""

import argparse
import getpass
import os
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Final

from upkeep import subcommands
from upkeep.client import DEFAULT_URL, Upkeep
from upkeep.errors import UpkeepError
from upkeep.output import remark
from upkeep.subcommands import Command, UnusableFile

PLUGINS: Final = "upkeep.commands"
Subparsers = Any
"""What `add_subparsers` returns; its class is private to argparse."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line; return its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        args = _parse(arguments)
        return int(args.run(args))
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except UpkeepError as error:
        remark(f"upkeep: {error}")
        return 1
    except UnusableFile as error:
        remark(f"upkeep: {error}")
        return 2
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the exit complains
        return 1
    except KeyboardInterrupt:
        return 130


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="upkeep",
        description="Keeps deployed models good.",
        parents=[_service_options(os.environ.get("UPKEEP_URL") or DEFAULT_URL)],
        allow_abbrev=False,
    )
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True, title="commands")
    _add_own(subparsers)
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
    except Exception as error:  # noqa: BLE001  # someone else's import may fail in any way
        remark(
            f"upkeep: warning: the commands of {point.name} ({point.value}) are unavailable: "
            f"{type(error).__name__}: {error}"
        )


def _command_of(arguments: list[str]) -> str | None:
    """Return the sub-command that a command line names, if any."""
    options = _service_options("")
    options.add_argument("command", nargs="?")
    known, _ = options.parse_known_args(arguments)
    return known.command if isinstance(known.command, str) else None


def _service_options(url: Any, key: Any = None, as_json: Any = False) -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(prog="upkeep", add_help=False, allow_abbrev=False)
    options.add_argument("--url", default=url, help="where the service listens (UPKEEP_URL)")
    options.add_argument("--key", default=key, help="an API key (UPKEEP_KEY)")
    options.add_argument("--json", default=as_json, action="store_true", help="answer in JSON")
    return options


def _talks(command: Command) -> Callable[[argparse.Namespace], int]:
    """Return a command as argparse calls it, with a service to talk to."""

    def run(args: argparse.Namespace) -> int:
        key = args.key or os.environ.get("UPKEEP_KEY")
        with Upkeep(args.url, key, actor=_user()) as service:
            return command(service, args)

    return run


def _user() -> str | None:
    """Return who runs the command, for the audit of a service without keys."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return None


def _add_own(subparsers: Subparsers) -> None:
    shared = argparse.SUPPRESS  # given before the command or after it, the option counts

    def add(command: Command, *, of_model: bool = True) -> argparse.ArgumentParser:
        described = command.__doc__ or ""
        parser: argparse.ArgumentParser = subparsers.add_parser(
            command.__name__,
            help=described.rstrip(".").lower() if described else None,
            description=described,
            parents=[_service_options(shared, shared, shared)],
            allow_abbrev=False,
        )
        parser.set_defaults(run=_talks(command))
        if of_model:
            parser.add_argument("model", metavar="MODEL")
        return parser

    def add_reason(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--reason", required=True, help="why, for the audit")

    def add_timeout(parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "--timeout", type=float, metavar="SECONDS", help="how long to wait; for ever if absent"
        )

    def add_limit(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--limit", type=int, default=20, metavar="N", help="show at most N")

    add_limit(add(subcommands.models, of_model=False))
    parser = add(subcommands.create)
    parser.add_argument("--task-type", required=True, help="such as text-classification")
    parser.add_argument("--base-model", required=True, help="what the first run starts from")
    parser.add_argument("--labels", required=True, nargs="+", metavar="LABEL")
    add(subcommands.status)
    parser = add(subcommands.upload)
    parser.add_argument("file", metavar="FILE", help="NDJSON, or Parquet if it ends in .parquet")
    roles = ["training", "reference", "holdout", "golden"]
    parser.add_argument("--role", required=True, choices=roles)
    for command in (subcommands.log, subcommands.label):
        parser = add(command)
        parser.add_argument("file", metavar="FILE", help="one JSON object a line; - for stdin")
    parser = add(subcommands.check)
    parser.add_argument("--no-wait", action="store_true", help="only ask for it")
    add_timeout(parser)
    parser = add(subcommands.retrain)
    add_reason(parser)
    parser.add_argument("--from", dest="start_from", choices=["champion", "base"])
    parser.add_argument("--idempotency-key", metavar="KEY", help="the same key, the same run")
    parser.add_argument("--wait", action="store_true", help="until the run has ended")
    add_timeout(parser)
    for listing in (subcommands.runs, subcommands.versions, subcommands.decisions):
        add_limit(add(listing))
    parser = add(subcommands.wait)
    parser.add_argument("run_id", metavar="RUN")
    add_timeout(parser)
    parser = add(subcommands.promote)
    parser.add_argument("number", metavar="N", type=int)
    add_reason(parser)
    parser.add_argument("--force", action="store_true", help="whatever the gates say")
    parser.add_argument("--judged-against", type=int, metavar="N", help="refuse if it changed")
    parser = add(subcommands.rollback)
    add_reason(parser)
    parser.add_argument("--to", type=int, metavar="N", help="the one before if absent")
    add_reason(add(subcommands.pause))
    add_reason(add(subcommands.resume))


if __name__ == "__main__":
    sys.exit(main())

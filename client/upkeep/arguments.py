"""What may be said on the command line of `upkeep`?"""

import argparse
import os
from collections.abc import Callable
from typing import Any, Final

from upkeep.client import DEFAULT_URL, Upkeep
from upkeep.subcommands import doing, looking

Subparsers = Any
"""What `add_subparsers` returns; its class is private to argparse."""
Command = Callable[[Upkeep, argparse.Namespace], int]
Runnable = Callable[[argparse.Namespace], int]
ROLES: Final = ("training", "reference", "holdout", "golden")


PATIENCE_SECONDS: Final = 10.0


def service_options(*, are_defaults: bool) -> argparse.ArgumentParser:
    """Return a parser of the options that every command has.

    Args:
        are_defaults: whether an option that is not given gets its default; else it is left to
            the parser that holds this one, so that it may stand before the command or after it.
    """
    absent = argparse.SUPPRESS

    def default(value: Any) -> Any:
        return value if are_defaults else absent

    options = argparse.ArgumentParser(prog="upkeep", add_help=False, allow_abbrev=False)
    url = os.environ.get("UPKEEP_URL") or DEFAULT_URL
    options.add_argument(
        "--url", default=default(url), help="where the service listens (UPKEEP_URL)"
    )
    options.add_argument("--key", default=default(None), help="an API key (UPKEEP_KEY)")
    options.add_argument(
        "--json", default=default(False), action="store_true", help="answer in JSON"
    )
    options.add_argument(
        "--patience",
        default=default(PATIENCE_SECONDS),
        type=float,
        metavar="SECONDS",
        help=f"how long to try a service that is away; {PATIENCE_SECONDS:g} if absent",
    )
    return options


def add_own(subparsers: Subparsers, talks: Callable[[Command], Runnable]) -> None:
    """Add the client's own commands.

    Args:
        subparsers: where to.
        talks: gives a command a service to talk to.
    """

    def add(command: Command, *, of_model: bool = True) -> argparse.ArgumentParser:
        described = command.__doc__ or ""
        parser: argparse.ArgumentParser = subparsers.add_parser(
            command.__name__,
            help=described.rstrip(".").lower(),
            description=described,
            parents=[service_options(are_defaults=False)],
            allow_abbrev=False,
        )
        parser.set_defaults(run=talks(command))
        if of_model:
            parser.add_argument("model", metavar="MODEL")
        return parser

    _limit(add(looking.models, of_model=False))
    _of_create(add(doing.create))
    add(looking.status)
    _of_upload(add(doing.upload))
    for sending in (doing.log, doing.label):
        add(sending).add_argument("file", metavar="FILE", help="a JSON object a line; - for stdin")
    _of_check(add(doing.check))
    _of_retrain(add(doing.retrain))
    for listing in (looking.runs, looking.versions, looking.decisions):
        _limit(add(listing))
    waiting = add(doing.wait)
    waiting.add_argument("run_id", metavar="RUN")
    _timeout(waiting)
    _of_promote(add(doing.promote))
    _of_rollback(add(doing.rollback))
    _reason(add(doing.pause))
    _reason(add(doing.resume))


def _reason(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--reason", required=True, help="why, for the audit")


def _timeout(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--timeout", type=float, metavar="SECONDS", help="how long to wait; for ever if absent"
    )


def _limit(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--limit", type=int, default=20, metavar="N", help="show at most N")


def _of_create(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--task-type", required=True, help="such as text-classification")
    parser.add_argument("--base-model", required=True, help="what the first run starts from")
    parser.add_argument(
        "--labels",
        nargs="+",
        default=[],
        metavar="LABEL",
        help="every class, or every label of a span; none where answers are numbers or texts",
    )


def _of_upload(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="NDJSON, or Parquet if it ends in .parquet")
    parser.add_argument("--role", required=True, choices=ROLES)


def _of_check(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--no-wait", action="store_true", help="only ask for it")
    _timeout(parser)


def _of_retrain(parser: argparse.ArgumentParser) -> None:
    _reason(parser)
    parser.add_argument("--from", dest="start_from", choices=["champion", "base"])
    parser.add_argument("--priority", type=int, metavar="P", help="-10 to 10; larger goes first")
    parser.add_argument("--idempotency-key", metavar="KEY", help="the same key, the same run")
    parser.add_argument("--wait", action="store_true", help="until the run has ended")
    _timeout(parser)


def _of_promote(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("number", metavar="N", type=int)
    _reason(parser)
    parser.add_argument("--force", action="store_true", help="whatever the gates say")
    parser.add_argument("--judged-against", type=int, metavar="N", help="refuse if it changed")


def _of_rollback(parser: argparse.ArgumentParser) -> None:
    _reason(parser)
    parser.add_argument("--to", type=int, metavar="N", help="the one before if absent")

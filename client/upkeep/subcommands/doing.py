"""What is to be done? The sub-commands that change something."""

import argparse
import json
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Final

from upkeep.client import Upkeep
from upkeep.documents import RunDocument
from upkeep.model import Model
from upkeep.output import remark, run_line, say, show_json
from upkeep.receipts import Receipt

REJECTIONS_SHOWN: Final = 10


class UnusableFile(Exception):
    """A file named on the command line cannot be read as what it should be."""


def create(service: Upkeep, args: argparse.Namespace) -> int:
    """Register a model."""
    model = service.create_model(
        args.model, task_type=args.task_type, base_model=args.base_model, labels=args.labels
    )
    if args.json:
        show_json(model.document())
    else:
        say(f"created {model.name}")
    return 0


def upload(service: Upkeep, args: argparse.Namespace) -> int:
    """Upload a set of examples."""
    path = Path(args.file)
    model = service.model(args.model)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UnusableFile(f"cannot read {args.file}: {error.strerror}") from error
    if path.suffix == ".parquet":
        dataset = model.upload(args.role, parquet=content)
    else:
        dataset = model.upload(args.role, ndjson=content)
    if args.json:
        show_json(dataset)
    else:
        say(f"dataset {dataset['id']}: {dataset['n_rows']} rows, {dataset['n_rejected']} rejected")
    _show_rejected(dataset["rejected"])
    return 1 if dataset["n_rejected"] else 0


def log(service: Upkeep, args: argparse.Namespace) -> int:
    """Send observations from a file."""
    receipt = service.model(args.model).log(_rows(args.file))
    return _show_receipt(receipt, args, "observations")


def label(service: Upkeep, args: argparse.Namespace) -> int:
    """Send true labels from a file."""
    receipt = service.model(args.model).labels(_rows(args.file))
    return _show_receipt(receipt, args, "labels")


def check(service: Upkeep, args: argparse.Namespace) -> int:
    """Look at what came in, and decide."""
    model = service.model(args.model)
    done = model.check(wait=not args.no_wait, timeout_seconds=args.timeout)
    report = model.report(done["report"]) if done["report"] else None
    decision = model.decision(done["decision"]) if done["decision"] else None
    if args.json:
        show_json({"check": done, "report": report, "decision": decision})
    else:
        say(f"check {done['id']} {done['state']}")
        if report:
            drifted = [score["feature"] for score in report["scores"] if score.get("drifted")]
            say(f"finding: {report['finding']} {', '.join(drifted)}".rstrip())
        if decision:
            say(f"decision: {decision['outcome']}: {decision['reason']}")
        if done["error"]:
            remark(f"upkeep: {done['error'].get('detail', done['error'])}")
    return 1 if done["state"] == "failed" else 0


def retrain(service: Upkeep, args: argparse.Namespace) -> int:
    """Ask for a training run."""
    model = service.model(args.model)
    run = model.retrain(
        args.reason,
        start_from=args.start_from,
        priority=args.priority,
        idempotency_key=args.idempotency_key,
    )
    if args.wait:
        return _wait(model, run["id"], args)
    return _show_run(run, args)


def wait(service: Upkeep, args: argparse.Namespace) -> int:
    """Wait for the end of a training run."""
    return _wait(service.model(args.model), args.run_id, args)


def promote(service: Upkeep, args: argparse.Namespace) -> int:
    """Make a version the champion."""
    version = service.model(args.model).promote(
        args.number, args.reason, force=args.force, judged_against=args.judged_against
    )
    return _show_done(version, args, f"version {args.number} is the champion of {args.model}")


def rollback(service: Upkeep, args: argparse.Namespace) -> int:
    """Put an earlier version back."""
    version = service.model(args.model).rollback(args.reason, to=args.to)
    return _show_done(version, args, f"{args.model} is rolled back")


def pause(service: Upkeep, args: argparse.Namespace) -> int:
    """Stop deciding and training."""
    document = service.model(args.model).pause(args.reason)
    return _show_done(document, args, f"{args.model} is paused")


def resume(service: Upkeep, args: argparse.Namespace) -> int:
    """Decide and train again."""
    document = service.model(args.model).resume(args.reason)
    return _show_done(document, args, f"{args.model} is watched again")


def _rows(name: str) -> Iterator[dict[str, Any]]:
    """Yield the objects of an NDJSON file, or of the standard input if it is named "-"."""
    try:
        with nullcontext(sys.stdin) if name == "-" else Path(name).open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    yield _row(line, f"line {number} of {name}")
    except OSError as error:
        raise UnusableFile(f"cannot read {name}: {error.strerror}") from error


def _row(line: str, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line, parse_constant=_no_number)
    except ValueError as error:
        raise UnusableFile(f"{where} is no JSON: {error}") from error
    if not isinstance(row, dict):
        raise UnusableFile(f"{where} is no JSON object")
    return row


def _no_number(name: str) -> None:
    raise ValueError(f"there is no {name} in JSON; leave the value out or write null")


def _show_receipt(receipt: Receipt, args: argparse.Namespace, what: str) -> int:
    if args.json:
        show_json(
            {
                "accepted": receipt.n_accepted,
                "known": receipt.n_known,
                "rejected": receipt.rejected,
                "ids": receipt.ids,
            }
        )
    else:
        say(
            f"{receipt.n_accepted} {what} stored, {receipt.n_known} known already, "
            f"{len(receipt.rejected)} rejected"
        )
    _show_rejected(receipt.rejected)
    return 1 if receipt.rejected else 0


def _show_rejected(rejected: list[dict[str, Any]]) -> None:
    for row in rejected[:REJECTIONS_SHOWN]:
        reasons = "; ".join(
            f"{error.get('pointer', '')} {error.get('detail', '')}".strip()
            for error in row["errors"]
        )
        remark(f"row {row['index']}: {reasons}")
    if len(rejected) > REJECTIONS_SHOWN:
        remark(f"... and {len(rejected) - REJECTIONS_SHOWN} more")


def _wait(model: Model, run_id: str, args: argparse.Namespace) -> int:
    run = model.wait_for_run(
        run_id,
        timeout_seconds=args.timeout,
        on_progress=lambda seen: remark(run_line(seen)),
    )
    _show_run(run, args)
    return 0 if run["state"] == "succeeded" else 1


def _show_run(run: RunDocument, args: argparse.Namespace) -> int:
    if args.json:
        show_json(run)
    else:
        say(run_line(run))
    return 0


def _show_done(document: Any, args: argparse.Namespace, sentence: str) -> int:
    if args.json:
        show_json(document)
    else:
        say(sentence)
    return 0

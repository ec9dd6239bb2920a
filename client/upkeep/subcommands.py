"""What can be done with a service from a shell? The sub-commands that speak REST."""

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

from upkeep.client import Upkeep
from upkeep.documents import RunDocument
from upkeep.model import Model
from upkeep.output import moment, remark, say, show_facts, show_json, show_table
from upkeep.receipts import Receipt

Command = Callable[[Upkeep, argparse.Namespace], int]
REJECTIONS_SHOWN: Final = 10


class UnusableFile(Exception):
    """A file named on the command line cannot be read as what it should be."""


def models(service: Upkeep, args: argparse.Namespace) -> int:
    """List the models."""
    found = list(service.models(limit=args.limit))
    if args.json:
        show_json(found)
        return 0
    show_table(
        ["model", "task type", "champion", "paused", "settled", "observations", "labels"],
        (
            (
                model["name"],
                model["task_type"],
                model["champion"],
                model["is_paused"],
                model["watch"]["is_settled"],
                model["watch"]["n_observations"],
                model["watch"]["n_labels"],
            )
            for model in found
        ),
        when_empty="no models yet",
    )
    return 0


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


def status(service: Upkeep, args: argparse.Namespace) -> int:
    """Show how a model stands."""
    model = service.model(args.model)
    document = model.document()
    run = next(model.runs(limit=1), None)
    decision = next(model.decisions(limit=1), None)
    if args.json:
        show_json({"model": document, "run": run, "decision": decision})
        return 0
    watch = document["watch"]
    unchecked = f"{watch['n_unchecked_observations']} observations, "
    unchecked += f"{watch['n_unchecked_labels']} labels"
    show_facts(
        {
            "model": document["name"],
            "task type": document["task_type"],
            "champion": document["champion"],
            "paused": document["is_paused"],
            "observations": watch["n_observations"],
            "labels": watch["n_labels"],
            "not yet checked": unchecked,
            "last checked": moment(watch["last_checked_at"]),
            "settled": watch["is_settled"],
            "last decision": decision and f"{decision['outcome']}: {decision['reason']}",
            "last run": run and _run_line(run),
        }
    )
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
    with ExitStack() as opened:
        receipt = service.model(args.model).log(_rows(args.file, opened))
    return _show_receipt(receipt, args, "observations")


def label(service: Upkeep, args: argparse.Namespace) -> int:
    """Send true labels from a file."""
    with ExitStack() as opened:
        receipt = service.model(args.model).labels(_rows(args.file, opened))
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
        args.reason, start_from=args.start_from, idempotency_key=args.idempotency_key
    )
    if args.wait:
        return _wait(model, run["id"], args)
    return _show_run(run, args)


def wait(service: Upkeep, args: argparse.Namespace) -> int:
    """Wait for the end of a training run."""
    return _wait(service.model(args.model), args.run_id, args)


def runs(service: Upkeep, args: argparse.Namespace) -> int:
    """List the training runs."""
    found = list(service.model(args.model).runs(limit=args.limit))
    if args.json:
        show_json(found)
        return 0
    show_table(
        ["run", "state", "outcome", "version", "attempt", "queued", "finished"],
        (
            (
                run["id"],
                run["state"],
                run["outcome"],
                run["version"],
                run["attempt"],
                moment(run["queued_at"]),
                moment(run["finished_at"]),
            )
            for run in found
        ),
        when_empty="no runs yet",
    )
    return 0


def versions(service: Upkeep, args: argparse.Namespace) -> int:
    """List the versions."""
    found = list(service.model(args.model).versions(limit=args.limit))
    if args.json:
        show_json(found)
        return 0
    show_table(
        ["version", "state", "origin", "created", "digest"],
        (
            (
                one["number"],
                one["state"],
                one["origin"],
                moment(one["created_at"]),
                one["digest"][:12],
            )
            for one in found
        ),
        when_empty="no versions yet",
    )
    return 0


def decisions(service: Upkeep, args: argparse.Namespace) -> int:
    """List what was decided, and why."""
    found = list(service.model(args.model).decisions(limit=args.limit))
    if args.json:
        show_json(found)
        return 0
    show_table(
        ["at", "outcome", "trigger", "reason"],
        (
            (moment(one["created_at"]), one["outcome"], one["trigger"], one["reason"])
            for one in found
        ),
        when_empty="no decisions yet",
    )
    return 0


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


def _rows(name: str, opened: ExitStack) -> Iterator[dict[str, Any]]:
    """Yield the objects of an NDJSON file, or of the standard input if it is named "-"."""
    try:
        lines = sys.stdin if name == "-" else opened.enter_context(Path(name).open())
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            row = json.loads(line)
            if not isinstance(row, dict):
                raise UnusableFile(f"line {number} of {name} is no JSON object")
            yield row
    except OSError as error:
        raise UnusableFile(f"cannot read {name}: {error.strerror}") from error
    except ValueError as error:
        raise UnusableFile(f"{name} is not one JSON object a line: {error}") from error


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
        on_progress=lambda seen: remark(_run_line(seen)),
    )
    _show_run(run, args)
    return 0 if run["state"] == "succeeded" else 1


def _show_run(run: RunDocument, args: argparse.Namespace) -> int:
    if args.json:
        show_json(run)
    else:
        say(_run_line(run))
    return 0


def _run_line(run: RunDocument) -> str:
    progress = run["progress"] or {}
    step, total = progress.get("step"), progress.get("total_steps")
    parts = [
        f"run {run['id']} {run['state']}",
        f"{progress.get('phase', '')} {step}/{total}".strip() if step and total else "",
        f"version {run['version']} {run['outcome'] or ''}".rstrip() if run["version"] else "",
        str(run["error"].get("detail", run["error"])) if run["error"] else "",
    ]
    return ", ".join(part for part in parts if part)


def _show_done(document: Any, args: argparse.Namespace, sentence: str) -> int:
    if args.json:
        show_json(document)
    else:
        say(sentence)
    return 0

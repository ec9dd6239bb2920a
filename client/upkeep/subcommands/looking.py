"""How does it stand? The sub-commands that only read."""

import argparse

from upkeep.client import Upkeep
from upkeep.output import moment, run_line, show_facts, show_json, show_table


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
            "last run": run and run_line(run),
        }
    )
    return 0


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

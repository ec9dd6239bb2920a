"""What does it cost to keep a version good, beside training a new one from scratch?

    python -m bench.maintenance --data FOLDER [--seeds 3]

MiniLM on CLINC150, one thread. A champion knows 120 intents (30 rows each). Then come 1,050 rows:
30 new intents (20 rows each) and 45 of the old ones (10 rows each); the other 75 are absent, and
all 150 are asked for afterwards. Seeds draw the intents, the rows and the order. Arms:

- scratch: from the base, all rows, three epochs above a fitted head.
- history: rung `probe` from the champion, all rows; what its layers say of those that it was
  trained on was kept when that was done, for the CPU seconds of `keeping_seconds`.
- history, nothing kept: likewise, but of a champion that kept nothing.
- history, alone: history again, but nobody has run the frozen layers for it.
- reservoir: two epochs from the champion, on the new rows and five old ones of each intent.
- centroid: rung `centroid` from the champion, on the new rows alone.

Accuracy on 30 test rows of each new intent and 12 of each old one; mean over intents. CPU seconds
from the frozen layers' states of the rows on, which all arms share (but the one alone); the pass
that makes them is a column of its own, and `cheaper_in_all` counts it. Writes
bench/results/maintenance.json.
"""

import argparse
import gzip
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from bench.streams import encoder_directory

RESULT: Final = Path(__file__).resolve().parent / "results" / "maintenance.json"
N_NEW, N_HOT, N_OLD = 30, 45, 120
EPOCHS: Final[dict[str, Any]] = {"epochs": 3, "learning_rate": 1e-4, "head_learning_rate": 1e-3}
Row = tuple[str, str]


@dataclass(frozen=True)
class World:
    """What is known when: a champion's rows, those that came, a reservoir, and what is asked."""

    before: list[Row]
    came: list[Row]
    reservoir: list[Row]
    asked: dict[str, list[Row]]
    old: tuple[str, ...]
    new: tuple[str, ...]


def drawn(folder: Path, seed: int) -> World:
    """Draw the intents and rows of one seed."""
    with gzip.open(folder / "clinc150_full.json.gz", "rt") as file:
        parts = json.load(file)
    draw = np.random.default_rng(seed)
    intents = [str(one) for one in draw.permutation(sorted({label for _, label in parts["train"]}))]
    new, old = intents[:N_NEW], intents[N_NEW:]
    hot, absent = old[:N_HOT], old[N_HOT:]
    rows = {
        part: {
            intent: [
                (text, intent)
                for text in draw.permutation([t for t, label in parts[part] if label == intent])
            ]
            for intent in intents
        }
        for part in ("train", "test")
    }
    train, test = rows["train"], rows["test"]

    def mixed(chosen: list[Row]) -> list[Row]:
        return [chosen[k] for k in draw.permutation(len(chosen))]

    return World(
        mixed([row for intent in old for row in train[intent][:30]]),
        mixed(
            [row for intent in new for row in train[intent][:20]]
            + [row for intent in hot for row in train[intent][30:40]]
        ),
        [row for intent in old for row in train[intent][:5]],
        {
            "new": [row for intent in new for row in test[intent]],
            "hot": [row for intent in hot for row in test[intent][:12]],
            "absent": [row for intent in absent for row in test[intent][:12]],
        },
        tuple(sorted(old)),
        tuple(sorted(new)),
    )


def answered(classifier: Any, world: World) -> dict[str, float]:
    """Return the accuracy of a loaded version on each part of what is asked."""
    names, shares = np.asarray(classifier.labels), {}
    for part, rows in world.asked.items():
        said = names[classifier.scores([{"text": t} for t, _ in rows]).argmax(axis=1)]
        shares[part] = float((said == np.asarray([label for _, label in rows])).mean())
    old = (N_HOT * shares["hot"] + (N_OLD - N_HOT) * shares["absent"]) / N_OLD
    mean = (N_NEW * shares["new"] + N_OLD * old) / (N_NEW + N_OLD)
    return {"new": shares["new"], "old": old, "absent": shares["absent"], "mean": mean}


@dataclass(frozen=True)
class Arm:
    """One way to train.

    Attributes:
        start: the version that it goes on from.
        known: the intents that the start has learned.
        features: what the start's own run kept.
        is_alone: nobody has run the frozen layers for it.
    """

    start: Path
    known: tuple[str, ...]
    rows: list[Row]
    recipe: dict[str, Any]
    features: Path | None = None
    is_alone: bool = False


def played(folder: Path, seed: int) -> list[dict[str, Any]]:
    """Return what each arm reached and cost, in this process."""
    import torch  # noqa: PLC0415  # the arms' own stack

    from workers.task_types.text_classification import TextClassification  # noqa: PLC0415
    from workers.training import device  # noqa: PLC0415
    from workers.training.data import Rows  # noqa: PLC0415
    from workers.training.job import Job  # noqa: PLC0415
    from workers.training.loop import Loop  # noqa: PLC0415
    from workers.training.position import Prepared  # noqa: PLC0415
    from workers.training.progress import Progress, Stop  # noqa: PLC0415
    from workers.training.recipes import complete  # noqa: PLC0415

    kind, world = TextClassification(), drawn(folder, seed)
    chosen = device.choose(threads=1, precision="auto")
    labels = (*world.old, *world.new)

    def taught(place: Path, arm: Arm) -> dict[str, Any]:
        """Train an arm; save its version, what it kept beside it; return what it cost."""
        whole = complete(kind.recipe_schema, arm.recipe)
        learner = kind.open(arm.start)
        if arm.known:
            learner.widen(labels)
        job = Job(
            directory=place.parent, run_id="bench", task_type=kind.name, start=str(arm.start),
            start_is_base=not arm.known, labels=learner.labels, train=arm.start, validation=None,
            recipe=whole, seed=seed, output=place, threads=1, features=arm.features,
        )  # fmt: skip
        ids, inputs = list(map(str, range(len(arm.rows)))), [{"text": text} for text, _ in arm.rows]
        data = Rows(ids, inputs, [label for _, label in arm.rows])
        prepared = Prepared.of(learner, data)
        loop = Loop(
            job, whole, learner, chosen, prepared, None, Progress(None), Stop(), known=arm.known
        )
        before = time.process_time()
        if not arm.is_alone:
            loop.features.run_frozen()  # the pass that all arms share
        passed = time.process_time()
        loop.train()
        ended = time.process_time()
        kept = loop.kept_features()
        if kept is not None:
            kept.write(place.with_suffix(".features"))
        learner.save(place)
        return {
            "cpu_seconds": ended - passed,
            "frozen_layers_seconds": passed - before,
            "keeping_seconds": time.process_time() - ended,
            "n_features_taken": loop.position.n_features_taken,
            "n_rows": len(arm.rows),
            **answered(kind.load(place), world),
        }

    found = []
    with tempfile.TemporaryDirectory() as scratch, torch.random.fork_rng():
        root = Path(scratch)
        kind.create(encoder_directory(), world.old, root / "small", seed=seed)
        kind.create(encoder_directory(), labels, root / "base", seed=seed)
        champion = root / "champion"
        first = taught(champion, Arm(root / "small", (), world.before, EPOCHS))
        found.append({"arm": "champion", **first})
        every, old, kept = (
            [*world.before, *world.came],
            world.old,
            champion.with_suffix(".features"),
        )
        probe, warm = {"rungs": ["probe"]}, {**EPOCHS, "epochs": 2, "head": "keep"}
        arms = {
            "scratch": Arm(root / "base", (), every, EPOCHS),
            "history": Arm(champion, old, every, probe, kept),
            "history, nothing kept": Arm(champion, old, every, probe),
            "history, alone": Arm(champion, old, every, probe, kept, is_alone=True),
            "reservoir": Arm(champion, old, [*world.reservoir, *world.came], warm),
            "centroid": Arm(champion, old, world.came, {"rungs": ["centroid"]}),
        }
        for name, arm in arms.items():
            found.append({"arm": name, **taught(root / name, arm)})
            print(json.dumps({"seed": seed, **found[-1]}), file=sys.stderr, flush=True)
    return found


def summed(rounds: list[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Return the mean of each arm over the seeds, beside scratch and champion."""
    rows = []
    for position, first in enumerate(rounds[0]):
        row = {"arm": first["arm"]}
        for key in first:
            if key != "arm":
                row[key] = float(np.mean([one[position][key] for one in rounds]))
        row["means"] = [round(one[position]["mean"], 4) for one in rounds]
        rows.append(row)
    champion, scratch = rows[0], next(row for row in rows if row["arm"] == "scratch")
    for row in rows[1:]:
        row["cheaper"] = scratch["cpu_seconds"] / row["cpu_seconds"]
        row["cheaper_in_all"] = _in_all(scratch) / _in_all(row)
        row["points_under_scratch"] = 100 * (scratch["mean"] - row["mean"])
        row["points_down_on_absent"] = 100 * (champion["absent"] - row["absent"])
    return rows


def _in_all(row: dict[str, Any]) -> float:
    return float(row["cpu_seconds"] + row["frozen_layers_seconds"])


def main() -> None:
    """Play every seed in a process of its own and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, default=os.environ.get("UPKEEP_DATA"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--seed", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.data is None:
        raise SystemExit("name the folder of the real streams: --data FOLDER, or UPKEEP_DATA")
    if options.seed is not None:
        print(json.dumps(played(Path(options.data), options.seed)))
        return
    rounds = []
    for seed in range(options.seeds):
        command = [sys.executable, "-m", "bench.maintenance", "--data", str(options.data)]
        answer = subprocess.run(  # ourselves
            [*command, "--seed", str(seed)],
            check=True,
            stdout=subprocess.PIPE,
            env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
        )
        rounds.append(json.loads(answer.stdout.splitlines()[-1]))
    rows = summed(rounds)
    RESULT.write_text(json.dumps(rows, indent=1) + "\n")
    figures = [
        "arm", "new", "old", "absent", "mean", "cpu_seconds", "frozen_layers_seconds",
        "keeping_seconds", "cheaper", "cheaper_in_all", "points_under_scratch",
        "points_down_on_absent", "n_features_taken",
    ]  # fmt: skip
    print("| " + " | ".join(figures) + " |\n|" + "---|" * len(figures))
    for row in rows:
        shown = (row.get(key, "") for key in figures)
        print(
            "| " + " | ".join(f"{v:.4g}" if isinstance(v, float) else str(v) for v in shown) + " |"
        )


if __name__ == "__main__":
    main()

"""What does a training run survive, and what do its process and its care for that cost?

Sections:

- writer: SIGKILL at random moments of the writing of checkpoints alone, 1,000 times, beside
  transformers' Trainer writing its own, 200 times: how many newest checkpoints cannot be read, and
  how many intervals are lost.
- runs: 50 whole short runs of texts, pictures and columns, killed at a random moment of their
  training and started again: are the final weights those of an uninterrupted run, bit for bit?
- overhead: wall time of the training process, forked as a worker does on a CPU, against the same
  loop run bare, in turns; beside it as a new interpreter, as for a GPU, where nothing is promised.
- memory: peak memory of a run on 10,000, 100,000 and 1,000,000 rows; of texts beside a usual
  script that holds its rows.
- repeat: one record run twice by a running service: same snapshot, same metrics, same weights?
- bad: rows that cannot teach, to each task type: typed errors or recorded cleaning, and how long.

    python -m bench.runs [writer runs overhead memory repeat bad] [--quick]

`writer` needs `pip install -e '.[bench]'`; `repeat` starts a service as bench/drill.py does. Prints
tables and writes bench/results/runs_<section>.json; exits 1 where a promise was broken. `--quick`
is a tenth of everything, and writes nothing.
"""

import argparse
import json
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from bench.runs_support import (
    KINDS,
    Kind,
    Row,
    digest,
    finished,
    lay_out,
    show,
    start,
    texts,
    write_rows,
)
from bench.runs_writer import writer
from workers.training.files import read_json
from workers.training.starting import ForkServer

RESULTS: Final = Path(__file__).resolve().parent / "results"
HUNG_SECONDS: Final = 120.0
IMPORT_SECONDS: Final = 2.0
OVERHEAD_SHARE: Final = 0.03
FLAT: Final = 1.3
Rows = list[dict[str, Any]]

# -- whole runs

LONGER: Final = {"text": {"epochs": 12}, "image": {"epochs": 24}, "table": {"rounds": 600}}
N_ROWS: Final = {"text": 600, "image": 600, "table": 2000}
EVERY_SECONDS: Final = 0.1
MORE_SECONDS: Final = 0.5
"""Beyond an interval: the step that was under way, and the writing of the next checkpoint."""


def runs(scratch: Path, quick: bool) -> Rows:
    """Kill whole runs at random moments, start them again, and compare their weights."""
    n_kills = 6 if quick else 50
    draw = random.Random(0)  # noqa: S311  # no secret
    whole: dict[str, tuple[str, float]] = {}
    paths = {}
    for name, kind in KINDS.items():
        paths[name] = write_rows(scratch / f"{name}.parquet", kind.rows(N_ROWS[name]))
        folder = _short(scratch / f"{name}-whole", name, paths[name])
        process = start(folder)
        process.first_line("train")
        began = time.monotonic()
        process.end()
        seconds = time.monotonic() - began
        whole[name] = digest(finished(folder)), seconds
    rows: Rows = []
    number = 0
    while sum(row["was_running"] for row in rows) < n_kills:
        rows.append(_killed(scratch / f"{number}", number, paths, whole, draw))
        number += 1
    found: Rows = []
    for name in KINDS:
        of_kind = [row for row in rows if row["kind"] == name]
        resumed = [row for row in of_kind if row["resumed_from_step"] is not None]
        most = max((row["lost_seconds"] for row in resumed), default=0.0)
        found.append(
            {
                "runs of": name,
                "started": len(of_kind),
                "killed": sum(row["was_running"] for row in of_kind),
                "resumed from a checkpoint": len(resumed),
                "same bits": sum(row["is_same"] for row in of_kind),
                "most work lost (s)": most,
                "interval (s)": EVERY_SECONDS,
                "kept": all(row["is_same"] for row in of_kind)
                and most <= EVERY_SECONDS + MORE_SECONDS,
            }
        )
    return found


def _short(folder: Path, name: str, rows: Path) -> Path:
    return lay_out(
        folder, KINDS[name], rows, recipe=LONGER[name], checkpoint_every_seconds=EVERY_SECONDS
    )


def _killed(
    folder: Path,
    number: int,
    paths: Mapping[str, Path],
    whole: Mapping[str, tuple[str, float]],
    draw: random.Random,
) -> dict[str, Any]:
    """Kill one run at a random moment of its training, and run it to its end."""
    name = list(KINDS)[number % len(KINDS)]
    expected, seconds = whole[name]
    process = start(_short(folder, name, paths[name]))
    process.first_line("train")
    time.sleep(draw.uniform(0, seconds))  # the moment of the kill
    was_running = process.child.poll() is None
    process.child.signal(signal.SIGKILL)
    killed_at = time.time()
    process.end()
    written = [path.stat().st_mtime for path in folder.glob("ckpt-*/MANIFEST.json")]
    result = finished(folder)
    return {
        "kind": name,
        "was_running": was_running,
        "is_same": digest(result) == expected,
        "resumed_from_step": result["resumed_from_step"] if was_running else None,
        "lost_seconds": killed_at - max(written, default=killed_at),
    }


# -- what the process costs


def overhead(scratch: Path, quick: bool) -> Rows:
    """Time the training process and the same loop run bare, in turns."""
    path = write_rows(scratch / "rows.parquet", texts(600 if quick else 6000))
    recipe = {"epochs": 2, "trainable_layers": None}
    server = ForkServer()
    server.start()  # as a worker does when it comes up
    finished_with(server, _large(scratch / "warm-up", path, recipe))
    spent: dict[str, list[float]] = {"forked": [], "interpreter": [], "bare": []}
    for number in range(1 if quick else 3):
        for name, fork_server in (("forked", server), ("interpreter", None)):
            folder = _large(scratch / f"{name}-{number}", path, recipe)
            spent[name].append(finished_with(fork_server, folder))
        answer = _alone("bare", _large(scratch / f"bare-{number}", path, recipe))
        spent["bare"].append(float(answer["seconds"]))
    server.close()
    seconds = {name: float(np.median(each)) for name, each in spent.items()}
    limit = seconds["bare"] * (1 + OVERHEAD_SHARE) + IMPORT_SECONDS
    return [
        {
            "process": name,
            "seconds": seconds[name],
            "the loop bare, without imports (s)": seconds["bare"],
            "overhead": seconds[name] / seconds["bare"] - 1,
            "allowed (s)": limit,
            **({"kept": seconds[name] <= limit} if name == "forked" else {}),
        }
        for name in ("forked", "interpreter")
    ]


def _large(folder: Path, rows: Path, recipe: Mapping[str, Any]) -> Path:
    """Lay out a run that takes a while: an encoder of four layers of 128."""
    lay_out(folder, KINDS["text"], rows, recipe=recipe, checkpoint_every_seconds=10.0)
    _resize(folder, {"hidden_size": 128, "intermediate_size": 512, "num_hidden_layers": 4})
    return folder


def finished_with(fork_server: ForkServer | None, folder: Path) -> float:
    """Run a folder to its end; return the seconds from its start."""
    process = start(folder, fork_server)
    process.end()
    if process.child.returncode:
        raise RuntimeError((folder / "process.log").read_text()[-2000:])
    return time.monotonic() - process.started


def _resize(folder: Path, size: Mapping[str, Any]) -> None:
    path = folder.with_name(f"{folder.name}-base") / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **size}))


def bare(folder: Path) -> dict[str, float]:
    """Train in this process, without checkpoints, progress or a result; return the time."""
    from workers.task_types import task_types  # noqa: PLC0415  # the arm's own stack
    from workers.task_types.text_classification import TextClassification  # noqa: PLC0415
    from workers.training import device  # noqa: PLC0415
    from workers.training.data import read_rows  # noqa: PLC0415
    from workers.training.job import read_job  # noqa: PLC0415
    from workers.training.loop import Loop  # noqa: PLC0415
    from workers.training.position import Prepared  # noqa: PLC0415
    from workers.training.progress import Progress, Stop  # noqa: PLC0415
    from workers.training.recipes import complete  # noqa: PLC0415

    assert task_types
    started = time.monotonic()
    kind, job = TextClassification(), read_job(folder)
    recipe = complete(kind.recipe_schema, job.recipe)
    chosen = device.choose(threads=job.threads, precision=str(recipe["precision"]))
    kind.create(job.start, job.labels, folder / "start", seed=job.seed)
    learner = kind.open(folder / "start")
    rows = Prepared.of(learner, read_rows(job.train))
    loop = Loop(
        _without_checkpoints(job), recipe, learner, chosen, rows, None, Progress(None), Stop()
    )
    loop.train()
    learner.save(folder / "output")
    return {"seconds": time.monotonic() - started}


def _without_checkpoints(job: Any) -> Any:
    from dataclasses import replace  # noqa: PLC0415  # the arm's own

    return replace(job, checkpoint_every_seconds=float("inf"))


# -- memory


def memory(scratch: Path, quick: bool) -> Rows:
    """Measure the peak memory of runs on more and more rows."""
    sizes = (1_000, 10_000) if quick else (10_000, 100_000, 1_000_000)
    rows: Rows = []
    for name, kind in KINDS.items():
        smallest = 0.0
        for n in sizes:
            if name == "image" and n > 100_000:
                continue
            path = write_rows(scratch / f"{name}-{n}.parquet", kind.rows(n))
            result = finished(lay_out(scratch / f"{name}-{n}", kind, path, recipe=LEAN[name]))
            peak = result["peak_memory_bytes"] / 2**20
            smallest = smallest or peak
            row = {
                "rows of": name,
                "n": n,
                "peak (MiB)": peak,
                "over the smallest": peak / smallest,
                "bytes a row": (peak - smallest) * 2**20 / max(1, n - sizes[0]),
                "seconds": result["seconds"],
            }
            if name == "text":
                held = _alone("held", path)["peak"] / 2**20
                row |= {"rows held (MiB)": held, "over ours": held / peak}
                row["kept"] = peak <= FLAT * smallest
            rows.append(row)
            path.unlink()
    return rows


LEAN: Final[Mapping[str, Mapping[str, Any]]] = {
    "text": {"token_budget": 8192},
    "image": {"batch_size": 512},
    "table": {"rounds": 20},
}


def held(path: Path) -> dict[str, float]:
    """Read and tokenise rows as a usual script does, training nothing; return its peak memory."""
    import pyarrow.parquet as pq  # noqa: PLC0415  # the arm's own stack
    from transformers import AutoTokenizer  # noqa: PLC0415

    from bench.runs_support import text_base  # noqa: PLC0415

    with tempfile.TemporaryDirectory() as place:
        tokenizer = AutoTokenizer.from_pretrained(text_base(Path(place)))
    rows = pq.ParquetFile(path).read().to_pylist()
    words = [json.loads(row["inputs"])["text"] for row in rows]
    coded = tokenizer(words, truncation=True, max_length=256)["input_ids"]
    examples = [
        {"input_ids": ids, "labels": row["label"]} for ids, row in zip(coded, rows, strict=True)
    ]
    assert examples
    return {"peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024.0}


# -- one record, twice


def repeat(scratch: Path, quick: bool) -> Rows:
    """Have a service train one record twice, and a second model from the same rows and seed."""
    from bench.drill import LABELS, RUN_SECONDS, pictures, running  # noqa: PLC0415  # a service
    from upkeep import Upkeep  # noqa: PLC0415

    recipe = {"epochs": 4, "batch_size": 32, "precision": "fp32"}
    policy = {"retrain": {"recipe": recipe, "cool_down_seconds": 0.0}, "triggers": {}, "gates": {}}
    examples = pictures(80 if quick else 240, seed=0)
    found = []
    scratch.chmod(0o711)  # ours: the embedded servers' lesser user must pass through
    with running(scratch, 8610) as service, Upkeep(service.url, actor="bench") as client:
        for name in ("first", "second"):
            model = client.create_model(
                name,
                task_type="image-classification",
                base_model="preset:resnet-tiny-gray",
                labels=LABELS,
                policy=policy,
            )
            model.upload("training", examples)
            path = f"/v1/models/{name}/retrain"
            run = client.transport.post(path, {"reason": "a record", "seed": 11})
            found.append(model.wait_for_run(run["id"], timeout_seconds=RUN_SECONDS))
            again = client.transport.post(path, {"reason": "again", "repeat_of": run["id"]})
            found.append(model.wait_for_run(again["id"], timeout_seconds=RUN_SECONDS))
    names = ("first", "first, repeated", "second", "second, repeated")
    rows = [
        {
            "run": name,
            "state": run["state"],
            "snapshot": run["snapshot_sha256"][:12],
            "weights": digest(run["result"])[:12],
            "final loss": run["result"]["final_loss"],
        }
        for name, run in zip(names, found, strict=True)
    ]
    same = all(
        {**row, "run": ""} == {**rows[0], "run": ""} and row["state"] == "succeeded" for row in rows
    )
    return [{**row, "kept": same} for row in rows]


# -- bad data


def bad(scratch: Path, quick: bool) -> Rows:
    """Give each task type rows that cannot teach, and see what it says and how soon."""
    rows: Rows = []
    for name, kind in KINDS.items():
        for fault, spoil in {**FAULTS, **OWN_FAULTS.get(name, {})}.items():
            if quick and fault not in {"empty", "one class"}:
                continue
            path = scratch / f"{name}-{fault.replace(' ', '-')}.parquet"
            write_rows(path, spoil([*kind.rows(120)], kind))
            rows.append(_answer(lay_out(path.with_suffix(""), kind, path), name, fault))
    return rows


def _answer(folder: Path, name: str, fault: str) -> dict[str, Any]:
    process = start(folder)
    try:
        process.child.wait(HUNG_SECONDS)
        hung = False
    except subprocess.TimeoutExpired:
        process.child.signal(signal.SIGKILL)
        hung = True
    process.end()
    error, result = read_json(folder / "error.json"), read_json(folder / "result.json")
    is_typed = isinstance(error, dict) and process.child.returncode == 1
    is_trained = isinstance(result, dict) and process.child.returncode == 0
    said = error["detail"] if is_typed else _cleaning(result) if is_trained else "CRASHED"
    return {
        "rows of": name,
        "fault": fault,
        "answer": error["type"] if is_typed else "trained" if is_trained else "crash",
        "said": str(said)[:160].replace("\n", " ").replace("|", "/"),
        "seconds": time.monotonic() - process.started,
        "kept": (is_typed or is_trained) and not hung,
    }


def _cleaning(result: Mapping[str, Any]) -> str:
    found = {"repeated_ids": result.get("repeated_ids"), **(result.get("cleaning") or {})}
    return json.dumps({name: value for name, value in found.items() if value})


Spoil = Callable[[list[Row], Kind], list[Row]]
FAULTS: Final[Mapping[str, Spoil]] = {
    "empty": lambda rows, _: [],
    "one class": lambda rows, kind: [row for row in rows if row[2] == kind.labels[0]],
    "unseen labels": lambda rows, _: [*rows[:-3], *((i, given, "?") for i, given, _ in rows[-3:])],
    "all missing": lambda rows, _: [(i, dict.fromkeys(given), label) for i, given, label in rows],
    "no fields": lambda rows, _: [(i, {}, label) for i, _, label in rows],
    "NaN everywhere": lambda rows, _: [
        (i, dict.fromkeys(given, float("nan")), label) for i, given, label in rows
    ],
    "repeated ids": lambda rows, _: [("same", given, label) for _, given, label in rows],
}


def _with_first(rows: list[Row], **inputs: Any) -> list[Row]:
    (name, given, label), *rest = rows
    return [(name, {**given, **inputs}, label), *rest]


def _with_torn_picture(rows: list[Row], _: Kind) -> list[Row]:
    return _with_first(rows, image=rows[0][1]["image"][:40])


OWN_FAULTS: Final[Mapping[str, Mapping[str, Spoil]]] = {
    "text": {
        "10 MB of text in a row": lambda rows, _: _with_first(rows, text="word7 " * 1_700_000),
        "10 MB without a space": lambda rows, _: _with_first(rows, text="x" * 10_000_000),
        "empty text": lambda rows, _: _with_first(rows, text=""),
    },
    "image": {"truncated PNG": _with_torn_picture},
    "table": {
        "one column missing": lambda rows, _: [
            (i, {name: v for name, v in given.items() if name != "age"}, label)
            for i, given, label in rows
        ],
        "NaN in a row": lambda rows, _: _with_first(rows, age=float("nan")),
        "infinity in a row": lambda rows, _: _with_first(rows, age=float("inf")),
        "a text for a number": lambda rows, _: _with_first(rows, age="old"),
    },
}


# -- the rest

SECTIONS: Final[Mapping[str, Callable[[Path, bool], Rows]]] = {
    "writer": writer,
    "runs": runs,
    "overhead": overhead,
    "memory": memory,
    "repeat": repeat,
    "bad": bad,
}
ARMS: Final[Mapping[str, Callable[[Path], dict[str, float]]]] = {"bare": bare, "held": held}


def _alone(arm: str, path: Path) -> dict[str, Any]:
    """Run an arm in a process of its own."""
    answer = subprocess.run(
        [sys.executable, "-m", "bench.runs", "--arm", arm, str(path)],
        check=True,
        stdout=subprocess.PIPE,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"},
    )
    found: dict[str, Any] = json.loads(answer.stdout.splitlines()[-1])
    return found


def main() -> int:
    """Run the sections asked for; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("sections", nargs="*", choices=[*SECTIONS, []], default=[])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--arm", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.arm:
        print(json.dumps(ARMS[options.arm[0]](Path(options.arm[1]))))
        return 0
    os.environ["OMP_NUM_THREADS"] = "1"
    is_kept = True
    for section in options.sections or SECTIONS:
        with tempfile.TemporaryDirectory() as scratch:
            rows = SECTIONS[section](Path(scratch), options.quick)
        if not options.quick:
            (RESULTS / f"runs_{section}.json").write_text(json.dumps(rows, indent=1) + "\n")
        print(f"\n{section}\n\n{show(rows)}", flush=True)
        ours = [row for row in rows if row.get("writer", "ours") == "ours"]
        is_kept &= all(row.get("kept", True) for row in ours)
    return 0 if is_kept else 1


if __name__ == "__main__":
    sys.exit(main())

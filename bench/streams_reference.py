"""How well could the drifting streams be served at best, and by retraining before every slice?

Two columns to read the service's own result (`bench/streams.py`) against, both by one cheap recipe
on cached embeddings: a linear probe (multinomial logistic regression, its regularisation by
cross-validation) on what the last linear layer of the model sees. The encoder never moves: for
text it is the base model as registered, for pictures that of a first champion trained on slice 0
with the task type's default recipe; for columns it is their values: numbers in scale, each category
a place of its own.

- every slice: the probe is refitted before each slice, on all rows so far.
- oracle: half of the slice itself is added to the training rows and the other half is scored, in
  two folds; the better of the slice alone and the slice with all history. A ceiling for this
  recipe and no policy; a recipe that moves the encoder may pass it.
- frozen: the probe on slice 0 alone, never refitted.

    python bench/streams_reference.py --data FOLDER [--streams ...] [--cache FOLDER]

The folder of the streams may also be named by UPKEEP_DATA. Writes
bench/results/streams_reference.json, one entry a stream; embeddings are kept in --cache.
"""

import argparse
import importlib
import json
import os
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from streams import STREAMS, Stream, read_stream  # noqa: E402  # the file beside this one

from app.domain.holdout import held_out  # noqa: E402
from workers.task_types import task_types  # noqa: E402
from workers.training.probe import fit  # noqa: E402
from workers.training.supervise import run_process  # noqa: E402
from workers.training.task_type import HasColumns  # noqa: E402

RESULT = HERE / "results" / "streams_reference.json"
SEED = 0
HOLDOUT_SHARE = 0.25  # of slice 0, kept out of the first champion's training as the service does
RECIPE = (
    "linear probe (multinomial logistic regression, L-BFGS, regularisation by 3-fold"
    " cross-validation) on frozen features, the input of the model's last linear layer;"
    " text: the base encoder as registered; pictures: the encoder of a first champion trained on"
    " slice 0 by the default recipe; columns: their values, numbers in scale, each category a place"
    " of its own. every_slice: refitted before each slice on all rows so far."
    " oracle: half of the slice added, the other half scored, two folds; the better of slice alone"
    " and slice with history."
)


@dataclass(frozen=True)
class Table:
    """A stream as the probe sees it: features (n, d), class indices (n,), slice numbers (n,)."""

    features: NDArray[np.float32]
    truth: NDArray[np.int64]
    slices: NDArray[np.int64]

    @property
    def n_classes(self) -> int:
        """Return how many classes there are."""
        return int(self.truth.max()) + 1

    def rows(self, number: int) -> NDArray[np.int64]:
        """Return the rows of one slice, in order."""
        return np.flatnonzero(self.slices == number)

    def correct(self, train: NDArray[np.int64], test: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Fit a probe on some rows; say which others it gets right."""
        probe = fit(self.features[train], self.truth[train], self.n_classes, seed=SEED)
        said = probe.scores(self.features[test]).argmax(axis=1)
        return np.asarray(said == self.truth[test])


def first_champion(stream: Stream, folder: Path) -> Path:
    """Train the first champion as the service would, on slice 0 less the holdout."""
    inputs, labels = zip(*stream.slices[0], strict=True)
    kept = ~held_out(labels, share=HOLDOUT_SHARE)
    chosen = np.flatnonzero(kept).tolist()
    rows = {
        "id": [str(index) for index in chosen],
        "inputs": [json.dumps(inputs[index], sort_keys=True) for index in chosen],
        "label": [labels[index] for index in chosen],
    }
    pq.write_table(pa.table(rows), folder / "train.parquet")
    job = {
        "run_id": "reference",
        "task_type": stream.task_type,
        "start": stream.base_model,
        "start_is_base": True,
        "labels": stream.labels,
        "train": str(folder / "train.parquet"),
        "validation": None,
        "recipe": {},
        "seed": SEED,
        "threads": 1,
        "output": str(folder / "version"),
    }
    (folder / "job.json").write_text(json.dumps(job))
    environment = {"PYTHONPATH": str(HERE.parent)}
    outcome = run_process(
        folder, on_progress=lambda _: None, should_stop=lambda: None, environment=environment
    )
    if outcome.kind != "succeeded":
        raise SystemExit(f"the first champion could not be trained: {outcome.error}")
    return folder / "version"


def embedded(stream: Stream, cache: Path) -> Table:
    """Return a stream's features, from the cache when they are there."""
    path = cache / f"{stream.name}.npz"
    if not path.exists():
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            importlib.import_module(f"workers.task_types.{stream.task_type.replace('-', '_')}")
            task = task_types.get(stream.task_type)
            inputs = [shown for rows in stream.slices for shown, _ in rows]
            if stream.task_type == "image-classification":
                version = first_champion(stream, folder)
            else:
                version = folder / "base"
                task.create(
                    stream.base_model,
                    stream.labels,
                    version,
                    seed=SEED,
                    input_contract=(stream.contract or {}).get("fields"),
                )
            if isinstance(task, HasColumns):
                task.fit_columns(version, inputs)
            features = task.load(version).features(inputs)
        cache.mkdir(parents=True, exist_ok=True)
        np.savez(path, features=features)
    index = {label: position for position, label in enumerate(stream.labels)}
    truth = [index[label] for rows in stream.slices for _, label in rows]
    numbers = [number for number, rows in enumerate(stream.slices) for _ in rows]
    return Table(np.load(path)["features"], np.asarray(truth), np.asarray(numbers))


def ceiling(table: Table, number: int, history: NDArray[np.int64]) -> float:
    """Return the oracle's accuracy on a slice."""
    halves = np.array_split(np.random.default_rng(number).permutation(table.rows(number)), 2)
    found = []
    for known in (history[:0], history):
        parts = [
            table.correct(np.concatenate([known, halves[fold]]), halves[1 - fold])
            for fold in (0, 1)
        ]
        found.append(float(np.concatenate(parts).mean()))
    return max(found)


def measure(name: str, table: Table) -> dict[str, Any]:
    """Return the columns of one stream."""
    started = time.process_time()
    numbers = range(1, int(table.slices.max()) + 1)
    first = table.rows(0)
    first = first[~held_out([str(v) for v in table.truth[first]], share=HOLDOUT_SHARE)]
    later = np.flatnonzero(table.slices > 0)
    right = table.correct(first, later)
    columns: dict[str, list[float]] = {"frozen": [], "every_slice": [], "oracle": []}
    for number in numbers:
        history = np.flatnonzero(table.slices < number)
        rows = table.rows(number)
        columns["frozen"].append(float(right[table.slices[later] == number].mean()))
        columns["every_slice"].append(float(table.correct(history, rows).mean()))
        columns["oracle"].append(ceiling(table, number, history))
        shown = " ".join(f"{key} {values[-1]:.3f}" for key, values in columns.items())
        print(f"{name} slice {number}: {len(rows)} rows, {shown}", flush=True)
    low, every, top = (float(np.mean(columns[key])) for key in ("frozen", "every_slice", "oracle"))
    return {
        "n": [len(table.rows(number)) for number in numbers],
        **{key: [round(value, 4) for value in values] for key, values in columns.items()},
        "mean": {
            "frozen": round(low, 4),
            "every_slice": round(every, 4),
            "oracle": round(top, 4),
            "gap_recovered_by_every_slice": round((every - low) / (top - low), 3),
        },
        "n_features": table.features.shape[1],
        "probe_cpu_seconds": round(time.process_time() - started, 1),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=os.environ.get("UPKEEP_DATA"))
    parser.add_argument("--streams", nargs="+", default=STREAMS)
    parser.add_argument("--cache", type=Path, help="where embeddings are kept; else nowhere")
    args = parser.parse_args()
    if args.data is None or not Path(args.data).is_dir():
        print("no data: name the folder of the streams with --data or UPKEEP_DATA")
        return 2
    torch.set_num_threads(1)
    known = json.loads(RESULT.read_text())["streams"] if RESULT.exists() else {}
    with tempfile.TemporaryDirectory() as scratch:
        for name in args.streams:
            stream = read_stream(Path(args.data), name)
            known[name] = measure(name, embedded(stream, args.cache or Path(scratch)))
            RESULT.parent.mkdir(exist_ok=True)
            RESULT.write_text(json.dumps({"recipe": RECIPE, "streams": known}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

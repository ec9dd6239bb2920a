"""Small training runs for the benches: their bases, rows and folders."""

import base64
import io
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from workers.training.files import is_as_described, read_json
from workers.training.starting import Child, ForkServer, started

Row = tuple[str, dict[str, Any], str]
"""Its id, inputs and label."""

GROUP_ROWS: Final = 4096
WORDS: Final = [f"word{n}" for n in range(2000)]
TOPICS: Final = {"sport": WORDS[:200], "weather": WORDS[200:400]}
BERT: Final[Mapping[str, Any]] = {
    "model_type": "bert",
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 256,
}
RESNET: Final[Mapping[str, Any]] = {
    "model_type": "resnet",
    "num_channels": 1,
    "embedding_size": 8,
    "hidden_sizes": [8, 16],
    "depths": [1, 1],
    "layer_type": "basic",
}
FIELDS: Final = [
    {"name": "age", "type": "number"},
    {"name": "plan", "type": "category"},
    {"name": "paid", "type": "boolean"},
    *({"name": f"value{n}", "type": "number"} for n in range(3)),
]


def text_base(directory: Path, **config: Any) -> str:
    """Write a small encoder's configuration and a vocabulary; return its folder."""
    directory.mkdir(parents=True, exist_ok=True)
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    (directory / "vocab.txt").write_text("\n".join(vocabulary))
    settings = {**BERT, "vocab_size": len(vocabulary), **config}
    (directory / "config.json").write_text(json.dumps(settings))
    (directory / "tokenizer_config.json").write_text(
        '{"tokenizer_class": "BertTokenizer", "do_lower_case": true}'
    )
    return str(directory)


def image_base(directory: Path) -> str:
    """Write a small network's configuration; return its folder."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "config.json").write_text(json.dumps(RESNET))
    (directory / "preprocessor_config.json").write_text('{"size": {"height": 8, "width": 8}}')
    return str(directory)


def texts(n: int) -> Iterator[Row]:
    """Yield n texts of 3 to 12 words, of two topics in turn."""
    draw = np.random.default_rng(0)
    for row in range(n):
        label = ("sport", "weather")[row % 2]
        topic = draw.integers(0, 200, 2).tolist()
        others = draw.integers(400, 2000, draw.integers(1, 11)).tolist()
        words = [TOPICS[label][word] for word in topic] + [WORDS[word] for word in others]
        yield f"row-{row}", {"text": " ".join(words)}, label


def pictures(n: int) -> Iterator[Row]:
    """Yield n PNGs of 8 x 8 with a line across or down, in turn."""
    draw = np.random.default_rng(0)
    for row in range(n):
        label, at = ("across", "down")[row % 2], int(draw.integers(1, 7))
        pixels = draw.integers(0, 60, (8, 8), dtype=np.uint8)
        pixels[(at, slice(None)) if label == "across" else (slice(None), at)] = 255
        sink = io.BytesIO()
        Image.fromarray(pixels).save(sink, "PNG")
        yield f"row-{row}", {"image": base64.b64encode(sink.getvalue()).decode()}, label


def tables(n: int) -> Iterator[Row]:
    """Yield n rows of six columns, one of them missing now and then."""
    draw = np.random.default_rng(0)
    for row in range(n):
        label = ("stays", "leaves")[row % 2]
        inputs: dict[str, Any] = {
            "age": float(draw.normal(50 if label == "stays" else 45, 9)),
            "plan": ("old", "new", "trial")[int(draw.integers(row % 2, row % 2 + 2))],
            **{f"value{k}": float(draw.normal()) for k in range(3)},
        }
        if draw.random() < 0.8:
            inputs["paid"] = bool(draw.random() < 0.5)
        yield f"row-{row}", inputs, label


def write_rows(path: Path, rows: Iterable[Row]) -> Path:
    """Write rows as a run's snapshot is written: in row groups, compressed."""
    schema = pa.schema([(name, pa.string()) for name in ("id", "inputs", "label")])
    source = iter(rows)
    with pq.ParquetWriter(path, schema, compression="zstd") as file:
        file.write_table(pa.table({name: [] for name in schema.names}, schema=schema))
        while some := list(islice(source, GROUP_ROWS)):
            ids, inputs, labels = zip(*some, strict=True)
            columns = {"id": ids, "inputs": [json.dumps(one) for one in inputs], "label": labels}
            file.write_table(pa.table(columns, schema=schema))
    return path


@dataclass(frozen=True, slots=True)
class Kind:
    """One task type as the benches train it."""

    task_type: str
    labels: tuple[str, ...]
    rows: Callable[[int], Iterator[Row]]
    base: Callable[[Path], str]
    recipe: Mapping[str, Any]
    more: Mapping[str, Any] = field(default_factory=dict)


KINDS: Final = {
    "text": Kind(
        "text-classification",
        ("sport", "weather"),
        texts,
        text_base,
        {"epochs": 1, "precision": "fp32", "learning_rate": 1e-3},
    ),
    "image": Kind(
        "image-classification",
        ("across", "down"),
        pictures,
        image_base,
        {"epochs": 1, "precision": "fp32"},
    ),
    "table": Kind(
        "tabular-classification",
        ("stays", "leaves"),
        tables,
        lambda _: "preset:boosted-trees",
        {"rounds": 60},
        {"input_contract": FIELDS},
    ),
}


def lay_out(
    directory: Path, kind: Kind, rows: Path, *, recipe: Mapping[str, Any] | None = None, **job: Any
) -> Path:
    """Write a run's folder; return it."""
    directory.mkdir(parents=True)
    order = {
        "run_id": directory.name,
        "task_type": kind.task_type,
        "start": kind.base(directory.with_name(f"{directory.name}-base")),
        "start_is_base": True,
        "labels": list(kind.labels),
        "train": str(rows),
        "validation": None,
        "recipe": {**kind.recipe, **(recipe or {})},
        "seed": 7,
        "threads": 1,
        "output": str(directory / "output"),
        **kind.more,
        **job,
    }
    (directory / "job.json").write_text(json.dumps(order))
    return directory


@dataclass
class Process:
    """A training process that was started, and what it says."""

    directory: Path
    child: Child
    pipe: int
    started: float

    def lines(self) -> list[dict[str, Any]]:
        """Return what it said since the last call, waiting for nothing."""
        said = b""
        try:
            while part := os.read(self.pipe, 1 << 16):
                said += part
        except BlockingIOError:
            pass
        return [json.loads(line) for line in said.splitlines() if line.endswith(b"}")]

    def first_line(self, phase: str | None = None) -> dict[str, Any]:
        """Wait for the first line of a phase, or of all: the process has loaded its libraries."""
        while True:
            for line in self.lines():
                if phase in {None, line["phase"]}:
                    return line
            if self.child.poll() is not None:
                raise RuntimeError(f"{self.directory} ended with {self.child.returncode}")
            time.sleep(0.005)

    def end(self) -> None:
        """Wait for its end, and close the pipe."""
        self.child.wait()
        os.close(self.pipe)


def start(directory: Path, fork_server: ForkServer | None = None) -> Process:
    """Start the training process of a folder: a new interpreter, or a fork of one that waits."""
    now = time.monotonic()
    child, reading = started(directory, None, fork_server)
    os.set_blocking(reading, False)  # the name of os's own argument
    return Process(directory, child, reading, now)


def finished(directory: Path) -> dict[str, Any]:
    """Run a folder's process to its end and return its result.

    Raises:
        RuntimeError: it ended otherwise, or its files are not as it says.
    """
    process = start(directory)
    process.end()
    result = read_json(directory / "result.json")
    if process.child.returncode or not isinstance(result, dict):
        log = (directory / "process.log").read_text()[-2000:]
        said = read_json(directory / "error.json") or log
        raise RuntimeError(f"{directory} ended with {process.child.returncode}: {said}")
    if not is_as_described(Path(result["output"]), result["files"]):
        raise RuntimeError(f"{directory}: the output is not what result.json says")
    return result


def digest(result: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a result's weights."""
    names = ("model.safetensors", "model.txt")
    return next(str(file["sha256"]) for file in result["files"] if file["path"] in names)


def show(rows: list[dict[str, Any]]) -> str:
    """Return rows as a table in Markdown."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    lines = ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    for row in rows:
        cells = [row.get(name, "") for name in names]
        shown = [f"{cell:.4g}" if isinstance(cell, float) else str(cell) for cell in cells]
        lines.append("| " + " | ".join(shown) + " |")
    return "\n".join(lines)

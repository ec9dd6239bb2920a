"""How much of a GPU does a fine-tune use? Beside transformers' Trainer, on the same rows.

    python -m bench.gpu [--rows N] [--quick]

Encoders of the sizes of BERT base and GPT-2 with random weights learn texts of 16 to 254 tokens in
bf16, by the loop's step and by Trainer (its defaults, and batches as large as ours of like length,
bf16). Timed is the second epoch of two. Useful are 6 operations a weight of the layers and a token
that is no padding; attention and embeddings count as none. The peak is a bf16 matrix product, timed
in the same process. The aim is half of it.

Needs a GPU and `pip install -e '.[bench]'`; without a GPU it says so and ends. Writes
bench/results/gpu.json and prints a table. `--quick` takes an eighth of the rows and writes nothing.
"""

import argparse
import gc
import json
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
import transformers as hf
from torch import nn

from workers.task_types.text_classification import TextClassification
from workers.training.data import Rows
from workers.training.device import (
    Device,
    cpu_quota,
    multiplications_per_second,
    now,
    restore,
)
from workers.training.job import Job
from workers.training.loop import Loop
from workers.training.position import Prepared
from workers.training.progress import Progress, Stop
from workers.training.recipes import complete

RESULT: Final = Path(__file__).resolve().parent / "results" / "gpu.json"
AIM: Final = 0.5
LABELS: Final = ("one", "other")
N_WORDS: Final = 20_000
N_ROWS: Final = 16_384
TOKEN_BUDGET: Final = 32_768
"""Of a batch: enough for every product to fill a large GPU."""
PEAK_SHAPE: Final = (8192, 8192, 8192)
PEAK_SECONDS: Final = 2.0
WORDS_OF_A_ROW: Final = (14, 253)
"""Fewest, and one more than most; two tokens stand around them."""
SIZES: Final[Mapping[str, Mapping[str, Any]]] = {
    "BERT base": {
        "model_type": "bert",
        "hidden_size": 768,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "intermediate_size": 3072,
        "max_position_embeddings": 512,
        "vocab_size": 30_522,
    },
    "GPT-2": {
        "model_type": "gpt2",
        "n_embd": 768,
        "n_layer": 12,
        "n_head": 12,
        "n_positions": 1024,
        "vocab_size": 50_257,
        "pad_token_id": 0,
        "bos_token_id": 2,
        "eos_token_id": 3,
    },
}
RIVALS: Final[Mapping[str, Mapping[str, Any]]] = {
    "Trainer": {},
    "Trainer, best": {"train_sampling_strategy": "group_by_length", "bf16": True},
}


@dataclass(frozen=True, slots=True)
class Epoch:
    """What one epoch took.

    Attributes:
        n_tokens: of its rows, padding and what was cut off not counted.
        seconds: by the clock.
        operations_per_token: useful ones.
    """

    n_tokens: int
    seconds: float
    operations_per_token: float

    @property
    def tokens_per_second(self) -> float:
        """Return the speed."""
        return self.n_tokens / self.seconds

    def share_of(self, peak: float) -> float:
        """Return the useful operations a second as a share of a peak."""
        return self.tokens_per_second * self.operations_per_token / peak


class Epochs(Progress):
    """Hears from a run, and remembers when each of its epochs took its last step."""

    def __init__(self, device: str) -> None:
        super().__init__(None)
        self._device = device
        self.ended_at: dict[int, float] = {}

    def say(self, phase: str, *, at_once: bool = False, **fields: Any) -> None:
        """Look at the clock."""
        if phase == "train" and "loss" in fields:
            self.ended_at[int(fields["epoch"])] = now(self._device)
        super().say(phase, at_once=at_once, **fields)


class EpochEnds(hf.TrainerCallback):
    """Remembers when each epoch of a Trainer ended."""

    def __init__(self, device: str) -> None:
        self._device = device
        self.ended_at: list[float] = []

    def on_epoch_end(self, *_: Any, **__: Any) -> None:
        """Look at the clock."""
        self.ended_at.append(now(self._device))


def operations_per_token(model: Any) -> float:
    """Return 6 operations for each weight of a matrix that is no embedding table."""
    tables = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    weights = (p for p in model.parameters() if p.ndim == 2 and id(p) not in tables)
    return 6.0 * sum(weight.numel() for weight in weights)


def write_base(directory: Path, config: Mapping[str, Any]) -> str:
    """Write a size's configuration and a tokenizer of whole words; return the folder."""
    directory.mkdir(parents=True)
    n_words = min(N_WORDS, int(config["vocab_size"]) - 5)
    words = [f"w{number}" for number in range(n_words)]
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]
    (directory / "vocab.txt").write_text("\n".join(vocabulary))
    (directory / "config.json").write_text(json.dumps(config))
    (directory / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer"}')
    return str(directory)


def texts(n: int, *, n_words: int, words_of_a_row: tuple[int, int] = WORDS_OF_A_ROW) -> Rows:
    """Return n texts of random words, of two labels in turn."""
    draw = np.random.default_rng(0)
    lengths = draw.integers(*words_of_a_row, n)
    inputs = [
        {"text": " ".join(f"w{number}" for number in draw.integers(0, n_words, length))}
        for length in lengths.tolist()
    ]
    return Rows([str(row) for row in range(n)], inputs, [LABELS[row % 2] for row in range(n)])


def ours(base: str, rows: Rows, device: Device, *, token_budget: int = TOKEN_BUDGET) -> Epoch:
    """Train as a run does, all weights; return what its second epoch took."""
    restore(device)
    kind = TextClassification()
    recipe = complete(
        kind.recipe_schema,
        {"epochs": 2, "head": "random", "trainable_layers": None, "token_budget": token_budget},
    )
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch)
        kind.create(base, LABELS, directory / "base", seed=0)
        learner = kind.open(directory / "base")
        job = Job(
            directory=directory, run_id="bench", task_type=kind.name, start=base, labels=LABELS,
            start_is_base=True, train=directory, validation=None, recipe=recipe, seed=0,
            output=directory / "output", checkpoint_every_seconds=float("inf"),
        )  # fmt: skip
        prepared, heard = Prepared.of(learner, rows), Epochs(device.name)
        Loop(job, recipe, learner, device, prepared, None, heard, Stop()).train()
        seconds = heard.ended_at[1] - heard.ended_at[0]
        n_tokens = int(prepared.examples.lengths.sum())
        return Epoch(n_tokens, seconds, operations_per_token(learner.model))


def rival(base: str, rows: Rows, device: Device, settings: Mapping[str, Any]) -> Epoch:
    """Train by Trainer with dynamic padding; return what its second epoch took."""
    torch.set_deterministic_debug_mode("default")
    torch.set_num_threads(device.threads)
    hf.set_seed(0)
    tokenizer = hf.AutoTokenizer.from_pretrained(base)
    model = hf.AutoModelForSequenceClassification.from_config(
        hf.AutoConfig.from_pretrained(base, num_labels=len(LABELS))
    )
    given = [str(row["text"]) for row in rows.inputs]
    ids = tokenizer(given, truncation=True, max_length=256)["input_ids"]
    coded = [
        {"input_ids": own, "labels": LABELS.index(label)}
        for own, label in zip(ids, rows.labels, strict=True)
    ]
    ends = EpochEnds(device.name)
    with tempfile.TemporaryDirectory() as scratch:
        arguments = hf.TrainingArguments(
            scratch,
            num_train_epochs=2,
            report_to="none",
            save_strategy="no",
            logging_strategy="no",
            use_cpu=device.name == "cpu",
            disable_tqdm=True,
            **settings,
        )
        padded = hf.DataCollatorWithPadding(tokenizer)
        trainer = hf.Trainer(
            model, arguments, train_dataset=coded, data_collator=padded, callbacks=[ends]
        )
        trainer.train()
    seconds = ends.ended_at[1] - ends.ended_at[0]
    return Epoch(sum(map(len, ids)), seconds, operations_per_token(model))


def measured(
    name: str,
    rows: Rows,
    device: Device,
    peak: float,
    *,
    config: Mapping[str, Any],
    token_budget: int = TOKEN_BUDGET,
    rivals: Mapping[str, Mapping[str, Any]] = RIVALS,
) -> list[dict[str, Any]]:
    """Measure each arm on one size of model.

    Args:
        name: of the size.
        rows: to learn from.
        device: to compute on.
        peak: operations a second.
        config: of the model.
        token_budget: of a batch of ours; the best Trainer's batches have as many tokens.
        rivals: settings of Trainer, by name.
    """
    with tempfile.TemporaryDirectory() as scratch:
        base = write_base(Path(scratch) / "base", config)
        n_in_batch = max(1, token_budget // _mean_words(rows))
        arms: dict[str, Callable[[], Epoch]] = {
            "ours": lambda: ours(base, rows, device, token_budget=token_budget)
        }
        for rival_name, settings in rivals.items():
            large = {"per_device_train_batch_size": n_in_batch} if settings else {}
            arms[rival_name] = lambda s={**large, **settings}: rival(base, rows, device, s)
        found = []
        for arm, work in arms.items():
            epoch = work()
            release(device.name)
            figures = {
                "tokens_per_second": epoch.tokens_per_second,
                "utilisation": epoch.share_of(peak),
            }
            found.append({"model": name, "arm": arm, **figures, "peak_tflops": peak / 1e12})
    for row in found:
        row["over_trainer"] = row["tokens_per_second"] / found[-1]["tokens_per_second"]
    return found


def _mean_words(rows: Rows) -> int:
    return int(np.mean([len(str(row["text"]).split()) for row in rows.inputs])) + 2


def release(device: str) -> None:
    """Give back what an arm has left behind."""
    gc.collect()
    if device == "cuda":
        torch.cuda.empty_cache()


def main() -> None:
    """Measure both sizes on the GPU, if there is one."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rows", type=int, default=N_ROWS)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        print("there is no GPU here, so nothing was measured")
        return
    device = Device("cuda", cpu_quota(), "bf16")
    peak = multiplications_per_second(
        device.name, torch.bfloat16, shape=PEAK_SHAPE, seconds=PEAK_SECONDS
    )
    print(f"{torch.cuda.get_device_name()}: {peak / 1e12:.0f} TFLOP/s of bf16 matrix products")
    rows = texts(options.rows // 8 if options.quick else options.rows, n_words=N_WORDS)
    found = [
        row
        for name, config in SIZES.items()
        for row in measured(name, rows, device, peak, config=config)
    ]
    if not options.quick:
        RESULT.write_text(json.dumps(found, indent=1) + "\n")
    print("| model | arm | tokens a second | share of the peak | times the best Trainer |")
    print("|---|---|---|---|---|")
    for row in found:
        figures = (row["tokens_per_second"], row["utilisation"], row["over_trainer"])
        print(
            f"| {row['model']} | {row['arm']} | " + " | ".join(f"{f:.3g}" for f in figures) + " |"
        )
    own = [row["utilisation"] for row in found if row["arm"] == "ours"]
    print(f"aim, {AIM:.0%} of the peak: " + ("reached" if min(own) >= AIM else "missed"))


if __name__ == "__main__":
    main()

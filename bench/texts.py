"""Are spans and language models kept good on real titles, end to end, over REST alone?

Plays arxiv_titles, in the order of their days, against a service that it starts:

- `formulas`: token classification; the LaTeX of titles is to be marked. All titles that have any,
  and as many that have none; MiniLM is the base.
- `titles`: a language model goes on with titles; the first third of the words is the prompt. GPT-2
  in small (four layers of 128), with nothing learned, and a tokenizer of the first slice's titles.

A first version is trained on the first part; those after are answered with `Champion`, logged, and
labelled as the next one opens; the service checks, retrains by its policy, judges and promotes. By
part: what `Champion`'s version and the first one are worth (F1 of exact spans; perplexity of the
labels by plain transformers, each read from its files). Then a control: a run over shuffled labels
alone, judged on a holdout, which must be refused.

    python -m bench.texts [formulas titles] --data FOLDER

Prints tables and writes results/texts.json; exits 1 where nothing was promoted or a control was.
"""

import argparse
import json
import math
import os
import re
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from bench.streams import RESULTS, encoder_directory, service
from upkeep import Model, Upkeep
from upkeep.champion import Champion

LATEX = re.compile(r"\$[^$]+\$|\\[A-Za-z]+(?:\{[^{}]*\})*|\w*[_^](?:\{[^{}]*\}|\w+)")
N_TOKENS = 4000
N_EACH = 600
"""Titles of a slice after the first that the language model is shown."""
WAIT_SECONDS = 1800.0
Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Play:
    """A model to register, and the parts of its stream; the first is what it begins with."""

    name: str
    task_type: str
    base_model: str
    parts: list[Rows]
    holdout: Rows
    labels: list[str] | None = None
    recipe: dict[str, Any] = field(default_factory=dict)
    policy: dict[str, Any] = field(default_factory=dict)


def formulas(titles: Sequence[Sequence[str]], folder: Path) -> Play:
    """Return the play of LaTeX in titles."""
    draw = np.random.default_rng(0)
    parts: list[Rows] = []
    for texts in titles:
        marked = [(text, _marked(text)) for text in texts]
        with_some = [one for one in marked if one[1]]
        without = [one for one in marked if not one[1]]
        chosen = [
            *with_some,
            *(without[k] for k in draw.permutation(len(without))[: len(with_some)]),
        ]
        parts.append([_row(*chosen[k]) for k in draw.permutation(len(chosen))])
    first = [row for part in parts[:6] for row in part]
    # Few rows: two thirds more are worth a retrain before any harm is proved.
    triggers = {"drift": {}, "performance": {}, "growth": {"share": 0.5}}
    policy = {
        "triggers": triggers,
        "check": {"minimum_rows": 30},
        "performance": {"minimum_labels": 30},
        "retrain": {"cool_down_seconds": 0.0, "recipe": {"epochs": 8}},
    }
    return Play(
        "formulas",
        "token-classification",
        encoder_directory(),
        [first[: -len(first) // 5], *parts[6:]],
        first[-len(first) // 5 :],
        labels=["latex"],
        recipe={"epochs": 8},
        policy=policy,
    )


def _marked(text: str) -> Rows:
    return [{"start": m.start(), "end": m.end(), "label": "latex"} for m in LATEX.finditer(text)]


def _row(text: str, label: Any) -> dict[str, Any]:
    return {"inputs": {"text": text}, "label": label}


def titles_go_on(titles: Sequence[Sequence[str]], folder: Path) -> Play:
    """Return the play of titles that go on."""
    draw = np.random.default_rng(0)
    parts = []
    for texts in titles:
        chosen = [texts[k] for k in draw.permutation(len(texts))[: N_EACH if parts else None]]
        parts.append([_row(*_cut(text)) for text in chosen if len(text.split()) >= 4])
    triggers = {"drift": {}, "performance": {}, "growth": {"share": 0.4}}
    recipe = {"epochs": 6, "learning_rate": 1e-3, "dropout": 0.1}
    policy = {
        "triggers": triggers,
        "retrain": {
            "cool_down_seconds": 0.0,
            "minimum_growth_share": 0.2,
            "recipe": {**recipe, "epochs": 4},
        },
    }
    base = _language_base(folder / "language-base", titles[0])
    cut = len(parts[0]) * 4 // 5
    return Play(
        "titles",
        "text-generation",
        str(base),
        [parts[0][:cut], *parts[1:4]],
        parts[0][cut:],
        recipe={**recipe, "epochs": 8},
        policy=policy,
    )


def _cut(text: str) -> tuple[str, str]:
    words = text.split()
    n = max(1, len(words) // 3)
    return " ".join(words[:n]), " " + " ".join(words[n:])


def _language_base(directory: Path, texts: Sequence[str]) -> Path:
    """Write GPT-2 in small with a byte-level BPE tokenizer (Sennrich et al., 2016) of texts."""
    directory.mkdir()
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=N_TOKENS, special_tokens=["<|end|>"], initial_alphabet=alphabet
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.save(str(directory / "tokenizer.json"))
    names = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|end|>"}
    (directory / "tokenizer_config.json").write_text(json.dumps(names))
    config = transformers.GPT2Config(
        vocab_size=tokenizer.get_vocab_size(),
        n_embd=128,
        n_layer=4,
        n_head=4,
        n_positions=128,
        bos_token_id=0,
        eos_token_id=0,
    )
    (directory / "config.json").write_text(config.to_json_string())
    return directory


def read_titles(folder: Path) -> list[list[str]]:
    """Return the titles of each slice, in their order."""
    table = pq.read_table(folder / "arxiv_titles.parquet", columns=["text", "slice"]).to_pydict()
    found: list[list[str]] = [[] for _ in range(max(table["slice"]) + 1)]
    for text, part in zip(table["text"], table["slice"], strict=True):
        found[part].append(" ".join(text.split()))
    return found


def played(client: Upkeep, play: Play, folder: Path) -> dict[str, Any]:
    """Play a stream to its end, then the control."""
    model = client.create_model(
        f"{play.name}-{int(time.time())}",
        task_type=play.task_type,
        base_model=play.base_model,
        labels=play.labels or (),
        objective={"margin": 0.02},
        policy=play.policy,
    )
    model.upload("training", play.parts[0])
    model.upload("holdout", play.holdout)
    run = model.retrain("the first champion", recipe=play.recipe, wait=True)
    if run["outcome"] != "promoted":
        raise SystemExit(f"{play.name}: the first run ended {run['state']} {run['outcome']}")
    said: Rows = []
    with Champion(model, folder / "cache", refresh_seconds=WAIT_SECONDS) as champion:
        for k, rows in enumerate(play.parts[1:], 1):
            champion.refresh()
            answers = champion.answer([row["inputs"] for row in rows])
            model.wait_until_settled(WAIT_SECONDS)
            worth = {n: _worth(client, model, n, rows, folder) for n in {1, champion.version}}
            said.append(
                {
                    "part": k,
                    "n": len(rows),
                    "version": champion.version,
                    "maintained": worth[champion.version],
                    "frozen": worth[1],
                }
            )
            model.labels({a.id: row["label"] for a, row in zip(answers, rows, strict=True)})
            model.wait_until_settled(WAIT_SECONDS)
            print(f"{play.name}: {said[-1]}", flush=True)
    runs = list(model.runs())[:-1]
    decisions = [one for one in list(model.decisions())[::-1] if one["outcome"] == "retrain"][1:]
    findings = [one["finding"] for one in model.reports()][::-1]
    model.upload("training", _shuffled([row for part in play.parts for row in part]))
    control = model.retrain(
        "a control: shuffled labels alone",
        recipe=play.recipe,
        selection={"by": "new"},
        wait=True,
    )
    verdicts = model.version(control["version"])["verdicts"] if control["version"] else []
    return {
        "play": play.name,
        "metric": _METRIC[play.name],
        "parts": said,
        "n_training": len(play.parts[0]),
        "findings": findings,
        "retrains_started": len(runs),
        "retrains_promoted": sum(one["outcome"] == "promoted" for one in runs),
        "retrains_because": [one["reason"] for one in decisions],
        "training_seconds": [round(one["result"]["seconds"], 1) for one in runs if one["result"]],
        "control": control["outcome"],
        "control_failed": [one["gate"] for one in verdicts if not one["passed"]],
    }


_METRIC = {"formulas": "F1 of exact spans", "titles": "perplexity"}


def _shuffled(rows: Rows) -> Rows:
    """Return rows with the labels of others; spans that do not fit the text are left out.

    Of texts the words of each are shuffled too: the end of another title is that of a title still,
    and teaches a model that has hardly begun.
    """
    draw = np.random.default_rng(1)
    order = draw.permutation(len(rows)).tolist()
    found = []
    for row, other in zip(rows, order, strict=True):
        label = rows[other]["label"]
        if isinstance(label, list):
            label = [one for one in label if one["end"] <= len(row["inputs"]["text"])]
        else:
            label = " ".join(draw.permutation(label.split()).tolist())
        found.append({"inputs": row["inputs"], "label": label})
    return found


def _files(client: Upkeep, model: Model, number: int, folder: Path) -> Path:
    place = folder / model.name / str(number)
    if not place.exists():
        place.mkdir(parents=True)
        for file in model.version(number)["files"]:
            content = client.transport.send("GET", file["url"]).content
            (place / file["path"]).write_bytes(content)
    return place


def _worth(client: Upkeep, model: Model, number: int, rows: Rows, folder: Path) -> float:
    """Return what a version is worth on rows, read and asked by plain transformers."""
    place = _files(client, model, number, folder)
    is_spans = isinstance(rows[0]["label"], list)
    return _f1(place, rows) if is_spans else _perplexity(place, rows)


def _f1(place: Path, rows: Rows) -> float:
    find = transformers.pipeline(
        "token-classification",
        model=transformers.AutoModelForTokenClassification.from_pretrained(place).eval(),
        tokenizer=transformers.AutoTokenizer.from_pretrained(place),
        aggregation_strategy="simple",
    )
    n_right = n_said = n_true = 0
    for found, row in zip(find([row["inputs"]["text"] for row in rows]), rows, strict=True):
        said = {(one["start"], one["end"]) for one in found}
        true = {(one["start"], one["end"]) for one in row["label"]}
        n_right, n_said, n_true = n_right + len(said & true), n_said + len(said), n_true + len(true)
    return 2 * n_right / (n_said + n_true) if n_said + n_true else 1.0


def _perplexity(place: Path, rows: Rows) -> float:
    model = transformers.AutoModelForCausalLM.from_pretrained(place).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(place)
    end, total, n = tokenizer.eos_token_id, 0.0, 0
    for row in rows:
        before = [end, *tokenizer(row["inputs"]["text"])["input_ids"]]
        after = [*tokenizer(row["label"])["input_ids"], end]
        ids = torch.tensor([before + after])
        labels = torch.tensor([[-100] * len(before) + after])
        with torch.inference_mode():
            loss = float(model(ids, labels=labels).loss)
        total, n = total + loss * len(after), n + len(after)
    return math.exp(total / n)


PLAYS = {"formulas": formulas, "titles": titles_go_on}


def table(result: dict[str, Any]) -> Iterator[str]:
    """Yield the lines of a result."""
    yield f"| part | rows | version | frozen | maintained | ({result['play']}: {result['metric']})"
    yield "|---|---|---|---|---|---|"
    for row in result["parts"]:
        yield (
            f"| {row['part']} | {row['n']} | {row['version']} | {row['frozen']:.3f} | "
            f"{row['maintained']:.3f} | |"
        )
    yield (
        f"{result['play']}: {result['retrains_started']} retrains started, "
        f"{result['retrains_promoted']} promoted; the control over shuffled labels: "
        f"{result['control']} by {', '.join(result['control_failed']) or 'nothing'}"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("plays", nargs="*", default=list(PLAYS), metavar="PLAY")
    parser.add_argument("--data", type=Path, default=os.environ.get("UPKEEP_DATA"))
    args = parser.parse_args()
    if args.data is None or not Path(args.data).is_dir():
        print("no data: name the folder of the streams with --data or UPKEEP_DATA")
        return 2
    titles, path = read_titles(Path(args.data)), RESULTS / "texts.json"
    kept = json.loads(path.read_text()) if path.exists() else {}
    with (
        tempfile.TemporaryDirectory() as folder,
        service(None) as url,
        Upkeep(url, timeout_seconds=120) as client,
    ):
        Path(folder).chmod(0o755)
        for name in args.plays:
            play = PLAYS[name](titles, Path(folder))
            kept[name] = played(client, play, Path(folder))
            path.write_text(json.dumps(kept, indent=1) + "\n")
            print("\n".join(table(kept[name])), flush=True)
    good = [one["retrains_promoted"] > 0 and one["control"] == "rejected" for one in kept.values()]
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())

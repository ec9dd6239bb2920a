"""What every registered task type must do."""

import base64
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import jsonschema
import lightgbm
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import transformers
from PIL import Image
from safetensors.torch import load_file
from torch.nn.functional import linear

import workers.task_types
from app.domain.errors import UnsafeArtifact
from app.domain.registry import scan
from app.domain.spans import Reading, Span, written
from tests.language import writer_base
from workers.task_types import task_types
from workers.training import checkpoints
from workers.training.baseline import linear_baseline, probe_baseline
from workers.training.data import Rows
from workers.training.errors import RecipeError
from workers.training.files import describe, write_json
from workers.training.job import Job, read_job
from workers.training.progress import Preempted, Progress, Stop
from workers.training.recipes import complete
from workers.training.run import execute
from workers.training.span_metrics import KnownWords, by_label, of_answers
from workers.training.task_type import (
    BringsLearner,
    HasColumns,
    ReadsColumns,
    TaskType,
    answers_of,
)
from workers.training.trainer import BringsTrainer

scan(workers.task_types)
LABELS = ("cold", "warm")
WIDER = ("cold", "mild", "warm")
WORDS = ["snow", "ice", "frost", "sun", "heat", "fire", "the", "a", "is", "it", "so", "very"]


def text_base(directory: Path) -> Path:
    directory.mkdir()
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    (directory / "vocab.txt").write_text("\n".join(vocabulary))
    config = {
        "model_type": "bert",
        "hidden_size": 16,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "initializer_range": 0.2,  # texts must differ in their features, as in a trained encoder
        "max_position_embeddings": 32,
        "vocab_size": len(vocabulary),
    }
    (directory / "config.json").write_text(json.dumps(config))
    (directory / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer"}')
    return directory


def image_base(directory: Path) -> Path:
    directory.mkdir()
    config = {
        "model_type": "vit",
        "num_channels": 3,
        "image_size": 16,
        "patch_size": 8,
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
    }
    (directory / "config.json").write_text(json.dumps(config))
    return directory


def encoded(pixels: np.ndarray) -> str:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def text_inputs(labels: list[str]) -> list[dict[str, Any]]:
    draw = np.random.default_rng(0)
    return [
        {
            "text": " ".join(
                [*draw.choice(WORDS[6:10], draw.integers(1, 9)), *draw.choice(HALVES[k], 2)]
            )
        }
        for k in labels
    ]


def image_inputs(labels: list[str]) -> list[dict[str, Any]]:
    draw = np.random.default_rng(0)
    level = {"cold": 20, "mild": 110, "warm": 200}
    return [
        {"image": encoded((level[k] + draw.integers(0, 50, (9, 13, 3))).astype(np.uint8))}
        for k in labels
    ]


CLIMATES = {"cold": ["tundra", "alpine"], "warm": ["desert", "steppe"], "mild": ["maritime"]}
COLUMNS = [
    {"name": "degrees", "type": "number"},
    {"name": "climate", "type": "category"},
    {"name": "at sea?", "type": "boolean"},
    {"name": "fog", "type": "number"},
]


def table_base(directory: Path) -> Path:
    directory.mkdir()
    (directory / "config.json").write_text(json.dumps({"columns": COLUMNS}))
    return directory


def table_inputs(labels: list[str]) -> list[dict[str, Any]]:
    draw = np.random.default_rng(0)
    mean = {"cold": -5.0, "mild": 8.0, "warm": 20.0}
    rows = []
    for label in labels:
        row = {
            "degrees": float(draw.normal(mean[label], 4.0)),
            "climate": str(draw.choice([*CLIMATES[label], "shore"])),
            "at sea?": bool(draw.random() < 0.5),
            "fog": None if draw.random() < 0.3 else float(draw.random()),
        }
        rows.append({name: value for name, value in row.items() if value is not None})
    return rows


def plain_table_values(directory: Path, inputs: list[dict[str, Any]]) -> np.ndarray:
    columns = json.loads((directory / "config.json").read_text())["columns"]
    rows = []
    for value in inputs:
        row = []
        for column in columns:
            cell = value.get(column["name"])
            if cell is not None and column["type"] == "category":
                known = column["categories"]
                cell = known.index(cell) if cell in known else None
            row.append(np.nan if cell is None else float(cell))
        rows.append(row)
    return lightgbm.Booster(model_file=directory / "model.txt").predict(np.asarray(rows))


def plain_table_scores(directory: Path, inputs: list[dict[str, Any]]) -> np.ndarray:
    said = plain_table_values(directory, inputs)
    return np.stack([1 - said, said], axis=1)


def plain_network_logits(directory: Path, inputs: list[dict[str, Any]]) -> torch.Tensor:
    config = json.loads((directory / "config.json").read_text())
    weights = load_file(directory / "model.safetensors")
    numbers, places, first = [], [], 0
    for column in config["columns"]:
        cells = [value.get(column["name"]) for value in inputs]
        if column["type"] == "number":
            shape = (config["n_bins"], column["center"], column["scale"], column["knots"])
            numbers.append([plain_number(cell, *shape) for cell in cells])
            continue
        known = column["categories"] if column["type"] == "category" else [False, True]
        places.append([first + (known.index(c) + 1 if c in known else 0) for c in cells])
        first += 1 + len(known)
    shown = torch.tensor(numbers, dtype=torch.float32).transpose(0, 1)
    found = torch.einsum("ncf,cfd->ncd", shown, weights["numbers.weight"])
    found = (found + weights["numbers.bias"]).relu().flatten(1)
    hidden = torch.cat([found, weights["categories.weight"][torch.tensor(places).T].flatten(1)], 1)
    for k in range(len(config["hidden_sizes"])):
        hidden = linear(hidden, weights[f"layers.{k}.weight"], weights[f"layers.{k}.bias"]).relu()
    return linear(hidden, weights["head.weight"], weights["head.bias"])


def plain_number(cell: Any, n_bins: int, center: float, scale: float, knots: Any) -> list[float]:
    if cell is None:
        return [0.0] * (n_bins + 1) + [1.0]
    bins = [min(max((cell - a) / (b - a), 0.0), 1.0) for a, b in pairwise(knots)]
    far = min(max((cell - center) / scale, -5.0), 5.0)
    return [far, *bins, *[0.0] * (n_bins - len(bins)), 0.0]


def plain_network_scores(directory: Path, inputs: list[dict[str, Any]]) -> np.ndarray:
    return plain_network_logits(directory, inputs).softmax(dim=1).numpy()


def plain_network_values(directory: Path, inputs: list[dict[str, Any]]) -> np.ndarray:
    target = json.loads((directory / "config.json").read_text())["target"]
    said = plain_network_logits(directory, inputs)[:, 0].double().numpy()
    return target["center"] + target["scale"] * said


def plain_text_scores(directory: Path, inputs: list[dict[str, Any]]) -> np.ndarray:
    tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(directory).eval()
    texts = [value["text"] for value in inputs]
    batch = tokenizer(texts, truncation=True, padding=True, return_tensors="pt")
    with torch.no_grad():
        return model(**batch).logits.softmax(dim=1).numpy()


HALVES = {"cold": WORDS[:3], "warm": WORDS[3:6], "mild": WORDS[10:]}


def marked(text: str) -> Reading:
    """Return the two words at the end of a text as a span of the class they stand for."""
    first = text.rindex(" ", 0, text.rindex(" ")) + 1
    (label,) = (name for name, words in HALVES.items() if text.rsplit(maxsplit=1)[-1] in words)
    return (Span(first, len(text), label),)


def plain_spans(directory: Path, inputs: list[dict[str, Any]]) -> list[Reading]:
    find = transformers.pipeline(
        "token-classification",
        model=transformers.AutoModelForTokenClassification.from_pretrained(directory).eval(),
        tokenizer=transformers.AutoTokenizer.from_pretrained(directory),
        aggregation_strategy="simple",
    )
    return [
        tuple(Span(one["start"], one["end"], one["entity_group"]) for one in find(value["text"]))
        for value in inputs
    ]


def writer(directory: Path) -> Path:
    return writer_base(directory, [*WORDS, *LABELS], initializer_range=0.2)


def plain_texts(directory: Path, inputs: list[dict[str, Any]]) -> list[str]:
    tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
    model = transformers.AutoModelForCausalLM.from_pretrained(directory).eval()
    found = []
    for value in inputs:
        prompt = torch.tensor([[tokenizer.eos_token_id, *tokenizer(value["text"])["input_ids"]]])
        said = model.generate(prompt[:, -model.config.n_positions // 2 :])[0]
        found.append(tokenizer.decode(said[prompt.shape[1] :], skip_special_tokens=True))
    return found


def plain_image_scores(directory: Path, inputs: list[dict[str, Any]]) -> np.ndarray:
    processor = transformers.AutoImageProcessor.from_pretrained(directory)
    model = transformers.AutoModelForImageClassification.from_pretrained(directory).eval()
    files = [io.BytesIO(base64.b64decode(value["image"])) for value in inputs]
    batch = processor([Image.open(file) for file in files], return_tensors="pt")
    with torch.no_grad():
        return model(**batch).logits.softmax(dim=1).numpy()


@dataclass(frozen=True)
class Case:
    """What a task type is tried with.

    Attributes:
        recipe: of a short run; `broken` are those of a run that is stopped again and again, and
            `further` those of runs that start from a version and take no step.
        draws: whether an untrained version holds anything random.
        widened: recipes of runs that start from a version of fewer labels.
        answers: the kind of its answers; inputs of numbers are given as of classes, the halves of
            which have different ones, and of spans, which stand for the classes.
    """

    base: Any
    inputs: Any
    plain_scores: Any
    odd: list[dict[str, Any]]
    missing: list[dict[str, Any]]
    answers: str = "class"
    recipe: dict[str, Any] = field(default_factory=lambda: {"epochs": 2, "precision": "fp32"})
    broken: tuple[dict[str, Any], ...] = ()
    further: tuple[dict[str, Any], ...] = (
        {"head": "probe", "epochs": 0},
        {"head": "keep", "epochs": 0},
    )
    draws: bool = True
    widened: tuple[dict[str, Any], ...] = (
        {"head": "keep", "epochs": 0},
        {"rungs": ["centroid"]},
        {"rungs": ["probe"]},
    )

    @property
    def labels(self) -> tuple[str, ...]:
        """The label set of a model; none where it answers with numbers or texts."""
        return LABELS if self.answers not in {"number", "text"} else ()


CHANCE = {"sampling": "oversample", "mixup": 0.4, "average_share": 0.5, "dropout": 0.1}
DOT = encoded(np.zeros((1, 1), dtype=np.uint8))
CASES: Mapping[str, Case] = {
    "text-classification": Case(
        text_base,
        text_inputs,
        plain_text_scores,
        [{"text": ""}, {"text": "é" * 500}, {"text": "unheard of 12!"}],
        [{"text": None}, {}],
        broken=(
            {"epochs": 5, "head": "probe", "token_budget": 32},
            {"epochs": 5, "head": "random", "token_budget": 32, **CHANCE}
            | {"token_dropout": 0.2, "token_swap": 0.2},
        ),
    ),
    "token-classification": Case(
        text_base,
        text_inputs,
        plain_spans,
        [{"text": ""}, {"text": "é" * 500}, {"text": "unheard of 12!"}],
        [{"text": None}, {}],
        recipe={
            "epochs": 6,
            "learning_rate": 1e-2,
            "head_learning_rate": 1e-2,
            "trainable_layers": None,
            "token_budget": 64,
            "dropout": 0.0,
            "precision": "fp32",
        },
        broken=(
            {"epochs": 2, "head": "probe", "trainable_layers": 1, "dropout": 0.1},
            {"epochs": 2, "head": "random", "dropout": 0.1},
        ),
        widened=({"rungs": ["probe"]},),
        answers="spans",
    ),
    "text-generation": Case(
        writer,
        text_inputs,
        plain_texts,
        [{"text": ""}, {"text": "é " * 500}, {"text": "unheard of 12!"}],
        [{"text": None}, {}],
        recipe={"epochs": 10, "learning_rate": 1e-2, "token_budget": 64, "precision": "fp32"},
        broken=(
            {"epochs": 3, "trainable_layers": 1, "dropout": 0.1, "lora_rank": 2},
            {"epochs": 3, "average_share": 0.5, "dropout": 0.1},
        ),
        further=({"epochs": 0},),
        answers="text",
    ),
    "image-classification": Case(
        image_base,
        image_inputs,
        plain_image_scores,
        [{"image": DOT}, {"image": encoded(np.zeros((3, 40, 4), dtype=np.uint8))}],
        [{"image": None}, {"image": "no picture"}],
        broken=(
            {"epochs": 5, "head": "probe", "batch_size": 6},
            {"epochs": 5, "head": "random", "batch_size": 6, **CHANCE},
        ),
    ),
    "tabular-classification": Case(
        table_base,
        table_inputs,
        plain_table_scores,
        [{"climate": "lunar", "degrees": 1e300}, {"degrees": -1e300}, {"at sea?": True}],
        [{"climate": None}, {}],
        recipe={"rounds": 12},
        broken=(
            {"rounds": 25, "patience": None},
            {"rounds": 25, "row_share": 0.7, "column_share": 0.5, "patience": None},
        ),
        further=({"trees": "continue", "rounds": 0},),
        draws=False,
        widened=({"rounds": 30},),
    ),
    "neural-tabular-classification": Case(
        table_base,
        table_inputs,
        plain_network_scores,
        [{"climate": "lunar", "degrees": 1e300}, {"degrees": -1e300}, {"at sea?": True}],
        [{"climate": None}, {}],
        recipe={"epochs": 20, "batch_size": 6},
        broken=(
            {"epochs": 5, "head": "probe", "batch_size": 6},
            {"epochs": 5, "head": "random", "batch_size": 6, **CHANCE},
        ),
    ),
    "neural-tabular-regression": Case(
        table_base,
        table_inputs,
        plain_network_values,
        [{"climate": "lunar", "degrees": 1e300}, {"degrees": -1e300}, {"at sea?": True}],
        [{"climate": None}, {}],
        recipe={"epochs": 20, "batch_size": 6},
        broken=(
            {"epochs": 5, "batch_size": 6},
            {"epochs": 5, "batch_size": 6, "loss": "absolute", "mixup": 0.4, "average_share": 0.5},
        ),
        further=({"head": "keep", "epochs": 0},),
        answers="number",
    ),
    "tabular-regression": Case(
        table_base,
        table_inputs,
        plain_table_values,
        [{"climate": "lunar", "degrees": 1e300}, {"degrees": -1e300}, {"at sea?": True}],
        [{"climate": None}, {}],
        recipe={"rounds": 12},
        broken=(
            {"rounds": 25, "patience": None},
            {"rounds": 25, "row_share": 0.7, "column_share": 0.5, "loss": "absolute"},
        ),
        further=({"trees": "continue", "rounds": 0},),
        draws=False,
        answers="number",
    ),
}


@pytest.fixture(params=task_types.names())
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def case(name: str) -> Case:
    return CASES[name]


@pytest.fixture
def task_type(name: str) -> TaskType:
    return task_types.get(name)


def rows(case: Case, n: int = 24, known: Sequence[str] = LABELS) -> Rows:
    labels = [known[k % len(known)] for k in range(n)]
    inputs = case.inputs(labels)
    if case.answers == "number":  # about -20 where it is cold, about 20 where it is warm
        labels = [repr(20.0 * (-1) ** (k % 2 == 0) + k / 10) for k in range(n)]
    if case.answers == "spans":
        labels = [written(marked(value["text"])) for value in inputs]
    return Rows([str(k) for k in range(n)], inputs, labels)


def order(
    name: str,
    case: Case,
    directory: Path,
    start: Path | None = None,
    labels: Sequence[str] = LABELS,
    **recipe: Any,
) -> Job:
    given = rows(case, 12 * len(labels), labels)
    directory.mkdir()
    base = start or case.base(directory / "base")
    path = directory / "rows.parquet"
    inputs = [json.dumps(value) for value in given.inputs]
    pq.write_table(pa.table({"id": given.ids, "inputs": inputs, "label": given.labels}), path)
    job = {
        "run_id": "r",
        "task_type": name,
        "start": str(base),
        "start_is_base": start is None,
        "labels": labels if case.labels else (),
        "train": str(path),
        "validation": str(path),
        "recipe": {**case.recipe, **recipe},
        "seed": 3,
        "threads": 1,
        "output": str(directory / "output"),
    }
    write_json(directory / "job.json", job)
    return read_job(directory)


def train(
    name: str,
    case: Case,
    directory: Path,
    start: Path | None = None,
    labels: Sequence[str] = LABELS,
    **recipe: Any,
) -> tuple[Path, dict[str, Any]]:
    job = order(name, case, directory, start, labels, **recipe)
    execute(job, task_types.get(name), Progress(None), Stop())
    return job.output, json.loads((directory / "result.json").read_text())


class StopAfter(Stop):
    """Asks for a stop at the n-th chance."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self._left = n

    def check(self) -> None:
        self._left -= 1
        self.is_requested = self._left < 0
        super().check()


def test_every_task_type_has_a_case_here() -> None:
    assert set(task_types.names()) == set(CASES)


def test_the_recipe_schema_is_valid_and_its_defaults_obey_it(task_type: TaskType) -> None:
    jsonschema.Draft202012Validator.check_schema(task_type.recipe_schema)
    recipe = complete(task_type.recipe_schema, {})
    assert complete(task_type.recipe_schema, recipe) == recipe


def test_a_trained_version_scores_alike_for_a_plain_user(
    name: str, case: Case, task_type: TaskType, tmp_path: Path
) -> None:
    output, _ = train(name, case, tmp_path / "job")
    inputs = [*rows(case).inputs, *case.odd[:1]]
    version = task_type.load(output)
    plain = case.plain_scores(output, inputs)
    assert version.features(inputs).shape[0] == len(inputs)
    if case.answers == "number":
        assert version.values(inputs).dtype == np.float64
        assert np.allclose(version.values(inputs), plain, atol=1e-9)
        assert version.values([]).shape == (0,)
        return
    if case.answers == "spans":
        said = version.tagged(inputs, [marked(value["text"]) for value in inputs[:-1]] + [()])
        assert version.labels == LABELS
        assert [one.spans for one in said] == plain
        assert sum(map(len, plain)) > 12
        assert all(one.n_tokens and 0 < one.confidence <= 1 for one in said[:-1])
        assert version.tagged([]) == []
        return
    if case.answers == "text":
        assert version.write(inputs) == plain
        assert plain[:24] == rows(case).labels
        said = version.said(inputs, plain)
        assert all(one.n_tokens == 2 and one.mean_loss > 0 for one in said[:24])
        assert version.write([]) == version.said([], []) == []
        return
    scores = version.scores(inputs)
    assert version.labels == LABELS
    assert scores.dtype == np.float32
    assert np.allclose(scores.sum(axis=1), 1, atol=1e-5)
    assert np.allclose(scores, plain, atol=1e-5)
    assert version.scores([]).shape == (0, 2)


def test_a_trained_version_is_what_the_task_type_says_of_it(
    name: str, case: Case, task_type: TaskType, tmp_path: Path
) -> None:
    assert isinstance(task_type, BringsLearner) != isinstance(task_type, BringsTrainer)
    output, result = train(name, case, tmp_path / "job")
    assert set(task_type.needed_files) <= {path.name for path in output.iterdir()}
    assert result["library_versions"].keys() == set(task_type.libraries)
    classifier = task_type.load(output)
    assert isinstance(classifier, ReadsColumns) == isinstance(task_type, HasColumns)
    assert answers_of(task_type) == case.answers


def test_the_same_job_gives_the_same_bits_again(name: str, case: Case, tmp_path: Path) -> None:
    first, _ = train(name, case, tmp_path / "first")
    again, _ = train(name, case, tmp_path / "again")
    assert describe(first) == describe(again)


@pytest.mark.slow
@pytest.mark.parametrize("way", [0, 1])
def test_a_run_stopped_again_and_again_ends_with_the_same_bits(
    name: str, case: Case, tmp_path: Path, way: int
) -> None:
    recipe = case.broken[way]
    whole, _ = train(name, case, tmp_path / "whole", **recipe)
    job = order(name, case, tmp_path / "broken", **recipe)
    n_stops, n_chances = 0, 16
    while not (job.directory / "result.json").exists():
        try:
            execute(job, task_types.get(name), Progress(None), StopAfter(n_chances))
        except Preempted:
            n_stops += 1
            # Every attempt reads the rows anew, and fits a head anew until one is kept.
            kept = checkpoints.latest(job.directory)
            position = {} if kept is None else kept.state.get("position", {"is_head_ready": True})
            n_chances = 16 + 4 * n_stops if position.get("is_head_ready") else 2 * n_chances
            assert n_stops < 50
    assert n_stops > 0
    assert describe(job.output) == describe(whole)


def test_a_version_can_be_trained_further_without_a_step(
    name: str, case: Case, tmp_path: Path
) -> None:
    output, _ = train(name, case, tmp_path / "job")
    for place, recipe in enumerate(case.further):
        _, result = train(name, case, tmp_path / str(place), start=output, **recipe)
        assert result["metrics"]["n"] == 24
        assert result["steps"] == 0


def test_a_start_with_other_labels_is_refused(name: str, case: Case, tmp_path: Path) -> None:
    task_type = task_types.get(name)
    if not case.labels:
        with pytest.raises(RecipeError, match="has no labels"):
            task_type.create(str(case.base(tmp_path / "base")), ["x", "y"], tmp_path / "v", seed=0)
        return
    task_type.create(str(case.base(tmp_path / "base")), ["x", "y", "z"], tmp_path / "v", seed=0)
    with pytest.raises(RecipeError, match="start from the base"):
        train(name, case, tmp_path / "job", start=tmp_path / "v")


def test_a_version_of_fewer_labels_learns_new_ones(
    name: str, case: Case, task_type: TaskType, tmp_path: Path
) -> None:
    if not case.labels:
        pytest.skip(f"{name} answers with a {case.answers}, which has no label set")
    start, _ = train(name, case, tmp_path / "start")
    for place, recipe in enumerate(({}, *case.widened)):
        output, result = train(name, case, tmp_path / str(place), start, WIDER, **recipe)
        classifier = task_type.load(output)
        given = rows(case, 36, WIDER)
        assert classifier.labels == WIDER
        if case.answers == "spans":
            said = [one.spans for one in classifier.tagged(given.inputs)]
            true = [marked(value["text"]) for value in given.inputs]
            assert by_label(said, true, WIDER)["mild"]["f1"] > 0.5
            continue
        scores = classifier.scores(given.inputs)
        assert np.isfinite(scores).all()
        assert (scores.argmax(axis=1) == given.indices(WIDER))[1::3].mean() > 0.5
        assert result["metrics"]["by_class"]["mild"]["n"] == 12


def test_creating_twice_with_a_seed_gives_the_same_bits(
    case: Case, task_type: TaskType, tmp_path: Path
) -> None:
    base = str(case.base(tmp_path / "base"))
    for seed, folder in ((1, "a"), (1, "b"), (2, "c")):
        task_type.create(base, case.labels, tmp_path / folder, seed=seed)
    assert describe(tmp_path / "a") == describe(tmp_path / "b")
    assert (describe(tmp_path / "a") != describe(tmp_path / "c")) == case.draws


def test_a_base_that_could_run_code_is_refused(
    case: Case, task_type: TaskType, tmp_path: Path
) -> None:
    base = case.base(tmp_path / "base")
    (base / "pytorch_model.bin").write_bytes(b"x")
    with pytest.raises(UnsafeArtifact):
        task_type.create(str(base), case.labels, tmp_path / "v", seed=0)


def test_signals_are_one_number_an_input_even_for_odd_ones(case: Case, task_type: TaskType) -> None:
    inputs = [*rows(case, 4).inputs, *case.odd]
    state = json.loads(json.dumps(task_type.fit_signals(rows(case).inputs)))
    signals = task_type.signals(inputs, state)
    assert len(signals) >= 5
    for values in signals.values():
        assert values.shape == (len(inputs),)
        assert np.isfinite(values[:4]).all()
    assert {v.shape for v in task_type.signals([], state).values()} == {(0,)}


def test_signals_of_a_missing_or_broken_input_are_missing(case: Case, task_type: TaskType) -> None:
    for values in task_type.signals(case.missing, task_type.fit_signals([])).values():
        assert np.isnan(values).all()


def test_the_baseline_learns_from_the_features_of_the_base(
    case: Case, task_type: TaskType, tmp_path: Path
) -> None:
    given = rows(case)
    base = str(case.base(tmp_path / "base"))
    if case.answers == "number":
        said = linear_baseline(task_type, base, given, given.inputs, seed=0)
        assert np.corrcoef(said, given.numbers())[0, 1] > 0.8
        return
    if case.answers == "spans":
        texts = [value["text"] for value in given.inputs]
        true = [marked(text) for text in texts]
        known = KnownWords(texts, true)
        assert of_answers([known.read(text) for text in texts], true, LABELS)["f1_micro"] > 0.9
        return
    if case.answers == "text":
        pytest.skip("a baseline of texts is not learned from features")
    scores = probe_baseline(task_type, base, LABELS, given, given.inputs, seed=0)
    assert scores.shape == (24, 2)
    assert (scores.argmax(axis=1) == given.indices(LABELS)).mean() > 0.7

"""What does a version on this disk answer? Plain libraries alone; needs the `[predict]` extra.

It answers what the service's own workers score: the same cut of a text, the same preprocessing of a
picture, in float32.
"""

import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from transformers import (
    AutoModelForCausalLM,
    AutoModelForImageClassification,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
)
from transformers.utils import logging as transformers_logging

from upkeep.artifacts import read_json, refuse_code
from upkeep.column_network import MODEL_TYPE, Network
from upkeep.errors import UnsafeArtifact
from upkeep.images import decode
from upkeep.spans import Span, labels_of_tags, spans_of_tags, trimmed
from upkeep.tables import CONFIG, MODEL, ColumnsPredictor

Inputs = Sequence[Mapping[str, Any]]
Table = NDArray[np.float32]

TOKENS_EACH: Final = 4096
"""Most tokens in one batch of texts, padding included."""
PICTURES_EACH: Final = 64
TOKENS_WITHOUT_A_LIMIT: Final = 256
OF_TOKENS: Final = "ForTokenClassification"
OF_LANGUAGE: Final = ("ForCausalLM", "LMHeadModel")
TEXTS_EACH: Final = 64
NEW_TOKENS: Final = 64
"""Written as an answer, at most, where a version does not say; half of what is read at most."""
LOCAL: Final[Mapping[str, Any]] = {"local_files_only": True, "trust_remote_code": False}


class Predictor(Protocol):
    """A version loaded for answering.

    Attributes:
        labels: class names, in the order of the columns; none where `AnswersNumbers` or
            `AnswersTexts`; those that spans may have where `AnswersSpans`.
        input_field: the field of an input that the version reads; None where it reads several.
    """

    labels: tuple[str, ...]
    input_field: str | None

    def scores(self, inputs: Inputs) -> Table:
        """Return probabilities, shape (n, k).

        Raises:
            ValueError: an input lacks what the version reads.
        """
        ...


@runtime_checkable
class AnswersNumbers(Protocol):
    """A version whose answers are numbers; it has no labels."""

    def values(self, inputs: Inputs) -> NDArray[np.float64]:
        """Return numbers in the unit of the labels, shape (n,).

        Raises:
            ValueError: an input lacks what the version reads.
        """
        ...


@runtime_checkable
class AnswersSpans(Protocol):
    """A version whose answers are spans of a text."""

    def spans(self, inputs: Inputs) -> list[list[Span]]:
        """Return the spans of each text, by their start.

        Raises:
            ValueError: an input lacks what the version reads.
        """
        ...


@runtime_checkable
class AnswersTexts(Protocol):
    """A version whose answers are texts that go on from the input."""

    def texts(self, inputs: Inputs) -> list[str]:
        """Return how each text goes on.

        Raises:
            ValueError: an input lacks what the version reads.
        """
        ...


def open_predictor(directory: Path, *, device: str | None = None) -> Predictor:
    """Load a version.

    Args:
        directory: a plain transformers directory, safetensors only, or a LightGBM text model or a
            network over columns with its config.json; upkeep.json says what it learned, else
            model.txt stands for columns, and so does the model_type of such a network, a
            preprocessor_config.json for pictures, and neither for text: for spans of it where
            config.json names an architecture that classifies tokens, for what follows it where
            it names one that is a language model.
        device: such as "cpu" or "cuda"; None = a GPU if there is one.

    Raises:
        UnsafeArtifact: its settings name code of their own, or weights are missing.
        ValueError: a task type that this client cannot answer for.
    """
    refuse_code(directory)
    card = read_json(directory / "upkeep.json")
    card = card if isinstance(card, dict) else {}
    sees = (directory / "preprocessor_config.json").exists()
    implied = "image-classification" if sees else "text-classification"
    config = read_json(directory / CONFIG)
    config = config if isinstance(config, dict) else {}
    of_columns = "tabular-classification" if "id2label" in config else "tabular-regression"
    if (directory / MODEL).exists():
        implied = of_columns
    elif config.get("model_type") == MODEL_TYPE:
        implied = f"neural-{of_columns}"
    elif any(str(name).endswith(OF_TOKENS) for name in config.get("architectures") or ()):
        implied = "token-classification"
    elif any(str(name).endswith(OF_LANGUAGE) for name in config.get("architectures") or ()):
        implied = "text-generation"
    task_type = str(card.get("task_type") or implied)
    if task_type not in _PREDICTORS:
        raise ValueError(
            f"this client answers for {', '.join(sorted(_PREDICTORS))}, not for {task_type}"
        )
    chosen = device or ("cuda" if torch.cuda.is_available() else "cpu")
    with _no_progress_bar():
        return _PREDICTORS[task_type](directory, card.get("input_field"), chosen)


class _Reader:
    """A version that reads texts, loaded for answering."""

    def __init__(self, directory: Path, input_field: str | None, device: str, *, kind: Any) -> None:
        self._field = input_field or "text"
        self.input_field: str | None = self._field
        self._model = _loaded(kind, directory, device)
        self._tokenizer: Any = AutoTokenizer.from_pretrained(directory, **LOCAL)
        self._takes_types = "token_type_ids" in self._tokenizer.model_input_names
        positions = getattr(self._model.config, "max_position_embeddings", None)
        self._limit = min(
            int(self._tokenizer.model_max_length), int(positions or TOKENS_WITHOUT_A_LIMIT)
        )

    def _coded(self, texts: Sequence[str], **more: Any) -> Any:
        return self._tokenizer(texts, truncation=True, max_length=self._limit, **more)

    def _ids(self, coded: Any) -> list[list[int]]:
        """Return the tokens of each text; one of none is padding alone."""
        return [one or [self._tokenizer.pad_token_id] for one in coded["input_ids"]]

    def _text(self, index: int, value: Mapping[str, Any]) -> str:
        text = value.get(self._field)
        if isinstance(text, str):
            return text
        raise ValueError(f"input {index} has no text in {self._field!r}; pass a string")

    def _batch(self, ids: Sequence[Sequence[int]]) -> dict[str, Any]:
        width = max(map(len, ids))
        tokens = np.full((len(ids), width), self._tokenizer.pad_token_id, dtype=np.int64)
        mask = np.zeros((len(ids), width), dtype=np.int64)
        for row, one in enumerate(ids):
            tokens[row, : len(one)] = one
            mask[row, : len(one)] = 1
        batch = {"input_ids": tokens, "attention_mask": mask}  # (batch, seq)
        if self._takes_types:
            batch["token_type_ids"] = np.zeros_like(tokens)
        return {name: torch.from_numpy(value) for name, value in batch.items()}


class TextPredictor(_Reader):
    """A text version loaded for answering."""

    def __init__(self, directory: Path, input_field: str | None, device: str) -> None:
        super().__init__(directory, input_field, device, kind=AutoModelForSequenceClassification)
        self.labels = _labels(self._model)

    def scores(self, inputs: Inputs) -> Table:
        """Return probabilities, shape (n, k); like lengths travel together."""
        texts = [self._text(index, value) for index, value in enumerate(inputs)]
        found = np.zeros((len(texts), len(self.labels)), dtype=np.float32)
        if not texts:
            return found
        ids = self._ids(self._coded(texts))
        for rows in _batches([len(one) for one in ids], TOKENS_EACH):
            found[rows] = _answer(self._model, self._batch([ids[row] for row in rows]))
        return found


class TokenPredictor(_Reader):
    """A version that finds the spans of texts, loaded for answering."""

    def __init__(self, directory: Path, input_field: str | None, device: str) -> None:
        super().__init__(directory, input_field, device, kind=AutoModelForTokenClassification)
        self._tags = _labels(self._model)
        self.labels = labels_of_tags(self._tags)

    def scores(self, inputs: Inputs) -> Table:
        """Return nothing: tokens have scores, answers have none.

        Raises:
            ValueError: always.
        """
        raise ValueError("this version answers with spans; ask for `spans`")

    def spans(self, inputs: Inputs) -> list[list[Span]]:
        """Return the spans of each text, by their start; like lengths travel together."""
        texts = [self._text(index, value) for index, value in enumerate(inputs)]
        if not texts:
            return []
        coded = self._coded(texts, return_offsets_mapping=True)
        ids, found = self._ids(coded), [list[Span]() for _ in texts]
        for rows in _batches([len(one) for one in ids], TOKENS_EACH):
            said = _answer(self._model, self._batch([ids[row] for row in rows])).argmax(axis=-1)
            for tags, row in zip(said, rows, strict=True):
                places = trimmed(np.asarray(coded["offset_mapping"][row]), texts[row])
                named = [self._tags[tag] for tag in tags[: len(places)].tolist()]
                found[row] = spans_of_tags(named, places)
        return found


class TextWriter(_Reader):
    """A version that goes on with texts, loaded for answering."""

    labels: tuple[str, ...] = ()

    def __init__(self, directory: Path, input_field: str | None, device: str) -> None:
        super().__init__(directory, input_field, device, kind=AutoModelForCausalLM)
        if self._tokenizer.eos_token_id is None:
            raise ValueError("the version's tokenizer has no end token (eos_token)")
        self._end = int(self._tokenizer.eos_token_id)
        start = self._tokenizer.bos_token_id
        self._start = self._end if start is None else int(start)
        pad = self._tokenizer.pad_token_id
        self._pad = self._end if pad is None else int(pad)
        stated = self._model.generation_config.max_new_tokens
        self._n_new = int(stated or min(NEW_TOKENS, self._limit // 2))
        self._room = self._limit - 1 - self._n_new

    def scores(self, inputs: Inputs) -> Table:
        """Return nothing: answers that are texts have no scores.

        Raises:
            ValueError: always.
        """
        raise ValueError("this version answers with texts; ask for `texts`")

    def texts(self, inputs: Inputs) -> list[str]:
        """Return how each text goes on, by `generate` with the version's own settings."""
        prompts = [self._text(index, value) for index, value in enumerate(inputs)]
        found: list[str] = []
        for first in range(0, len(prompts), TEXTS_EACH):
            found += self._written(prompts[first : first + TEXTS_EACH])
        return found

    def _written(self, prompts: Sequence[str]) -> list[str]:
        coded = self._tokenizer(prompts, add_special_tokens=False)["input_ids"]
        rows = [[self._start, *ids[max(0, len(ids) - self._room) :]] for ids in coded]
        width = max(map(len, rows))
        ids = np.full((len(rows), width), self._pad, dtype=np.int64)
        mask = np.zeros_like(ids)
        for position, one in enumerate(rows):  # padded on the left, as what follows is written
            ids[position, width - len(one) :] = one
            mask[position, width - len(one) :] = 1
        batch = {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask)}
        with torch.inference_mode():
            said = self._model.generate(
                **{name: value.to(self._model.device) for name, value in batch.items()},
                max_new_tokens=self._n_new,
            )
        after = said[:, width:].cpu().tolist()
        written: list[str] = self._tokenizer.batch_decode(after, skip_special_tokens=True)
        return written


class ImagePredictor:
    """An image version loaded for answering."""

    def __init__(self, directory: Path, input_field: str | None, device: str) -> None:
        self._field = input_field or "image"
        self.input_field: str | None = self._field
        self._model = _loaded(AutoModelForImageClassification, directory, device)
        self.labels = _labels(self._model)
        n_channels = int(getattr(self._model.config, "num_channels", 3))
        self._preprocessing = Preprocessing.read(directory, n_channels)

    def scores(self, inputs: Inputs) -> Table:
        """Return probabilities, shape (n, k)."""
        found = np.zeros((len(inputs), len(self.labels)), dtype=np.float32)
        for start in range(0, len(inputs), PICTURES_EACH):
            rows = range(start, min(start + PICTURES_EACH, len(inputs)))
            pixels = np.stack([self._pixels(row, inputs[row]) for row in rows])
            batch = {"pixel_values": torch.from_numpy(pixels)}
            found[rows.start : rows.stop] = _answer(self._model, batch)
        return found

    def _pixels(self, index: int, value: Mapping[str, Any]) -> Table:
        picture = value.get(self._field)
        if picture is None:
            raise ValueError(f"input {index} has no picture in {self._field!r}")
        try:
            return self._preprocessing.pixels(decode(picture))
        except ValueError as error:
            raise ValueError(f"input {index}: {error}") from error


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """How a picture becomes numbers: the keys of preprocessor_config.json.

    Attributes:
        n_channels: 1 for gray, 3 for colour.
        size: (width, height) in pixels, as Pillow has it.
        resample: Pillow's number of the filter.
        factor: what a pixel of 0 to 255 is multiplied by.
        mean: subtracted after that, shape (channels, 1, 1).
        std: divided by at last, shape (channels, 1, 1).
    """

    n_channels: int
    size: tuple[int, int]
    resample: int
    factor: float
    mean: Table
    std: Table

    @classmethod
    def read(cls, directory: Path, n_channels: int) -> "Preprocessing":
        """Read a version's preprocessing.

        Raises:
            UnsafeArtifact: it is missing, or asks for steps that are not done here.
        """
        stated = read_json(directory / "preprocessor_config.json")
        stated = stated if isinstance(stated, dict) else {}
        size: Any = stated.get("size")
        is_plain = isinstance(size, dict) and {"height", "width"} <= size.keys()
        if not is_plain or stated.get("do_center_crop") or not stated.get("do_resize", True):
            raise UnsafeArtifact(
                "preprocessor_config.json must resize to a fixed height and width, without a crop"
            )
        is_normalised = stated.get("do_normalize", True)
        return cls(
            n_channels=n_channels,
            size=(int(size["width"]), int(size["height"])),
            resample=int(stated.get("resample") or Image.Resampling.BILINEAR),
            factor=float(stated.get("rescale_factor", 1 / 255))
            if stated.get("do_rescale", True)
            else 1.0,
            mean=_per_channel(stated.get("image_mean", 0.5) if is_normalised else 0.0, n_channels),
            std=_per_channel(stated.get("image_std", 0.5) if is_normalised else 1.0, n_channels),
        )

    def pixels(self, picture: Image.Image) -> Table:
        """Return what the model sees of a picture, shape (channels, height, width)."""
        converted = picture.convert("L" if self.n_channels == 1 else "RGB")
        if converted.size != self.size:
            converted = converted.resize(self.size, Image.Resampling(self.resample))
        plane = np.asarray(converted, dtype=np.float32)  # (height, width[, 3])
        stacked = plane[None] if plane.ndim == 2 else plane.transpose(2, 0, 1)
        return np.asarray(
            (stacked * np.float32(self.factor) - self.mean) / self.std, dtype=np.float32
        )


def _per_channel(value: Any, n_channels: int) -> Table:
    """Return one number a channel, shape (channels, 1, 1); a gray model takes the mean of three."""
    values = [float(one) for one in value] if isinstance(value, list) else [float(value)]
    if len(values) != n_channels:
        values = [sum(values) / len(values)] * n_channels
    return np.asarray(values, dtype=np.float32).reshape(-1, 1, 1)


def _loaded(kind: Any, directory: Path, device: str) -> Any:
    """Return a model all of whose weights come from its file; transformers draws missing ones."""
    model, said = kind.from_pretrained(
        directory, dtype=torch.float32, use_safetensors=True, output_loading_info=True, **LOCAL
    )
    missing = sorted(said["missing_keys"])
    if missing:
        raise UnsafeArtifact(
            f"the version lacks {len(missing)} of its weights, {missing[0]} among them; its "
            "answers would be random"
        )
    return model.to(device).eval()


def _labels(model: Any) -> tuple[str, ...]:
    names = model.config.id2label
    return tuple(str(names[k]) for k in range(len(names)))


def _answer(model: Any, batch: Mapping[str, Any]) -> Table:
    """Return the probabilities of one batch, shape (batch, k), or (batch, seq, k) of tokens."""
    with torch.inference_mode():
        moved = {name: value.to(model.device) for name, value in batch.items()}
        logits = model(**moved).logits.float()  # (batch, [seq,] k)
        return np.asarray(logits.softmax(dim=-1).cpu().numpy(), dtype=np.float32)


def _batches(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Return rows in batches: like lengths together, padded size within the budget."""
    found: list[list[int]] = []
    for row in sorted(range(len(lengths)), key=lengths.__getitem__):
        if found and (len(found[-1]) + 1) * lengths[row] <= budget:
            found[-1].append(row)
        else:
            found.append([row])
    return found


@contextmanager
def _no_progress_bar() -> Iterator[None]:
    """Keep transformers quiet while a server swaps its model; leave its settings as they were."""
    was_enabled = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if was_enabled:
            transformers_logging.enable_progress_bar()


def _trees(
    directory: Path, input_field: str | None, device: str, *, has_labels: bool = True
) -> Predictor:
    """Return trees loaded for answering; LightGBM is loaded for them alone, for it takes long.

    Raises:
        ValueError: they are none, or LightGBM cannot be loaded.
    """
    try:
        trees = importlib.import_module("upkeep.trees")
    except OSError as error:
        raise ValueError(
            f"LightGBM cannot be loaded ({error}); it needs the system's OpenMP library, such as "
            "Debian's package libgomp1"
        ) from error
    return ColumnsPredictor(trees.Trees.read(directory, has_labels=has_labels))


def _network(
    directory: Path, input_field: str | None, device: str, *, has_labels: bool = True
) -> Predictor:
    """Return a network over columns loaded for answering.

    Raises:
        ValueError: it is none.
    """
    network = Network.read(directory, has_labels=has_labels)
    network.model.to(device)
    return ColumnsPredictor(network)


_PREDICTORS: Final[Mapping[str, Callable[[Path, str | None, str], Predictor]]] = {
    "text-classification": TextPredictor,
    "text-generation": TextWriter,
    "token-classification": TokenPredictor,
    "image-classification": ImagePredictor,
    "tabular-classification": _trees,
    "tabular-regression": partial(_trees, has_labels=False),
    "neural-tabular-classification": _network,
    "neural-tabular-regression": partial(_network, has_labels=False),
}

"""How does an encoder of transformers read texts, and what can be seen of texts without it?

Every task type of texts builds on this. A text is cut at the tokenizer's `model_max_length`, which
`write_version` puts into tokenizer_config.json, so that `tokenizer(text, truncation=True)` by a
plain user gives what is read here.
"""

import re
import string
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoConfig, AutoTokenizer

from workers.training import lora
from workers.training.errors import DataError, RecipeError
from workers.training.files import check_artifact
from workers.training.row_file import RowFile, batched
from workers.training.task_type import Inputs
from workers.training.versions import LIBRARIES, LOADING, WEIGHTS, Card, read_card

KNOBS_OF_TEXTS: Mapping[str, Mapping[str, Any]] = {
    "token_budget": {
        "type": "integer",
        "minimum": 16,
        "maximum": 1_000_000,
        "description": "Largest number of tokens in one batch, padding included.",
    },
    "lora_rank": lora.KNOB,
}
MAX_TOKENS = 256
"""Read of a text whose model states no limit."""
TOKENISED_ROWS = 512
INFERENCE_TOKENS = 4096
VOCABULARY_SIZE = 50_000
WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)?", re.UNICODE)
PUNCTUATION = frozenset(string.punctuation)


@dataclass(frozen=True, slots=True)
class TokenLists:
    """Texts as token ids: n arrays of shape (length,), in a file."""

    ids: RowFile
    lengths: NDArray[np.int64]

    def of(self, row: int) -> NDArray[Any]:
        """Return the ids of a text."""
        return self.ids[row]


class Tokens(Protocol):
    """Texts as token ids, as they are read or as an epoch is shown them."""

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Return the length of each text."""
        ...

    def of(self, row: int) -> NDArray[Any]:
        """Return the ids of a text."""
        ...


class TextReader:
    """A version that reads texts, opened; what its head says of them is for a task type to add."""

    can_reuse_lower = True

    def __init__(self, directory: Path, *, task_type: str, kind: Any) -> None:
        """Open a version.

        Args:
            directory: of the version.
            task_type: its name.
            kind: the class of transformers that loads it, such as AutoModelForTokenClassification.
        """
        self.card = read_card(directory, task_type=task_type, kind="text")
        self.model: Any = kind.from_pretrained(
            directory, dtype=torch.float32, local_files_only=True, **LOADING
        )
        self.tokenizer: Any = AutoTokenizer.from_pretrained(
            directory, local_files_only=True, trust_remote_code=False
        )
        self.is_pretrained = self.card.is_pretrained
        self._takes_types = "token_type_ids" in self.tokenizer.model_input_names

    def encode(self, inputs: Inputs) -> TokenLists:
        """Tokenise texts; an empty one is allowed."""
        kind = np.uint16 if len(self.tokenizer) <= 1 << 16 else np.int32
        ids = RowFile.of(self._tokenised(inputs), kind)
        return TokenLists(ids, ids.lengths)

    def _tokenised(self, inputs: Inputs) -> Iterator[NDArray[np.int64]]:
        limit = token_limit(self.tokenizer, self.model.config)
        for texts in batched(self._texts(inputs), TOKENISED_ROWS):
            coded = self.tokenizer(texts, truncation=True, max_length=limit)
            for ids in coded["input_ids"]:
                yield np.asarray(ids or [self.tokenizer.pad_token_id])

    def _texts(self, inputs: Inputs) -> Iterator[str]:
        for index, value in enumerate(inputs):
            text = value.get(self.card.input_field)
            if not isinstance(text, str):
                raise DataError(
                    f"input {index} has no text in {self.card.input_field!r}; send a string"
                )
            yield text

    def collate(
        self,
        examples: Tokens,
        rows: NDArray[np.int64],
        *,
        draw: np.random.Generator | None = None,
    ) -> dict[str, Any]:
        """Return ids and mask padded to the longest row, each (batch, seq)."""
        width = int(examples.lengths[rows].max())
        ids = np.full((len(rows), width), self.tokenizer.pad_token_id, dtype=np.int64)
        mask = np.zeros((len(rows), width), dtype=np.int64)
        for position, row in enumerate(rows.tolist()):
            length = int(examples.lengths[row])
            ids[position, :length] = examples.of(row)
            mask[position, :length] = 1
        batch = {"input_ids": ids, "attention_mask": mask}
        if self._takes_types:
            batch["token_type_ids"] = np.zeros_like(ids)
        return {name: torch.from_numpy(v).to(self.model.device) for name, v in batch.items()}

    def batch_budget(self, recipe: Mapping[str, Any]) -> int:
        """Return the tokens of one batch."""
        return int(recipe["token_budget"])

    def save(self, directory: Path) -> None:
        """Write the version."""
        lora.merge(self.model)
        directory.mkdir(parents=True)
        self.model.save_pretrained(directory)
        self.tokenizer.save_pretrained(directory)
        replace(self.card, is_pretrained=True).write(directory)


def token_limit(tokenizer: Any, config: Any) -> int:  # transformers is untyped
    """Return how many tokens of a text are read."""
    positions = getattr(config, "max_position_embeddings", None) or MAX_TOKENS
    return min(int(tokenizer.model_max_length), int(positions))


@dataclass(frozen=True, slots=True)
class Base:
    """A base model, loaded.

    Attributes:
        missing: names of the weights that it lacks.
        has_weights: whether it has learned anything.
        is_local: whether it lies on this disk.
    """

    model: Any
    tokenizer: Any
    missing: list[str]
    has_weights: bool
    is_local: bool


def loaded_base(base_model: str, kind: Any, names: Mapping[str, Any], *, seed: int) -> Base:
    """Load a local encoder or a hub id.

    A base with weights must have them as safetensors; one with a config alone is built at
    random from the seed.

    Args:
        base_model: which.
        kind: the class of transformers that loads it.
        names: settings of its config that name its outputs.
        seed: of what the base lacks.

    Raises:
        RecipeError: there is no such base.
        UnsafeArtifact: the base holds a file that could run code.
    """
    base = Path(base_model)
    is_local = base.is_dir()
    if is_local:
        check_artifact(base)
    has_weights = not is_local or any(base.glob("*.safetensors"))
    torch.manual_seed(seed)
    try:
        model, missing = _built(base_model, kind, names, has_weights, is_local=is_local)
        tokenizer = AutoTokenizer.from_pretrained(
            base_model, local_files_only=is_local, trust_remote_code=False
        )
    except (OSError, ValueError) as error:
        raise RecipeError(f"base model {base_model!r} cannot be loaded: {error}") from error
    return Base(model, tokenizer, missing, has_weights, is_local)


def _built(
    base_model: str, kind: Any, names: Mapping[str, Any], has_weights: bool, *, is_local: bool
) -> tuple[Any, list[str]]:
    """Return the model and the names of weights that the base lacks."""
    if not has_weights:
        config = AutoConfig.from_pretrained(base_model, local_files_only=True, **names)
        return kind.from_config(config), []
    model, said = kind.from_pretrained(
        base_model,
        local_files_only=is_local,
        dtype=torch.float32,
        ignore_mismatched_sizes=True,
        output_loading_info=True,
        **names,
        **LOADING,
    )
    return model, sorted(said["missing_keys"])


def write_version(base: Base, card: Card, directory: Path, *, max_tokens: int) -> None:
    """Write an untrained version: at most `max_tokens` of a text are read."""
    model, tokenizer = base.model, base.tokenizer
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    model.config.pad_token_id = tokenizer.pad_token_id
    tokenizer.model_max_length = min(max_tokens, token_limit(tokenizer, model.config))
    directory.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    card.write(directory)


def words_of(text: str) -> list[str]:
    """Return the words of a text in lower case, without digits and punctuation."""
    return WORD.findall(text.lower())


class TextTask:
    """What task types of texts have in common: what they read, and what signals they give."""

    default_contract: ClassVar[list[dict[str, Any]]] = [
        {"name": "text", "type": "text", "required": True, "max_length": 10_000}
    ]
    needed_files: ClassVar[tuple[str, ...]] = WEIGHTS
    libraries: ClassVar[tuple[str, ...]] = LIBRARIES

    def fit_signals(self, reference: Inputs) -> dict[str, Any]:
        """Return the words of the reference, and which of them only one of its inputs holds.

        The words that most inputs hold are kept when there are many.
        """
        counts = Counter(
            word
            for value in reference
            for word in {word for text in value.values() for word in _words(text)}
        )
        chosen = sorted(counts, key=lambda word: (-counts[word], word))[:VOCABULARY_SIZE]
        return {
            "vocabulary": sorted(chosen),
            "once": sorted(word for word in chosen if counts[word] == 1),
        }

    def signals(
        self,
        inputs: Inputs,
        state: Mapping[str, Any] | None = None,
        *,
        of_reference: bool = False,
    ) -> dict[str, NDArray[np.float64]]:
        """Return length_chars, n_words, unseen_word_share, digit_share, punctuation_share.

        All over the text fields of an input together. `unseen_word_share` is NaN without a
        reference vocabulary or without words; in an input of the reference itself, a word that no
        other one holds is unseen.
        """
        known = frozenset(state["vocabulary"]) if state and "vocabulary" in state else None
        if state and known is not None and of_reference:
            known -= frozenset(state["once"])
        rows = [_text_signals(value, known) for value in inputs]
        table = np.asarray(rows, dtype=np.float64).reshape(len(inputs), len(SIGNALS))
        return {name: table[:, column] for column, name in enumerate(SIGNALS)}


SIGNALS = ("length_chars", "n_words", "unseen_word_share", "digit_share", "punctuation_share")


def _words(value: Any) -> list[str]:  # JSON
    return words_of(value) if isinstance(value, str) else []


def _text_signals(value: Mapping[str, Any], known: frozenset[str] | None) -> tuple[float, ...]:
    """Return the signals of one input in the order of SIGNALS."""
    texts = [field for field in value.values() if isinstance(field, str)]
    if not texts:
        return (np.nan,) * len(SIGNALS)
    text = " ".join(texts)
    words = words_of(text)
    n = len(text)
    unseen = np.nan
    if known is not None and words:
        unseen = sum(word not in known for word in words) / len(words)
    digits = sum(character.isdigit() for character in text) / n if n else np.nan
    marks = sum(character in PUNCTUATION for character in text) / n if n else np.nan
    return (float(n), float(len(words)), unseen, digits, marks)

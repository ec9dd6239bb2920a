"""How is a text sorted into classes? A transformer encoder with a linear head.

The text is cut at the tokenizer's `model_max_length`, which `create` writes into
tokenizer_config.json, so that `tokenizer(text, truncation=True)` by a plain user gives what is
scored here.
"""

import re
import string
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

from workers.task_types import task_types
from workers.training.errors import DataError, RecipeError
from workers.training.files import check_artifact
from workers.training.layers import choose_trainable, pooling_of, stack_of
from workers.training.metrics import OF_CLASSIFIERS
from workers.training.pooling import add_pooling, shorten, wants_mean
from workers.training.recipes import recipe_schema
from workers.training.row_file import RowFile, batched
from workers.training.task_type import Inputs
from workers.training.versions import (
    LIBRARIES,
    LOADING,
    WEIGHTS,
    Card,
    LearnerClassifier,
    input_field,
    label_maps,
    read_card,
    widen,
)

NAME = "text-classification"
DEFAULTS: Mapping[str, Any] = {
    "epochs": 1,
    "trainable_layers": 2,
    "learning_rate": 1e-4,
    "head_learning_rate": 1e-3,
    "token_budget": 1024,
    "start_share": 0.5,
}
KNOBS: Mapping[str, Mapping[str, Any]] = {
    "token_budget": {
        "type": "integer",
        "minimum": 16,
        "maximum": 1_000_000,
        "description": "Largest number of tokens in one batch, padding included.",
    },
    "token_dropout": {
        "type": "number",
        "minimum": 0,
        "maximum": 0.9,
        "default": 0.0,
        "description": "Share of a text's tokens hidden while training, others in each epoch.",
    },
    "token_swap": {
        "type": "number",
        "minimum": 0,
        "maximum": 0.9,
        "default": 0.0,
        "description": "Share of a text's tokens that change places with the next, likewise.",
    },
}
SEARCHED: Mapping[str, Mapping[str, Any]] = {
    "learning_rate": {"low": 2e-5, "high": 5e-4, "log": True},
    "head_learning_rate": {"low": 1e-4, "high": 1e-2, "log": True},
    "epochs": {"low": 1, "high": 4},
    "start_share": {"choices": [0.0, 0.25, 0.5, 0.75]},
    "label_smoothing": {"low": 0.0, "high": 0.2},
}
MAX_TOKENS = 256
TOKENISED_ROWS = 512
INFERENCE_TOKENS = 4096
VOCABULARY_SIZE = 50_000
POOLER_SCALE = 0.2
"""A missing pooler becomes tanh(0.2 x), nearly linear, instead of a random projection."""
WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)?", re.UNICODE)
PUNCTUATION = frozenset(string.punctuation)


@dataclass(frozen=True, slots=True)
class TokenLists:
    """Texts as token ids: n arrays of shape (length,), in a file."""

    ids: "RowFile | NoisyIds"
    lengths: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class NoisyIds:
    """Token ids of texts, some hidden and some swapped; of each row a pure function of the seed.

    Attributes:
        seed: of the run and the epoch.
        dropout: share of the tokens that are hidden.
        swap: share of the tokens that change places with the next.
        hidden: the token that stands in their place.
        fixed: tokens that are left alone where they are.
    """

    ids: RowFile
    seed: tuple[int, int]
    dropout: float
    swap: float
    hidden: int
    fixed: NDArray[np.int64]

    def __getitem__(self, row: int) -> NDArray[np.int64]:
        ids = self.ids[row].astype(np.int64)
        free = np.flatnonzero(~np.isin(ids, self.fixed))
        draw = np.random.default_rng((*self.seed, row))
        pairs = np.flatnonzero(draw.random(len(free)) < self.swap)
        for place in pairs[pairs < len(free) - 1].tolist():
            here, there = free[place], free[place + 1]
            ids[here], ids[there] = ids[there], ids[here]
        ids[free[draw.random(len(free)) < self.dropout]] = self.hidden
        return ids


class TextLearner:
    """A text version opened for training.

    Attributes:
        can_reuse_lower: whether tokens stay the same from epoch to epoch.
    """

    def __init__(self, directory: Path) -> None:
        card = read_card(directory, task_type=NAME, kind="text")
        local = {**LOADING, "local_files_only": True}
        self.model: Any = AutoModelForSequenceClassification.from_pretrained(
            directory, dtype=torch.float32, **local
        )
        self.tokenizer: Any = AutoTokenizer.from_pretrained(
            directory, local_files_only=True, trust_remote_code=False
        )
        self.card = card
        self.labels = card.labels
        self.is_pretrained = card.is_pretrained
        if (pooling := pooling_of(self.model)) is not None:
            shorten(pooling)
        self._takes_types = "token_type_ids" in self.tokenizer.model_input_names
        self._dropout = self._swap = 0.0
        self.can_reuse_lower = True

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
        examples: TokenLists,
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
            ids[position, :length] = examples.ids[row]
            mask[position, :length] = 1
        batch = {"input_ids": ids, "attention_mask": mask}
        if self._takes_types:
            batch["token_type_ids"] = np.zeros_like(ids)
        return {name: torch.from_numpy(v).to(self.model.device) for name, v in batch.items()}

    def augmented(self, examples: TokenLists, *, seed: int, epoch: int) -> TokenLists:
        """Return texts with some of their tokens hidden or swapped."""
        if self.can_reuse_lower or not isinstance(examples.ids, RowFile):
            return examples
        masked, unknown = self.tokenizer.mask_token_id, self.tokenizer.unk_token_id
        hidden = next((one for one in (masked, unknown) if one is not None), 0)
        fixed = np.asarray(self.tokenizer.all_special_ids, dtype=np.int64)
        noisy = NoisyIds(examples.ids, (seed, epoch), self._dropout, self._swap, int(hidden), fixed)
        return TokenLists(noisy, examples.lengths)

    def choose_trainable(self, recipe: Mapping[str, Any]) -> None:
        """Freeze all but the top layers; remember the augmentation.

        Raises:
            RecipeError: tokens are to be hidden, and the tokenizer has none to stand for them.
        """
        self._dropout, self._swap = float(recipe["token_dropout"]), float(recipe["token_swap"])
        self.can_reuse_lower = not (self._dropout or self._swap)
        tokenizer = self.tokenizer
        if self._dropout and tokenizer.mask_token_id is None and tokenizer.unk_token_id is None:
            raise RecipeError(
                "token_dropout needs a token for what is hidden, and the base model's tokenizer "
                "has neither a mask nor an unknown token; take token_swap"
            )
        choose_trainable(self.model, len(self.labels), recipe["trainable_layers"])

    def batch_budget(self, recipe: Mapping[str, Any]) -> int:
        """Return the tokens of one batch."""
        return int(recipe["token_budget"])

    def widen(self, labels: Sequence[str]) -> None:
        """Give the head an output for each of the labels."""
        widen(self.model, self.labels, labels)
        self.labels = tuple(labels)
        self.card = replace(self.card, labels=self.labels)

    def save(self, directory: Path) -> None:
        """Write the version."""
        directory.mkdir(parents=True)
        self.model.save_pretrained(directory)
        self.tokenizer.save_pretrained(directory)
        replace(self.card, is_pretrained=True).write(directory)


def token_limit(tokenizer: Any, config: Any) -> int:  # transformers is untyped
    """Return how many tokens of a text are read."""
    positions = getattr(config, "max_position_embeddings", None) or MAX_TOKENS
    return min(int(tokenizer.model_max_length), int(positions))


def soften_missing_pooler(model: Any, missing: Sequence[str]) -> None:
    """Make a pooler that was not trained on what it gets pass it on nearly unchanged."""
    for name in missing:
        if not name.endswith("pooler.dense.weight"):
            continue
        dense = model.get_submodule(name.removesuffix(".weight"))
        if dense.in_features == dense.out_features:
            with torch.no_grad():
                dense.weight.copy_(POOLER_SCALE * torch.eye(dense.in_features))
                dense.bias.zero_()


def words_of(text: str) -> list[str]:
    """Return the words of a text in lower case, without digits and punctuation."""
    return WORD.findall(text.lower())


@task_types.register(NAME)
class TextClassification:
    """Texts into classes."""

    name = NAME
    description = "Sorts texts into classes with a transformer encoder"
    metrics: ClassVar[tuple[str, ...]] = OF_CLASSIFIERS
    default_contract: ClassVar[list[dict[str, Any]]] = [
        {"name": "text", "type": "text", "required": True, "max_length": 10_000}
    ]
    recipe_schema: ClassVar[dict[str, Any]] = recipe_schema(DEFAULTS, KNOBS, searched=SEARCHED)
    needed_files: ClassVar[tuple[str, ...]] = WEIGHTS
    libraries: ClassVar[tuple[str, ...]] = LIBRARIES

    def create(
        self,
        base_model: str,
        labels: Sequence[str],
        directory: Path,
        *,
        seed: int,
        input_contract: Sequence[Mapping[str, Any]] | None = None,
    ) -> None:
        """Write an untrained version from a local encoder or a hub id.

        A base with weights must have them as safetensors; one with a config alone is built at
        random from the seed.
        """
        base = Path(base_model)
        is_local = base.is_dir()
        if is_local:
            check_artifact(base)
        has_weights = not is_local or any(base.glob("*.safetensors"))
        torch.manual_seed(seed)
        try:
            model, missing = self._build(base_model, labels, has_weights, is_local=is_local)
            tokenizer = AutoTokenizer.from_pretrained(
                base_model, local_files_only=is_local, trust_remote_code=False
            )
        except (OSError, ValueError) as error:
            raise RecipeError(f"base model {base_model!r} cannot be loaded: {error}") from error
        stack = stack_of(model)
        if stack is not None and wants_mean(base_model, is_local=is_local):
            is_pooled = add_pooling(model, model.get_submodule(stack[0]))
            missing = list(model.state_dict()) if is_pooled else missing
        soften_missing_pooler(model, missing)
        if tokenizer.pad_token_id is None:
            tokenizer.pad_token = tokenizer.eos_token
        model.config.pad_token_id = tokenizer.pad_token_id
        tokenizer.model_max_length = min(MAX_TOKENS, token_limit(tokenizer, model.config))
        directory.mkdir(parents=True, exist_ok=True)
        model.save_pretrained(directory)
        tokenizer.save_pretrained(directory)
        fields = list(input_contract or self.default_contract)
        field = input_field(fields, "text", "text")
        Card(NAME, tuple(labels), field, fields, is_pretrained=has_weights).write(directory)

    def _build(
        self, base_model: str, labels: Sequence[str], has_weights: bool, *, is_local: bool
    ) -> tuple[Any, list[str]]:
        """Return the model and the names of weights that the base lacks."""
        names = label_maps(labels)
        if not has_weights:
            config = AutoConfig.from_pretrained(base_model, local_files_only=True, **names)
            return AutoModelForSequenceClassification.from_config(config), []
        model, said = AutoModelForSequenceClassification.from_pretrained(
            base_model,
            local_files_only=is_local,
            dtype=torch.float32,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
            **names,
            **LOADING,
        )
        return model, sorted(said["missing_keys"])

    def load(self, directory: Path) -> LearnerClassifier:
        """Open a version for inference."""
        return LearnerClassifier(self.open(directory), INFERENCE_TOKENS)

    def open(self, directory: Path) -> TextLearner:
        """Open a version for training."""
        return TextLearner(directory)

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

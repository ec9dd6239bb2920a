"""How is a text sorted into classes? A transformer encoder with a linear head."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoModelForSequenceClassification

from workers.task_types import task_types
from workers.training import lora
from workers.training.data import Rows
from workers.training.errors import RecipeError
from workers.training.layers import choose_trainable, pooling_of, stack_of
from workers.training.metrics import OF_CLASSIFIERS
from workers.training.pooling import add_pooling, shorten, wants_mean
from workers.training.recipes import CLIMBING, recipe_schema
from workers.training.targets import RowTargets
from workers.training.task_type import Examples
from workers.training.texts import (
    INFERENCE_TOKENS,
    KNOBS_OF_TEXTS,
    MAX_TOKENS,
    TextReader,
    TextTask,
    TokenLists,
    loaded_base,
    write_version,
)
from workers.training.versions import Card, LearnerClassifier, input_field, label_maps, widen

NAME = "text-classification"
DEFAULTS: Mapping[str, Any] = {
    "epochs": 1,
    "trainable_layers": 2,
    "learning_rate": 1e-4,
    "head_learning_rate": 1e-3,
    "token_budget": 1536,
    "start_share": 0.5,
    "dropout": 0.0,
}
KNOBS: Mapping[str, Mapping[str, Any]] = {
    **KNOBS_OF_TEXTS,
    **CLIMBING,
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
POOLER_SCALE = 0.2
"""A missing pooler becomes tanh(0.2 x), nearly linear, instead of a random projection."""


@dataclass(frozen=True, slots=True)
class NoisyTokens:
    """Texts as token ids, some hidden and some swapped; of each row a pure function of the seed.

    Attributes:
        tokens: as they are.
        seed: of the run and the epoch.
        dropout: share of the tokens that are hidden.
        swap: share of the tokens that change places with the next.
        hidden: the token that stands in their place.
        fixed: tokens that are left alone where they are.
    """

    tokens: TokenLists
    seed: tuple[int, int]
    dropout: float
    swap: float
    hidden: int
    fixed: NDArray[np.int64]

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Return the length of each text."""
        return self.tokens.lengths

    def of(self, row: int) -> NDArray[Any]:
        """Return the ids of a text."""
        ids = self.tokens.of(row).astype(np.int64)
        free = np.flatnonzero(~np.isin(ids, self.fixed))
        draw = np.random.default_rng((*self.seed, row))
        pairs = np.flatnonzero(draw.random(len(free)) < self.swap)
        for place in pairs[pairs < len(free) - 1].tolist():
            here, there = free[place], free[place + 1]
            ids[here], ids[there] = ids[there], ids[here]
        ids[free[draw.random(len(free)) < self.dropout]] = self.hidden
        return ids


class TextLearner(TextReader):
    """A text version opened for training.

    Attributes:
        can_reuse_lower: whether tokens stay the same from epoch to epoch.
    """

    answers_tokens = False

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, task_type=NAME, kind=AutoModelForSequenceClassification)
        self.labels = self.card.labels
        if (pooling := pooling_of(self.model)) is not None:
            shorten(pooling)
        self._dropout = self._swap = 0.0

    @property
    def outputs(self) -> tuple[str, ...]:
        """Return the labels."""
        return self.labels

    def targets(self, examples: Examples, rows: Rows) -> RowTargets:
        """Return the class of each row."""
        return RowTargets(rows.indices(self.labels))

    def augmented(self, examples: TokenLists, *, seed: int, epoch: int) -> TokenLists | NoisyTokens:
        """Return texts with some of their tokens hidden or swapped."""
        if self.can_reuse_lower:
            return examples
        masked, unknown = self.tokenizer.mask_token_id, self.tokenizer.unk_token_id
        hidden = next((one for one in (masked, unknown) if one is not None), 0)
        fixed = np.asarray(self.tokenizer.all_special_ids, dtype=np.int64)
        return NoisyTokens(examples, (seed, epoch), self._dropout, self._swap, int(hidden), fixed)

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
        lora.heed(self.model, recipe)

    def widen(self, labels: Sequence[str]) -> None:
        """Give the head an output for each of the labels."""
        widen(self.model, self.labels, labels)
        self.labels = tuple(labels)
        self.card = replace(self.card, labels=self.labels)


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


@task_types.register(NAME)
class TextClassification(TextTask):
    """Texts into classes."""

    name = NAME
    description = "Sorts texts into classes with a transformer encoder"
    metrics: ClassVar[tuple[str, ...]] = OF_CLASSIFIERS
    recipe_schema: ClassVar[dict[str, Any]] = recipe_schema(DEFAULTS, KNOBS, searched=SEARCHED)

    def create(
        self,
        base_model: str,
        labels: Sequence[str],
        directory: Path,
        *,
        seed: int,
        input_contract: Sequence[Mapping[str, Any]] | None = None,
    ) -> None:
        """Write an untrained version from a local encoder or a hub id."""
        base = loaded_base(
            base_model, AutoModelForSequenceClassification, label_maps(labels), seed=seed
        )
        missing, stack = base.missing, stack_of(base.model)
        if stack is not None and wants_mean(base_model, is_local=base.is_local):
            is_pooled = add_pooling(base.model, base.model.get_submodule(stack[0]))
            missing = list(base.model.state_dict()) if is_pooled else missing
        soften_missing_pooler(base.model, missing)
        fields = list(input_contract or self.default_contract)
        field = input_field(fields, "text", "text")
        card = Card(NAME, tuple(labels), field, fields, is_pretrained=base.has_weights)
        write_version(base, card, directory, max_tokens=MAX_TOKENS)

    def load(self, directory: Path) -> LearnerClassifier:
        """Open a version for inference."""
        return LearnerClassifier(self.open(directory), INFERENCE_TOKENS)

    def open(self, directory: Path) -> TextLearner:
        """Open a version for training."""
        return TextLearner(directory)

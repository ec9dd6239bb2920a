"""How is a text sorted into classes? A transformer encoder with a linear head."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from transformers import AutoModelForSequenceClassification

from workers.task_types import task_types
from workers.training.data import Rows
from workers.training.layers import choose_trainable, pooling_of, stack_of
from workers.training.metrics import OF_CLASSIFIERS
from workers.training.pooling import add_pooling, shorten, wants_mean
from workers.training.recipes import recipe_schema
from workers.training.targets import RowTargets
from workers.training.task_type import Examples
from workers.training.texts import (
    INFERENCE_TOKENS,
    KNOBS,
    MAX_TOKENS,
    TextReader,
    TextTask,
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
    "token_budget": 1024,
    "start_share": 0.5,
}
POOLER_SCALE = 0.2
"""A missing pooler becomes tanh(0.2 x), nearly linear, instead of a random projection."""


class TextLearner(TextReader):
    """A text version opened for training."""

    answers_tokens = False

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, task_type=NAME, kind=AutoModelForSequenceClassification)
        self.labels = self.card.labels
        if (pooling := pooling_of(self.model)) is not None:
            shorten(pooling)

    @property
    def outputs(self) -> tuple[str, ...]:
        """Return the labels."""
        return self.labels

    def targets(self, examples: Examples, rows: Rows) -> RowTargets:
        """Return the class of each row."""
        return RowTargets(rows.indices(self.labels))

    def choose_trainable(self, recipe: Mapping[str, Any]) -> None:
        """Freeze all but the top layers."""
        choose_trainable(self.model, len(self.labels), recipe["trainable_layers"])

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
    recipe_schema: ClassVar[dict[str, Any]] = recipe_schema(DEFAULTS, KNOBS)

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

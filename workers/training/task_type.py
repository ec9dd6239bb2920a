"""What must a kind of learning provide, so that it can be trained, loaded and watched?

This module imports no training stack: the control side of a job reads it too.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from app.domain.answers import CLASS
from app.domain.spans import Reading
from workers.training.data import Rows
from workers.training.targets import Targets

Inputs = Sequence[Mapping[str, Any]]


class Examples(Protocol):
    """Inputs made ready for a model once, before the first epoch.

    Attributes:
        lengths: cost of each example in tokens (text) or 1 (images), shape (n,).
    """

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Return the cost of each example."""
        ...


class Learner(Protocol):
    """A version opened for training.

    Attributes:
        model: such as a transformers classification model; calling it with a collated batch gives
            an object with `logits`, shape (batch, k), or (batch, seq, k) of tokens.
        labels: that its answers may have, in the model's order.
        outputs: names in the order of the logits: the labels, or the tags of tokens.
        is_pretrained: whether the weights below the head have learned anything yet.
        can_reuse_lower: whether `collate` gives a row the same values in every epoch, so that
            what frozen layers say of it may be computed once.
        answers_tokens: whether there are logits for each token, not for each row.
    """

    model: Any
    labels: tuple[str, ...]
    is_pretrained: bool
    can_reuse_lower: bool
    answers_tokens: bool

    @property
    def outputs(self) -> tuple[str, ...]:
        """Return the names of the logits."""
        ...

    def encode(self, inputs: Inputs) -> Examples:
        """Prepare inputs once.

        Raises:
            DataError: an input cannot be read; says which and what would work.
        """
        ...

    def targets(self, examples: Any, rows: Rows) -> Targets:
        """Return what encoded rows are to be answered with."""
        ...

    def collate(
        self, examples: Any, rows: NDArray[np.int64], *, draw: np.random.Generator | None = None
    ) -> dict[str, Any]:
        """Return the keyword arguments of one model call.

        Args:
            examples: what `encode` returned.
            rows: which of them, shape (batch,).
            draw: the source of augmentation; None means none, as at inference.
        """
        ...

    def choose_trainable(self, recipe: Mapping[str, Any]) -> None:
        """Freeze whatever the recipe leaves untouched (`requires_grad`)."""
        ...

    def batch_budget(self, recipe: Mapping[str, Any]) -> int:
        """Return the largest total cost of one batch, in the unit of `Examples.lengths`."""
        ...

    def widen(self, labels: Sequence[str]) -> None:
        """Tell more classes apart: these labels, all of the present ones among them."""
        ...

    def save(self, directory: Path) -> None:
        """Write the version: a plain transformers directory, safetensors only."""
        ...


@runtime_checkable
class Augments(Protocol):
    """A learner that changes examples at random from epoch to epoch, not batch by batch."""

    def augmented(self, examples: Any, *, seed: int, epoch: int) -> Examples:
        """Return examples of the same lengths as an epoch sees them; a pure function.

        Args:
            examples: what `encode` returned.
            seed: of the run.
            epoch: counted from 0.
        """
        ...


@runtime_checkable
class ReadsAnswers(Protocol):
    """A learner that reads labels as it reads inputs: they are part of what it is taught with."""

    def encode_rows(self, rows: Rows) -> Examples:
        """Prepare inputs and labels once."""
        ...


@runtime_checkable
class TellsTokens(Protocol):
    """A learner of too many outputs to keep the scores of all."""

    def told(
        self,
        examples: Any,
        *,
        budget: int,
        between: Callable[[int], None],
        on_shortage: Callable[[int, str], None],
    ) -> NDArray[np.float32]:
        """Return loss in nats and rightness of each token that is to be learned, (m, 2).

        Args:
            examples: what `encode_rows` returned.
            budget: largest padded cost of a batch.
            between: called after each batch with the rows done; may raise to stop.
            on_shortage: told the next, halved budget and what was said when memory ran out.
        """
        ...


@runtime_checkable
class FitsRows(Protocol):
    """A learner that must know its rows before it encodes any of them."""

    def fit(self, rows: Rows, recipe: Mapping[str, Any]) -> None:
        """Learn what is the same for all rows, such as categories and scales; a pure function.

        Args:
            rows: to learn from.
            recipe: complete.

        Raises:
            DataError: nothing can be learned from them.
        """
        ...


class Classifier(Protocol):
    """A version loaded for inference."""

    @property
    def labels(self) -> tuple[str, ...]:
        """Class names, in the order of the score columns."""
        ...

    def scores(self, inputs: Inputs) -> NDArray[np.float32]:
        """Return probabilities, shape (n, k), columns in the order of `labels`."""
        ...

    def features(self, inputs: Inputs) -> NDArray[np.float32]:
        """Return what the last linear layer sees, shape (n, d)."""
        ...


class Regressor(Protocol):
    """A version loaded for inference that answers with numbers."""

    def values(self, inputs: Inputs) -> NDArray[np.float64]:
        """Return its answers in the unit of the labels, shape (n,)."""
        ...

    def features(self, inputs: Inputs) -> NDArray[np.float32]:
        """Return what stands for an input among others, shape (n, d)."""
        ...


@dataclass(frozen=True, slots=True)
class Tagged:
    """What a version says of one text.

    Attributes:
        spans: in characters of the text, sorted by their start.
        confidence: mean over the tokens of the probability of each one's likeliest tag; 1 of a
            text without any.
        features: mean over the tokens of what the last linear layer sees, shape (d,).
        n_tokens: of them, where the truth was given; so are the next two.
        n_right: tokens whose likeliest tag is the true one.
        loss: sum over the tokens of the negative log of the true tag's probability, in nats.
    """

    spans: Reading
    confidence: float
    features: NDArray[np.float32]
    n_tokens: int = 0
    n_right: int = 0
    loss: float = 0.0


@dataclass(frozen=True, slots=True)
class Said:
    """How likely a version finds one answer.

    Attributes:
        n_tokens: of the answer, its end token among them; of what is read.
        n_right: of them that were the likeliest.
        loss: sum over them of the negative log of the probability, in nats.
        mean_loss: a token.
        features: (d,) what stands for the prompt among others.
    """

    n_tokens: int
    n_right: int
    loss: float
    mean_loss: float
    features: NDArray[np.float32]


class TextWriter(Protocol):
    """A version loaded for inference that goes on with texts."""

    @property
    def n_tokens(self) -> int:
        """How many tokens there are."""
        ...

    def write(self, inputs: Inputs) -> list[str]:
        """Return how it goes on with each prompt."""
        ...

    def said(self, inputs: Inputs, answers: Sequence[str]) -> list[Said]:
        """Return how likely it finds answers."""
        ...

    def token_ids(self, answers: Sequence[str]) -> Iterator[list[int]]:
        """Yield the tokens of texts, the end token last."""
        ...


class Tagger(Protocol):
    """A version loaded for inference that answers with spans of texts."""

    @property
    def labels(self) -> tuple[str, ...]:
        """Labels that its spans may have."""
        ...

    def tagged(self, inputs: Inputs, true: Sequence[Reading] | None = None) -> list[Tagged]:
        """Return what it says of each text, held against the true spans where they are given."""
        ...

    def features(self, inputs: Inputs) -> NDArray[np.float32]:
        """Return what stands for an input among others, shape (n, d)."""
        ...


class Version(Protocol):
    """A version loaded for inference, whatever it answers with."""

    def features(self, inputs: Inputs) -> NDArray[np.float32]:
        """Return what stands for an input among others, shape (n, d)."""
        ...


class TaskType(Protocol):
    """What can be learned: one registered object a kind.

    Attributes:
        name: the registered name, such as `text-classification`.
        metrics: names of the metrics that make sense for it.
        default_contract: fields of an input when the model states none.
        recipe_schema: JSON Schema of the recipe's knobs, each with its default.
        needed_files: names of the files without which nothing can be loaded.
        libraries: what a version is read and made with; the first loads it without Upkeep.
    """

    name: str
    description: str
    metrics: tuple[str, ...]
    default_contract: list[dict[str, Any]]
    recipe_schema: dict[str, Any]
    needed_files: tuple[str, ...]
    libraries: tuple[str, ...]

    def create(
        self,
        base_model: str,
        labels: Sequence[str],
        directory: Path,
        *,
        seed: int,
        input_contract: Sequence[Mapping[str, Any]] | None = None,
    ) -> None:
        """Write an untrained version from a base: a local directory, a preset or a hub id.

        Raises:
            RecipeError: there is no such base.
            UnsafeArtifact: the base holds a file that could run code.
        """
        ...

    def load(self, directory: Path) -> Version:
        """Open a version for inference: a `Classifier`, or what its kind of answer needs."""
        ...

    def fit_signals(self, reference: Inputs) -> dict[str, Any]:
        """Return the state (JSON values) that `signals` compares inputs with."""
        ...

    def signals(
        self,
        inputs: Inputs,
        state: Mapping[str, Any] | None = None,
        *,
        of_reference: bool = False,
    ) -> dict[str, NDArray[np.float64]]:
        """Return label-free signals by name, each of shape (n,), NaN where missing.

        Args:
            inputs: what to read.
            state: of the reference.
            of_reference: these are the inputs that the state was fitted to, so that each is
                compared with the others: what it alone holds would not be known from elsewhere.
        """
        ...


@runtime_checkable
class NamesAnswers(Protocol):
    """A task type whose versions do not sort into classes.

    Attributes:
        answers: kind of its answers, of those in `app.domain.answers`.
    """

    answers: str


def answers_of(task_type: TaskType) -> str:
    """Return the kind of answer of a task type; one that says nothing sorts into classes."""
    return task_type.answers if isinstance(task_type, NamesAnswers) else CLASS


@runtime_checkable
class BringsLearner(TaskType, Protocol):
    """A task type whose versions the loop trains, by batches and gradients."""

    def open(self, directory: Path) -> Learner:
        """Open a version for training."""
        ...


@runtime_checkable
class HasColumns(Protocol):
    """A task type that reads the columns of the input contract: it has no contract of its own.

    Attributes:
        column_types: types of the fields that are columns.
    """

    column_types: tuple[str, ...]

    def fit_columns(self, directory: Path, inputs: Inputs) -> None:
        """Let a version learn the categories and scales of rows, and nothing of their labels.

        Raises:
            DataError: a value is of another type than its column.
        """
        ...


@runtime_checkable
class ReadsColumns(Protocol):
    """A classifier of a task type that has columns.

    Attributes:
        column_names: the fields it reads.
    """

    @property
    def column_names(self) -> tuple[str, ...]:
        """Return the fields that it reads."""
        ...

"""Which parts of a text are what? A transformer encoder that tags every token.

The config's `id2label` are the tags O, B-x and I-x of each label x. Each piece of a word is tagged
by itself, so that a span may begin and end wherever a token does.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from transformers import AutoModelForTokenClassification

from app.domain import spans
from app.domain.answers import SPANS
from app.domain.spans import Reading, Span
from upkeep.spans import labels_of_tags, spans_of_tags, tags_of_labels, trimmed
from workers.task_types import task_types
from workers.training import lora
from workers.training.data import Rows
from workers.training.errors import RecipeError
from workers.training.layers import choose_trainable
from workers.training.metrics import EPSILON
from workers.training.probe import Features, infer, softmax
from workers.training.recipes import OF_TOKENS, recipe_schema
from workers.training.row_file import RowFile, batched
from workers.training.span_metrics import OF_SPANS
from workers.training.tagging import Fit, tags_of_spans
from workers.training.targets import TokenTargets
from workers.training.task_type import Inputs, Tagged
from workers.training.texts import (
    INFERENCE_TOKENS,
    KNOBS_OF_TEXTS,
    TOKENISED_ROWS,
    TextReader,
    TextTask,
    TokenLists,
    loaded_base,
    token_limit,
    write_version,
)
from workers.training.versions import Card, input_field, label_maps, widen

NAME = "token-classification"
DEFAULTS: Mapping[str, Any] = {
    "epochs": 5,
    "trainable_layers": 4,
    "learning_rate": 2e-4,
    "head_learning_rate": 1e-3,
    "token_budget": 256,
}
"""Formulas in titles of papers, MiniLM, 163 to learn from and 123 of later years: F1 0.58 (one
seed, chosen by these rows). With 3 epochs of two layers at 1e-4 in batches of 1,024 tokens it was
0.33, less than known words find (0.37): where spans begin and end takes steps to learn."""
MAX_TOKENS = 512
"""Read of a text: clauses stand in long ones."""
ROWS_AT_A_TIME = 256
"""Of what is said of every token; what bounds the memory of inference."""


@dataclass(frozen=True, slots=True)
class PlacedTokens(TokenLists):
    """Texts as tokens: n arrays of shape (length, 3), in a file: id, start, end.

    Attributes:
        n_cut: texts that were longer than what is read.
    """

    n_cut: int

    def of(self, row: int) -> NDArray[Any]:
        """Return the ids of a text."""
        return self.ids[row][:, 0]

    def places(self, row: int) -> NDArray[np.int64]:
        """Return the characters of each token of a text, trimmed, (length, 2)."""
        return self.ids[row][:, 1:].astype(np.int64)


class TokenLearner(TextReader):
    """A version that tags tokens, opened for training."""

    answers_tokens = True

    def __init__(self, directory: Path) -> None:
        """Open a version.

        Raises:
            RecipeError: its outputs are no such tags, or its tokenizer tells no places.
        """
        super().__init__(directory, task_type=NAME, kind=AutoModelForTokenClassification)
        _check_places(self.tokenizer)
        names = self.model.config.id2label
        self.outputs: tuple[str, ...] = tuple(str(names[k]) for k in range(len(names)))
        try:
            self.labels = labels_of_tags(self.outputs)
        except ValueError as error:
            raise RecipeError(f"this version cannot tell spans: {error}") from error

    def encode(self, inputs: Inputs) -> PlacedTokens:
        """Tokenise texts; an empty one is allowed."""
        n_cut = 0

        def tokens() -> Iterator[NDArray[np.int64]]:
            nonlocal n_cut
            for table, is_cut in self._placed(inputs):
                n_cut += is_cut
                yield table

        ids = RowFile.of(tokens(), np.int32, (3,))
        return PlacedTokens(ids, ids.lengths, n_cut)

    def _placed(self, inputs: Inputs) -> Iterator[tuple[NDArray[np.int64], bool]]:
        """Yield the tokens of each text, (length, 3), and whether more of it are not read."""
        limit = token_limit(self.tokenizer, self.model.config)
        for texts in batched(self._texts(inputs), TOKENISED_ROWS):
            coded = self.tokenizer(
                texts, truncation=True, max_length=limit, return_offsets_mapping=True
            )
            for text, ids, offsets, encoding in zip(
                texts, coded["input_ids"], coded["offset_mapping"], coded.encodings, strict=True
            ):
                places = trimmed(np.asarray(offsets, dtype=np.int64), text)
                table = np.column_stack([np.asarray(ids, dtype=np.int64), places])
                nothing = np.array([[self.tokenizer.pad_token_id, 0, 0]])
                yield (table if len(table) else nothing), bool(encoding.overflowing)

    def targets(self, examples: PlacedTokens, rows: Rows) -> TokenTargets:
        """Return the tag of each token."""
        fit, outputs = Fit(), {tag: place for place, tag in enumerate(self.outputs)}
        tags = RowFile.of(
            (
                tags_of_spans(spans.read(label), examples.places(row), outputs, fit)
                for row, label in enumerate(rows.labels)
            ),
            np.int16,
        )
        return TokenTargets(tags, {"spans": {**asdict(fit), "n_texts_cut": examples.n_cut}})

    def choose_trainable(self, recipe: Mapping[str, Any]) -> None:
        """Freeze all but the top layers."""
        choose_trainable(self.model, len(self.outputs), recipe["trainable_layers"])
        lora.heed(self.model, recipe)

    def widen(self, labels: Sequence[str]) -> None:
        """Give the head the outputs for each of the labels."""
        wider = tags_of_labels(labels)
        widen(self.model, self.outputs, wider)
        self.labels, self.outputs = tuple(labels), wider
        self.card = replace(self.card, labels=self.labels)


def _check_places(tokenizer: Any) -> None:  # transformers is untyped
    if not getattr(tokenizer, "is_fast", False):
        raise RecipeError(
            f"{type(tokenizer).__name__} does not tell where in the text its tokens are; take a "
            "base whose tokenizer is a fast one (tokenizer.json)"
        )


@dataclass(frozen=True, slots=True)
class LearnerTagger:
    """A version loaded for inference: a learner that is never taught."""

    learner: TokenLearner

    @property
    def labels(self) -> tuple[str, ...]:
        """Labels that its spans may have."""
        return self.learner.labels

    def features(self, inputs: Inputs) -> Features:
        """Return the mean over the tokens of what the last linear layer sees, shape (n, d)."""
        found = [one.features for one in self.tagged(inputs)]
        return np.stack(found) if found else np.zeros((0, 0), dtype=np.float32)

    def tagged(self, inputs: Inputs, true: Sequence[Reading] | None = None) -> list[Tagged]:
        """Return what it says of each text, held against the true spans where they are given."""
        found: list[Tagged] = []
        for part in batched(inputs, ROWS_AT_A_TIME):
            examples = self.learner.encode(part)
            features, logits = infer(self.learner, examples, budget=INFERENCE_TOKENS)
            ends = np.cumsum(examples.lengths)
            for row, end in enumerate(ends.tolist()):
                own = slice(end - int(examples.lengths[row]), end)
                truth = None if true is None else true[len(found)]
                found.append(self._tagged(examples.places(row), features[own], logits[own], truth))
        return found

    def _tagged(
        self,
        places: NDArray[np.int64],
        features: Features,
        logits: Features,
        true: Sequence[Span] | None,
    ) -> Tagged:
        """Return what is said of one text by its tokens: shapes (m, 2), (m, d), (m, k)."""
        known = places[:, 1] > places[:, 0]
        if not known.any():
            return Tagged((), 1.0, np.zeros(features.shape[1], dtype=np.float32))
        places, scores, outputs = places[known], softmax(logits[known]), self.learner.outputs
        said = scores.argmax(axis=1)
        answer = spans_of_tags([outputs[place] for place in said.tolist()], places)
        found = Tagged(
            tuple(Span(*one) for one in answer),
            float(scores.max(axis=1).mean()),
            features[known].mean(axis=0),
        )
        if true is None:
            return found
        truth = tags_of_spans(true, places, {tag: k for k, tag in enumerate(outputs)}, Fit())
        chosen = scores[np.arange(len(truth)), truth].astype(np.float64)
        return replace(
            found,
            n_tokens=len(truth),
            n_right=int((said == truth).sum()),
            loss=float(-np.log(np.clip(chosen, EPSILON, 1.0)).sum()),
        )


@task_types.register(NAME)
class TokenClassification(TextTask):
    """Spans of texts."""

    name = NAME
    description = "Finds the spans of texts, such as clauses and names, with a transformer encoder"
    metrics: ClassVar[tuple[str, ...]] = OF_SPANS
    recipe_schema: ClassVar[dict[str, Any]] = recipe_schema(
        DEFAULTS, KNOBS_OF_TEXTS, common=OF_TOKENS
    )
    answers: ClassVar[str] = SPANS

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
        names = label_maps(tags_of_labels(labels))
        base = loaded_base(base_model, AutoModelForTokenClassification, names, seed=seed)
        _check_places(base.tokenizer)
        fields = list(input_contract or self.default_contract)
        field = input_field(fields, "text", "text")
        card = Card(NAME, tuple(labels), field, fields, is_pretrained=base.has_weights)
        write_version(base, card, directory, max_tokens=MAX_TOKENS)

    def load(self, directory: Path) -> LearnerTagger:
        """Open a version for inference."""
        return LearnerTagger(self.open(directory))

    def open(self, directory: Path) -> TokenLearner:
        """Open a version for training."""
        return TokenLearner(directory)

"""How does a text go on? A causal language model of transformers, trained whole or by LoRA.

An input's text is the prompt, which may be empty; the label is what should follow. A version is a
plain directory: after the tokenizer's start token (its end token where it has none) and the prompt,
`generate` of transformers gives what is judged here, by generation_config.json.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoModelForCausalLM, GenerationConfig

from app.domain.answers import TEXT
from workers.task_types import task_types
from workers.training import lora
from workers.training.continuations import (
    IS_ANSWER,
    IS_RIGHT,
    LOSS,
    Continuations,
    ContinuationTargets,
    joined,
)
from workers.training.data import Rows
from workers.training.errors import RecipeError
from workers.training.layers import choose_trainable
from workers.training.probe import fitting_batches
from workers.training.recipes import OF_WHOLE_TEXTS, recipe_schema
from workers.training.row_file import RowFile, batched
from workers.training.targets import IGNORED
from workers.training.task_type import Inputs, Said
from workers.training.texts import (
    INFERENCE_TOKENS,
    KNOBS_OF_TEXTS,
    TOKENISED_ROWS,
    Base,
    TextReader,
    TextTask,
    loaded_base,
    token_limit,
    write_version,
)
from workers.training.versions import Card, input_field

NAME = "text-generation"
METRICS = ("log_loss", "perplexity", "token_accuracy", "bits_saved", "chrf", "exact_match")
DEFAULTS: Mapping[str, Any] = {
    "epochs": 3,
    "trainable_layers": None,
    "learning_rate": 5e-4,
    "token_budget": 1024,
}
MAX_TOKENS = 512
"""Read of a row, prompt and answer together."""
NEW_TOKENS = 64
"""Written as an answer, at most, where the base does not say; half of what is read at most."""
WRITTEN_ROWS = 64
AVOIDING = ("repetition_penalty", "no_repeat_ngram_size", "bad_words_ids", "suppress_tokens")
"""Settings of a base that are heeded: what it does not say again, or at all. Those of beams and of
chance mean nothing to who writes greedily, and some are refused beside it."""


class Writer(TextReader):
    """A version that goes on with texts, opened for training."""

    answers_tokens = True
    can_reuse_lower = False

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, task_type=NAME, kind=AutoModelForCausalLM)
        self.labels: tuple[str, ...] = ()
        n_tokens = int(self.model.get_output_embeddings().weight.shape[0])
        self.outputs: tuple[str, ...] = tuple(map(str, range(n_tokens)))
        self._end = _end_of(self.tokenizer)
        if self.tokenizer.pad_token_id is None:  # of a version that was made elsewhere
            self.tokenizer.pad_token = self.tokenizer.eos_token
        settings, half = self.model.generation_config, self._limit() // 2
        settings.max_new_tokens = settings.max_new_tokens or min(NEW_TOKENS, half)
        start = self.tokenizer.bos_token_id
        self.start = self._end if start is None else int(start)

    def _limit(self) -> int:
        return token_limit(self.tokenizer, self.model.config)

    def encode(self, inputs: Inputs) -> Continuations:  # type: ignore[override]  # rows, not texts
        """Tokenise prompts that nothing follows yet."""
        return self._encoded(inputs, None)

    def encode_rows(self, rows: Rows) -> Continuations:
        """Tokenise prompts and what follows each."""
        return self._encoded(rows.inputs, rows.labels)

    def encode_pairs(self, inputs: Inputs, answers: Sequence[str]) -> Continuations:
        """Tokenise prompts and what follows each."""
        return self._encoded(inputs, answers)

    def _encoded(self, inputs: Inputs, answers: Sequence[str] | None) -> Continuations:
        n_cut = 0

        def tokens() -> Iterator[NDArray[np.int64]]:
            nonlocal n_cut
            limit = self._limit()
            for before, after in self._pairs(inputs, answers):
                table, is_cut = joined(self.start, before, after or (), self._end, limit)
                n_cut += is_cut
                yield table if after is not None else table[table[:, IS_ANSWER] == 0]

        found = RowFile.of(tokens(), np.int32, (2,))
        return Continuations(found, found.lengths, n_cut)

    def _pairs(
        self, inputs: Inputs, answers: Sequence[str] | None
    ) -> Iterator[tuple[list[int], list[int] | None]]:
        """Yield the tokens of each prompt and answer, without any that the tokenizer adds."""
        prompts = batched(self._texts(inputs), TOKENISED_ROWS)
        follows = batched(iter(answers), TOKENISED_ROWS) if answers is not None else None
        for texts in prompts:
            before = self.tokenizer(texts, add_special_tokens=False)["input_ids"]
            after: Sequence[list[int] | None] = [None] * len(texts)
            if follows is not None:
                after = self.tokenizer(next(follows), add_special_tokens=False)["input_ids"]
            yield from zip(before, after, strict=True)

    def targets(self, examples: Continuations, rows: Rows) -> ContinuationTargets:
        """Return the token after each place of the answers."""
        return ContinuationTargets(examples)

    def choose_trainable(self, recipe: Mapping[str, Any]) -> None:
        """Freeze all but the top layers; have those learn by narrow matrices where it is asked."""
        model, n_layers = self.model, recipe["trainable_layers"]
        choose_trainable(model, len(self.outputs), n_layers)
        head, table = model.get_output_embeddings(), model.get_input_embeddings()
        if n_layers is not None and head.weight is table.weight:
            table.weight.requires_grad = False
        lora.heed(model, recipe)
        if not any(parameter.requires_grad for parameter in model.parameters()):
            raise RecipeError("nothing learns with trainable_layers 0; take at least one layer")

    def widen(self, labels: Sequence[str]) -> None:
        """Refuse: texts have no label set.

        Raises:
            RecipeError: always.
        """
        raise RecipeError("texts have no label set that could grow")

    def told(
        self,
        examples: Continuations,
        *,
        budget: int,
        between: Callable[[int], None] = lambda done: None,
        on_shortage: Callable[[int, str], None] = lambda budget, said: None,
    ) -> NDArray[np.float32]:
        """Return loss and rightness of each token of the answers, (m, 2), row after row."""
        read = self._read(examples, budget, between, on_shortage)
        found = {row: told for row, told, _ in read}
        empty = np.zeros((0, 2), dtype=np.float32)
        return np.concatenate([empty, *(found[row] for row in range(len(found)))])

    def read(self, examples: Continuations) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
        """Yield of each row what is told of its answer's tokens, (m, 2), and the prompt's mean.

        The mean, over the prompt with its start token, of what the last layer says, (d,).
        """
        found = {row: (told, mean) for row, told, mean in self._read(examples, INFERENCE_TOKENS)}
        return (found[row] for row in range(len(found)))

    def _read(
        self,
        examples: Continuations,
        budget: int,
        between: Callable[[int], None] = lambda done: None,
        on_shortage: Callable[[int, str], None] = lambda budget, said: None,
    ) -> Iterator[tuple[int, NDArray[np.float32], NDArray[np.float32]]]:
        model, found, done = self.model, [], 0
        was_training = model.training
        model.eval()

        def read(rows: NDArray[np.int64]) -> None:
            output = model(**self.collate(examples, rows), output_hidden_states=True)
            scores, hidden = output.logits.float(), output.hidden_states[-1].float()
            for position, row in enumerate(rows.tolist()):
                classes = examples.classes(row)
                places = np.flatnonzero(classes != IGNORED)
                own = scores[position, torch.from_numpy(places).to(scores.device)]
                truth = torch.from_numpy(classes[places]).to(scores.device)
                table = np.zeros((len(places), 2), dtype=np.float32)
                loss = torch.nn.functional.cross_entropy(own, truth, reduction="none")
                table[:, LOSS] = loss.cpu().numpy()
                table[:, IS_RIGHT] = (own.argmax(dim=-1) == truth).cpu().numpy()
                n_before = int((examples.tokens[row][:, IS_ANSWER] == 0).sum())
                mean = hidden[position, : max(1, n_before)].mean(dim=0).cpu().numpy()
                found.append((row, table, mean))

        try:
            with torch.inference_mode():
                for rows in fitting_batches(examples.lengths, budget, read, on_shortage):
                    done += len(rows)
                    yield from found
                    found.clear()
                    between(done)
        finally:
            model.train(was_training)

    def write(self, inputs: Inputs) -> list[str]:
        """Return how the version goes on with each prompt, by `generate` as the version has it."""
        found: list[str] = []
        model = self.model.eval()
        room = self._limit() - 1 - int(model.generation_config.max_new_tokens)
        for part in batched(inputs, WRITTEN_ROWS):
            read = [ids for ids, _ in self._pairs(list(part), None)]
            rows = [[self.start, *ids[max(0, len(ids) - room) :]] for ids in read]
            width = max(map(len, rows))
            ids = np.full((len(rows), width), self.tokenizer.pad_token_id, dtype=np.int64)
            mask = np.zeros_like(ids)
            for position, one in enumerate(rows):  # padded on the left, as what follows is written
                ids[position, width - len(one) :] = one
                mask[position, width - len(one) :] = 1
            with torch.inference_mode():
                said = model.generate(
                    input_ids=torch.from_numpy(ids).to(model.device),
                    attention_mask=torch.from_numpy(mask).to(model.device),
                )
            after = said[:, width:].cpu().tolist()
            found += self.tokenizer.batch_decode(after, skip_special_tokens=True)
        return found


def _end_of(tokenizer: Any) -> int:
    if tokenizer.eos_token_id is None:
        raise RecipeError(
            "the base model's tokenizer has no end token (eos_token), so no text would ever end; "
            "name one in tokenizer_config.json"
        )
    return int(tokenizer.eos_token_id)


def _greedy(base: Base, end: int) -> GenerationConfig:
    """Return how a version is to write: greedily, to its end token."""
    own, pad = base.model.generation_config, base.tokenizer.pad_token_id
    half = min(MAX_TOKENS, token_limit(base.tokenizer, base.model.config)) // 2
    avoiding = {name: getattr(own, name, None) for name in AVOIDING}
    return GenerationConfig(
        do_sample=False,
        num_beams=1,
        max_new_tokens=min(own.max_new_tokens or NEW_TOKENS, half),
        bos_token_id=own.bos_token_id,
        eos_token_id=end,
        pad_token_id=end if pad is None else pad,
        **{name: value for name, value in avoiding.items() if value is not None},
    )


@dataclass(frozen=True, slots=True)
class LearnerWriter:
    """A version loaded for inference: a learner that is never taught."""

    learner: Writer

    labels: ClassVar[tuple[str, ...]] = ()

    @property
    def n_tokens(self) -> int:
        """How many tokens there are."""
        return len(self.learner.outputs)

    def features(self, inputs: Inputs) -> NDArray[np.float32]:
        """Return the mean over each prompt of what the last layer says, (n, d)."""
        found = [mean for _, mean in self.learner.read(self.learner.encode(inputs))]
        return np.stack(found) if found else np.zeros((0, 0), dtype=np.float32)

    def write(self, inputs: Inputs) -> list[str]:
        """Return how the version goes on with each prompt."""
        return self.learner.write(inputs)

    def said(self, inputs: Inputs, answers: Sequence[str]) -> list[Said]:
        """Return how likely the version finds answers."""
        examples = self.learner.encode_pairs(inputs, answers)
        found = []
        for told, mean in self.learner.read(examples):
            n = max(1, len(told))
            loss = float(told[:, LOSS].sum(dtype=np.float64))
            found.append(Said(len(told), int(told[:, IS_RIGHT].sum()), loss, loss / n, mean))
        return found

    def token_ids(self, answers: Sequence[str]) -> Iterator[list[int]]:
        """Yield the tokens of texts, the end token last."""
        for texts in batched(iter(answers), TOKENISED_ROWS):
            for ids in self.learner.tokenizer(texts, add_special_tokens=False)["input_ids"]:
                yield [*ids, self.learner.tokenizer.eos_token_id]


@task_types.register(NAME)
class TextGeneration(TextTask):
    """Texts that go on from others."""

    name = NAME
    description = "Goes on with texts, such as replies and titles, with a causal language model"
    metrics: ClassVar[tuple[str, ...]] = METRICS
    recipe_schema: ClassVar[dict[str, Any]] = recipe_schema(
        DEFAULTS, KNOBS_OF_TEXTS, common=OF_WHOLE_TEXTS
    )
    answers: ClassVar[str] = TEXT

    def create(
        self,
        base_model: str,
        labels: Sequence[str],
        directory: Path,
        *,
        seed: int,
        input_contract: Sequence[Mapping[str, Any]] | None = None,
    ) -> None:
        """Write an untrained version from a local language model or a hub id."""
        if labels:
            raise RecipeError(f"{NAME} has no labels; leave them out")
        base = loaded_base(base_model, AutoModelForCausalLM, {}, seed=seed)
        end = _end_of(base.tokenizer)
        base.model.generation_config = _greedy(base, end)
        fields = list(input_contract or self.default_contract)
        field = input_field(fields, "text", "text")
        card = Card(NAME, (), field, fields, is_pretrained=base.has_weights)
        write_version(base, card, directory, max_tokens=MAX_TOKENS)

    def load(self, directory: Path) -> LearnerWriter:
        """Open a version for inference."""
        return LearnerWriter(self.open(directory))

    def open(self, directory: Path) -> Writer:
        """Open a version for training."""
        return Writer(directory)

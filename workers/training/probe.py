"""Which head suits the features as they are? A linear probe, before any weight below it moves.

Fine-tuning from a probed head (LP-FT; Kumar et al., 2022) needs far fewer steps than from a random
one, and does not bend the features towards noise on the way.
"""

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from workers.training.data import ordered_batches
from workers.training.errors import OutOfMemory
from workers.training.layers import find_head
from workers.training.lower import LowerLayers, RowStates
from workers.training.memory import is_out_of_memory, release, said_of
from workers.training.task_type import Examples, Learner

Features = NDArray[np.float32]

INFERENCE_BUDGET = {"tokens": 4096, "rows": 64}
STRENGTHS = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5)
"""Weight decay tried, per row, on features scaled to unit mean square norm; strongest first."""
N_FOLDS = 3
N_FOR_ALL_FOLDS = 1000
"""With so many rows to search by, one fold tells as much as is needed."""
N_SEARCH_ROWS = 4000
MAX_ITERATIONS = 100
TOLERANCE = 1e-4
"""Largest gradient at which a minimum counts as found: a tenth of that changes no answer."""


@dataclass(frozen=True, slots=True)
class Probe:
    """A fitted head: logits = features @ weight.T + bias; weight (k, d), bias (k,).

    Attributes:
        strength: the regularisation chosen.
        is_right: of each row, 1 or 0: whether a head fitted without it names its class; NaN where
            that was not tried. Shape (n,).
    """

    weight: Features
    bias: Features
    strength: float
    is_right: NDArray[np.float64]

    def scores(self, features: Features) -> Features:
        """Return probabilities, shape (n, k)."""
        logits = torch.from_numpy(features @ self.weight.T + self.bias)
        return np.asarray(logits.softmax(dim=1).numpy(), dtype=np.float32)


def infer(
    learner: Learner,
    examples: Examples,
    *,
    budget: int,
    between: Callable[[int], None] = lambda done: None,
    rows: NDArray[np.int64] | None = None,
    lower: LowerLayers | None = None,
    states: RowStates | None = None,
    autocast: Callable[[], AbstractContextManager[Any]] = nullcontext,
    on_shortage: Callable[[int, str], None] = lambda budget, said: None,
) -> tuple[Features, Features]:
    """Return (features (n, d), logits (n, k)) in evaluation mode, in the order of the rows.

    Of a version that answers for tokens: of all n tokens of the rows, one row after another.

    Args:
        learner: the version.
        examples: what its `encode` returned.
        budget: largest padded cost of a batch.
        between: called after each batch with the rows done; may raise to stop.
        rows: which of the examples; None means all.
        lower: the frozen layers, to be skipped once `states` is full, which is filled otherwise.
        states: what they say of each row.
        autocast: gives the context of each call: a precision.
        on_shortage: told the next, halved budget and what was said when memory ran out.

    Raises:
        OutOfMemory: a single row does not fit.
    """
    model = learner.model
    seen: list[Any] = []
    head = find_head(model, len(learner.outputs))
    hook = head.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0]))
    was_training = model.training
    model.eval()
    chosen = np.arange(len(examples.lengths)) if rows is None else rows
    lengths = examples.lengths[chosen]
    ends = np.cumsum(lengths if learner.answers_tokens else np.ones_like(lengths))
    n = int(ends[-1]) if len(ends) else 0
    features = np.zeros((n, head.in_features), dtype=np.float32)
    logits = np.zeros((n, head.out_features), dtype=np.float32)
    done = 0

    def keep(table: Features, places: NDArray[np.int64], found: Any) -> None:
        values = found.float().cpu().numpy()
        if not learner.answers_tokens:
            table[places] = values
            return
        for position, place in enumerate(places.tolist()):  # (batch, seq, d)
            own = values[position, : lengths[place]]
            table[ends[place] - len(own) : ends[place]] = own

    def answer(places: NDArray[np.int64]) -> None:
        seen.clear()
        batch = chosen[places]
        with autocast():
            output = forward(model, learner.collate(examples, batch), batch, lower, states)
        keep(features, places, seen[-1])
        keep(logits, places, output.logits)

    try:
        with torch.inference_mode():
            for places in fitting_batches(lengths, budget, answer, on_shortage):
                done += len(places)
                between(done)
    finally:
        hook.remove()
        model.train(was_training)
    return features, logits


def fitting_batches(
    lengths: NDArray[np.int64],
    budget: int,
    work: Callable[[NDArray[np.int64]], None],
    on_shortage: Callable[[int, str], None],
) -> Iterator[NDArray[np.int64]]:
    """Do work on rows, batch by batch, and yield each when it is done.

    The budget is halved each time that the memory runs out, down to single rows.
    """
    batches = deque(ordered_batches(lengths, budget))
    while batches:
        rows = batches[0]
        try:
            work(rows)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            said = said_of(error)
        else:
            batches.popleft()
            yield rows
            continue
        release()
        if len(rows) == 1:
            raise OutOfMemory(
                f"one row of cost {int(lengths[rows[0]])} does not fit the memory ({said}); "
                "shorten the inputs, take a smaller base model or give the worker more memory"
            )
        budget = len(rows) // 2 * int(lengths[rows].max())
        on_shortage(budget, said)
        left = np.sort(np.concatenate(batches))
        batches = deque(left[part] for part in ordered_batches(lengths[left], budget))


def forward(
    model: Any,  # torch is untyped here
    batch: dict[str, Any],
    rows: NDArray[np.int64],
    lower: LowerLayers | None,
    states: RowStates | None,
) -> Any:
    """Call the model; skip its frozen layers where their states are known, else keep them."""
    if lower is None or states is None:
        return model(**batch)
    if states.is_full:
        with lower.skipped(states.batch(rows)):
            return model(**batch)
    output = model(**batch)
    states.keep(rows, lower.taken)
    return output


def softmax(logits: Features) -> Features:
    """Return probabilities, shape (n, k)."""
    return np.asarray(torch.from_numpy(logits).softmax(dim=1).numpy(), dtype=np.float32)


def _minimise(
    features: Any,  # torch is untyped here
    truth: Any,
    n_classes: int,
    strength: float,
    start: Any | None,
    between: Callable[[], None],
) -> Any:
    """Return the parameters (k, d + 1) of multinomial logistic regression, by L-BFGS."""
    n_features = features.shape[1]
    table = torch.zeros(n_classes, n_features + 1) if start is None else start.clone()
    table.requires_grad_(True)  # torch's own signature
    optimiser = torch.optim.LBFGS(
        [table], max_iter=MAX_ITERATIONS, tolerance_grad=TOLERANCE, line_search_fn="strong_wolfe"
    )

    def closure() -> Any:
        between()
        optimiser.zero_grad()
        logits = torch.addmm(table[:, -1], features, table[:, :-1].T)
        penalty = strength * table[:, :-1].square().sum() / 2
        loss = nn.functional.cross_entropy(logits, truth) + penalty
        loss.backward()
        return loss

    optimiser.step(closure)
    return table.detach()


def _folds(truth: NDArray[np.int64], draw: np.random.Generator) -> NDArray[np.int64]:
    """Return a fold number for each row, the rows of a class spread evenly."""
    order = np.lexsort((draw.random(len(truth)), truth))
    folds = np.empty(len(truth), dtype=np.int64)
    folds[order] = np.arange(len(truth)) % N_FOLDS
    return folds


@dataclass(frozen=True, slots=True)
class Search:
    """What a search for the regularisation found.

    Attributes:
        strength: of least cross-validated log loss.
        is_right: of each row that was judged, 1 or 0 at that strength; NaN of the others.
        table: what the last fold's rows gave at that strength, (k, d + 1); a start for all rows.
    """

    strength: float
    is_right: NDArray[np.float64]
    table: Any


def choose_strength(
    features: Features,
    truth: NDArray[np.int64],
    n_classes: int,
    *,
    seed: int,
    between: Callable[[], None] = lambda: None,
) -> Search:
    """Search for the regularisation by cross-validation, from the strongest on.

    It ends where the log loss no longer falls: weaker ones overfit more and take longest to fit.
    """
    draw = np.random.default_rng(seed)
    chosen = draw.permutation(len(truth))[:N_SEARCH_ROWS]
    x, y = torch.from_numpy(features[chosen]), torch.from_numpy(truth[chosen])
    numbers = torch.from_numpy(_folds(truth[chosen], draw))
    n_judging = 1 if len(chosen) >= N_FOR_ALL_FOLDS else min(N_FOLDS, len(chosen))
    folds = [
        (numbers != fold, numbers == fold)
        for fold in range(n_judging)
        if bool((numbers != fold).any()) and bool((numbers == fold).any())
    ]
    tables: list[Any] = [None] * len(folds)
    best, least = Search(STRENGTHS[0], np.full(len(truth), np.nan), None), np.inf
    for strength in STRENGTHS:
        loss, is_right = 0.0, np.full(len(truth), np.nan)
        for fold, (learn, judge) in enumerate(folds):
            table = _minimise(x[learn], y[learn], n_classes, strength, tables[fold], between)
            tables[fold] = table
            logits = torch.addmm(table[:, -1], x[judge], table[:, :-1].T)
            loss += float(nn.functional.cross_entropy(logits, y[judge], reduction="sum"))
            named = (logits.argmax(dim=1) == y[judge]).double().numpy()
            is_right[chosen[judge.numpy()]] = named
        if not loss < least:
            break
        best, least = Search(strength, is_right, tables[-1] if tables else None), loss
    return best


def fit(
    features: Features,
    truth: NDArray[np.int64],
    n_classes: int,
    *,
    seed: int,
    between: Callable[[], None] = lambda: None,
) -> Probe:
    """Fit multinomial logistic regression; its regularisation by cross-validation.

    Features are centred and divided by one number for the fit, and the head is written for the
    features as they come, so that it can be put straight into the model. A class without rows
    gets a head that predicts it rarely.

    Args:
        features: shape (n, d).
        truth: class indices, shape (n,).
        n_classes: k.
        seed: of the folds.
        between: called again and again; may raise to stop.
    """
    mean = features.mean(axis=0)
    scaled = features - mean
    # In parts, as all squares at once would be a copy of the features.
    squares = [np.square(part).sum(axis=1) for part in np.array_split(scaled, 16)]
    scale = float(np.sqrt(np.concatenate(squares).mean())) or 1.0
    scaled /= np.float32(scale)
    found = choose_strength(scaled, truth, n_classes, seed=seed, between=between)
    table = _minimise(
        torch.from_numpy(scaled),
        torch.from_numpy(truth),
        n_classes,
        found.strength,
        found.table,
        between,
    ).numpy()
    weight = table[:, :-1] / scale
    bias = table[:, -1] - weight @ mean
    return Probe(weight.astype(np.float32), bias.astype(np.float32), found.strength, found.is_right)


def put_into(model: Any, probe: Probe) -> None:
    """Write a probe into the model's head."""
    put_rows(find_head(model, len(probe.bias)), probe.weight, probe.bias)


def put_rows(head: Any, weight: Features, bias: Features) -> None:
    """Write the rows of a head."""
    with torch.no_grad():
        head.weight.copy_(torch.from_numpy(weight))
        if head.bias is not None:
            head.bias.copy_(torch.from_numpy(bias))


def disagreement(probe: Probe, features: Features, logits: Features) -> float:
    """Return the largest gap in probability between the probe and the model that took its head."""
    return float(np.abs(probe.scores(features) - softmax(logits)).max(initial=0.0))

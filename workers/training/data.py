"""Which rows does a run learn from, and in which order?"""

import json
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import compress
from pathlib import Path
from typing import Any, Final, TypeVar, overload

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from app.domain.answers import LARGEST
from app.domain.errors import Fault
from app.domain.holdout import held_out
from app.domain.spans import span_fault
from app.services.stored_rows import READ_ROWS, StoredRows
from workers.training.errors import DataError

COLUMNS = ("id", "inputs", "label")
SAMPLED: Final = 1
"""Sets the draw of an epoch's rows apart from that of their order."""
FEWEST_JUDGED: Final = 20
"""Rows to judge epochs by; fewer of the newest would choose one by luck."""
Item = TypeVar("Item", covariant=True)  # noqa: PLC0105  # as plain as the rest


@dataclass(frozen=True, slots=True)
class Rows:
    """Labelled examples in file order: n ids, n inputs, n labels.

    Attributes:
        n_repeated_ids: rows whose id an earlier row has; they are learned from all the same.
    """

    ids: Sequence[str]
    inputs: Sequence[Mapping[str, Any]]
    labels: Sequence[str]
    n_repeated_ids: int = 0

    def __len__(self) -> int:
        return len(self.labels)

    def indices(self, names: Sequence[str]) -> NDArray[np.int64]:
        """Return the index in `names` of each row's label, shape (n,)."""
        position = {name: k for k, name in enumerate(names)}
        return np.asarray([position[label] for label in self.labels], dtype=np.int64)

    def marked(self, mask: NDArray[np.bool_]) -> "Rows":
        """Return the rows that a mask marks."""
        labels = list(compress(self.labels, mask))
        return Rows(Some(self.ids, mask), Some(self.inputs, mask), labels)

    def numbers(self) -> NDArray[np.float64]:
        """Return the labels as numbers, shape (n,).

        Raises:
            DataError: a label is no finite number; says which.
        """
        found = np.full(len(self.labels), np.nan)
        for place, label in enumerate(self.labels):
            with suppress(TypeError, ValueError):
                found[place] = float(label)
        bad = np.flatnonzero(~(np.abs(found) <= LARGEST))  # NaN too
        if len(bad):
            first = int(bad[0])
            raise DataError(
                f"{len(bad)} of {len(found)} labels are no finite numbers of single precision; row "
                f"{first} ({self.ids[first]}) has {self.labels[first]!r}"
            )
        return found


@dataclass(frozen=True, slots=True)
class Data:
    """The rows of a run."""

    train: Rows
    validation: Rows | None


def read_rows(
    path: Path,
    between: Callable[[int], None] = lambda done: None,
    *,
    are_labels_long: bool = False,
) -> Rows:
    """Open a Parquet file of the columns `id`, `inputs` (JSON object) and `label`.

    The labels are read now; ids and inputs whenever they are gone through.

    Args:
        path: of the file.
        between: called with the rows read after every few; may raise to stop.
        are_labels_long: read them whenever they are gone through, too.

    Raises:
        DataError: it is no such file; says what would work. So does going through inputs that
            are no JSON objects.
    """
    known: dict[Any, Any] = {}  # each label once, however many rows have it
    held: list[Any] = []
    marks = array("q")  # eight bytes of an id tell it from others
    try:
        ids = StoredRows(path, ["id"], lambda row, _: str(row["id"]), between)
        with pq.ParquetFile(path) as file:  # `read_table` would load pandas
            for name in COLUMNS:
                file.schema_arrow.field(name)  # raises where it is absent
            for batch in file.iter_batches(READ_ROWS, columns=["id", "label"], use_threads=False):
                found = batch.to_pydict()
                if not are_labels_long:
                    held.extend(known.setdefault(label, label) for label in found["label"])
                marks.extend(map(hash, found["id"]))
    except pa.ArrowMemoryError:  # no fault of the file's
        raise
    except (OSError, KeyError, pa.ArrowException) as error:
        raise DataError(
            f"{path.name} is no Parquet file with the columns {', '.join(COLUMNS)}: {error}"
        ) from error
    inputs = StoredRows(path, ["id", "inputs"], _read_inputs, between)
    stored = StoredRows(path, ["label"], lambda row, _: str(row["label"]), between)
    labels = stored if are_labels_long else held
    return Rows(ids, inputs, labels, len(marks) - len(np.unique(marks)))


def _read_inputs(row: Mapping[str, Any], index: int) -> Mapping[str, Any]:
    try:
        value = json.loads(row["inputs"])
    except (TypeError, ValueError) as error:
        raise DataError(f"row {index} ({row['id']}): inputs is no JSON: {error}") from error
    if not isinstance(value, dict):
        raise DataError(f"row {index} ({row['id']}): inputs must be a JSON object")
    return value


def check_labels(rows: Rows, labels: Sequence[str], *, role: str, n_classes_needed: int) -> None:
    """Refuse rows that cannot teach, or be judged by, these labels.

    Raises:
        DataError: no rows, labels outside the set, or fewer classes than needed.
    """
    if not len(rows):
        raise DataError(f"the {role} set is empty; add labelled rows")
    known = set(labels)
    unknown = Counter(label for label in rows.labels if label not in known)
    if unknown:
        named = ", ".join(f"{label!r} ({n})" for label, n in unknown.most_common(5))
        raise DataError(
            f"{sum(unknown.values())} of {len(rows)} {role} rows have labels outside the label "
            f"set: {named}; the set is {', '.join(map(repr, labels[:20]))}"
        )
    present = set(rows.labels)
    if len(present) < n_classes_needed:
        raise DataError(
            f"all {len(rows)} {role} rows have the label {next(iter(present))!r}; "
            f"a classifier needs rows of at least {n_classes_needed} classes"
        )


def check_numbers(rows: Rows, *, role: str, n_different_needed: int) -> None:
    """Refuse rows whose labels cannot teach, or be compared with, numbers.

    Raises:
        DataError: no rows, labels that are no numbers, or fewer different ones than needed.
    """
    if not len(rows):
        raise DataError(f"the {role} set is empty; add labelled rows")
    numbers = rows.numbers()
    if len(np.unique(numbers)) < n_different_needed:
        raise DataError(
            f"all {len(rows)} {role} rows have the label {numbers[0]:g}; a number can be learned "
            f"from at least {n_different_needed} different ones"
        )


def check_spans(rows: Rows, labels: Sequence[str], *, role: str, n_different_needed: int) -> None:
    """Refuse rows whose labels cannot teach, or be compared with, spans.

    Raises:
        DataError: no rows, labels that are no spans of their texts, or fewer different lists of
            them than needed.
    """
    if not len(rows):
        raise DataError(f"the {role} set is empty; add labelled rows")
    different: set[int] = set()
    for place, (inputs, label) in enumerate(zip(rows.inputs, rows.labels, strict=True)):
        found = _fault_of_spans(inputs, label, labels)
        if found is not None:
            raise DataError(
                f"{role} row {place} ({rows.ids[place]}) has no spans of its text for a label: "
                f"{found.pointer} {found.detail}"
            )
        if len(different) < n_different_needed:
            different.add(hash(label))
    if len(different) < n_different_needed:
        raise DataError(
            f"all {len(rows)} {role} rows have the same spans; spans can be learned from at least "
            f"{n_different_needed} different lists of them"
        )


def check_texts(rows: Rows, *, role: str, n_different_needed: int) -> None:
    """Refuse rows whose labels cannot teach, or be compared with, texts.

    Raises:
        DataError: no rows, or fewer different texts than needed.
    """
    if not len(rows):
        raise DataError(f"the {role} set is empty; add labelled rows")
    different: set[int] = set()
    for label in rows.labels:
        different.add(hash(label))
        if len(different) >= n_different_needed:
            return
    raise DataError(
        f"all {len(rows)} {role} rows have the same text for a label; at least "
        f"{n_different_needed} different ones are needed to learn from"
    )


def _fault_of_spans(inputs: Mapping[str, Any], label: str, labels: Sequence[str]) -> Fault | None:
    """Return what is wrong with a kept label; the longest text that is there bounds it."""
    try:
        value = json.loads(label)
    except ValueError:
        return Fault("", "is no JSON")
    lengths = [len(text) for text in inputs.values() if isinstance(text, str)]
    return span_fault(value, labels, max(lengths, default=0))


class Some(Sequence[Item]):
    """Those items of a sequence that a mask marks, read from it whenever they are used."""

    def __init__(self, items: Sequence[Item], mask: NDArray[np.bool_]) -> None:
        self._items, self._mask, self._places = items, mask, np.flatnonzero(mask)

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self) -> Iterator[Item]:
        return compress(self._items, self._mask)

    @overload
    def __getitem__(self, index: int) -> Item: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Item]: ...
    def __getitem__(self, index: int | slice) -> Item | Sequence[Item]:
        if isinstance(index, slice):
            return [self._items[place] for place in self._places[index].tolist()]
        return self._items[int(self._places[index])]


def set_apart(
    rows: Rows, strata: Sequence[str], *, n_newest: int | None, share: float
) -> tuple[Rows, Rows, int | None]:
    """Return rows to learn from and rows to judge on, and how many of the former are newest.

    Where the newest give fewer than `FEWEST_JUDGED`, a share of all rows is set apart.

    Args:
        rows: in order of arrival.
        strata: the class of each, or the part of all numbers that it lies in.
        n_newest: how many, the last ones, are newest; None = all.
        share: of the newest rows, to judge on.

    Raises:
        DataError: there are too few rows to set any apart.
    """
    first = 0 if n_newest is None else max(0, len(rows) - n_newest)
    mask = np.zeros(len(rows), dtype=bool)
    mask[first:] = held_out(strata[first:], share=share)
    if first and np.count_nonzero(mask) < FEWEST_JUDGED:
        mask = held_out(strata, share=share)
    if not mask.any():
        raise DataError(
            f"of {len(rows)} rows none can be set apart to judge on; label more, or set "
            "validation_share to 0 and patience to null"
        )
    left = None if n_newest is None else int(np.count_nonzero(~mask[first:]))
    learned = replace(rows.marked(~mask), n_repeated_ids=rows.n_repeated_ids)
    return learned, rows.marked(mask), left


def sampled_rows(
    truth: NDArray[np.int64], *, sampling: str, seed: int, epoch: int
) -> NDArray[np.int64]:
    """Return the numbers of the rows of one epoch, ascending; a pure function.

    Args:
        truth: class index of each row, shape (n,).
        sampling: "oversample" takes as many rows of each class as the commonest has, each of its
            rows at least so often as all of them fit; "undersample" as many as the rarest that
            has any; "none" each row once.
        seed: of the run.
        epoch: counted from 0; each draws anew.
    """
    if sampling == "none":
        return np.arange(len(truth))
    counts = np.bincount(truth)
    present = np.flatnonzero(counts)
    each = int(counts.max() if sampling == "oversample" else counts[present].min())
    source = np.random.default_rng((seed, epoch, SAMPLED))
    taken = []
    for name in present.tolist():
        rows = source.permutation(np.flatnonzero(truth == name))
        taken.append(np.resize(rows, each))
    return np.sort(np.concatenate(taken))


def batch_plan(
    *,
    seed: int,
    epoch: int,
    lengths: NDArray[np.int64],
    budget: int,
    rows: NDArray[np.int64] | None = None,
) -> list[NDArray[np.int64]]:
    """Return the batches of one epoch, each an array of row numbers; a pure function.

    Rows of like length share a batch, so that padding is nearly nothing; rows of one length are
    in random order, and so are the batches. A batch's padded cost is at most `budget`, unless a
    single row is longer. A last row left alone joins the batch before it when their lengths agree
    (batch normalisation cannot learn from one row).

    Args:
        seed: of the run.
        epoch: counted from 0; each has its own order.
        lengths: cost of each row, at least 1, shape (n,).
        budget: largest padded cost of a batch, in the unit of the lengths.
        rows: those of the epoch, (m,), some perhaps more than once; None = each once.
    """
    if rows is not None:
        plan = batch_plan(seed=seed, epoch=epoch, lengths=lengths[rows], budget=budget)
        return [rows[batch] for batch in plan]
    draw = np.random.default_rng((seed, epoch))
    order = np.lexsort((draw.random(len(lengths)), lengths))
    batches = _filled(order, lengths, budget)
    if len(batches) > 1 and len(batches[-1]) == 1:
        alone, before = batches[-1], batches[-2]
        if lengths[alone[0]] == lengths[before[0]]:
            batches[-2:] = [np.concatenate([before, alone])]
    return [batches[k] for k in draw.permutation(len(batches))]


def _filled(
    order: NDArray[np.int64], lengths: NDArray[np.int64], budget: int
) -> list[NDArray[np.int64]]:
    """Return rows, given shortest first, as batches as large as the budget allows."""
    costs, batches, first = lengths[order], [], 0
    while first < len(order):
        most = first + max(1, budget // int(costs[first]))
        padded = costs[first:most] * np.arange(1, len(costs[first:most]) + 1)
        last = first + max(1, int(np.searchsorted(padded, budget, side="right")))
        batches.append(order[first:last])
        first = last
    return batches


def ordered_batches(lengths: NDArray[np.int64], budget: int) -> list[NDArray[np.int64]]:
    """Return batches for inference: like lengths together, within the budget, nothing random."""
    return _filled(np.argsort(lengths, kind="stable"), lengths, budget)


def class_weights(counts: NDArray[np.int64], *, power: float) -> NDArray[np.float32]:
    """Return weights, shape (k,), of mean 1 over all: (1 / share)^power; 0 is no weighting.

    Args:
        counts: how often each class is there, shape (k,).
        power: what the shares are raised to.
    """
    weights = np.where(counts > 0, np.maximum(counts, 1.0) ** -power, 0.0)
    return np.asarray(weights * counts.sum() / (weights * counts).sum(), dtype=np.float32)

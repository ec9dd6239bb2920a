"""Is an upstream fault told apart from drift?"""

import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow.parquet as pq
from sklearn import datasets

import bench.detection_data as data
import workers.task_types
from app.domain.fault_marks import Side
from app.domain.faults import FaultKind, Look, Prior, Refusals, look_at_columns, look_at_refusals
from app.domain.policies import FaultPolicy
from app.domain.registry import scan
from bench.detection_data import Generator, Table
from workers.task_types import task_types

scan(workers.task_types)
RULES: Final = FaultPolicy()
Inject = Callable[[Table, Generator], tuple[Table, str] | None]
N_WINDOW: Final = 200


def faults(folder: Path | None, quick: bool) -> list[dict[str, Any]]:
    """Break windows of 200, shift others honestly, leave others alone; count what is called fault.

    Every injected fault is one of one column. Drifts are the cells of `power` without the missing
    ones, and the streams' own: other writers, later years.
    """
    n_windows = 20 if quick else 100
    sets = _sets(folder)
    splits = {name: [Split(table, seed) for seed in range(10)] for name, table in sets.items()}
    rows = []
    for name, inject in INJECTED.items():
        counts = (_tried(mine, inject, name, n_windows) for mine in splits.values())
        rows.append(_row("fault", name, sum(counts, Counter[str]())))
    for cell in data.CELLS:
        if cell[0] != "missing":
            shift = partial(_shifted, cell=cell)
            counts = (_tried(mine, shift, "", n_windows) for mine in splits.values())
            rows.append(_row("drift", f"{cell[0]} {cell[1]:g}", sum(counts, Counter[str]())))
    for name, mine in splits.items():
        rows.append(_row("quiet", name, _tried(mine, lambda now, _: (now, ""), "", 5 * n_windows)))
    rows += [_row(*each) for each in _refused(n_windows)]
    rows += [_row(*each) for each in _streams(folder)] if folder is not None else []
    for kind in ("fault", "drift", "quiet"):
        mine = [row for row in rows if row["truth"] == kind]
        n, called = (sum(row[key] for row in mine) for key in ("windows", "called"))
        rows.append(
            {"truth": kind, "what": "all", "windows": n, "called": called, "share": called / n}
        )
    return rows


def _row(truth: str, what: str, counts: Counter[str]) -> dict[str, Any]:
    row = {
        "truth": truth,
        "what": what,
        "windows": counts["windows"],
        "called": counts["called"],
        "share": counts["called"] / max(counts["windows"], 1),
    }
    if truth == "fault" and counts["called"]:
        row |= {
            "field_named": counts["field"] / counts["called"],
            "kind_named": counts["kind"] / counts["called"],
            "wrong_fields": counts["others"] / counts["called"],
        }
    print(row, file=sys.stderr, flush=True)
    return row


def _sets(folder: Path | None) -> dict[str, Table]:
    generator = np.random.default_rng(21)
    sets = {"mixture, 25 columns": data.mixture(30_000, 25, generator)}
    zipf = {
        f"z{i}": np.array(
            [f"v{k}" for k in np.minimum(generator.zipf(1.5, 30_000), 2000)], dtype=object
        )
        for i in range(4)
    }
    ties = {f"t{i}": generator.choice([0.0, 0, 0, 0, 1, 2, 5], 30_000) for i in range(6)}
    sets["ties and rare categories, 10 columns"] = {**ties, **zipf}
    sets["breast cancer, 30 columns"] = data.bundled(datasets.load_breast_cancer)
    sets["digits, 64 columns"] = data.bundled(datasets.load_digits)
    if folder is not None:
        sets["handwriting, 16 columns"] = data.handwriting(folder, generator)
    return sets


def _look(reference: Mapping[str, Side], current: Table, fields: Any, media: str = "") -> Look:
    return look_at_columns(
        reference,
        current,
        sequences=range(1, data.n_rows(current) + 1),
        prior=Prior({name: name for name in fields}, media),
        rules=RULES,
    )


class Split:
    """A set, split at random into a reference and the rows that windows are drawn from."""

    def __init__(self, table: Table, seed: int) -> None:
        order = np.random.default_rng([22, seed]).permutation(data.n_rows(table))
        n_reference = min(5000, len(order) * 2 // 3)
        self.reference = {
            name: Side(values) for name, values in data.rows_of(table, order[:n_reference]).items()
        }
        self._table, self._others = table, order[n_reference:]

    def window(self, generator: Generator) -> Table:
        """Return a window that was not in the reference."""
        return data.rows_of(self._table, generator.choice(self._others, N_WINDOW))


def _tried(splits: Sequence[Split], inject: Inject, name: str, n: int) -> Counter[str]:
    """Return what became of n windows with one change each, evenly over the splits."""
    counts: Counter[str] = Counter()
    for i in range(n):
        counts += _injected(splits[i % len(splits)], inject, name, np.random.default_rng([23, i]))
    return counts


def _injected(split: Split, inject: Inject, name: str, generator: Generator) -> Counter[str]:
    counts: Counter[str] = Counter()
    made = inject(split.window(generator), generator)
    if made is None:
        return counts
    current, broken = made
    if broken and name and not _can_break(name, split.reference[broken].values):
        return counts
    found = _look(split.reference, current, set(split.reference)).found
    counts.update(windows=1, called=bool(found))
    if found and broken:
        mine = [fault for fault in found if fault.field == broken]
        counts.update(
            field=bool(mine),
            kind=any(fault.kind in KINDS_OF.get(name, ()) for fault in mine),
            others=len(found) - len(mine),
        )
    return counts


def _can_break(name: str, before: Any) -> bool:
    """Whether such a fault would show in a column at all: one without width has no unit."""
    if name.startswith("constant"):
        return bool(np.unique(before.astype(str), return_counts=True)[1].max() < 0.99 * len(before))
    if before.dtype == object:
        return True
    low, high = np.quantile(before, (0.1, 0.9))
    return bool(high > low)


def _shifted(now: Table, generator: Generator, *, cell: tuple[str, float]) -> Any:
    made = data.shifted(now, cell, generator)
    return None if made is None else (made[0], made[1] or "")


def _broken(kind: str, change: Callable[[Any, Any, Generator], Any], share: float = 1.0) -> Inject:
    """Return what breaks a share of the values of one random column of a kind."""

    def inject(now: Table, generator: Generator) -> tuple[Table, str] | None:
        names = [
            n
            for n, v in now.items()
            if kind == "any" or (v.dtype == object) == (kind == "category")
        ]
        if not names:
            return None
        name = str(generator.choice(names))
        chosen = generator.random(data.n_rows(now)) < share
        return {**now, name: change(now[name], chosen, generator)}, name

    return inject


def _put(values: Any, chosen: Any, what: Any) -> Any:
    return (
        np.where(chosen, what, values)
        if values.dtype != object
        else _put_object(values, chosen, what)
    )


def _put_object(values: Any, chosen: Any, what: Any) -> Any:
    changed = values.copy()
    changed[chosen] = what
    return changed


def _gone(values: Any, chosen: Any, _: Generator) -> Any:
    return _put(values, chosen, None if values.dtype == object else np.nan)


def _frozen(values: Any, chosen: Any, generator: Generator) -> Any:
    return _put(values, chosen, values[generator.integers(len(values))])


def _times(factor: float) -> Callable[[Any, Any, Generator], Any]:
    return lambda values, chosen, _: np.where(chosen, values * factor, values)


def _placeholder(values: Any, chosen: Any, _: Generator) -> Any:
    return np.where(chosen, -999.0 * max(1.0, np.abs(values).max()), values)


def _recoded(values: Any, chosen: Any, _: Generator) -> Any:
    return np.array(
        [f"{v}".upper() + "_" if c else v for v, c in zip(values, chosen, strict=True)], object
    )


INJECTED: Final[Mapping[str, Inject]] = {
    "missing 40 %": _broken("any", _gone, 0.4),
    "missing 70 %": _broken("any", _gone, 0.7),
    "missing 100 %": _broken("any", _gone),
    "constant": _broken("any", _frozen),
    "constant in 95 % of numbers": _broken("number", _frozen, 0.95),
    "scaled x 10": _broken("number", _times(10.0)),
    "scaled x 1000": _broken("number", _times(1000.0)),
    "scaled x 1/100": _broken("number", _times(0.01)),
    "placeholder in 70 %": _broken("number", _placeholder, 0.7),
    "placeholder in all": _broken("number", _placeholder),
    "recoded categories 70 %": _broken("category", _recoded, 0.7),
    "recoded categories": _broken("category", _recoded),
}
KINDS_OF: Final[Mapping[str, tuple[FaultKind, ...]]] = {
    name: {
        "missing": (FaultKind.MISSING,),
        "constant": (FaultKind.CONSTANT,),
        "scaled": (FaultKind.SCALE, FaultKind.RANGE),
        "placeholder": (FaultKind.RANGE, FaultKind.CONSTANT),
        "recoded": (FaultKind.CATEGORIES,),
    }[name.split()[0]]
    for name in INJECTED
}


def _refused(n_windows: int) -> Iterator[tuple[str, str, Counter[str]]]:
    """Yield how often refusals of a schema break, and of the usual few, open an incident."""
    generator = np.random.default_rng(23)
    for truth, share in (("quiet", 0.02), ("quiet", 0.1), ("fault", 0.5), ("fault", 1.0)):
        counts: Counter[str] = Counter()
        for refused in generator.binomial(N_WINDOW, share, size=5 * n_windows):
            look = look_at_refusals(
                Refusals(int(refused), N_WINDOW - int(refused)), is_standing=False, rules=RULES
            )
            hit = bool(look.found)
            counts.update(windows=1, called=hit, field=hit, kind=hit)
        yield truth, f"refused {share:.0%} of {N_WINDOW}", counts


def _streams(folder: Path) -> Iterator[tuple[str, str, Counter[str]]]:
    """Yield what is called fault in real streams that drift by themselves, and when they break."""
    for name, table, slices in (_writers(folder), _titles(folder)):
        first = np.flatnonzero(slices == 0)
        reference = {n: Side(values) for n, values in data.rows_of(table, first[:2000]).items()}
        for truth, chosen in (("quiet", first[2000:]), ("drift", np.flatnonzero(slices > 0))):
            counts: Counter[str] = Counter()
            for start in range(0, len(chosen) - N_WINDOW + 1, N_WINDOW):
                now = data.rows_of(table, chosen[start : start + N_WINDOW])
                counts.update(windows=1, called=bool(_look(reference, now, (), name).found))
            yield truth, f"{name}, {'its first slice' if truth == 'quiet' else 'later'}", counts


def _writers(folder: Path) -> tuple[str, Table, Any]:
    rows = pq.read_table(folder / "digits_by_writer.parquet", columns=["pixels", "slice"])
    pixels = rows.column("pixels").to_pylist()
    inputs = [{"image": np.frombuffer(each, np.uint8).reshape(28, 28).tolist()} for each in pixels]
    signals = task_types.get("image-classification").signals(inputs, None)
    return "pictures of digits", signals, np.asarray(rows.column("slice"))


def _titles(folder: Path) -> tuple[str, Table, Any]:
    rows = pq.read_table(folder / "arxiv_titles.parquet")
    inputs = [{"text": text} for text in rows.column("text").to_pylist()]
    signals = task_types.get("text-classification").signals(inputs, None)
    return "titles of papers", signals, np.asarray(rows.column("slice"))

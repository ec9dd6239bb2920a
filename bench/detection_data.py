"""The data that detection is measured on: real sets, synthetic mixtures, and known shifts."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from sklearn import datasets

Table = dict[str, NDArray[Any]]
Generator = np.random.Generator

CELLS: tuple[tuple[str, float], ...] = (
    ("mean", 0.1),
    ("mean", 0.25),
    ("mean", 0.5),
    ("sd", 1.25),
    ("sd", 1.5),
    ("sd", 2.0),
    ("missing", 0.02),
    ("missing", 0.05),
    ("missing", 0.2),
    ("category", 0.05),
    ("category", 0.1),
    ("category", 0.2),
    ("correlation", 0.5),
    ("correlation", 1.0),
    ("labels", 0.1),
    ("labels", 0.3),
    ("subpopulation", 0.05),
    ("subpopulation", 0.1),
    ("subpopulation", 0.3),
)
KIND_OF = {
    "mean": {"location"},
    "sd": {"spread"},
    "missing": {"missing"},
    "category": {"new_category", "frequency"},
    "correlation": {"dependence"},
}
"""What a shift of one column must be called."""


def rows_of(table: Table, index: NDArray[np.int64]) -> Table:
    """Return the rows at these places."""
    return {name: values[index] for name, values in table.items()}


def n_rows(table: Table) -> int:
    """Return how many rows a table has."""
    return len(next(iter(table.values())))


def mixture(n: int, n_columns: int, generator: Generator) -> Table:
    """Return columns as they come: correlated, normal, skewed, rounded, heavy-tailed, categorical.

    Four fifths are numeric; the categories have 2, 5, 8 and 30 levels, unevenly. The same shape
    of dependence each time, whatever the generator.
    """
    loads = np.random.default_rng(7).normal(size=(n_columns, 5))
    hidden = generator.normal(size=(n, 5)) @ loads.T * 0.35
    hidden += generator.normal(size=(n, n_columns)) * 0.7
    n_numeric = int(0.8 * n_columns)
    shapes: tuple[Callable[[Any], Any], ...] = (
        lambda x: x,
        np.exp,
        lambda x: np.round(2 * x),
        lambda x: np.sign(x) * np.abs(x) ** 1.7,
    )
    table: Table = {f"n{i}": shapes[i % 4](hidden[:, i]) for i in range(n_numeric)}
    for i in range(n_numeric, n_columns):
        levels = (2, 5, 8, 30)[i % 4]
        rank = hidden[:, i].argsort().argsort() / n
        names = np.array([f"level {k}" for k in range(levels)], dtype=object)
        table[f"c{i}"] = names[np.minimum((levels * rank**1.8).astype(int), levels - 1)]
    return table


def handwriting(folder: Path, generator: Generator) -> Table:
    """Return real pictures as 16 correlated columns: the mean ink of 7 x 7 blocks, shuffled."""
    rows = pq.read_table(folder / "digits_by_writer.parquet", columns=["pixels", "slice"])
    kept = [p for p, s in zip(*rows.to_pydict().values(), strict=True) if s < 3]
    pixels = np.stack([np.frombuffer(each, np.uint8) for each in kept]).astype(np.float64)
    blocks = pixels.reshape(-1, 4, 7, 4, 7).mean(axis=(2, 4)).reshape(-1, 16)
    blocks = blocks[generator.permutation(len(blocks))]
    return {f"ink {i // 4} {i % 4}": blocks[:, i] for i in range(16)}


def bundled(load: Callable[[], Any]) -> Table:
    """Return the columns of one of scikit-learn's bundled sets."""
    return {f"x{i}": column for i, column in enumerate(np.ascontiguousarray(load().data.T))}


def null_sets(folder: Path | None, generator: Generator) -> dict[str, tuple[Table, int, int]]:
    """Return data sets with the rows of the reference and of the window to draw from them."""
    wide = mixture(30_000, 200, generator)
    middle = {name: wide[name] for name in [*list(wide)[:20], *list(wide)[160:165]]}
    small = {name: wide[name] for name in ("n0", "n1", "n2", "n3", "c160")}
    tied = {
        f"t{i}": np.random.default_rng(i).choice([0.0, 0, 0, 0, 1, 2, 5], 30_000) for i in range(25)
    }
    zipf = {
        f"z{i}": np.array(
            [f"v{k}" for k in np.minimum(generator.zipf(1.5, 30_000), 2000)], dtype=object
        )
        for i in range(10)
    }
    sets = {
        "mixture, 5 columns": (small, 5000, 500),
        "mixture, 25 columns": (middle, 5000, 500),
        "mixture, 25 columns, window of 200": (middle, 5000, 200),
        "mixture, 25 columns, reference of 1000": (middle, 1000, 500),
        "mixture, 200 columns": (wide, 5000, 500),
        "heavy ties, 25 columns": (tied, 2000, 500),
        "rare categories, 10 columns": (zipf, 5000, 300),
        "breast cancer, 30 columns": (bundled(datasets.load_breast_cancer), 300, 200),
        "diabetes, 10 columns": (bundled(datasets.load_diabetes), 250, 150),
        "wine, 13 columns": (bundled(datasets.load_wine), 100, 60),
        "digits, 64 columns": (bundled(datasets.load_digits), 1200, 200),
    }
    if folder is not None:
        sets["handwriting, 16 columns"] = (handwriting(folder, generator), 5000, 500)
    return sets


def shifted(
    table: Table, cell: tuple[str, float], generator: Generator
) -> tuple[Table, str | None] | None:
    """Return a window with one known shift, and the column that broke (None: many moved).

    None where the data have nothing that could shift so.
    """
    kind, size = cell
    table = {name: values.copy() for name, values in table.items()}
    numeric = [name for name, values in table.items() if values.dtype != object]
    categorical = [name for name in table if name not in numeric]
    n = n_rows(table)
    name = str(generator.choice(numeric))
    values = table[name]
    chosen = generator.random(n) < size
    if kind == "mean":
        table[name] = values + size * values.std()
    elif kind == "sd":
        table[name] = values.mean() + size * (values - values.mean())
    elif kind == "missing":
        table[name] = np.where(chosen, np.nan, values)
    elif kind == "correlation":
        places = np.flatnonzero(chosen)
        values[places] = values[generator.permutation(places)]
    elif kind == "category":
        if not categorical:
            return None
        name = str(generator.choice(categorical))
        table[name][chosen] = "never seen before"
    else:  # rows of one side of a hidden class, or of one corner, come more often
        key = table[numeric[0]] + (table[numeric[1]] if kind == "labels" else 0.0)
        level = 0.5 if kind == "labels" else 0.85
        pool = np.flatnonzero(key >= np.quantile(key, level))
        drawn = generator.choice(pool, int(chosen.sum()))
        copied = {column: table[column][drawn] for column in table}
        for column, new in copied.items():
            table[column][chosen] = new
        return table, None
    return table, name


def data_folder(given: Path | None) -> Path | None:
    """Return the folder of the real streams, if it is there."""
    named = given or (Path(os.environ["UPKEEP_DATA"]) if "UPKEEP_DATA" in os.environ else None)
    return named if named is not None and (named / "digits_by_writer.parquet").exists() else None

"""Streams whose harm is known: a cheap champion's answers, its confidence, and the truth."""

import importlib
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from bench.streams import encoder_directory
from workers.task_types import task_types

WINDOW: Final = 1000
N_WINDOWS: Final = 24
CHANGE: Final = 8
"""Window of a synthetic stream from which on it is not what it was."""

Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Answers:
    """What a champion was shown and answered, in order, and whether it was right.

    Attributes:
        inputs: column name to values (n,).
        scores: (n, k) probabilities of the classes.
        correct: (n,) whether the likeliest class was the true one.
    """

    inputs: dict[str, NDArray[Any]]
    scores: Numbers
    correct: NDArray[np.bool_]

    @property
    def confidence(self) -> Numbers:
        """Return the probability of the answer (n,)."""
        return np.asarray(self.scores.max(axis=1))

    def __len__(self) -> int:
        return len(self.correct)

    def rows(self, chosen: Any) -> "Answers":
        """Return some of the rows."""
        kept = {name: values[chosen] for name, values in self.inputs.items()}
        return Answers(kept, self.scores[chosen], self.correct[chosen])

    def windows(self) -> list["Answers"]:
        """Return the rows in windows; a last one with less than half the rows is left out."""
        starts = range(0, len(self) - WINDOW // 2, WINDOW)
        return [self.rows(slice(start, start + WINDOW)) for start in starts]


@dataclass(frozen=True)
class HarmStream:
    """A champion's unseen reference rows and what it met afterwards.

    Attributes:
        n_first: how many rows of the stream belong to its first slice, where it has slices.
    """

    name: str
    reference: Answers
    stream: Answers
    n_first: int | None = None


def answered(model: Any, features: Any, truth: NDArray[Any], inputs: dict[str, Any]) -> Answers:
    """Let a fitted model answer."""
    scores = np.asarray(model.predict_proba(features), dtype=np.float64)
    return Answers(inputs, scores, np.asarray(model.classes_[scores.argmax(axis=1)] == truth))


def _held_out(groups: NDArray[Any], share: float = 0.3) -> NDArray[np.bool_]:
    """Return which rows are kept from training: whole groups, so that no row leaks its like."""
    names = np.random.default_rng(0).permutation(np.unique(groups))
    return np.isin(groups, names[: max(1, round(share * len(names)))])


def digits(folder: Path) -> HarmStream:
    """Digits by the people who wrote them; a small network; whole writers held out."""
    table = pq.read_table(folder / "digits_by_writer.parquet")
    pixels = np.frombuffer(b"".join(table["pixels"].to_pylist()), np.uint8).reshape(-1, 784)
    features, truth = pixels / 255.0, np.asarray(table["label"])
    slices, kept = np.asarray(table["slice"]), _held_out(np.asarray(table["writer"]))
    model = MLPClassifier((128,), early_stopping=False, max_iter=25, random_state=0)
    first = slices == 0
    model.fit(features[first & ~kept], truth[first & ~kept])
    inputs = {"brightness": features.mean(axis=1), "ink": (features > 0.5).mean(axis=1)}
    all_rows = answered(model, features, truth, inputs)
    rows = all_rows.rows(first & kept), all_rows.rows(~first)
    return HarmStream("digits_by_writer", *rows, int((slices == 1).sum()))


def titles(folder: Path, features: NDArray[Any]) -> HarmStream:
    """Titles of papers by year; a linear head on embeddings.

    Args:
        folder: of the streams.
        features: (n, d) embeddings of the titles, in order.
    """
    table = pq.read_table(folder / "arxiv_titles.parquet")
    truth, slices = np.asarray(table["label"]), np.asarray(table["slice"])
    first = slices == 0
    kept = _held_out(np.arange(len(truth)))
    model = LogisticRegression(C=3.0, max_iter=500)
    model.fit(features[first & ~kept], truth[first & ~kept])
    length = np.asarray([len(text) for text in table["text"].to_pylist()], dtype=np.float64)
    inputs = {"n_characters": length}
    inputs |= {f"component_{i}": features[:, i].astype(np.float64) for i in range(8)}
    all_rows = answered(model, features, truth, inputs)
    rows = all_rows.rows(first & kept), all_rows.rows(~first)
    return HarmStream("arxiv_titles", *rows, int((slices == 1).sum()))


def embeddings(folder: Path, cache: Path) -> NDArray[np.float32]:
    """Return the embeddings of the titles, from the cache when they are there."""
    path = cache / "arxiv_titles.npz"
    if not path.exists():
        importlib.import_module("workers.task_types.text_classification")
        table = pq.read_table(folder / "arxiv_titles.parquet")
        task = task_types.get("text-classification")
        with tempfile.TemporaryDirectory() as scratch:
            base = Path(scratch) / "base"
            labels = sorted(set(table["label"].to_pylist()))
            task.create(encoder_directory(), labels, base, seed=0)
            inputs = [{"text": text} for text in table["text"].to_pylist()]
            features = task.load(base).features(inputs)
        cache.mkdir(parents=True, exist_ok=True)
        np.savez(path, features=features)
    return np.asarray(np.load(path)["features"])


def congress(folder: Path) -> HarmStream:
    """Party by state and person; one-hot and logistic; whole members held out."""
    table = pq.read_table(folder / "congress_party.parquet").to_pandas()
    texts, numbers = ["chamber", "state", "generation"], ["age_years", "terms_total"]
    first = (table["slice"] == 0).to_numpy()
    kept = _held_out(table["member_id"].to_numpy())
    encoder = make_column_transformer(
        (OneHotEncoder(handle_unknown="ignore"), texts), (StandardScaler(), numbers)
    )
    model = make_pipeline(encoder, LogisticRegression(max_iter=500))
    truth = table["label"].to_numpy()
    model.fit(table[first & ~kept], truth[first & ~kept])
    inputs = {name: table[name].to_numpy(object) for name in texts}
    inputs |= {name: table[name].to_numpy(np.float64) for name in numbers}
    all_rows = answered(model, table, truth, inputs)
    n_first = int((table["slice"] == 1).sum())
    return HarmStream("congress_party", all_rows.rows(first & kept), all_rows.rows(~first), n_first)


def real(folder: Path, cache: Path) -> list[HarmStream]:
    """Return the dated streams; embeddings of titles are kept in the cache."""
    return [congress(folder), digits(folder), titles(folder, embeddings(folder, cache))]


def _mixture(rng: np.random.Generator, n: int) -> tuple[Numbers, Numbers]:
    """Return ten columns, five of them irrelevant, and the chance of class 1."""
    x = rng.normal(size=(n, 10))
    logit = 1.6 * x[:, 0] + 1.2 * x[:, 1] * x[:, 2] + 1.4 * np.sin(2 * x[:, 3]) + x[:, 4]
    return x, 1 / (1 + np.exp(-2.2 * logit))


def _drawn(rng: np.random.Generator, chance: Numbers) -> NDArray[np.int64]:
    return (rng.random(len(chance)) < chance).astype(np.int64)


def _synthetic(
    name: str,
    seed: int,
    window: Callable[[np.random.Generator, int], tuple[Numbers, Any]],
    n_windows: int = N_WINDOWS,
) -> HarmStream:
    """Return a stream whose windows a function draws by their number; -1 is the reference."""
    rng = np.random.default_rng([seed, len(name)])
    parts = [window(rng, -1) for _ in range(8)]
    learned, known = (np.concatenate([part[i] for part in parts[:4]]) for i in (0, 1))
    model = HistGradientBoostingClassifier(max_iter=80, random_state=0).fit(learned, known)

    def answers(parts: list[tuple[Numbers, Any]]) -> Answers:
        x, y = (np.concatenate([part[i] for part in parts]) for i in (0, 1))
        return answered(model, x, y, {f"x{i}": x[:, i] for i in range(x.shape[1])})

    later = [window(rng, number) for number in range(n_windows)]
    return HarmStream(name, answers(parts[4:]), answers(later))


def harmless(seed: int) -> HarmStream:
    """Five irrelevant columns move by half a standard deviation."""

    def window(rng: np.random.Generator, number: int) -> tuple[Numbers, Any]:
        x, chance = _mixture(rng, WINDOW)
        if number >= CHANGE:
            x[:, 5:] += 0.5
        return x, _drawn(rng, chance)

    return _synthetic("harmless shift", seed, window)


def to_the_boundary(seed: int) -> HarmStream:
    """Rows come from where the classes meet, for four windows at a time."""

    def window(rng: np.random.Generator, number: int) -> tuple[Numbers, Any]:
        x, chance = _mixture(rng, 4 * WINDOW)
        is_hard = number >= CHANGE and (number // 4) % 2 == 0
        order = np.argsort(np.abs(chance - 0.5)) if is_hard else np.arange(len(x))
        chosen = rng.permutation(order[: 2 * WINDOW])[:WINDOW]
        return x[chosen], _drawn(rng, chance[chosen])

    return _synthetic("harmful covariate shift", seed, window)


def flipped(seed: int) -> HarmStream:
    """A share of the labels turns over."""

    def window(rng: np.random.Generator, number: int) -> tuple[Numbers, Any]:
        x, chance = _mixture(rng, WINDOW)
        y = _drawn(rng, chance)
        turned = (rng.random(WINDOW) < 0.15) & (number >= CHANGE)
        return x, np.where(turned, 1 - y, y)

    return _synthetic("concept shift", seed, window)


def sea(seed: int) -> HarmStream:
    """The concepts of Street and Kim (2001): two columns' sum against 8, 9, 7 and 9.5 in turn."""
    per_concept = 15

    def window(rng: np.random.Generator, number: int) -> tuple[Numbers, Any]:
        x = rng.uniform(0, 10, size=(WINDOW, 3))
        limit = (8.0, 9.0, 7.0, 9.5)[max(number, 0) // per_concept]
        noise = rng.random(WINDOW) < 0.1
        return x, np.where(noise, x[:, 0] + x[:, 1] > limit, x[:, 0] + x[:, 1] <= limit)

    return _synthetic("SEA", seed, window, 4 * per_concept)


SYNTHETIC: Final[dict[str, Callable[[int], HarmStream]]] = {
    "harmless shift": harmless,
    "harmful covariate shift": to_the_boundary,
    "concept shift": flipped,
    "SEA": sea,
}

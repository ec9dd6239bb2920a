"""Is drift of texts found through the champion's own embeddings, beside the usual tests?"""

import csv
import gzip
import importlib
import json
import os
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from app.domain.drift import judge_scores
from bench.detection_support import FALSE_ALARM_ROWS, FDR
from bench.streams import encoder_directory
from workers.detectors import DEFAULTS, configured
from workers.detectors.evidently import library_score
from workers.detectors.measure import measure_window
from workers.task_types import task_types
from workers.training.probe import fit

N_REFERENCE: Final = 1200
WINDOW: Final = 200
N_WINDOWS: Final = 3
N_TRAINED: Final = 2000
N_ABSENT: Final = 8
N_CHAMPIONS: Final = 5
LEVELS: Final = {
    "upkeep": FDR / N_WINDOWS,
    "upkeep_as_served": WINDOW / (2 * FALSE_ALARM_ROWS),
}
"""False discovery rate of one look: 5 % over the three, and what the service spends."""
CELLS: Final = (
    ("null", 0.0),
    ("class", 0.2),
    ("out of scope", 0.1),
    ("class", 0.1),
    ("out of scope", 0.05),
    ("class", 0.4),
    ("out of scope", 0.2),
)
SETS: Final = ("banking", "clinc")
CACHE: Final = Path(tempfile.gettempdir()) / "upkeep-bench"


@dataclass(frozen=True)
class Queries:
    """Sentences with their intents, and what the base encoder's champion sees of them.

    Attributes:
        texts: (n,) sentences.
        intents: (n,) names; those out of scope have the name "oos".
        sets: (n,) the set that each is from.
        features: (n, d) input of the champion's last linear layer.
    """

    texts: NDArray[Any]
    intents: NDArray[Any]
    sets: NDArray[Any]
    features: NDArray[np.float64]


@dataclass(frozen=True)
class Champion:
    """A head fitted to intents of one set, eight of which it has never seen.

    Attributes:
        known: rows of the known intents that it was not trained on.
        absent: rows of the others.
        scores: (n, k) of all rows.
    """

    known: NDArray[np.int64]
    absent: NDArray[np.int64]
    scores: NDArray[np.float32]
    labels: NDArray[Any]


def read_queries(folder: Path) -> tuple[list[str], list[str], list[str]]:
    """Return sentences, intents and sets of BANKING77 and CLINC150."""
    rows = []
    for part in ("train", "test"):
        with gzip.open(folder / f"banking77_{part}.csv.gz", "rt") as lines:
            rows += [(row["text"], row["category"], "banking") for row in csv.DictReader(lines)]
    with gzip.open(folder / "clinc150_full.json.gz") as file:
        parts = json.load(file)
    for part in ("val", "test"):
        rows += [(text, intent, "clinc") for text, intent in parts[part]]
    for part in ("oos_train", "oos_val", "oos_test"):
        rows += [(text, "oos", "oos") for text, _ in parts[part]]
    texts, intents, sets = (list(column) for column in zip(*rows, strict=True))
    return texts, intents, sets


@cache
def queries(folder: Path) -> Queries:
    """Return all sentences with their features; encoded once and kept beside other scratch."""
    texts, intents, sets = read_queries(folder)
    path = CACHE / "queries.npy"
    if not path.exists():
        importlib.import_module("workers.task_types.text_classification")
        kind = task_types.get("text-classification")
        started = time.process_time()
        with tempfile.TemporaryDirectory() as scratch:
            version = Path(scratch) / "base"
            base = encoder_directory()
            kind.create(base, sorted(set(intents)), version, seed=0)
            features = kind.load(version).features([{"text": text} for text in texts])
        CACHE.mkdir(exist_ok=True)
        np.save(path, features)
        print(
            f"{len(texts)} sentences: {time.process_time() - started:.0f} s of CPU", file=sys.stderr
        )
    features = np.load(path).astype(np.float64)
    return Queries(np.array(texts, dtype=object), np.array(intents), np.array(sets), features)


def champions(data: Queries, name: str) -> list[Champion]:
    """Return champions of one set, each with other absent intents."""
    rows = np.flatnonzero(data.sets == name)
    labels = np.unique(data.intents[rows])
    made = []
    for number in range(N_CHAMPIONS):
        generator = np.random.default_rng([8, number])
        absent = generator.choice(labels, N_ABSENT, replace=False)
        is_absent = np.isin(data.intents[rows], absent)
        known = generator.permutation(rows[~is_absent])
        kept = np.setdiff1d(labels, absent)
        targets = np.searchsorted(kept, data.intents[known[:N_TRAINED]])
        features = data.features.astype(np.float32)
        head = fit(features[known[:N_TRAINED]], targets, len(kept), seed=number)
        made.append(Champion(known[N_TRAINED:], rows[is_absent], head.scores(features), kept))
    return made


def drawn_windows(
    data: Queries, champion: Champion, cell: tuple[str, float], generator: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return rows of a reference and of three windows, one after the other."""
    rows = generator.permutation(champion.known)
    reference = rows[:N_REFERENCE]
    current = rows[N_REFERENCE : N_REFERENCE + N_WINDOWS * WINDOW].copy()
    kind, share = cell
    others = champion.absent if kind == "class" else np.flatnonzero(data.sets == "oos")
    others = generator.permutation(others)
    n_others = round(share * WINDOW)
    for window in range(N_WINDOWS):
        at = window * WINDOW + generator.choice(WINDOW, n_others, replace=False)
        current[at] = others[window * n_others : (window + 1) * n_others]
    return reference, current


def columns(
    data: Queries,
    champion: Champion,
    rows: NDArray[np.int64],
    state: dict[str, Any],
    *,
    of_reference: bool,
) -> dict[str, dict[str, NDArray[Any]]]:
    """Return the signals of rows as a check reads them."""
    kind = task_types.get("text-classification")
    inputs = [{"text": text} for text in data.texts[rows]]
    scores = champion.scores[rows]
    return {
        "numeric": {
            **kind.signals(inputs, state, of_reference=of_reference),
            "confidence": scores.max(axis=1).astype(np.float64),
        },
        "categorical": {"prediction": champion.labels[scores.argmax(axis=1)].astype(object)},
        "embedding": {"embedding": data.features[rows]},
    }


def looks(
    data: Queries, champion: Champion, cell: tuple[str, float], i: int
) -> Iterator[tuple[Any, Any, NDArray[np.int64], NDArray[np.int64]]]:
    """Yield what is compared after each window: of the one, of two, of three together."""
    generator = np.random.default_rng([9, i])
    reference, current = drawn_windows(data, champion, cell, generator)
    kind = task_types.get("text-classification")
    state = kind.fit_signals([{"text": text} for text in data.texts[reference]])
    before = columns(data, champion, reference, state, of_reference=True)
    for n_windows in range(1, N_WINDOWS + 1):
        seen = current[: n_windows * WINDOW]
        yield before, columns(data, champion, seen, state, of_reference=False), reference, seen


def text(folder: Path | None, quick: bool) -> list[dict[str, Any]]:
    """Mix strange sentences into windows of 200, and see which tests find it within three.

    A finding within three looks counts; in quiet streams it is a false one. Upkeep is the whole
    finding of a check: embeddings, answers, confidence and the signals of texts, corrected
    together. The others take 5 % over the three looks, Evidently's its own thresholds.
    """
    if folder is None:
        raise SystemExit("no data: name the folder with --data or UPKEEP_DATA")
    torch.set_num_threads(1)
    importlib.import_module("workers.task_types.text_classification")
    data = queries(folder)
    rows = []
    for name in SETS:
        makers = champions(data, name)
        for cell in CELLS:
            n_pairs = (40, 10) if quick else (1000, 100)
            counts: Counter[str] = Counter()
            spent: Counter[str] = Counter()
            n = n_pairs[0] if cell[0] == "null" else n_pairs[1]
            n_rivals = min(n, 10 if quick else 60)
            for i in range(n):
                found = _found(
                    data, makers[i % len(makers)], cell, i, spent, with_rivals=i < n_rivals
                )
                counts.update(found)
            row: dict[str, Any] = {"data": name, "cell": f"{cell[0]} {cell[1]:g}", "pairs": n}
            row |= {who: counts[who] / n for who in LEVELS}
            row |= {
                who: counts[who] / n_rivals for who in spent if who not in {"upkeep", "embedding"}
            }
            row["cpu_seconds"] = spent["upkeep"] / (n * N_WINDOWS)
            rows.append(row)
            print(row, file=sys.stderr, flush=True)
    return rows


def _found(
    data: Queries,
    champion: Champion,
    cell: tuple[str, float],
    i: int,
    spent: Counter[str],
    *,
    with_rivals: bool,
) -> set[str]:
    """Return who finds drift in one stream within three looks; add up CPU seconds."""
    found: set[str] = set()
    for before, after, reference, seen in looks(data, champion, cell, i):
        started = time.process_time()
        scores = measure_window(before, after, DEFAULTS, fdr=FDR, seed=i)
        spent["upkeep"] += time.process_time() - started  # type: ignore[assignment]  # seconds
        for who, level in LEVELS.items():
            if any(score.drifted for score in judge_scores(scores, fdr=level)):
                found.add(who)
        if with_rivals:
            for who, is_found in _rivals(data, reference, seen, i).items():
                spent[who] += 0
                found |= {who} if is_found else set()
    return found


def _rivals(
    data: Queries, reference: NDArray[np.int64], seen: NDArray[np.int64], i: int
) -> dict[str, bool]:
    before, after = data.features[reference], data.features[seen]
    found = {}
    for name in ("neighbours", "classifier", "mmd"):
        p_value = configured(name, {}).measure(before, after, seed=i).p_value
        found[name] = p_value is not None and p_value <= FDR / N_WINDOWS
    auc = library_score(
        "abs_text_content_drift", data.texts[reference], data.texts[seen], "text", i
    )
    found["evidently_text"] = auc > 0.55
    os.environ.setdefault("DO_NOT_TRACK", "1")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        methods = importlib.import_module(
            "evidently.legacy.metrics.data_drift.embedding_drift_methods"
        )
        pandas = importlib.import_module("pandas")
        state = np.random.get_state()
        for method in ("model", "mmd", "distance"):
            frames = (pandas.DataFrame(after), pandas.DataFrame(before))
            frames = tuple(frame.rename(columns=str) for frame in frames)
            _, is_found, _ = getattr(methods, method)()(*frames)
            found[f"evidently_{method}"] = bool(is_found)
        np.random.set_state(state)
    return found

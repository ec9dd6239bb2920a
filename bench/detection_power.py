"""How often is a known shift found, and is the right column named, beside the usual tests?"""

import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

import bench.detection_data as data
from app.domain.drift import benjamini_hochberg
from bench.detection_data import Table
from bench.detection_support import FDR, found
from workers.detectors import configured

Counts = Counter[str]


def power(folder: Path | None, quick: bool) -> list[dict[str, Any]]:
    """Shift windows of 500 in a known way, and see which tests find it and what they name."""
    n_pairs = 10 if quick else 100
    generator = np.random.default_rng(6)
    sets = {"mixture": data.mixture(30_000, 25, generator)}
    sets["small mixture"] = {name: sets["mixture"][name] for name in list(sets["mixture"])[::3]}
    if folder is not None:
        sets["handwriting"] = data.handwriting(folder, generator)
    rows = []
    for cell in data.CELLS:
        counts: Counts = Counter()
        for table in sets.values():
            for i in range(n_pairs):
                counts += _one_pair(table, cell, i, with_rivals=i < max(5, n_pairs // 5))
        rows.append(_row_of(cell, counts))
        print(rows[-1], file=sys.stderr, flush=True)
    anchors = {
        who: float(np.mean([row[who] for row in rows])) for who in ("ks", "mmd", "classifier")
    }
    ours = float(np.mean([row["upkeep"] for row in rows]))
    attributed = {
        name: float(np.mean([row[name] for row in rows if name in row]))
        for name in ("broken_first", "false_discovery_rate", "kind_named")
    }
    ratio = ours / max(anchors.values())
    rows.append({"cell": "mean", "upkeep": ours, **anchors, "ratio": ratio, **attributed})
    return rows


def _one_pair(table: Table, cell: tuple[str, float], i: int, *, with_rivals: bool) -> Counts:
    generator = np.random.default_rng([7, i])
    order = generator.permutation(data.n_rows(table))
    reference = data.rows_of(table, order[:5000])
    made = data.shifted(data.rows_of(table, order[5000:5500]), cell, generator)
    counts: Counts = Counter()
    if made is None:
        return counts
    current, broken = made
    scores = found(reference, current)
    named = [score for score in scores if score.drifted]
    counts["pairs"] += 1
    counts["found"] += bool(named)
    if broken is not None and named:
        first = min(named, key=lambda score: (score.p_value, -score.statistic))
        counts["one_broke"] += 1
        counts["first"] += first.feature == broken
        wrong = sum(score.feature != broken for score in named)
        counts["false_share"] += wrong / len(named)
        right = [score for score in named if score.feature == broken]
        counts["right"] += len(right)
        counts["kind"] += sum(score.kind in data.KIND_OF[cell[0]] for score in right)
    if with_rivals:
        counts["rival_pairs"] += 1
        for who, p_value in _anchors(reference, current).items():
            counts[who] += p_value <= FDR
    return counts


def _anchors(reference: Table, current: Table) -> dict[str, float]:
    """Return q-values of the note's anchors: KS (chi-square) with BH, MMD, a domain classifier."""
    p_values, before, after = [], [], []
    for name, values in reference.items():
        then, now = values, current[name]
        if values.dtype == object:
            levels = sorted(set(then) | set(now))
            table = np.array([[(side == v).sum() for v in levels] for side in (then, now)])
            p_values.append(float(stats.chi2_contingency(table).pvalue))
            place = {level: k for k, level in enumerate(levels)}
            then, now = (np.array([place[v] for v in side], float) for side in (then, now))
        else:
            p_values.append(float(stats.ks_2samp(then, now[~np.isnan(now)]).pvalue))
        centre, spread = np.median(then), then.std() or 1.0
        before.append((np.nan_to_num(then, nan=centre) - centre) / spread)
        after.append((np.nan_to_num(now, nan=centre) - centre) / spread)
    sides = np.stack(before, axis=1), np.stack(after, axis=1)
    answers = {"ks": min(benjamini_hochberg(p_values))}
    for name in ("mmd", "classifier"):
        measured = configured(name, {}).measure(*sides, seed=0)
        answers[name] = 1.0 if measured.p_value is None else measured.p_value
    return answers


def _row_of(cell: tuple[str, float], counts: Counts) -> dict[str, Any]:
    """Return the shares of a cell.

    The false discovery rate is that of Benjamini and Hochberg (1995): the mean over all pairs of
    the share of wrong names among those given, 0 where none was.
    """
    rivals = {who: counts[who] / counts["rival_pairs"] for who in ("ks", "mmd", "classifier")}
    row: dict[str, Any] = {
        "cell": f"{cell[0]} {cell[1]:g}",
        "pairs": counts["pairs"],
        "upkeep": counts["found"] / counts["pairs"],
        **rivals,
    }
    if counts["one_broke"]:
        row |= {
            "broken_first": counts["first"] / counts["one_broke"],
            "false_discovery_rate": counts["false_share"] / counts["pairs"],
            "kind_named": counts["kind"] / max(counts["right"], 1),
        }
    return row

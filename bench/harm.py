"""Is harm told from harmless with 50 labels for 1,000 rows? Beside CBPE, labels alone, a constant.

    python -m bench.harm [--data FOLDER] [--cache FOLDER] [--quick]

Streams: digits by writer, titles by year (linear head on MiniLM embeddings, kept in --cache) and
party of members of Congress, where --data (or UPKEEP_DATA) names their folder; and four synthetic
ones, drawn anew for each seed: five irrelevant columns that move, rows from the class boundary,
15 % of the labels flipped, SEA. A cheap champion learned part of slice 0; its calibration and
accepted accuracy come from the unseen rest (other writers, other members). Then windows of 1,000
rows come, 50 of them labelled at random. A window is harmful if its true accuracy is more than
3 points under what was accepted.

- found / false: share of harmful / other windows that are called harmful: ours where the chance of
  harm exceeds one half, the rivals where their estimate is more than 3 points under. `clear` counts
  only the others that are less than 2 points under.
- MAE: mean distance from the window's true accuracy. CBPE is our own, an isotonic fit and a mean;
  `labels` is the mean of the window's 50.
- covered: share of windows whose true accuracy lies in our 95 % interval.
- withdrawn: share of seeds in which labels took the estimate back; where bias is below 2 points
  all along it should be none.
- retrains: share of seeds in which the default triggers ask for a retrain at some window, and the
  median window of the first one, counted from the first harmful one; for the dated streams also
  the share in which it came within their first slice (digits: quiet; Congress: 16 points down).

Writes bench/results/harm.json and prints a table. `--quick` takes a fifth of the seeds.
"""

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

import app.triggers
from app.domain.calibration import calibrated
from app.domain.decisions import Situation, decide
from app.domain.drift import Finding, Watch, after_look, finding_of, next_look
from app.domain.estimation import Estimate, after_labels, calibrated_on, over_window
from app.domain.performance import standard_error, watch_accuracy
from app.domain.policies import Policy
from app.domain.registry import scan
from app.triggers import triggers
from bench import harm_streams
from bench.detection_support import by_kind
from bench.harm_streams import SYNTHETIC, WINDOW, Answers, HarmStream
from workers.detectors import DEFAULTS
from workers.detectors.measure import measure_window
from workers.statistics.watching import watch_window

scan(app.triggers)
RESULT: Final = Path(__file__).resolve().parent / "results" / "harm.json"
LABELS: Final = 50
POINTS: Final = 0.03
CLEAR: Final = 0.02
NOW: Final = datetime(2026, 1, 1, tzinfo=UTC)
POLICY: Final = Policy()
RIVALS: Final = ("constant", "CBPE", "labels")


@dataclass
class Played:
    """What one seed gave: a row for each window."""

    true: NDArray[np.float64]
    said: dict[str, NDArray[np.float64]]
    harm: NDArray[np.float64]
    covered: NDArray[np.bool_]
    withdrawn_at: int | None
    asked_at: int | None


def columns_of(answers: Answers) -> dict[str, Any]:
    """Return what a check would measure of some rows."""
    answer = answers.scores.argmax(axis=1).astype(str).astype(object)
    return by_kind({**answers.inputs, "prediction": answer, "confidence": answers.confidence})


class Asked:
    """The default triggers, asked after each window as the service asks them."""

    def __init__(self, stream: HarmStream) -> None:
        self._reference = columns_of(stream.reference)
        self._accepted = float(stream.reference.correct.mean())
        self._n = len(stream.reference)
        self._watch = Watch()
        self._correct: list[bool] = []
        self._labelled: list[int] = []

    def after(
        self, number: int, window: Answers, chosen: NDArray[np.int64], estimate: Estimate
    ) -> bool:
        """Say whether a retrain is asked for."""
        sequences = list(range(number * WINDOW + 1, number * WINDOW + len(window) + 1))
        self._correct += window.correct[chosen].tolist()
        self._labelled += [sequences[i] for i in chosen]
        finding, drifted = self._looked(window, sequences)
        rules, began = POLICY.performance, self._watch.began_after
        error = rules.allowance_errors * standard_error(self._accepted, self._n)
        labelled = watch_accuracy(
            np.asarray(self._correct), self._accepted, rules.tolerance + error
        )
        situation = Situation(
            now=NOW,
            is_paused=False,
            finding=finding,
            drifted=drifted,
            performance=labelled,
            estimated=estimate.accuracy if estimate.stands else None,
            n_labels=len(self._correct),
            n_labels_since_drift=None
            if began is None
            else sum(at > began for at in self._labelled),
            n_new_labels=len(self._correct),
            n_classes_labelled=2,
        )
        signals = [
            triggers.get(name).read(situation, POLICY, options)
            for name, options in POLICY.triggers.items()
        ]
        return decide(situation, signals, POLICY).trigger is not None

    def _looked(self, window: Answers, sequences: list[int]) -> tuple[Finding, tuple[str, ...]]:
        rules, current = POLICY.check, columns_of(window)
        level, _ = next_look(
            self._watch,
            n_fresh=len(window),
            minimum_rows=rules.minimum_rows,
            fdr=rules.fdr,
            false_alarm_rows=rules.false_alarm_rows,
        )
        scores = measure_window(self._reference, current, DEFAULTS, fdr=level, seed=0)
        watch = watch_window(
            self._reference,
            current,
            self._watch,
            sequences=sequences,
            false_alarm_rows=rules.false_alarm_rows,
        )
        finding = finding_of(scores, n_current=len(window), minimum_rows=rules.minimum_rows)
        if watch.alarmed_at == sequences[-1]:
            finding = Finding.DRIFT
        self._watch = after_look(
            self._watch,
            watch,
            level=level,
            looked_through=sequences[-1],
            drifted=finding is Finding.DRIFT,
        )
        moved = [score.feature for score in scores if score.drifted] or [*watch.leading][:1]
        return finding, tuple(moved) if finding is Finding.DRIFT else ()


def play(stream: HarmStream, seed: int, *, decides: bool) -> Played:
    """Let a stream come by, with one choice of labelled rows."""
    rng, reference = np.random.default_rng([7, seed]), stream.reference
    accepted, windows = float(reference.correct.mean()), stream.stream.windows()
    fitted = calibrated(reference.confidence, reference.correct)
    estimate = calibrated_on(
        reference.confidence,
        reference.correct,
        reference="unseen",
        tolerance=POLICY.performance.tolerance,
    )
    asked, said, harm, covered = Asked(stream) if decides else None, [], [], []
    withdrawn_at = asked_at = None
    for number, window in enumerate(windows):
        chosen = np.sort(rng.choice(len(window), LABELS * len(window) // WINDOW, replace=False))
        known = np.full(len(window), np.nan)
        known[chosen] = window.correct[chosen]
        estimate = after_labels(
            estimate,
            window.confidence[chosen],
            window.correct[chosen],
            through=number + 1,
            run_length=POLICY.performance.average_run_length,
            now=NOW,
        )
        estimate = over_window(estimate, window.confidence, known, floor=accepted - POINTS)
        ours, true = estimate.accuracy, float(window.correct.mean())
        if ours is None or estimate.harm is None:
            raise SystemExit(f"{stream.name}: too few reference rows")
        cbpe = float(fitted.chance(window.confidence).mean())
        said.append([accepted, cbpe, float(np.nanmean(known)), ours.value])
        harm.append(estimate.harm)
        covered.append(ours.lower <= true <= ours.upper)
        if withdrawn_at is None and not estimate.stands:
            withdrawn_at = number
        if asked is not None and asked_at is None and asked.after(number, window, chosen, estimate):
            asked_at = number
    return Played(
        true=np.array([window.correct.mean() for window in windows]),
        said=dict(zip((*RIVALS, "ours"), np.array(said).T, strict=True)),
        harm=np.array(harm),
        covered=np.array(covered),
        withdrawn_at=withdrawn_at,
        asked_at=asked_at,
    )


def _share(hits: list[NDArray[np.bool_]]) -> float | None:
    found = np.concatenate(hits)
    return round(float(found.mean()), 3) if len(found) else None


def _found_at(scores: NDArray[np.float64], is_harm: NDArray[np.bool_]) -> float | None:
    """Return the share of harmful windows above the score that 5 % of the others exceed."""
    if is_harm.all() or not is_harm.any():
        return None
    limit = np.quantile(scores[~is_harm], 0.95, method="higher")
    return round(float((scores[is_harm] > limit).mean()), 3)


def measure(name: str, drawn: Callable[[int], HarmStream], n: int, n_decided: int) -> Any:
    """Play a stream with many choices of labels; return its row of the table."""
    played: list[tuple[float, Played]] = []
    n_first = None
    for seed in range(n):
        stream = drawn(seed)
        n_first = stream.n_first
        accepted = float(stream.reference.correct.mean())
        played.append((accepted, play(stream, seed, decides=seed < n_decided)))
    row: dict[str, Any] = {"stream": name, "seeds": n, "labels_per_window": LABELS}
    is_harm = [one.true < accepted - POINTS for accepted, one in played]
    is_clear = [one.true >= accepted - CLEAR for accepted, one in played]
    row["windows"] = sum(map(len, is_harm))
    row["harmful"] = int(sum(mask.sum() for mask in is_harm))
    for who in ("ours", *RIVALS):
        calls = [
            one.harm > 0.5 if who == "ours" else one.said[who] < accepted - POINTS
            for accepted, one in played
        ]
        row[who] = {
            "found": _share([c[m] for c, m in zip(calls, is_harm, strict=True)]),
            "false": _share([c[~m] for c, m in zip(calls, is_harm, strict=True)]),
            "clear": _share([c[m] for c, m in zip(calls, is_clear, strict=True)]),
            "mae": float(np.mean([np.abs(one.said[who] - one.true).mean() for _, one in played])),
        }
    scores = {"ours": [one.harm for _, one in played]}
    scores |= {who: [accepted - one.said[who] for accepted, one in played] for who in RIVALS}
    for who, values in scores.items():
        row[who]["found_at_5_false"] = _found_at(np.concatenate(values), np.concatenate(is_harm))
    best = min(row[who]["mae"] for who in RIVALS)
    row["mae_to_best_rival"] = row["ours"]["mae"] / best
    row["covered"] = _share([one.covered for _, one in played])
    row["withdrawn"] = float(np.mean([one.withdrawn_at is not None for _, one in played]))
    decided = list(zip(played, is_harm, strict=True))[:n_decided]
    delays = [
        one.asked_at - int(np.argmax(mask))
        for (_, one), mask in decided
        if one.asked_at is not None and mask.any()
    ]
    row["retrains_asked"] = float(np.mean([one.asked_at is not None for (_, one), _ in decided]))
    row["asked_before_harm"] = float(np.mean([d < 0 for d in delays])) if delays else 0.0
    row["median_windows_to_ask"] = float(np.median(delays)) if delays else None
    if n_first is not None:
        asked = [one.asked_at for (_, one), _ in decided if one.asked_at is not None]
        row["asked_in_first_slice"] = sum(at * WINDOW < n_first for at in asked) / len(decided)
    print(row, file=sys.stderr, flush=True)
    return row


def _same(stream: HarmStream, _: int) -> HarmStream:
    return stream


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=os.environ.get("UPKEEP_DATA"))
    parser.add_argument("--cache", type=Path, help="where embeddings are kept; else nowhere")
    parser.add_argument("--quick", action="store_true")
    args = parser.parse_args()
    n, n_decided = (4, 2) if args.quick else (20, 8)
    rows = [measure(name, draw, n, n_decided) for name, draw in SYNTHETIC.items()]
    if args.data:
        with tempfile.TemporaryDirectory() as scratch:
            real = harm_streams.real(Path(args.data), args.cache or Path(scratch))
        rows += [measure(it.name, partial(_same, it), n, n_decided) for it in real]
    RESULT.write_text(json.dumps(rows, indent=1) + "\n")
    print(table(rows))
    return 0


def table(rows: list[Any]) -> str:
    """Return the result for people."""
    head = (
        "stream",
        "harmful",
        "found",
        "false",
        "clear",
        "at 5 %",
        "MAE",
        "constant",
        "CBPE",
        "labels",
        "ratio",
    )
    more = ("covered", "withdrawn", "retrains", "first after")
    lines = ["| " + " | ".join((*head, *more)) + " |", "|---" * 15 + "|"]
    for row in rows:
        ours = row["ours"]
        shown = [
            row["stream"],
            f"{row['harmful']} of {row['windows']}",
            *(
                "-" if ours[key] is None else f"{ours[key]:.0%}"
                for key in ("found", "false", "clear", "found_at_5_false")
            ),
            *(f"{row[who]['mae']:.3f}" for who in ("ours", *RIVALS)),
            f"{row['mae_to_best_rival']:.2f}",
            f"{row['covered']:.0%}",
            f"{row['withdrawn']:.0%}",
            f"{row['retrains_asked']:.0%}",
            "-" if row["median_windows_to_ask"] is None else f"{row['median_windows_to_ask']:g}",
        ]
        lines.append("| " + " | ".join(shown) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())

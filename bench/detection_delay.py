"""How many rows pass until one signal that changed is noticed, beside the usual detectors?"""

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from app.domain.sequential import Wealth, wager
from bench.detection_support import FALSE_ALARM_ROWS
from workers.statistics.profile import FittedReference

CHANGES: dict[str, Callable[[np.random.Generator, int], NDArray[np.float64]]] = {
    "mean +0.5 sd": lambda g, n: g.normal(0.5, 1, n),
    "sd x 1.5": lambda g, n: g.normal(0, 1.5, n),
    "30 % mixture": lambda g, n: np.where(g.random(n) < 0.3, g.normal(3, 1, n), g.normal(size=n)),
}


def delay(_: Path | None, quick: bool) -> list[dict[str, Any]]:
    """Let each detector watch one signal row by row; rows to the first alarm after a change."""
    n_streams, quiet, longest = (10 if quick else 100), 500, 2000
    rows: list[dict[str, Any]] = []
    detectors = {"upkeep": _bets_alarms, **_rivals()}
    for who, alarms in detectors.items():
        row: dict[str, Any] = {"detector": who}
        n_false = 0
        n_quiet = max(2, n_streams // 5)
        for i in range(n_quiet):
            generator = np.random.default_rng([4, i])
            reference, stream = generator.normal(size=5000), generator.normal(size=10_000)
            n_false += len(alarms(reference, stream))
        row["false_alarms_per_10_000"] = n_false / n_quiet
        for change, draw in CHANGES.items():
            waits = []
            for i in range(n_streams):
                generator = np.random.default_rng([5, i])
                reference = generator.normal(size=5000)
                stream = np.concatenate([generator.normal(size=quiet), draw(generator, longest)])
                after = [at for at in alarms(reference, stream) if at >= quiet]
                waits.append(after[0] - quiet + 1 if after else np.inf)
            row[change] = float(np.median(waits))
            row[f"{change}, missed"] = float(np.mean(np.isinf(waits)))
        rows.append(row)
        print(row, file=sys.stderr, flush=True)
    return rows


def _bets_alarms(reference: NDArray[np.float64], stream: NDArray[np.float64]) -> list[int]:
    """Return the rows at which the bets alarm, one model of one signal at one alarm in 10,000.

    They see every row alone, and start anew after each alarm.
    """
    fitted = FittedReference.of({"x": reference})
    bets, _ = fitted.bets(limit=FALSE_ALARM_ROWS)
    codes = fitted.layout.codes({"x": stream}, len(stream))
    found: list[int] = []
    start = 0
    while start < len(stream):
        blocks = fitted.layout.blocks(codes[:, start:], np.arange(len(stream) - start))
        _, levels = wager(bets, Wealth.of(bets), blocks)
        reached = np.flatnonzero(levels >= FALSE_ALARM_ROWS)
        if not len(reached):
            break
        start += int(reached[0]) + 1
        found.append(start - 1)
    return found


def _rivals() -> dict[str, Callable[[Any, Any], list[int]]]:
    drift = importlib.import_module("river.drift")

    def streamed(make: Callable[[], Any]) -> Callable[[Any, Any], list[int]]:
        def alarms(reference: Any, stream: Any) -> list[int]:
            detector, places = make(), []
            for value in reference[-1000:]:
                detector.update(float(value))
                if detector.drift_detected:
                    detector = make()
            for place, value in enumerate(stream):
                detector.update(float(value))
                if detector.drift_detected:
                    places.append(place)
                    detector = make()
            return places

        return alarms

    def evidently_rule(reference: Any, stream: Any) -> list[int]:
        spread = reference.std()
        return [
            end - 1
            for end in range(200, len(stream) + 1, 200)
            if stats.wasserstein_distance(reference, stream[end - 200 : end]) / spread >= 0.1
        ]

    return {
        "Evidently's rule, every 200": evidently_rule,
        "ADWIN": streamed(drift.ADWIN),
        "KSWIN": streamed(lambda: drift.KSWIN(seed=0)),
        "Page-Hinkley": streamed(drift.PageHinkley),
    }

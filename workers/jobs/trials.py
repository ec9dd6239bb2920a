"""Would the detectors of a policy see known shifts in windows of these rows?"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from app.domain.drift import DriftScore, Watch, judge_scores, next_look
from app.domain.policies import CheckPolicy
from app.domain.profiles import Codes
from app.domain.self_tests import Trial
from app.domain.shifts import SHIFTS, Shift
from workers.detectors.measure import Counted
from workers.jobs.class_scores import SIGNAL
from workers.jobs.fields import Columns
from workers.jobs.looking import in_season
from workers.jobs.measuring import compared
from workers.statistics.profile import FittedReference, Seen
from workers.statistics.watching import Bettor, table_of

ROUNDS: Final = 40
MOST_COLUMNS: Final = 8
EMBEDDING_ROUNDS: Final = 12
"""Embeddings cost a hundred times what counts do; later rounds take their quiet scores again."""
EMBEDDING: Final = "embedding"
PREDICTION: Final = "prediction"


@dataclass(frozen=True)
class Copy:
    """Rows without drift, as all signals, beside the reference that detectors compare them with.

    Attributes:
        reference: kind to name to values.
        fitted: its scalar signals.
        rows: the same kinds and names of the rows, (n,) or (n, d) each.
        times: (n,) when they were observed, microseconds since 1970.
    """

    reference: Columns
    fitted: FittedReference
    rows: Columns
    times: NDArray[np.int64]

    @property
    def n_rows(self) -> int:
        """How many rows there are."""
        return len(self.times)


@dataclass(frozen=True)
class Tested:
    """What came of the trials.

    Attributes:
        level: false discovery rate that a report over such a window is entitled to.
        n_rounds: windows drawn.
        n_false: windows without a shift in which a column was called drifted all the same.
        n_false_watched: the same of the watch of rows.
        trials: those of each shift.
    """

    level: float
    n_rounds: int
    n_false: int
    n_false_watched: int
    trials: Mapping[Shift, Sequence[Trial]]


@dataclass(frozen=True, slots=True)
class _Quiet:
    """The scores of a window as it is."""

    scalars: list[DriftScore]
    embeddings: list[DriftScore]

    @property
    def all(self) -> list[DriftScore]:
        """Every score."""
        return self.scalars + self.embeddings


@dataclass
class Examiner:
    """Draws windows from a copy, shifts a column in each, and asks the detectors.

    A window is so many rows drawn without replacement, so that it is what so many new rows would
    be; half of the copy at most, for the windows are to differ from one another.
    """

    copy: Copy
    rules: CheckPolicy
    window_rows: int
    seed: int
    _embedded: list[list[DriftScore]] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Bin the rows once."""
        fitted, times, rules = self.copy.fitted, self.copy.times, self.rules
        self._codes = fitted.layout.codes(table_of(self.copy.rows), self.copy.n_rows)
        self._compared = in_season(fitted, times, rules.season)[0]
        self._bettor = Bettor.of(
            fitted, Watch(), false_alarm_rows=rules.false_alarm_rows, season=rules.season
        )
        self.level = self.level_of(self.window_rows)

    def level_of(self, n_rows: int) -> float:
        """Return the false discovery rate that a report over so many fresh rows may have."""
        return next_look(
            Watch(),
            n_fresh=n_rows,
            minimum_rows=self.rules.minimum_rows,
            fdr=self.rules.fdr,
            false_alarm_rows=self.rules.false_alarm_rows,
        )[0]

    def moved(self) -> list[str]:
        """Return the columns in which the whole copy has drifted from the reference."""
        rows = np.arange(self.copy.n_rows)
        window = self._window(rows)
        scores = self._scalars(window, self._codes) + self._embeddings(window)
        judged = judge_scores(scores, fdr=self.level_of(len(rows)))
        return sorted({score.feature for score in judged if score.drifted})

    def run(self, is_over: Callable[[], bool]) -> Tested:
        """Try every shift once a round, until the rounds or the time are over.

        Args:
            is_over: whether to begin no further round; the first is done in any case.
        """
        places = {shift: found for shift in SHIFTS if (found := self._places(shift))}
        trials: dict[Shift, list[Trial]] = {shift: [] for shift in places}
        n_rounds = n_false = n_false_watched = 0
        while n_rounds < ROUNDS and not (n_rounds and is_over()):
            generator = np.random.default_rng([self.seed, n_rounds])
            order = generator.permutation(self.copy.n_rows)
            rows, spare = order[: self.window_rows], order[self.window_rows :]
            quiet = self._quiet(rows, n_rounds)
            n_false += any(score.drifted for score in judge_scores(quiet.all, fdr=self.level))
            n_false_watched += self._delay(rows, self._codes[:, rows]) is not None
            for shift, columns in places.items():
                if shift.kind == EMBEDDING and n_rounds >= EMBEDDING_ROUNDS:
                    continue
                kind, name = columns[n_rounds % len(columns)]
                values = self.copy.rows[kind][name]
                shifted = shift.inject(values[rows], values[spare], generator)
                if shifted is not None:
                    trials[shift].append(self._trial(quiet, kind, name, rows, shifted))
            n_rounds += 1
        done = {shift: found for shift, found in trials.items() if found}
        return Tested(self.level, n_rounds, n_false, n_false_watched, done)

    def _places(self, shift: Shift) -> list[tuple[str, str]]:
        """Return (kind, name) of the columns that can take a shift and have a detector."""
        kind = "categorical" if shift.kind == PREDICTION else shift.kind
        if not self.rules.detectors.get(kind):
            return []
        generator = np.random.default_rng(self.seed)
        names = [
            name
            for name in self.copy.rows.get(kind, {})
            if name in self.copy.reference.get(kind, {})
            and (shift.kind == PREDICTION or kind == "numeric" or name != PREDICTION)
            and (shift.kind != PREDICTION or name == PREDICTION)
            and name != SIGNAL  # scores do not move by themselves
        ]
        names = [names[at] for at in generator.permutation(len(names))]
        taken = []
        for name in names:
            values = self.copy.rows[kind][name]
            half = len(values) // 2
            if shift.inject(values[:half], values[half:], generator) is not None:
                taken.append((kind, name))
            if len(taken) == MOST_COLUMNS:
                break
        return taken

    def _quiet(self, rows: NDArray[np.int64], n_rounds: int) -> "_Quiet":
        """Measure a window as it is."""
        window = self._window(rows)
        if n_rounds < EMBEDDING_ROUNDS:
            self._embedded.append(self._embeddings(window))
        embedded = self._embedded[n_rounds % EMBEDDING_ROUNDS]
        return _Quiet(self._scalars(window, self._codes[:, rows]), embedded)

    def _trial(
        self, quiet: "_Quiet", kind: str, name: str, rows: NDArray[np.int64], shifted: NDArray[Any]
    ) -> Trial:
        """Ask about a window with one column shifted; what that leaves as it was is known."""
        if kind == EMBEDDING:
            others = [score for score in quiet.embeddings if score.feature != name]
            fresh = self._embeddings({kind: {name: shifted}})
            return Trial(name, self._sees(name, quiet.scalars + others + fresh))
        window = self._window(rows)
        window[kind] = {**window[kind], name: shifted}
        (place,) = self.copy.fitted.places([f"{kind}/{name}"])
        codes = self._codes[:, rows]
        codes[place] = self.copy.fitted.layout.columns[place].bins.codes(shifted)
        is_seen = self._sees(name, self._scalars(window, codes) + quiet.embeddings)
        return Trial(name, is_seen, is_watched=True, delay_rows=self._delay(rows, codes))

    def _sees(self, name: str, scores: list[DriftScore]) -> bool:
        judged = judge_scores(scores, fdr=self.level)
        return any(score.drifted for score in judged if score.feature == name)

    def _delay(self, rows: NDArray[np.int64], codes: Codes) -> int | None:
        return self._bettor.rows_until_alarm(codes, self.copy.times[rows])

    def _window(self, rows: NDArray[np.int64]) -> Columns:
        return {
            kind: {name: values[rows] for name, values in columns.items()}
            for kind, columns in self.copy.rows.items()
        }

    def _scalars(self, window: Columns, codes: Codes) -> list[DriftScore]:
        seen = Seen(self.copy.fitted.layout.count(codes), codes)
        kinds = {kind: c for kind, c in self.copy.reference.items() if kind != EMBEDDING}
        return self._measured(kinds, window, Counted(self._compared, seen))

    def _embeddings(self, window: Columns) -> list[DriftScore]:
        names = window.get(EMBEDDING, {})
        before = self.copy.reference.get(EMBEDDING, {})
        return self._measured({EMBEDDING: {n: before[n] for n in names if n in before}}, window)

    def _measured(
        self, reference: Columns, window: Columns, counted: Counted | None = None
    ) -> list[DriftScore]:
        return compared(
            reference, window, self.rules, fdr=self.level, seed=self.seed, counted=counted
        )

"""Rows to learn from: all of them pass by once, then those that the policy selects are kept."""

from array import array
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import datetime
from itertools import compress
from pathlib import Path
from sys import intern
from typing import Final

import numpy as np

from app.domain.answers import Answer
from app.domain.policies import SelectionPolicy
from app.domain.selection import Mask, Pool, codes, difficulty, draw, selected
from app.domain.versions import ModelVersion
from app.services.documents import document
from app.services.examples import stored
from app.services.ports import AnsweredExample, Example, Json, UnitOfWork

_NAN: Final = float("nan")


class Candidates:
    """What selecting needs of rows, noted as they pass: tens of bytes of each."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._labels: list[str] = []
        self._is_new = array("b")
        self._draws = array("Q")
        self._seconds, self._difficulty = array("d"), array("d")

    def of(self, rows: Iterable[tuple[Example, bool]]) -> Iterator[Example]:
        """Pass rows on that are new or not, and note them."""
        for row, is_new in rows:
            self._labels.append(intern(row.label))
            self._is_new.append(is_new)
            self._draws.append(draw(self._seed, row.id))
            self._seconds.append(_NAN if row.observed_at is None else row.observed_at.timestamp())
            self._difficulty.append(_NAN if row.difficulty is None else row.difficulty)
            yield row

    def pool(self, answer: Answer) -> Pool:
        """Return all rows that have passed, strata by the kind of their answer."""
        return Pool(
            strata=codes(answer.strata(self._labels)),
            is_new=self.is_new,
            draws=np.asarray(self._draws, dtype=np.uint64),
            seconds=np.asarray(self._seconds, dtype=np.float64),
            difficulty=np.asarray(self._difficulty, dtype=np.float64),
        )

    @property
    def is_new(self) -> Mask:
        """Return which rows are new, (n,)."""
        return np.asarray(self._is_new, dtype=bool)


class Selected:
    """Rows to train on, found when they are gone through for the first time, once.

    Attributes:
        mask: which of the candidates they are, (n,); complete at the end of the iteration.
    """

    def __init__(
        self,
        selection: SelectionPolicy,
        answer: Answer,
        rows: Iterable[tuple[Example, bool]],
        scratch: Path,
    ) -> None:
        """Look at none yet.

        Args:
            selection: which ones.
            answer: what the model answers with.
            rows: the candidates in order of arrival, and whether each is new.
            scratch: a folder for rows that are still being chosen from.
        """
        self._selection, self._answer, self._scratch = selection, answer, scratch
        self._candidates = Candidates(selection.seed)
        self._rows = self._candidates.of(rows)
        self.mask: Mask = np.zeros(0, dtype=bool)

    def __iter__(self) -> Iterator[Example]:
        if self._selection.by == "all":
            yield from self._rows
            self.mask = np.ones(len(self._candidates.is_new), dtype=bool)
            return
        found = stored(self._scratch / "candidates.parquet", self._rows)
        self.mask = selected(self._selection, self._candidates.pool(self._answer))
        yield from compress(found, self.mask)

    @property
    def by(self) -> str:
        """Return how they are selected."""
        return self._selection.by

    def n_of_last(self, n: int) -> int:
        """Return how many of the last n candidates were selected."""
        return int(self.mask[len(self.mask) - n :].sum())

    def record(self) -> Json:
        """Return what was selected, and from how many, for the run's record."""
        is_new = self._candidates.is_new
        n_old, n_kept = int((~is_new).sum()), int((self.mask & ~is_new).sum())
        return {
            **document(self._selection),
            "n_old": n_old,
            "n_old_kept": n_kept,
            "old_share_kept": n_kept / n_old if n_old else None,
            "n_new": int(is_new.sum()),
            "n_new_kept": int((self.mask & is_new).sum()),
        }


def as_seen_by(
    champion: ModelVersion | None, answer: Answer, rows: Iterable[AnsweredExample | None]
) -> Iterator[Example | None]:
    """Pass labelled observations on, each with how wrong the champion was where it answered."""
    for row in rows:
        if row is None:
            yield None
            continue
        example = row.example
        if champion is not None and row.version == champion.number:
            wrong = difficulty(answer, example.label, row.prediction, row.scores)
            example = replace(example, difficulty=wrong)
        yield example


def datasets_learned_through(work: UnitOfWork, champion: ModelVersion) -> datetime:
    """Return the time after which a dataset was uploaded that the champion cannot know."""
    if champion.run_id is None:
        return champion.created_at
    return work.runs.get(champion.run_id).spec.through_dataset

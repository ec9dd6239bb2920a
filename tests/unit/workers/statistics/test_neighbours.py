"""Distances to the nearest rows, and what they say of a row."""

import numpy as np
import pytest

from workers.statistics.neighbours import Neighbours, squared_distances, strangeness
from workers.statistics.resampling import rank_error, stretches, tolerated_by, upper_tail


def test_distances_are_those_of_the_rows_whatever_their_size_and_place() -> None:
    rows = np.random.default_rng(0).normal(size=(40, 5))
    plain = ((rows[:, None] - rows) ** 2).sum(axis=2)
    for scale, place in ((1.0, 0.0), (1e20, 0.0), (1.0, 1e4)):
        found = squared_distances(rows * scale + place)
        found = found / found[0, 1] * plain[0, 1]
        away = ~np.eye(40, dtype=bool)
        assert found[away] == pytest.approx(plain[away], rel=1e-2)
    assert np.isinf(np.diag(squared_distances(rows))).all()


def test_the_first_neighbour_outside_a_set_is_found() -> None:
    near = Neighbours.of(squared_distances(np.arange(12.0)[:, None] ** 1.01), k=3)
    inside = np.zeros(12, dtype=bool)
    inside[1] = True
    assert near.rows[0, 0] == 1
    assert near.rows[0, near.first_outside(inside)[0]] == 2


def test_a_row_far_from_all_is_the_strangest_and_knows_its_nearest() -> None:
    rng = np.random.default_rng(1)
    reference, current = rng.normal(size=(200, 8)), rng.normal(size=(50, 8))
    current[7] = 9.0
    current[8] = reference[33]
    strange, nearest = strangeness(reference, current)
    assert strange.argmax() == 7
    assert strange[8] == 0.0
    assert nearest[8] == 33
    assert 0.3 < np.delete(strange, [7, 8]).mean() < 0.7


def test_the_tail_of_a_sum_is_known_beyond_its_draws() -> None:
    draws = np.random.default_rng(2).chisquare(50, 400)
    assert 1e-4 < upper_tail(90.0, draws) < 2e-3  # exactly 4.4e-4
    assert upper_tail(-1e9, draws) == 1.0
    assert upper_tail(1.0, np.ones(9)) == 1.0


def test_a_reference_that_is_unsteady_makes_more_tolerated() -> None:
    error = rank_error(1000, 200)
    assert tolerated_by(np.array([0.01, -0.02]), error, at_least=0.05) == 0.05
    assert tolerated_by(np.array([0.01, 0.2]), error, at_least=0.05) == pytest.approx(0.3)


@pytest.mark.parametrize(("n", "m"), [(1000, 200), (300, 500), (16, 16)])
def test_stretches_lie_within_the_reference_and_leave_half_of_it(n: int, m: int) -> None:
    parts = stretches(n, m)
    assert parts.shape[1] == n
    assert set(parts.sum(axis=1)) == {min(m, n // 2)}

"""The linear yardstick of numbers."""

import numpy as np

from workers.training import ridge


def test_a_linear_world_is_found_whatever_the_units():
    draw = np.random.default_rng(0)
    table = draw.normal(size=(200, 3)) * [1.0, 1000.0, 0.001] + [5.0, 0.0, 1.0]
    truth = 2 * table[:, 0] - 0.01 * table[:, 1] + draw.normal(0, 0.1, 200)
    said = ridge.fit(table[:150], truth[:150]).values(table[150:])
    assert np.sqrt(np.mean((said - truth[150:]) ** 2)) < 0.2


def test_more_columns_than_rows_are_held_back():
    draw = np.random.default_rng(1)
    table, truth = draw.normal(size=(30, 80)), draw.normal(10, 1, 30)
    said = ridge.fit(table, truth).values(draw.normal(size=(400, 80)))
    assert np.sqrt(np.mean((said - 10) ** 2)) < 1.0


def test_columns_that_say_nothing_leave_the_mean():
    said = ridge.fit(np.ones((4, 2)), np.array([1.0, 2.0, 3.0, 6.0])).values(np.ones((1, 2)))
    assert said.tolist() == [3.0]

"""A batch has one loss, whichever kind of answer it teaches."""

import numpy as np
import pytest
import torch

from workers.training.losses import loss_of
from workers.training.targets import IGNORED, NumberTargets, RowTargets

RECIPE = {"class_weight_power": 1.0, "label_smoothing": 0.0}
ALL = np.arange(4)


def numbers(*, is_squared: bool, center: float = 10.0) -> NumberTargets:
    return NumberTargets(np.array([8.0, 10.0, 12.0, 14.0]), (center, 2.0), is_squared=is_squared)


def test_rows_of_rare_classes_count_more_and_tokens_without_a_class_not_at_all():
    loss = loss_of(RowTargets(np.array([0, 0, 0, 1])), 2, RECIPE, "cpu")
    assert loss.weight(np.array([1])) == pytest.approx(3 * loss.weight(np.array([0])))
    assert loss.weight(np.array([IGNORED])) == 0
    assert loss.guessing == pytest.approx(np.log(2))
    assert loss.answers(np.zeros((1, 2), dtype=np.float32)).tolist() == [[0.5, 0.5]]


def test_numbers_are_counted_in_scales_from_the_center():
    targets = numbers(is_squared=True)
    truth = torch.from_numpy(targets.batch(ALL))
    loss = loss_of(targets, 1, RECIPE, "cpu")
    assert truth.tolist() == [-1.0, 0.0, 1.0, 2.0]
    assert float(loss(torch.zeros(4, 1), truth)) == pytest.approx(1.5)
    assert loss.weight(targets.flat(ALL)) == 4
    said = targets.summarise(loss.answers(np.zeros((4, 1), dtype=np.float32)), ("value",))
    assert (said["rmse"], said["bias"]) == (pytest.approx(np.sqrt(6.0)), -1.0)


@pytest.mark.parametrize(("is_squared", "guessing"), [(True, 1.5), (False, 1.0)])
def test_guessing_numbers_is_the_center_or_the_best_constant_whichever_is_worse(
    is_squared, guessing
):
    loss = loss_of(numbers(is_squared=is_squared), 1, RECIPE, "cpu")
    assert loss.guessing == pytest.approx(guessing)
    far = loss_of(numbers(is_squared=is_squared, center=1000.0), 1, RECIPE, "cpu")
    assert far.guessing > 100 * guessing

"""How far a run climbs, and what a class gets that the head has never known."""

import numpy as np
import pytest

from workers.training import ladder

K, WIDTH = 6, 12


def rows(n: int, classes: list[int], seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    centres = np.random.default_rng(9).normal(size=(K, WIDTH)) * 2
    draw = np.random.default_rng(seed)
    truth = draw.choice(classes, n)
    return (centres[truth] + draw.normal(size=(n, WIDTH))).astype(np.float32), truth


def known_head(scale: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    centres = np.random.default_rng(9).normal(size=(K, WIDTH)) * 2
    weight = scale * centres
    bias = -scale * np.square(centres).sum(axis=1) / 2
    return weight.astype(np.float32), bias.astype(np.float32)


@pytest.mark.parametrize("scale", [0.2, 1.0])
@pytest.mark.parametrize("shift", [0.0, 5.0])
def test_a_new_class_is_found_and_the_old_ones_stay(scale: float, shift: float) -> None:
    is_new = np.arange(K) >= 4
    weight, bias = known_head(scale)
    weight[4:], bias[4:] = 0, -100
    bias[:4] += shift
    features, truth = rows(300, [0, 1, 2, 4, 5])
    wider, biases, is_right = ladder.centroid_rows(features, truth, weight, bias, is_new)
    assert (wider[:4] == weight[:4]).all()
    assert (biases[:4] == bias[:4]).all()
    fresh, answers = rows(600, list(range(K)), seed=1)
    right = (fresh @ wider.T + biases).argmax(axis=1) == answers
    assert right[answers >= 4].mean() > 0.95
    assert right[answers < 4].mean() > 0.95
    assert abs(is_right.mean() - right.mean()) < 0.05


def test_known_classes_count_by_their_number_however_few_of_their_rows_came() -> None:
    def near(n: int, classes: list[int], seed: int) -> tuple[np.ndarray, np.ndarray]:
        features, truth = rows(n, classes, seed)  # and so much noise that some could be another's
        more = 2 * np.random.default_rng(seed + 50).normal(size=features.shape)
        return (features + more).astype(np.float32), truth

    is_new = np.arange(K) == 5
    weight, bias = known_head(0.2)
    weight[5], bias[5] = 0, -100
    (old, few), (new, many) = near(40, [0, 1, 2, 3, 4], 0), near(400, [5], 1)
    features, truth = np.vstack([old, new]), np.concatenate([few, many])
    asked, answers = near(2000, [0, 1, 2, 3, 4], 2)

    def kept(features: np.ndarray, truth: np.ndarray) -> float:
        wider, biases, _ = ladder.centroid_rows(features, truth, weight, bias, is_new)
        return float(((asked @ wider.T + biases).argmax(axis=1) == answers).mean())

    balanced = kept(*near(450, [0, 1, 2, 3, 4, 5], 3))
    assert kept(features, truth) == pytest.approx(balanced, abs=0.02)


def test_a_row_is_judged_without_itself() -> None:
    draw = np.random.default_rng(0)
    features = draw.normal(size=(40, 400)).astype(np.float32)  # noise: only a row itself is near
    truth = np.arange(40) % 4
    weight, bias = np.zeros((4, 400), np.float32), np.zeros(4, np.float32)
    *_, is_right = ladder.centroid_rows(features, truth, weight, bias, np.ones(4, dtype=bool))
    assert is_right.mean() < 0.5


def test_the_only_row_of_a_class_gives_its_centroid_and_is_not_judged() -> None:
    features, truth = rows(50, [0, 1, 2])
    own, _ = rows(1, [5])
    features, truth = np.vstack([features, own]), np.append(truth, 5)
    weight, bias = known_head()
    weight[5], bias[5] = 0, -100
    is_new = np.arange(K) == 5
    wider, biases, is_right = ladder.centroid_rows(features, truth, weight, bias, is_new)
    assert np.isnan(is_right).tolist() == [False] * 50 + [True]
    assert (own @ wider.T + biases).argmax() == 5


def test_a_new_class_without_rows_stays_as_it_was() -> None:
    features, truth = rows(50, [0, 1])
    weight, bias = known_head()
    bias[4:] = -1e4
    wider, biases, is_right = ladder.centroid_rows(features, truth, weight, bias, np.arange(K) >= 4)
    assert (wider == weight).all()
    assert (biases == bias).all()
    assert is_right.mean() > 0.9


def test_all_classes_may_be_new() -> None:
    features, truth = rows(200, list(range(K)))
    nothing = np.zeros((K, WIDTH), np.float32), np.zeros(K, np.float32)
    wider, biases, _ = ladder.centroid_rows(features, truth, *nothing, np.ones(K, dtype=bool))
    fresh, answers = rows(200, list(range(K)), seed=1)
    assert ((fresh @ wider.T + biases).argmax(axis=1) == answers).mean() > 0.95


@pytest.mark.parametrize(
    ("n_right", "sufficient", "expected"),
    [(95, 0.9, True), (91, 0.9, False), (100, 1.0, False), (95, None, False)],
)
def test_a_rung_is_enough_when_it_surely_reaches_what_was_asked(
    n_right: int, sufficient: float | None, expected: bool
) -> None:
    is_right = np.append(np.arange(100) < n_right, np.nan)
    found = ladder.judged("probe", is_right, sufficient, 1.0)
    assert (found.n, found.accuracy) == (100, n_right / 100)
    assert found.is_enough is expected


@pytest.mark.parametrize(("n", "expected"), [(29, False), (30, True)])
def test_a_rung_is_not_enough_by_the_luck_of_a_few_rows(n: int, expected: bool) -> None:
    assert ladder.judged("probe", np.ones(n), 0.5, 1.0).is_enough is expected


def test_a_rung_that_nobody_could_judge_is_not_enough() -> None:
    found = ladder.judged("centroid", np.full(3, np.nan), 0.0, 1.0)
    assert (found.accuracy, found.n, found.is_enough) == (None, 0, False)


def test_a_rung_that_fails_the_last_rows_is_not_enough_however_many_came_before() -> None:
    quiet, moved = np.ones(300), np.tile([1.0] * 9 + [0.0], 10)
    assert ladder.judged("probe", np.concatenate([moved, quiet]), 0.95, 1.0).is_enough
    assert not ladder.judged("probe", np.concatenate([quiet, moved]), 0.95, 1.0).is_enough


def mixed(n: int, shares: list[float], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return rows of three classes that overlap, in a mix; logits are right where all are alike."""
    draw = np.random.default_rng(seed)
    truth = draw.choice(3, n, p=shares)
    seen = truth + draw.normal(0.0, 0.8, n)
    logits = -((seen[:, None] - np.arange(3)) ** 2) / (2 * 0.8**2)
    return logits, truth


def test_a_mix_of_classes_that_moved_is_met_by_the_bias_alone() -> None:
    shares = [0.05, 0.15, 0.8]
    logits, truth = mixed(2000, shares, 0)
    shift, is_right = ladder.prior_shift(logits, truth, seed=0)

    expected = np.log(shares) - np.log(shares).mean()
    assert shift == pytest.approx(expected, abs=0.25)
    later, answers = mixed(4000, shares, 1)
    before = (later.argmax(axis=1) == answers).mean()
    after = ((later + shift).argmax(axis=1) == answers).mean()
    assert after > before + 0.1
    assert is_right.mean() == pytest.approx(after, abs=0.03)  # judged by rows it was not fitted to


def test_a_mix_that_stayed_moves_no_bias_and_few_rows_move_it_little() -> None:
    logits, truth = mixed(2000, [1 / 3] * 3, 0)
    assert np.abs(ladder.prior_shift(logits, truth, seed=0)[0]).max() < 0.2
    one, of = mixed(1, [0.0, 0.0, 1.0], 1)
    shift, is_right = ladder.prior_shift(one, of, seed=0)
    assert np.abs(shift).max() < 1.0
    assert np.isnan(is_right).all()

"""Classes of rows and of tokens, as the loop asks for them."""

import numpy as np
import pytest

from workers.training import targets
from workers.training.row_file import RowFile
from workers.training.targets import IGNORED, RowTargets, TokenTargets

TAGS = [[IGNORED, 0, 1, IGNORED], [IGNORED, IGNORED], [IGNORED, 2, IGNORED]]


@pytest.fixture
def tokens() -> TokenTargets:
    return TokenTargets(RowFile.of([np.array(tags) for tags in TAGS], np.int16), {"a": 1})


def test_tokens_are_padded_in_a_batch_and_one_after_another_when_flat(tokens: TokenTargets) -> None:
    rows = np.array([2, 0])
    assert tokens.batch(rows).tolist() == [[IGNORED, 2, IGNORED, IGNORED], TAGS[0]]
    assert tokens.flat(rows).tolist() == [*TAGS[2], *TAGS[0]]
    assert tokens.flat(rows[:0]).shape == (0,)
    assert len(tokens) == 3


def test_what_is_ignored_counts_for_nothing(tokens: TokenTargets) -> None:
    assert tokens.counts(4).tolist() == [1, 1, 1, 0]
    scores = np.full((9, 3), 0.1, dtype=np.float32)
    scores[1:3, 0] = scores[7, 2] = 0.8  # the second of three tokens is wrong
    said = tokens.summarise(scores, ("O", "B-x", "I-x"))
    assert (said["n"], said["n_tokens"]) == (3, 3)
    assert said["token_accuracy"] == pytest.approx(2 / 3)
    assert said["log_loss"] == pytest.approx(-(2 * np.log(0.8) + np.log(0.1)) / 3)


def test_the_spans_that_tags_tell_are_counted_where_they_are_exact() -> None:
    true = [[IGNORED, 1, 2, 0], [0, 1], [0, 0]]
    said = [[0, 1, 2, 0], [1, 2], [0, 0]]  # exact, too long, and rightly none
    told = TokenTargets(RowFile.of([np.array(tags) for tags in true], np.int16), {})
    scores = np.eye(3, dtype=np.float32)[np.concatenate(said)]
    found = told.summarise(scores, ("O", "B-x", "I-x"))
    assert (found["precision_micro"], found["recall_micro"], found["f1_micro"]) == (0.5, 0.5, 0.5)
    assert (found["f1_samples"], found["exact_match"]) == (2 / 3, 2 / 3)


def test_a_probe_is_fitted_to_rows_of_so_many_tokens(
    tokens: TokenTargets, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert tokens.sample(seed=0).tolist() == [0, 1, 2]
    monkeypatch.setattr(targets, "N_FIT_ROWS", 6)
    chosen = tokens.sample(seed=1)
    assert 1 <= len(chosen) < 3
    assert sum(len(TAGS[row]) for row in chosen) <= 6
    assert tokens.sample(seed=1).tolist() == chosen.tolist()


def test_of_very_many_rows_some_are_chosen_and_those_of_a_rare_class(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rare = RowTargets(np.array([0] * 95 + [1] * 5))
    assert len(rare.sample(seed=0)) == 100
    monkeypatch.setattr(targets, "N_FIT_ROWS", 10)
    chosen = rare.sample(seed=0)
    assert set(range(95, 100)) <= set(chosen.tolist())
    assert len(chosen) < 40


def test_of_many_rows_the_first_of_an_order_are_taken_and_some_of_each_class(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(targets, "N_FIT_ROWS", 10)
    monkeypatch.setattr(targets, "N_FIT_ROWS_EACH", 2)
    truth = np.zeros(40, dtype=np.int64)
    truth[[3, 7, 11]] = 1
    order = np.concatenate([np.arange(20, 40), np.arange(20)])
    chosen = targets.sampled(truth, order=order)
    assert chosen.tolist() == [3, 7, *range(20, 30)]
    more = np.append(truth, 0)  # one that comes late in the order moves none of the others
    assert targets.sampled(more, order=np.append(order, 40)).tolist() == chosen.tolist()

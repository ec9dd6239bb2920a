"""Rows of a language model: what is learned, what is cut, what tokens are worth."""

import numpy as np
import pytest

from workers.training.continuations import Continuations, ContinuationTargets, joined, of_tokens
from workers.training.row_file import RowFile
from workers.training.targets import IGNORED

START, END = 0, 1


def rows(*tables: np.ndarray) -> Continuations:
    file = RowFile.of(tables, np.int32, (2,))
    return Continuations(file, file.lengths)


def test_each_place_is_to_say_the_next_token_of_the_answer() -> None:
    table, is_cut = joined(START, [5, 6], [7, 8], END, 64)
    assert not is_cut
    assert table[:, 0].tolist() == [START, 5, 6, 7, 8, END]
    assert rows(table).classes(0).tolist() == [IGNORED, IGNORED, 7, 8, END, IGNORED]


def test_batches_are_padded_with_what_counts_for_nothing() -> None:
    targets = ContinuationTargets(rows(*(joined(START, [5], [7] * n, END, 64)[0] for n in (1, 3))))
    found = targets.batch(np.array([0, 1]))
    assert found.shape == (2, 6)
    assert found[0].tolist() == [IGNORED, 7, END, IGNORED, IGNORED, IGNORED]
    assert (targets.flat(np.array([1, 0])) != IGNORED).sum() == 4 + 2


@pytest.mark.parametrize(("n_before", "n_answer"), [(100, 3), (3, 100), (100, 100), (0, 100)])
def test_what_is_too_long_keeps_the_end_of_the_prompt_and_the_beginning_of_the_answer(
    n_before: int, n_answer: int
) -> None:
    before, answer = list(range(1000, 1000 + n_before)), list(range(2000, 2000 + n_answer))
    table, is_cut = joined(START, before, answer, END, 32)
    ids, is_answer = table[:, 0].tolist(), table[:, 1] == 1
    assert is_cut
    assert len(ids) <= 32
    kept = [one for one, of_answer in zip(ids, is_answer, strict=True) if of_answer]
    left = ids[1 : len(ids) - len(kept)]
    said = [one for one in kept if one != END]
    assert said == answer[: len(said)]
    assert left == before[len(before) - len(left) :]
    assert (END in kept) == (len(answer) < 15)


def test_guessing_among_all_tokens_saves_no_bits_and_certainty_all() -> None:
    guessed = of_tokens(10 * float(np.log(50)), 2, 10, n_tokens=50)
    assert guessed == pytest.approx(
        {"log_loss": np.log(50), "perplexity": 50, "token_accuracy": 0.2, "bits_saved": 0}
    )
    assert of_tokens(0.0, 10, 10, n_tokens=50)["bits_saved"] == 1
    assert set(of_tokens(0.0, 0, 0, n_tokens=50).values()) == {None}

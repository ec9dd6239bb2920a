"""chrF as sacreBLEU 2 has it, whose sentence scores these are."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.chrf import chrf


@pytest.mark.parametrize(
    ("said", "true", "score"),
    [
        ("so it barks all day", "so it meows all day", 0.467341),
        ("abc", "abcdefgh", 0.322506),
        ("", "something", 0.0),
        ("a b c d e f g h", "abcdefgh", 1.0),
        ("Deep learning for graphs", "Graph neural networks: deep learning on graphs", 0.365859),
        ("é l'été", "été à l'é", 0.331478),
        ("x", "y", 0.0),
        ("the cat sat on the mat", "the the the the", 0.188439),
        ("ab", "abab", 0.471698),
    ],
)
def test_scores_are_those_of_sacrebleu(said: str, true: str, score: float) -> None:
    assert chrf(said, true) == pytest.approx(score, abs=1e-6)


@given(st.text(), st.text())
def test_it_is_a_share_and_all_of_it_only_for_the_same_letters(said: str, true: str) -> None:
    assert 0 <= chrf(said, true) <= 1
    assert (chrf(said, true) == 1) == ("".join(said.split()) == "".join(true.split()))

"""Which lines of progress are kept for good."""

from hypothesis import given
from hypothesis import strategies as st

from app.domain.training import SAMPLED_LINES, line_stride


@given(st.integers(1, 10**7))
def test_no_more_lines_are_kept_than_promised_and_half_of_that_where_there_are_enough(n: int):
    stride = line_stride(n)
    kept = (n - 1) // stride + 1
    assert kept <= SAMPLED_LINES
    assert kept >= min(n, SAMPLED_LINES // 2)


@given(st.integers(1, 10**6))
def test_what_is_forgotten_once_is_never_wanted_again(n: int):
    assert line_stride(n + 1) % line_stride(n) == 0

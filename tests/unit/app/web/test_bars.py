"""Histograms as drawings."""

from app.web.bars import HEIGHT, WIDTH, drawn


def test_the_highest_bar_fills_the_drawing_and_heights_are_shares_of_a_side() -> None:
    bars = drawn("x", {"edges": [0.0, 1.0, 2.0], "reference": [10, 30], "current": [4, 0],
                       "missing": [0, 0]})  # fmt: skip
    assert [round(one.before) for one in bars.bins] == [HEIGHT // 4, round(HEIGHT * 0.75)]
    assert [round(one.now) for one in bars.bins] == [HEIGHT, 0]
    assert bars.bins[-1].x + bars.bins[-1].width <= WIDTH
    assert (bars.first, bars.last, bars.missing) == ("0", "2", "")


def test_what_is_missing_is_said_and_nothing_at_all_can_be_drawn() -> None:
    bars = drawn("x", {"labels": [], "reference": [], "current": [], "missing": [0, 5]})
    assert bars.bins == []
    assert "100" in bars.missing

"""The course of a run as a drawing."""

from datetime import UTC, datetime, timedelta

from app.domain.training import RunChange, RunState
from app.web.curves import HEIGHT, WIDTH, drawn

START = datetime(2026, 1, 1, tzinfo=UTC)


def line(second: float, attempt: int = 1, **progress: float) -> RunChange:
    at = START + timedelta(seconds=second)
    return RunChange(1, at, "progress", RunState.RUNNING, attempt, progress)


def test_a_curve_fills_the_drawing_from_the_first_to_the_last_line() -> None:
    (curve,) = drawn([line(0, loss=3.0), line(5, loss=1.0), line(10, loss=2.0)])
    assert curve.name == "Loss"
    assert curve.lines == [f"0.0,0.0 {WIDTH / 2:.1f},{HEIGHT:.1f} {WIDTH:.1f},{HEIGHT / 2:.1f}"]
    assert (curve.first, curve.last, curve.lowest, curve.took) == ("3", "2", "1", "10 s")


def test_each_attempt_is_a_line_of_its_own() -> None:
    (curve,) = drawn([line(0, loss=3.0), line(5, loss=1.0), line(7, 2, loss=1.0)])
    assert len(curve.lines) == 2


def test_less_than_two_lines_are_no_curve_and_a_level_one_is_drawn() -> None:
    assert drawn([line(0, loss=3.0), line(1, step=2)]) == []
    assert len(drawn([line(0, loss=3.0), line(1, loss=3.0)])) == 1

"""Versions that answer with numbers: one scale for a model, errors row by row, answers watched."""

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

import workers.task_types
from app.domain.answers import Number
from app.domain.models import MaintainedModel, Objective
from app.domain.observations import InputContract, Observation
from app.domain.registry import scan
from app.domain.versions import ModelVersion
from app.services.batches import Columns as StoredRows
from app.services.ports import Example
from workers.jobs import number_answers
from workers.jobs.kinds import kind_of
from workers.jobs.number_answers import NumberAnswers

scan(workers.task_types)
NOW = datetime(2026, 11, 29, tzinfo=UTC)
KIND = NumberAnswers()


class Doubles:
    """Answers with a multiple of x."""

    def __init__(self, factor: float) -> None:
        self.factor = factor

    def values(self, inputs: Any) -> np.ndarray:
        return np.array([self.factor * row["x"] for row in inputs])

    def features(self, inputs: Any) -> np.ndarray:
        return np.array([[row["x"], 1.0] for row in inputs], dtype=np.float32)


def model(metric: str = "rmse", **target: Any) -> MaintainedModel:
    return MaintainedModel(
        cast("Any", None), cast("Any", None), "m", "tabular-regression", "preset:boosted-trees", (),
        InputContract(()), Objective(metric, "minimize", slices=("side",)), 1, {}, False, NOW,
        answers_with=Number(**target),
    )  # fmt: skip


ROWS = [
    Example(str(x), {"x": float(x), "side": "left" if x < 5 else "right"}, repr(2.0 * x))
    for x in range(10)
]
OURS, THEIRS = (cast("ModelVersion", SimpleNamespace(factor=factor)) for factor in (2.0, 1.0))


@pytest.fixture(autouse=True)
def versions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(number_answers, "loaded", lambda _, version: Doubles(version.factor))


def test_a_model_of_the_task_type_is_of_this_kind() -> None:
    assert isinstance(kind_of(model()), NumberAnswers)


def test_a_scale_is_learned_where_there_is_none_and_kept_where_there_is() -> None:
    assert cast("Number", KIND.settled(model(), ROWS).answer).scale == 9.0
    assert cast("Number", KIND.settled(model(scale=3.0), ROWS).answer).scale == 3.0
    assert not KIND.settled(model(), ROWS[:1]).answer.is_scored


@pytest.mark.parametrize(
    ("metric", "loss"), [("rmse", "squared"), ("r2", "squared"), ("mae", "absolute")]
)
def test_errors_are_compared_as_the_objectives_metric_has_them(metric: str, loss: str) -> None:
    found = KIND.compared("window", ROWS, model(metric, scale=4.0), OURS, THEIRS)
    assert found.pairs is not None
    assert found.pairs.in_words().startswith(f"mean {loss} error 0 against")
    assert found.pairs.gain > 0
    assert (found.challenger["rmse"], found.challenger["r2"]) == (0.0, 1.0)
    assert found.challenger["closeness"] == found.challenger["right_share"] == 1.0
    assert found.champion is not None
    assert found.champion["right_share"] == 0.4  # errors of 0, 1, 2 and 3 are below the scale
    assert found.champion["bias"] == -4.5
    assert found.by_class == {}
    assert found.by_slice["side=right"] == {"n": 5, "challenger": 1.0, "champion": 0.0}


def test_without_a_champion_there_is_nothing_to_compare() -> None:
    found = KIND.compared("holdout", ROWS, model(scale=4.0), OURS, None)
    assert (found.pairs, found.champion) == (None, None)


def test_a_version_that_answers_nan_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(number_answers, "loaded", lambda *_: Doubles(float("nan")))
    with pytest.raises(ValueError, match="no finite number"):
        KIND.summarised(model(scale=1.0), OURS, ROWS)


def test_answers_are_signals_like_any_number() -> None:
    version, inputs = Doubles(2.0), [row.inputs for row in ROWS]
    reference = KIND.of_reference(model(), version, inputs)
    assert set(reference) == {"numeric", "embedding"}
    assert reference["numeric"]["prediction"].tolist() == [2.0 * x for x in range(10)]
    rows = [Observation(str(x), NOW, {"x": 1.0}, said) for x, said in enumerate(["7.5", None])]
    seen = KIND.of_rows(model(), rows, KIND.asked(version, rows), ())
    assert seen["numeric"]["prediction"][0] == 7.5
    assert np.isnan(seen["numeric"]["prediction"][1])
    assert seen["embedding"]["embedding"].shape == (2, 2)
    stored = StoredRows(
        np.arange(2), np.arange(2), 1, np.array(["7.5", None], dtype=object), {}, {}
    )
    columns, unread = KIND.of_stored(model(), stored, np.array([-1, -1]), seen)
    assert columns["numeric"]["prediction"][0] == 7.5
    assert not unread.any()
    closeness = KIND.scores_of_reference(model(scale=4.0), OURS, reference, ROWS)
    assert closeness.tolist() == [1.0] * 10

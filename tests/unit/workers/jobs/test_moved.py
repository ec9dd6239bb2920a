"""What a report shows of the rows that are least like the reference."""

import base64
import io
import json
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from PIL import Image

from app.domain.drift import DriftScore, Watch
from app.domain.observations import ContractField, FieldType, Observation
from app.domain.policies import Policy, RetentionPolicy
from app.domain.privacy import Privacy
from app.services.ports import Example
from app.services.windows import Window
from workers.jobs.moved import (
    EXCERPT,
    N_EXEMPLARS,
    illustration,
    in_surplus,
    thumbnail,
    what_moved,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LONG = "odd " * 100


def moved(feature: str, *, drifted: bool = True) -> DriftScore:
    return DriftScore(feature, "novelty", "neighbours", 9.0, 1e-9, 90, 40, drifted=drifted)


@pytest.fixture
def watched() -> tuple[Window, Any, Any]:
    """90 reference rows of classes a and b; of 40 current rows the last 8 are far away."""
    rng = np.random.default_rng(0)
    labels = ["a" if i % 2 else "b" for i in range(90)]
    reference = [Example(f"r{i}", {"text": f"known {i}"}, labels[i]) for i in range(90)]
    answers = ["a" if i % 2 else "b" for i in range(32)] + ["b"] * 8
    current = [
        Observation(f"o{i}", NOW, {"text": LONG if i >= 32 else "usual"}, prediction=answers[i])
        for i in range(40)
    ]
    fields = (ContractField("n", FieldType.NUMBER), ContractField("text", FieldType.TEXT))
    contract = SimpleNamespace(contract=SimpleNamespace(fields=fields))
    window = SimpleNamespace(model=contract, policy=Policy(), reference=reference, current=current)
    before, after = rng.normal(size=(90, 4)), rng.normal(size=(40, 4))
    after[32:] += 20
    sides = [
        {
            "numeric": {"n": np.arange(float(len(rows)))},
            "categorical": {"prediction": np.array(said, dtype=object)},
            "embedding": {"embedding": rows},
        }
        for rows, said in ((before, labels), (after, answers))
    ]
    return cast("Window", window), *sides


def test_the_rows_far_away_are_shown_beside_the_nearest_of_the_reference(watched: Any) -> None:
    found = json.loads(json.dumps(what_moved(*watched, [moved("embedding")], Watch())))
    assert len(found["exemplars"]) == N_EXEMPLARS
    for one in found["exemplars"]:
        assert int(one["observation"][1:]) >= 32
        assert one["text"].startswith("odd odd")
        assert len(one["text"]) <= EXCERPT + 1
        assert one["nearest"]["text"].startswith("known ")
        assert one["nearest"]["label"] in {"a", "b"}
    classes = found["classes"]
    assert classes["n_strange"] >= 8 > classes["n_expected"]
    assert classes["predicted"][0]["label"] == "b"
    assert classes["more"] == [{"label": "b", "share": 0.6, "usual_share": 0.5}]
    assert classes["fewer"] == [{"label": "a", "share": 0.5, "usual_share": 0.4}]


def test_columns_that_drifted_have_histograms_and_the_watchs_leader_too(watched: Any) -> None:
    scores = [moved("prediction"), moved("n", drifted=False)]
    assert list(what_moved(*watched, scores, Watch())["histograms"]) == ["prediction"]
    led = what_moved(*watched, scores, Watch(leading={"p": 2.0, "n": 9.0}))
    assert set(led["histograms"]) == {"prediction", "n"}


def test_where_nothing_drifted_no_row_is_kept(watched: Any) -> None:
    found = what_moved(*watched, [moved("embedding", drifted=False)], Watch())
    assert found == {"histograms": {}, "exemplars": [], "classes": {}}


def test_a_picture_becomes_a_small_one_and_what_is_none_is_left_out(watched: Any) -> None:
    file = io.BytesIO()
    Image.new("L", (400, 100)).save(file, format="PNG")
    small = thumbnail(base64.b64encode(file.getvalue()).decode())
    assert Image.open(io.BytesIO(base64.b64decode(small))).size == (48, 12)
    window, before, after = watched
    fields = (ContractField("text", FieldType.IMAGE),)
    found = what_moved(with_fields(window, *fields), before, after, [moved("embedding")], Watch())
    assert "picture" not in found["exemplars"][0]


def with_fields(window: Any, *fields: ContractField, policy: Policy | None = None) -> Window:
    model = SimpleNamespace(name="m", contract=SimpleNamespace(fields=fields))
    changed = {**vars(window), "model": model, "policy": policy or window.policy}
    return cast("Window", SimpleNamespace(**changed))


def excerpts(window: Window, before: Any, after: Any) -> set[str]:
    found = what_moved(window, before, after, [moved("embedding")], Watch())
    assert len(found["exemplars"]) == N_EXEMPLARS
    rows = [*found["exemplars"], *(one["nearest"] for one in found["exemplars"])]
    return {row["text"] for row in rows if "text" in row}


def test_a_private_field_is_never_the_one_that_is_shown(watched: Any) -> None:
    window, *sides = watched
    for privacy in Privacy:
        hidden = ContractField("text", FieldType.TEXT, privacy=privacy)
        assert excerpts(with_fields(window, hidden), *sides) == set()
    assert excerpts(with_fields(window, ContractField("text", FieldType.TEXT)), *sides)


def test_a_row_without_text_or_picture_is_shown_by_its_columns(watched: Any) -> None:
    window, *sides = watched
    fields = (ContractField("text", FieldType.CATEGORY), ContractField("n", FieldType.NUMBER))
    shown = excerpts(with_fields(window, *fields), *sides)
    assert any(one.startswith("text odd odd") for one in shown)
    assert any(one.startswith("text known ") for one in shown)
    hidden = ContractField("text", FieldType.CATEGORY, privacy=Privacy.HASH)
    assert excerpts(with_fields(window, hidden, fields[1]), *sides) == set()


def test_no_excerpt_outlives_inputs_that_are_to_be_forgotten(watched: Any) -> None:
    window, *sides = watched
    forgetful = Policy(retention=RetentionPolicy(inputs_days=90, reports_days=30))
    fields = window.model.contract.fields
    assert excerpts(with_fields(window, *fields, policy=forgetful), *sides) == set()


@pytest.mark.parametrize("spoiled", ["NUL \x00", "half a pair \ud800", None])
def test_an_illustration_that_fails_is_counted_and_left_out(
    watched: Any, spoiled: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    window, before, after = watched
    window = with_fields(window, *window.model.contract.fields)
    assert illustration(window, before, after, [moved("embedding")], Watch()).keys() == {"moved"}
    lost: list[str] = []
    monkeypatch.setattr(
        "workers.jobs.moved.this_worker", lambda: SimpleNamespace(count_lost=lost.append)
    )
    if spoiled is None:
        after = {**after, "categorical": {}}
    else:
        window.current[-1].inputs["text"] = spoiled  # type: ignore[index]  # a test's own dict
        after["embedding"]["embedding"][-1] += 100
    assert illustration(window, before, after, [moved("embedding")], Watch()) == {}
    assert lost == ["moved"]


def test_of_very_many_rows_some_are_compared_evenly_spaced(
    watched: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.jobs.moved.AT_MOST_ROWS", 20)
    found = what_moved(*watched, [moved("embedding")], Watch())
    assert found["classes"]["n_expected"] == 1.0
    assert all(int(one["observation"][1:]) >= 32 for one in found["exemplars"][:4])


def test_no_class_is_in_surplus_where_all_have_their_share() -> None:
    assert in_surplus(["a", "b", None], ["a", "b", None]) == []
    assert in_surplus([], ["a"]) == []

"""Late labels that are spans are held against the texts that came before them."""

from uuid import uuid4

import pytest

from app.domain.errors import Invalid
from app.domain.models import Objective
from app.services import models, observations
from tests.integration.support import actor, now

N = 80  # enough for a segment of its own


@pytest.fixture
def tagged(work, announced):
    wanted = models.NewModel(
        name=f"m-{uuid4().hex[:12]}",
        task_type="token-classification",
        base_model="preset:none",
        labels=["price"],
        contract=None,
        objective=Objective(metric="", direction=""),
        policy={},
    )
    return models.create(work, actor(work), wanted, now=now())


def span(start, end):
    return {"start": start, "end": end, "label": "price"}


@pytest.mark.parametrize("n_rows", [3, N])
def test_a_late_label_beyond_its_text_is_refused_and_the_others_are_kept(work, tagged, n_rows):
    rows = [
        {"id": f"o{n}", "inputs": {"text": "9 EUR" * (n + 1)}, "prediction": [span(0, 5)]}
        for n in range(n_rows)
    ]
    observations.ingest(work, actor(work), tagged.name, rows, now=now())
    late = [
        {"id": "o0", "label": [span(0, 6)]},
        {"id": "o1", "label": [span(5, 10), span(0, 5)]},
        {"id": "nobody", "label": [span(0, 500)]},
        {"id": 7, "label": []},
        "no row",
    ]
    found = observations.add_labels(work, actor(work), tagged.name, late, now=now())
    said = {row.index: row.faults[0] for row in found.rejected}
    assert said.keys() == {0, 2, 3, 4}
    assert (said[0].pointer, said[0].detail) == (
        "/label/0/end",
        "must be at most 5, the length of the text",
    )
    assert said[2].pointer == "/id"
    with work:
        shown = observations.shown(work, tagged, "o1")
    assert shown["label"] == [span(0, 5), span(5, 10)]
    assert shown["prediction"] == [span(0, 5)]


def test_labels_of_spans_may_be_added_and_are_then_taken(work, tagged):
    late = [{"id": "o0", "inputs": {"text": "by May"}, "label": [{**span(3, 6), "label": "date"}]}]
    with pytest.raises(Invalid):
        observations.ingest(work, actor(work), tagged.name, late, now=now())
    wider = models.add_labels(work, actor(work), tagged.name, ["date"], reason="a test")
    assert wider.answer.labels == ("price", "date")
    found = observations.ingest(work, actor(work), tagged.name, late, now=now())
    assert found.n_accepted == 1

"""What a version is compared with: seen, exported, replaced, and what follows from that."""

import hashlib
import json
from dataclasses import replace
from datetime import timedelta
from uuid import uuid4

import pytest

from app.adapters.artifacts import FileArtifacts
from app.domain.errors import StaleVerdict
from app.domain.versions import VersionEvent
from app.services import drift
from app.services.ports import Page
from tests.integration.support import (
    actor,
    add_version,
    examples,
    feed,
    now,
    rows_of,
    text_model,
    upload,
)


@pytest.fixture
def artifacts(home):
    """The artifacts of the API itself."""
    return FileArtifacts(home / "artifacts")


@pytest.fixture
def first(work, model, artifacts):
    rows = [{**row, "at": (now() - timedelta(hours=1)).isoformat()} for row in examples(60)]
    return upload(work, artifacts, model, rows, "reference")


@pytest.fixture
def second(work, model, artifacts):
    return upload(work, artifacts, model, examples(80, prefix="other"), "reference")


@pytest.fixture
def champion(work, model, first):
    version = add_version(work, model, reference=first)
    with work:
        work.versions.advance(version, VersionEvent.FORCED, actor="tester", reason="a test")
    return version


def url(model, number=1):
    return f"/v1/models/{model.name}/versions/{number}/reference"


def put(api, model, dataset, *, reason="the camera was replaced"):
    return api.put(url(model), json={"dataset": str(dataset), "reason": reason})


def begin(work, model, artifacts):
    check = drift.request_check(work, actor(work), model.name)
    return drift.begin(work, artifacts, check, owner="worker", seconds=15.0)


def finish(work, lease, window, watch=None):
    looked = drift.Looked(watch or window.watch, window.counts)
    report_id, _ = drift.finish(
        work, lease, window, [], looked, html=None, evidently=None, now=now()
    )
    return report_id


def test_the_reference_is_shown_with_its_digest_and_exported_as_it_was_stored(
    api, model, champion, first
):
    shown = api.get(url(model)).json()

    assert (shown["dataset"], shown["n_rows"]) == (str(first), 60)
    assert [entry["reason"] for entry in shown["history"]] == ["it was accepted on it"]
    body = api.get(shown["rows"]["parquet"])
    assert hashlib.sha256(body.content).hexdigest() == shown["sha256"]
    assert body.headers["etag"] == f'"{shown["sha256"]}"'


def test_exported_lines_can_be_uploaded_again_and_are_the_same_dataset(api, model, champion):
    shown = api.get(url(model)).json()
    lines = api.get(shown["rows"]["ndjson"])
    assert lines.headers["content-type"].startswith("application/x-ndjson")
    assert len([json.loads(line) for line in lines.text.splitlines()]) == 60

    again = api.post(
        f"/v1/models/{model.name}/datasets?role=reference",
        content=lines.content,
        headers={"Content-Type": "application/x-ndjson"},
    )

    assert again.json()["sha256"] == shown["sha256"]


def test_a_replacement_keeps_history_and_is_audited(api, work, model, champion, first, second):
    answer = put(api, model, second).json()

    assert (answer["dataset"], answer["n_rows"]) == (str(second), 80)
    assert [entry["dataset"] for entry in answer["history"]] == [str(second), str(first)]
    assert answer["since"] == answer["history"][0]["at"]
    with work:
        entries = work.events.listed(model.project_id, Page(50), model_id=model.id).items
    detail = next(e["detail"] for e in entries if e["action"] == "reference.replaced")
    assert (detail["from"], detail["to"]) == (str(first), str(second))
    assert detail["reason"] == "the camera was replaced"


def test_the_same_reference_again_changes_nothing(api, model, champion, first):
    before = api.get(url(model)).json()

    assert put(api, model, first).json() == before


@pytest.mark.parametrize("dataset", ["unknown", "of another model"])
def test_a_dataset_that_is_not_the_models_is_not_found(
    api, work, model, champion, artifacts, dataset
):
    other = text_model(work)
    its = upload(work, artifacts, other, examples(10), "reference")

    answer = put(api, model, uuid4() if dataset == "unknown" else its)

    assert answer.status_code == 404
    assert "upload one first" in answer.json()["detail"]


def test_a_version_without_reference_says_how_to_give_it_one(api, work, model):
    add_version(work, model)

    answer = api.get(url(model))

    assert answer.status_code == 404
    assert "PUT its id here" in answer.json()["detail"]


def test_the_next_check_uses_the_new_reference_and_a_watch_that_starts_anew(
    api, work, model, champion, second, artifacts
):
    feed(work, model, rows_of(60))
    lease, window = begin(work, model, artifacts)
    finish(work, lease, window, replace(window.watch, n_rows=60, through=7))
    lease, window = begin(work, model, artifacts)
    assert (window.watch.n_rows, len(window.reference)) == (60, 60)
    finish(work, lease, window)

    put(api, model, second)

    lease, window = begin(work, model, artifacts)
    assert (window.watch.n_rows, window.watch.through, len(window.reference)) == (0, 0, 80)
    finish(work, lease, window, replace(window.watch, n_rows=11))
    _, window = begin(work, model, artifacts)
    assert window.watch.n_rows == 11


def test_a_replacement_has_the_champion_looked_at(api, work, model, champion, second):
    put(api, model, second)

    with work:
        _, added = work.checks.request(model.id, requested_by="tester")
        assert not added
        assert work.models.watch(model.id)["is_checking"]


def test_a_check_on_the_former_reference_concludes_nothing(
    api, work, model, champion, second, artifacts
):
    feed(work, model, rows_of(60))
    lease, window = begin(work, model, artifacts)

    put(api, model, second)

    with pytest.raises(StaleVerdict, match="reference of version 1 was replaced"):
        finish(work, lease, window)

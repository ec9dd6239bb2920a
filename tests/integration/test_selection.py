"""What a run trains on is what its policy selects, and its record says what that left."""

import pytest

from app.domain.errors import Invalid
from app.domain.policies import SelectionPolicy
from app.domain.training import RunEvent
from app.domain.versions import VersionEvent
from app.services import snapshots, training
from app.services.examples import snapshot_hash
from tests.integration.support import (
    LABELS,
    actor,
    add_version,
    examples,
    feed,
    retrain,
    rows_of,
    text_model,
    upload,
)

N_UPLOADED, N_OLD, N_NEW = 40, 60, 40


@pytest.fixture
def lived(work, model, artifacts):
    """A model with an upload, old rows that its champion knows, and new rows it has answered."""
    live(work, model, artifacts)
    return model


def live(work, model, artifacts):
    upload(work, artifacts, model, examples(N_UPLOADED))
    feed(work, model, rows_of(N_OLD, prefix="old"))
    with work:
        through = work.observations.horizon(model.id)[1]
    champion = add_version(work, model, trained_through=through)
    with work:
        moved = work.versions.by_id(champion.id)
        work.versions.advance(moved, VersionEvent.FORCED, actor="tester", reason="a test says so")
    feed(work, model, [answered(row, champion.number) for row in rows_of(N_NEW, prefix="new")])


def answered(row, version):
    """The row as the champion answered it: surer with each, and right about it."""
    sure = 0.5 + int(row["id"].split("-")[1]) / (2 * N_NEW)
    other = LABELS[row["prediction"] == LABELS[0]]
    return {**row, "version": version, "scores": {row["prediction"]: sure, other: 1 - sure}}


def taken(work, model, artifacts, **knobs):
    run = retrain(work, model, selection=SelectionPolicy(**knobs))
    lease = training.begin(work, only=run.id, owner="w", seconds=15.0)
    return run, snapshots.snapshot_of(work, artifacts, lease)


def of(rows, prefix):
    return [row.id for row in rows if row.id.startswith(prefix)]


def test_a_run_trains_on_all_rows_by_default_and_says_so(work, lived, artifacts):
    _, found = taken(work, lived, artifacts)

    assert found.selection["by"] == "all"
    assert found.selection["old_share_kept"] == 1.0
    assert found.selection["n_old"] == len(found.train) - found.n_newest
    assert found.selection["n_new"] == found.n_newest == N_NEW - len(found.window)


def test_of_new_rows_alone_the_record_says_that_nothing_old_is_kept(work, lived, artifacts):
    _, every = taken(work, text_model_like(work, artifacts), artifacts)
    run, found = taken(work, lived, artifacts, by="new")

    assert len(of(found.train, "new")) == len(found.train) == found.n_newest
    assert found.selection["old_share_kept"] == 0.0
    assert found.selection["n_old"] == every.selection["n_old"] > 0
    with work:
        assert work.runs.get(run.id).snapshot["selection"] == found.selection


def text_model_like(work, artifacts):
    other = text_model(work)
    live(work, other, artifacts)
    return other


def test_a_reservoir_is_all_new_rows_and_as_many_old_ones_of_each_class(work, lived, artifacts):
    _, found = taken(work, lived, artifacts, by="reservoir", maximum_rows=20)

    old = [row for row in found.train if not row.id.startswith("new")]
    assert len(of(found.train, "new")) == found.n_newest == N_NEW - len(found.window)
    assert [row.label for row in old].count(LABELS[0]) == len(old) / 2 == 10
    assert found.selection["n_old_kept"] == 20


def test_the_hardest_rows_are_those_that_the_champion_was_least_sure_of(work, lived, artifacts):
    _, found = taken(work, lived, artifacts, by="hardest", maximum_rows=10, others_share=0.0)

    held = {row.id for row in found.window}
    learnable = [row["id"] for row in rows_of(N_NEW, prefix="new") if row["id"] not in held]
    assert [row.id for row in found.train] == learnable[:10]


def test_an_upload_that_the_champion_cannot_know_is_new(work, lived, artifacts):
    upload(work, artifacts, lived, examples(8, prefix="later"))

    _, found = taken(work, lived, artifacts, by="new")

    later = [row for row in found.train if row.inputs["text"].startswith("later")]
    set_aside = [row for row in found.holdout if row.inputs["text"].startswith("later")]
    assert len(later) == 8 - len(set_aside)
    assert len(found.train) == len(later) + found.n_newest == found.selection["n_new_kept"]


def test_the_hash_is_of_what_was_trained_on_and_a_repetition_has_it_too(work, lived, artifacts):
    run, found = taken(work, lived, artifacts, by="balanced", maximum_rows=30)
    with work:
        retaken = snapshots.take_snapshot(work, artifacts, work.runs.get(run.id))
    training.cancel(work, actor(work), lived.name, run.id, reason="done")
    with work:
        work.runs.advance(run.id, RunEvent.CANCELLED)

    repeated = retrain(work, lived, repeat_of=run.id)

    assert found.sha256 == snapshot_hash(found.train) == retaken.sha256
    assert len(found.train) == 30
    assert repeated.spec.selection == run.spec.selection
    assert repeated.snapshot_sha256 == found.sha256


def test_a_selection_that_leaves_one_class_is_refused_with_what_would_help(work, lived, artifacts):
    with pytest.raises(Invalid, match="the selection 'window' left these; try 'all'"):
        taken(work, lived, artifacts, by="window", maximum_rows=1)


def test_the_policy_selects_unless_the_request_does(api, work, announced, artifacts):
    policy = {"retrain": {"selection": {"by": "window", "days": 7}}}
    model = text_model(work, policy=policy)
    upload(work, artifacts, model, examples(40))
    url = f"/v1/models/{model.name}/retrain"

    refused = api.post(url, json={"reason": "r", "selection": {"by": "reservoir"}})
    run = api.post(url, json={"reason": "r"}).json()

    assert refused.status_code == 422
    assert "reservoir needs maximum_rows" in refused.text
    assert (run["selection"]["by"], run["selection"]["days"]) == ("window", 7)

"""Labels that come late, or change: what was said before is marked, and said anew."""

from datetime import timedelta

import pytest
from sqlalchemy import text

from app.adapters.postgres.drift import LATE_LABELS
from app.domain.observations import Label
from app.domain.versions import VersionEvent
from app.services import drift
from tests.integration.support import LABELS, actor, add_version, feed, labels_of, now, rows_of

ACCEPTED = {"accuracy": 0.9, "n": 200}


@pytest.fixture
def champion(work, model):
    version = add_version(work, model, accepted=ACCEPTED)
    with work:
        work.versions.advance(version, VersionEvent.FORCED, actor="tester", reason="a test")
    return version


@pytest.fixture
def seen(work, model, champion, artifacts):
    """Sixty rows that a check has seen, the first forty of them labelled."""
    rows = rows_of(60)
    feed(work, model, rows, labelled=False)
    send(work, model, labels_of(rows[:40]))
    return check(work, model, artifacts)


def send(work, model, labels):
    from_now = now()
    with work:
        work.observations.add_labels(
            model.id, [Label(row["id"], row["label"], from_now) for row in labels]
        )


def check(work, model, artifacts):
    """Let the model be looked at, as a worker would; return the report's id."""
    check_id = drift.request_check(work, actor(work), model.name)
    lease, window = drift.begin(work, artifacts, check_id, owner="worker", seconds=15.0)
    report_id, _ = drift.finish(
        work,
        lease,
        window,
        [],
        drift.Looked(drift.Watch(), window.counts),
        html=None,
        evidently=None,
        now=now(),
    )
    return report_id


def performance(api, model, report_id):
    """What REST says of a report's accuracy, in the list and alone."""
    alone = api.get(f"/v1/models/{model.name}/reports/{report_id}").json()
    listed = api.get(f"/v1/models/{model.name}/reports").json()["items"]
    assert alone == next(item for item in listed if item["id"] == str(report_id))
    return alone["performance"]


def is_due(work, model):
    with work:
        return model.id in set(work.models.due(now=now() + timedelta(minutes=5)))


def test_a_report_is_fresh_until_a_label_of_its_rows_comes(api, work, model, seen):
    fresh = performance(api, model, seen)
    assert (fresh["n"], fresh["is_stale"], fresh["n_labels_since"]) == (40, False, 0)

    send(work, model, labels_of(rows_of(3, start=40)))

    late = performance(api, model, seen)
    assert (late["n"], late["is_stale"], late["n_labels_since"]) == (40, True, 3)
    assert "3 labels of these rows came or changed since" in api.get(f"/models/{model.name}").text


def test_a_label_of_a_row_that_came_later_makes_no_report_stale(api, work, model, seen):
    feed(work, model, rows_of(5, prefix="later"))

    assert performance(api, model, seen)["is_stale"] is False


def test_a_correction_leads_to_a_new_check_with_another_accuracy(api, work, model, seen, artifacts):
    assert performance(api, model, seen)["accuracy"] == 1.0
    assert not is_due(work, model)

    answer = api.post(
        f"/v1/models/{model.name}/labels", json={"labels": [{"id": "o-0", "label": LABELS[1]}]}
    )

    assert answer.json()["accepted"] == 1
    assert performance(api, model, seen)["n_labels_since"] == 1
    assert is_due(work, model)
    newer = performance(api, model, check(work, model, artifacts))
    assert (newer["accuracy"], newer["is_stale"]) == (39 / 40, False)
    assert performance(api, model, seen)["is_stale"] is True
    history = api.get(f"/v1/models/{model.name}/observations/o-0").json()["labels"]
    assert [label["label"] for label in history] == [LABELS[0], LABELS[1]]


def test_the_same_label_again_changes_nothing(api, work, model, seen):
    send(work, model, labels_of(rows_of(40)))

    assert performance(api, model, seen)["is_stale"] is False
    assert not is_due(work, model)


def test_after_more_labels_than_are_looked_at_a_report_counts_as_stale(api, work, model, seen):
    feed(work, model, rows_of(LATE_LABELS, prefix="later"))

    found = performance(api, model, seen)

    assert (found["is_stale"], found["is_at_least"], found["n_labels_since"]) == (True, True, 0)


def test_a_report_of_before_says_nothing_of_staleness(api, engine, model, seen):
    with engine.begin() as connection:
        connection.execute(
            text(
                'UPDATE drift_reports SET "window" = "window" - \'labels_through\' WHERE id = :id'
            ),
            {"id": seen},
        )

    assert performance(api, model, seen)["is_stale"] is None
    assert api.get(f"/models/{model.name}").status_code == 200

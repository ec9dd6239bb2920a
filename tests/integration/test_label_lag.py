"""How long labels take: over REST, in metrics, on the page, in decisions, and at any size."""

from datetime import timedelta

import pytest
from sqlalchemy import text

from app.adapters.postgres.label_lags import FURTHER_ROWS, NEWEST_ROWS
from app.domain.observations import Label
from app.domain.versions import VersionEvent
from app.services import drift
from tests.integration.support import actor, add_version, feed, labels_of, now, rows_of


def rows_since(n, *, seconds_ago, prefix="o", start=0, **more):
    """Rows that were answered at stated times before now, in order."""
    at = now()
    return [
        {**row, "at": (at - timedelta(seconds=seconds_ago(index))).isoformat(), **more}
        for index, row in enumerate(rows_of(n, prefix=prefix, start=start))
    ]


def send(api, model, kind, rows):
    answer = api.post(f"/v1/models/{model.name}/{kind}", json={kind: rows})
    assert answer.status_code == 200, answer.text


def lag_of(api, model):
    return api.get(f"/v1/models/{model.name}/label-lag").json()


def test_without_labels_the_lag_is_not_known(api, model):
    found = lag_of(api, model)

    assert (found["n"], found["p50_seconds"], found["coverage"]) == (0, None, None)
    assert found["by_version"] == []


def test_the_lag_is_from_an_observation_to_its_first_label_by_version(api, work, model):
    old = rows_since(40, seconds_ago=lambda index: 100 * 3600 + index, version=1)
    young = rows_since(40, seconds_ago=lambda _: 3600, prefix="y", version=2)
    for rows in (old, young):
        send(api, model, "observations", rows)
        send(api, model, "labels", labels_of(rows))

    found = lag_of(api, model)

    by_version = {lag["version"]: lag for lag in found["by_version"]}
    assert found["n_labelled"] == 80
    assert by_version[1]["p50_seconds"] == pytest.approx(100 * 3600 + 20, abs=10)
    assert by_version[2]["p95_seconds"] == pytest.approx(3600, abs=10)
    assert found["p50_seconds"] == pytest.approx(3600, abs=10)


def test_a_correction_leaves_the_lag_as_it_was(api, engine, model):
    rows = rows_since(20, seconds_ago=lambda _: 600)
    send(api, model, "observations", rows)
    send(api, model, "labels", labels_of(rows))
    before = lag_of(api, model)["p95_seconds"]
    with engine.begin() as connection:  # let the first labels have come long before
        connection.execute(
            text(
                "UPDATE labels SET received_at = received_at - interval '300 s' WHERE model_id = :m"
            ),
            {"m": model.id},
        )

    send(api, model, "labels", [{"id": row["id"], "label": "negative"} for row in rows])

    assert lag_of(api, model)["p95_seconds"] == pytest.approx(before - 300, abs=5)


def test_of_many_rows_a_bounded_sample_is_read_and_tells_the_same(api, work, model):
    n = 3 * (NEWEST_ROWS + FURTHER_ROWS)
    rows = rows_since(n, seconds_ago=lambda index: 7200 * (1 - index / n))
    feed(work, model, rows, labelled=False)
    due = [row for index, row in enumerate(rows) if index < n / 2 and index % 4]  # an hour old
    with work:
        labels = [Label(row["id"], row["label"], now()) for row in labels_of(due)]
        work.observations.add_labels(model.id, labels)

    found = lag_of(api, model)

    assert NEWEST_ROWS < found["n"] <= NEWEST_ROWS + FURTHER_ROWS
    assert found["n_labelled"] / found["n"] < 0.5


def test_metrics_and_page_say_what_rest_says(api, model):
    rows = rows_since(30, seconds_ago=lambda _: 7200)
    send(api, model, "observations", rows)
    send(api, model, "labels", labels_of(rows[:24]))

    metrics = api.get("/metrics").text
    page = api.get(f"/models/{model.name}").text

    lag, coverage = (
        float(next(line for line in metrics.splitlines() if line.startswith(start)).split()[-1])
        for start in (
            f'upkeep_label_lag_seconds{{model="{model.name}",quantile="0.95"}}',
            f'upkeep_label_coverage_ratio{{model="{model.name}"}}',
        )
    )
    assert lag == pytest.approx(7200, abs=10)
    assert coverage == pytest.approx(0.8)
    assert "Labels take" in page
    assert "80\u202f% of 30 rows" in page


def test_a_decision_keeps_what_it_knew_of_lag_and_coverage(api, work, model, artifacts):
    version = add_version(work, model)
    with work:
        work.versions.advance(version, VersionEvent.FORCED, actor="tester", reason="a test")
    rows = rows_since(60, seconds_ago=lambda _: 7200)
    send(api, model, "observations", rows)
    send(api, model, "labels", labels_of(rows[:48]))
    check = drift.request_check(work, actor(work), model.name)
    lease, window = drift.begin(work, artifacts, check, owner="worker", seconds=15.0)

    _, decision_id = drift.finish(
        work,
        lease,
        window,
        [],
        drift.Looked(drift.Watch(), window.counts),
        html=None,
        evidently=None,
        now=now(),
    )

    body = api.get(f"/v1/models/{model.name}/decisions/{decision_id}").json()
    lag = body["situation"]["label_lag"]
    assert (lag["n_due"], lag["n_due_labelled"]) == (60, 48)
    assert lag["p50_seconds"] == pytest.approx(7200, abs=10)

"""The service reports its own rate of false alarms, and what it counts as false."""

import pytest

from app.domain.drift import DriftScore, Watch
from app.domain.versions import VersionEvent
from app.services import drift, observations
from tests.integration.support import actor, add_version, feed, labels_of, now, rows_of

ACCEPTED = {"accuracy": 0.9, "n": 500}
MOVED = DriftScore("n_words", "location", "ks", 1.0, 0.0, 500, 60, q_value=0.0, drifted=True)


@pytest.fixture
def champion(work, model):
    version = add_version(work, model, accepted=ACCEPTED)
    with work:
        work.versions.advance(version, VersionEvent.FORCED, actor="tester", reason="a test")
    return version


@pytest.fixture
def report(work, model, artifacts, champion):
    """Feed 60 rows, wrongly answered or not labelled if asked, and report on them."""
    fed = 0

    def make(*scores, labelled=True, wrong=False):
        nonlocal fed
        rows = rows_of(60, start=fed)
        fed += 60
        feed(work, model, rows, labelled=False)
        if labelled:
            other = {"negative": "positive", "positive": "negative"}
            labels = [
                {**row, "label": other[row["label"]] if wrong else row["label"]}
                for row in labels_of(rows)
            ]
            observations.add_labels(work, actor(work), model.name, labels, now=now())
        check = drift.request_check(work, actor(work), model.name)
        lease, window = drift.begin(work, artifacts, check, owner="worker", seconds=60.0)
        seen = drift.Looked(Watch(n_rows=fed, through=window.last), window.counts, n_read=60)
        drift.finish(work, lease, window, scores, seen, html=None, evidently=None, now=now())

    return make


def alarms_of(api, model):
    return api.get(f"/v1/models/{model.name}/alarms").json()


def test_a_finding_that_stands_is_one_alarm_and_one_that_comes_back_another(api, model, report):
    for scores in ([], [MOVED], [MOVED], [], [MOVED]):
        report(*scores, labelled=False)
    found = alarms_of(api, model)

    assert (found["n_reports"], found["n_rows"], found["n_alarms"]) == (5, 300, 2)
    assert (found["n_confirmed"], found["n_refuted"], found["n_unjudged"]) == (0, 0, 2)


def test_labels_that_stay_fine_refute_an_alarm(api, model, report):
    report()
    report(MOVED)
    found = alarms_of(api, model)

    assert (found["n_confirmed"], found["n_refuted"], found["n_unjudged"]) == (0, 1, 0)
    assert found["rates"]["refuted"]["per_promised_rows"] == pytest.approx(10_000 / 120)
    assert found["rates"]["refuted"]["lower"] < 10_000 / 120 < found["rates"]["refuted"]["upper"]


def test_labels_that_show_a_fall_confirm_an_alarm(api, model, report):
    report()
    report(MOVED, wrong=True)
    found = alarms_of(api, model)

    assert (found["n_confirmed"], found["n_refuted"], found["n_unjudged"]) == (1, 0, 0)
    assert found["rates"]["unconfirmed"]["per_promised_rows"] == 0


def test_a_model_that_was_never_checked_has_no_rate(api, model):
    found = alarms_of(api, model)

    assert (found["n_rows"], found["n_alarms"], found["rates"]["refuted"]) == (0, 0, None)


def test_prometheus_is_told_the_same(api, model, report):
    report()
    report(MOVED)
    lines = api.get("/metrics").text.splitlines()

    assert f'upkeep_drift_alarms{{judged="refuted",model="{model.name}"}} 1.0' in lines
    assert f'upkeep_watched_rows{{model="{model.name}"}} 120.0' in lines

"""A check reads what is new, once, and keeps what it counted with its report."""

from datetime import timedelta
from itertools import cycle

import numpy as np
import pytest

import workers.detectors
from app.domain.registry import scan
from app.domain.slices import with_drift
from app.domain.versions import VersionEvent
from app.services import drift
from app.services.windows import AT_A_TIME
from tests.integration.support import LABELS, actor, add_version, expire_lease, feed, now, upload
from workers.detectors import DEFAULTS
from workers.detectors.measure import measure_window
from workers.jobs import columns, looking
from workers.jobs.estimating import sliced
from workers.jobs.looking import look_at
from workers.jobs.slicing import drift_by_slice

scan(workers.detectors)


class Guessing:
    """A version that answers by the length of a text."""

    labels = LABELS

    def __init__(self):
        self.n_asked = 0

    def scores(self, inputs):
        sure = np.array([len(row["text"]) % 5 for row in inputs], dtype=np.float32) / 10 + 0.5
        return np.stack([sure, *[(1 - sure) / (len(LABELS) - 1)] * (len(LABELS) - 1)], axis=1)

    def features(self, inputs):
        self.n_asked += len(inputs)
        lengths = np.array([len(row["text"]) for row in inputs], dtype=np.float32)
        return np.stack([lengths, lengths % 3], axis=1)


@pytest.fixture
def guessing(monkeypatch):
    version = Guessing()
    monkeypatch.setattr(columns, "loaded", lambda model, champion: version)
    return version


@pytest.fixture
def champion(work, model, artifacts, guessing):
    rows = [{"inputs": row["inputs"], "label": row["prediction"]} for row in texts(0, 500)]
    version = add_version(work, model, reference=upload(work, artifacts, model, rows, "reference"))
    with work:
        work.versions.advance(version, VersionEvent.FORCED, actor="tester", reason="a test")
    return version


def texts(start, end, *, more=0):
    draw = np.random.default_rng(start)
    words = draw.integers(1, 12, end - start) + more
    bodies = [f"{'word ' * k}{n % 500:03}" for n, k in enumerate(words, start)]
    return [
        {"id": f"o-{n}", "inputs": {"text": body}, "prediction": LABELS[0]}
        for n, body in enumerate(bodies, start)
    ]


def begun(work, model, artifacts):
    check = drift.request_check(work, actor(work), model.name)
    return check, *drift.begin(work, artifacts, check, owner="tester", seconds=60.0)


def finished(work, lease, window, sight, **more):
    scores = measure_window(
        sight.reference,
        sight.sample,
        {**DEFAULTS, "embedding": []},
        fdr=max(sight.looked.look(window)[0], 1e-300),
        seed=0,
        counted=sight.counted,
    )
    report, _ = drift.finish(
        work, lease, window, scores, sight.looked, html=None, evidently=None, now=now(), **more
    )
    with work:
        return work.checks.report(report, window.model.id)


def checked(work, model, artifacts):
    _, lease, window = begun(work, model, artifacts)
    return finished(work, lease, window, look_at(work, window))


def test_rows_of_a_burst_larger_than_the_window_are_all_seen_by_the_watch(
    work, model, artifacts, champion
):
    feed(work, model, texts(0, 300), labelled=False)
    first = checked(work, model, artifacts)
    feed(work, model, texts(300, 300 + AT_A_TIME + 904), labelled=False)
    second = checked(work, model, artifacts)

    assert (first["window"]["n_new"], first["watch"]["n_rows"]) == (300, 300)
    assert (second["window"]["n_new"], second["watch"]["n_rows"]) == (5000, 5300)
    assert (second["window"]["n_observations"], second["window"]["n_sampled"]) == (1000, 1000)
    assert second["finding"] == "no_drift"


def test_drift_within_a_burst_is_found_though_the_window_never_shows_it(
    work, model, artifacts, champion
):
    feed(work, model, texts(0, 800), labelled=False)
    checked(work, model, artifacts)
    feed(work, model, [*texts(800, 1800, more=30), *texts(1800, 2900)], labelled=False)
    report = checked(work, model, artifacts)

    assert report["window"]["first_sequence"] > report["window"]["last_sequence"] - 1100
    assert report["finding"] == "drift"
    assert report["watch"]["value"] >= report["watch"]["limit"]


def test_a_check_that_was_cut_off_and_is_done_again_counts_nothing_twice(
    engine, work, model, artifacts, champion
):
    feed(work, model, texts(0, 300), labelled=False)
    checked(work, model, artifacts)
    feed(work, model, texts(300, 500), labelled=False)
    check, _, window = begun(work, model, artifacts)
    look_at(work, window)  # its worker dies here
    expire_lease(engine, "checks", check)
    looking._fitted.clear()

    lease, again = drift.begin(work, artifacts, check, owner="another", seconds=60.0)
    report = finished(work, lease, again, look_at(work, again))

    assert (report["window"]["n_new"], report["watch"]["n_rows"]) == (200, 500)
    assert report["window"]["n_observations"] == 500


def test_the_champion_is_asked_about_each_row_once(work, model, artifacts, champion, guessing):
    feed(work, model, texts(0, 300), labelled=False)
    checked(work, model, artifacts)
    after_first = guessing.n_asked
    feed(work, model, texts(300, 320), labelled=False)
    report = checked(work, model, artifacts)

    assert guessing.n_asked == after_first + 20
    assert (report["window"]["n_new"], report["window"]["n_observations"]) == (20, 320)


def test_the_window_kept_with_a_report_is_that_of_its_newest_rows(work, model, artifacts, champion):
    for start in range(0, 1500, 300):
        feed(work, model, texts(start, start + 300), labelled=False)
        checked(work, model, artifacts)
    with work:
        kept = work.profiles.window(champion.id, window_rows=1000)
        profile = work.profiles.of(champion.id, reference=champion.reference)
        afresh = work.profiles.window(champion.id, window_rows=2000)
    _, _, window = begun(work, model, artifacts)
    anew = look_at(work, drift.windows.emptied(work, window)).looked

    assert kept.n_rows == 1000
    assert afresh.n_rows == 0
    assert (kept.codes(profile.layout) == anew.counts.codes(profile.layout)).all()
    assert anew.n_read == 0  # the watch has seen them


def test_confidence_of_rows_without_scores_is_read_from_the_sample_alone(
    work, model, artifacts, champion, guessing
):
    with work:
        work.models.set_policy(
            model.id, {"check": {"window_rows": 600, "sample_rows": 100}}, actor="tester"
        )
    feed(work, model, texts(0, 600), labelled=False)
    before = guessing.n_asked
    report = checked(work, model, artifacts)
    rows_read = {score["feature"]: score["n_current"] for score in report["scores"]}

    assert guessing.n_asked == before + 500 + 100  # the reference, and the sample
    assert report["window"]["n_sampled"] == 100
    assert (rows_read["confidence"], rows_read["n_words"]) == (100, 600)


def test_a_window_is_compared_within_its_season_and_says_what_fell_back(
    work, model, artifacts, guessing
):
    noon = now().replace(hour=12, minute=0) - timedelta(days=3)
    reference = [
        {"inputs": row["inputs"], "label": LABELS[0], "at": (noon + at).isoformat()}
        for row, at in zip(texts(0, 500), cycle([timedelta(0), timedelta(hours=6)]), strict=False)
    ]
    stored = upload(work, artifacts, model, reference, "reference")
    version = add_version(work, model, reference=stored)
    with work:
        work.versions.advance(version, VersionEvent.FORCED, actor="tester", reason="a test")
        work.models.set_policy(model.id, {"check": {"season": "hour_of_day"}}, actor="tester")
    at_noon = (noon + timedelta(days=1)).isoformat()
    at_nine = (noon + timedelta(days=1, hours=9)).isoformat()
    rows = [{**row, "at": at_noon} for row in texts(0, 300)]
    feed(work, model, [*rows, {**texts(300, 301)[0], "at": at_nine}], labelled=False)
    report = checked(work, model, artifacts)

    season = report["window"]["season"]
    assert season["fell_back"] == {"21:00": "whole reference"}
    assert 250 <= season["n_reference"] <= 256
    n_reference = {s["feature"]: s["n_reference"] for s in report["scores"]}
    assert n_reference["n_words"] == season["n_reference"]
    assert (report["watch"]["season"], report["watch"]["n_rows"]) == ("hour_of_day", 301)


def test_a_profile_is_shown_once_a_check_has_fitted_it(api, work, model, artifacts, champion):
    url = f"/v1/models/{model.name}/versions/{champion.number}/profile"
    feed(work, model, texts(0, 100), labelled=False)
    missing = api.get(url)
    checked(work, model, artifacts)
    shown = api.get(url).json()

    assert (missing.status_code, missing.json()["type"]) == (404, "/problems/not-found")
    by_name = {column["name"]: column for column in shown["columns"]}
    assert shown["n_rows"] == 500
    assert by_name["n_words"]["missing_share"] == 0
    assert sum(by_name["n_words"]["counts"]) == 500
    assert set(by_name["prediction"]["categories"]) <= set(LABELS)
    assert shown["size_bytes"] <= 20_000 * len(shown["columns"])


@pytest.fixture
def sliced_model(api, work, announced):
    body = {
        "name": f"sliced-{now().timestamp():.6f}",
        "task_type": "text-classification",
        "base_model": "preset:none",
        "labels": list(LABELS),
        "input_contract": {
            "fields": [{"name": "text", "type": "text"}, {"name": "site", "type": "category"}]
        },
        "objective": {"slices": ["site"]},
    }
    answer = api.post("/v1/models", json=body)
    assert answer.status_code == 201, answer.text
    with work:
        return work.models.get(body["name"], actor(work).project_id)


def at_sites(rows, *, moved=None):
    """One row in ten is of the site `far`, the rest of `near`; texts of one may be longer."""
    for index, row in enumerate(rows):
        row["inputs"]["site"] = "near" if index % 10 else "far"
        if row["inputs"]["site"] == moved:
            row["inputs"]["text"] = f"word word word word {row['inputs']['text']}"
    return rows


def test_a_shift_within_one_slice_is_reported_for_it_and_for_no_other(
    api, work, artifacts, guessing, sliced_model
):
    rows = [
        {"inputs": row["inputs"], "label": row["prediction"]} for row in at_sites(texts(0, 1500))
    ]
    stored = upload(work, artifacts, sliced_model, rows, "reference")
    version = add_version(work, sliced_model, reference=stored)
    with work:
        work.versions.advance(version, VersionEvent.FORCED, actor="tester", reason="a test")
    feed(work, sliced_model, at_sites(texts(2000, 2800), moved="far"), labelled=False)
    _, lease, window = begun(work, sliced_model, artifacts)
    sight = look_at(work, window)
    slices = sliced(window, sight.reference)
    slices = with_drift(slices, drift_by_slice(window, sight, slices))
    report = finished(work, lease, window, sight, slices=slices)

    shown = api.get(f"/v1/models/{sliced_model.name}/reports/{report['id']}").json()["slices"]
    by_name = {one["name"]: one["drift"] for one in shown}
    assert by_name["site=far"]["finding"] == "drift"
    assert "n_words" in by_name["site=far"]["drifted"]
    assert by_name["site=near"]["finding"] == "no_drift"
    assert (by_name["site=far"]["n_reference"], by_name["site=far"]["n_current"]) == (150, 80)
    assert "site=far" in api.get(f"/models/{sliced_model.name}").text
    exposed = api.get("/metrics").text
    assert (
        f'upkeep_slice_drifted_signals{{model="{sliced_model.name}",slice="site=near"}} 0.0'
        in exposed
    )
    with work:
        kept = work.checks.slices(version.id)
    assert [one.drift for one in kept] == [one.drift for one in slices]

"""The pages over a real Postgres: what they tell, what their forms do, and whom they refuse."""

import gzip
import re
from contextlib import contextmanager
from datetime import UTC, datetime

import pytest
from starlette.testclient import TestClient

from app.adapters.postgres.unit_of_work import PostgresUnitOfWork, connect
from app.config import Settings
from app.domain.faults import FaultKind, UpstreamFault
from app.domain.identity import new_id
from app.domain.models import Objective
from app.domain.versions import ModelVersion, Origin, VersionState
from app.main import create_app
from app.migrating import migrate
from app.services import decisions, models, observations, promotion, training
from app.services.ports import Actor, Plugin
from tests.servers import fresh_database

OURS = {"Sec-Fetch-Site": "same-origin"}
LABELS = ("bad", "good")
TASK = Plugin("task_type", "text-classification", "", {}, {
    "metrics": ["accuracy"],
    "default_contract": [{"name": "text", "type": "text"}],
})  # fmt: skip
QUIET = {"check": {"detectors": {"numeric": {}, "categorical": {}, "embedding": {}}}}


@contextmanager
def running_site(servers, home):
    """Yield a browser at a site of its own, and a unit of work on its database."""
    with fresh_database(servers[0]) as url:
        migrate(url)
        settings = Settings(database_url=url, redis_url=servers[1], home=home)
        engine = connect(url)
        app = create_app(settings)
        with TestClient(app, base_url="http://localhost", follow_redirects=False) as client:
            yield client, PostgresUnitOfWork(engine)
        engine.dispose()


@pytest.fixture(scope="module")
def shared(servers, tmp_path_factory):
    with running_site(servers, tmp_path_factory.mktemp("home")) as both:
        yield both


@pytest.fixture
def site(shared):
    return shared[0]


@pytest.fixture
def work(shared):
    return shared[1]


@pytest.fixture
def actor(work):
    with work:
        return Actor("tester", "admin", work.keys.default_project())


def new_model(work, actor):
    with work:
        work.plugins.announce([TASK])
    name = f"m-{new_id().hex[-12:]}"
    new = models.NewModel(name, TASK.name, "preset:<none>", LABELS, None, Objective(), QUIET)
    return models.create(work, actor, new, now=datetime.now(UTC))


@pytest.fixture
def model(work, actor):
    return new_model(work, actor)


def add_version(work, model, **more):
    with work:
        number = work.versions.next_number(model.id)
        version = work.versions.add(
            ModelVersion(
                id=new_id(),
                model_id=model.id,
                number=number,
                state=VersionState.CHALLENGER,
                origin=Origin.TRAINED,
                digest="d" * 64,
                files=(),
                created_at=datetime.now(UTC),
                state_since=datetime.now(UTC),
                **more,
            )
        )
        verdict = {"gate": "not-inferior", "passed": True, "reason": "<i>as good</i>", "values": {}}
        comparison = {"role": "holdout", "n": 40, "challenger": {"accuracy": 0.95}, "pairs": None,
                      "champion": None}  # fmt: skip
        work.versions.add_evidence(
            model.id, version.id, None, {"comparisons": [comparison]}, [verdict]
        )
        return version


def crown(work, actor, model, number):
    promotion.promote(
        work, actor, model.name, number, reason="a test", force=True, judged_against=None
    )


def feed(work, actor, model, n, *, right=1.0):
    tag = new_id().hex[-8:]
    rows = [
        {
            "id": f"{tag}-{i}",
            "inputs": {"text": f"t {i}"},
            "prediction": "good",
            "shadow": {"1": "bad"},
            "label": "good" if i < right * n else "bad",
        }
        for i in range(n)
    ]
    observations.ingest(work, actor, model.name, rows, now=datetime.now(UTC))


MOVED = {
    "histograms": {
        "a_<column>": {"edges": [0.0, 1.0, 2.0], "reference": [5, 5], "current": [0, 9],
                       "missing": [0, 1]},
        "answers": {"labels": ["<b>yes", "no"], "reference": [5, 5], "current": [1, 9],
                    "missing": [0, 0]},
    },
    "exemplars": [
        {"observation": "row-<7>", "prediction": "no", "strangeness": 1.0, "text": "<i>odd</i>",
         "nearest": {"label": "yes", "text": "usual"}},
        {"observation": "row-8", "prediction": None, "strangeness": 1.0, "picture": "iVBORw0KGgo=",
         "nearest": {"label": "no"}},
    ],
    "classes": {"n_strange": 9, "n_expected": 2.0, "more": [], "fewer": [], "nearest": [],
                "predicted": [{"label": "<u>no", "share": 0.9, "usual_share": 0.5}]},
}  # fmt: skip


def add_report(work, model, version, *, last_sequence):
    report_id = new_id()
    score = {"feature": "unseen_<word>", "kind": "location", "detector": "ks", "statistic": 0.4,
             "p_value": 1e-9, "q_value": 1e-8, "effect": 0.4, "threshold": 0.1, "n_reference": 90,
             "n_current": 80, "drifted": True, "detail": {}}  # fmt: skip
    moved = {"label": "<i>card", "index": 0, "before": 0.125, "now": 0.25}
    joint = {**score, "feature": "scores", "kind": "class_scores", "detail": {"classes": [moved]}}
    performance = {"n": 80, "accuracy": 0.9, "floor": 0.85, "changed_at": 3, "n_since": 9,
                   "accuracy_since": 0.8, "lower_since": 0.4, "upper_since": 0.9}  # fmt: skip
    window = {"n_observations": 80, "first_sequence": 1, "last_sequence": last_sequence}
    with work:
        work.checks.add_report(
            {
                "id": report_id,
                "model_id": model.id,
                "version_id": version.id,
                "version_number": version.number,
                "finding": "drift",
                "window": window,
                "n_reference": 90,
                "scores": [score, joint],
                "performance": performance,
                "fdr": 0.01,
                "evidently_json": {"moved": MOVED},
            },
            html=gzip.compress(b"<p>Evidently</p>"),
        )
    return report_id


def start_run(work, actor, model, reason="why"):
    feed(work, actor, model, 4, right=0.5)
    request = training.Request(reason)
    decisions.retrain(work, actor, model.name, request, key=None, now=datetime.now(UTC))


def open_incident(work, model, version):
    report_id = add_report(work, model, version, last_sequence=1)
    fault = UpstreamFault("<age>", FaultKind.MISSING, "it is <b>gone</b>", {"share": 1.0})
    with work:
        return work.incidents.open(model.id, version.id, fault, report_id=report_id)


def state_of(work, model):
    with work:
        return work.models.by_id(model.id)


def test_the_list_shows_each_model_and_what_it_waits_for(site, model):
    page = site.get("/")
    assert page.status_code == 200
    assert f'href="/models/{model.name}"' in page.text
    assert "waiting" in page.text


def test_a_model_without_anything_has_a_page_that_says_what_to_do(site, model):
    page = site.get(f"/models/{model.name}")
    assert page.status_code == 200
    assert f"POST /v1/models/{model.name}/observations" in page.text
    assert "No version yet" in page.text


def test_the_whole_story_is_told_with_every_word_escaped(site, work, actor, model):
    accepted = {"metric": "accuracy", "value": 0.95, "accuracy": 0.95, "n": 40, "role": "holdout"}
    first = add_version(work, model, accepted=accepted)
    crown(work, actor, model, first.number)
    feed(work, actor, model, 80, right=0.9)
    with work:
        last, _ = work.observations.horizon(model.id)
    report_id = add_report(work, model, first, last_sequence=last)
    start_run(work, actor, model, "<script>alert(1)</script>")
    page = site.get(f"/models/{model.name}")
    assert page.status_code == 200
    assert "<script>alert" not in page.text
    assert "<i>as good" not in page.text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page.text
    assert "unseen &lt;word&gt;" in page.text
    assert "&lt;i&gt;card 12.5\u202f% → 25.0\u202f%" in page.text
    assert 'class="mark drift"' in page.text
    assert 'class="mark promoted"' in page.text
    assert "Training run" in page.text
    evidently = site.get(f"/models/{model.name}/reports/{report_id}/evidently")
    assert evidently.text == "<p>Evidently</p>"
    assert "sandbox" in evidently.headers["content-security-policy"]


def test_what_moved_is_drawn_and_the_strangest_rows_stand_beside_their_nearest(
    site, work, actor, model
):
    version = add_version(work, model)
    crown(work, actor, model, version.number)
    report_id = add_report(work, model, version, last_sequence=1)
    page = site.get(f"/models/{model.name}").text
    assert page.count("<figure>") == 2
    assert "1 to 2: 50.0\u202f% before, 90.0\u202f% now" in page
    assert "missing 0.0\u202f% before, 10.0\u202f% now" in page
    assert "<q>&lt;i&gt;odd&lt;/i&gt;</q>" in page
    assert "row-&lt;7&gt;" in page
    assert 'src="data:image/png;base64,iVBORw0KGgo="' in page
    assert "<b>&lt;u&gt;no</b> (90\u202f%, usually 50\u202f%)" in page
    assert re.findall(r"<u>|<i>odd|<b>yes", page) == []
    moved = site.get(f"/v1/models/{model.name}/reports/{report_id}/moved")
    assert moved.json() == MOVED


def test_every_link_of_a_page_leads_somewhere(site, work, actor, model):
    version = add_version(work, model)
    crown(work, actor, model, version.number)
    add_report(work, model, version, last_sequence=1)
    start_run(work, actor, model)
    page = site.get(f"/models/{model.name}").text
    links = {link.replace("&amp;", "&") for link in re.findall(r'href="(/[^"#]*)', page)}
    assert len(links) > 10
    broken = {link for link in links if site.get(link).status_code != 200}
    assert broken == set()
    anchors = set(re.findall(r'href="#([^"]+)"', page))
    assert {one for one in anchors if f'id="{one}"' not in page} == set()


def test_live_tells_the_run_and_changes_its_stamp_when_something_happened(site, work, actor, model):
    crown(work, actor, model, add_version(work, model).number)
    before = site.get(f"/models/{model.name}/live").json()
    start_run(work, actor, model)
    after = site.get(f"/models/{model.name}/live").json()
    assert not before["is_running"]
    assert after["is_running"]
    assert "queued" in after["run"]
    assert (
        before["stamp"] != after["stamp"] == site.get(f"/models/{model.name}/live").json()["stamp"]
    )


def test_a_form_does_what_it_says_and_leads_back(site, work, model):
    answer = site.post(f"/models/{model.name}/pause", data={"reason": "holiday"}, headers=OURS)
    assert answer.status_code == 303
    assert state_of(work, model).is_paused
    assert "Paused" in site.get(answer.headers["location"]).text


def test_a_page_says_what_is_broken_upstream_and_what_that_holds_up(site, work, actor, model):
    version = add_version(work, model)
    crown(work, actor, model, version.number)
    incident = open_incident(work, model, version)
    page = site.get(f"/models/{model.name}").text
    assert "broken input" in page
    assert "it is &lt;b&gt;gone&lt;/b&gt;" in page
    assert "nothing is retrained by itself" in page
    assert "broken input" in site.get("/").text
    before = site.get(f"/models/{model.name}/live").json()["stamp"]

    path = f"/models/{model.name}/incidents/{incident.id}"
    site.post(f"{path}/acknowledge", data={"reason": "mine"}, headers=OURS)
    assert "web page looks after it" in site.get(f"/models/{model.name}").text
    assert before != site.get(f"/models/{model.name}/live").json()["stamp"]

    form = {"reason": "they moved house", "is_genuine": "true"}
    done = site.post(f"{path}/resolve", data=form, headers=OURS)
    assert "Resolved" in site.get(done.headers["location"]).text
    with work:
        assert work.incidents.standing(model.id) == []
        assert work.incidents.get(incident.id, model.id).is_genuine


def test_a_run_in_spite_of_an_incident_must_be_asked_for_as_such(site, work, actor, model):
    version = add_version(work, model)
    crown(work, actor, model, version.number)
    feed(work, actor, model, 4, right=0.5)
    open_incident(work, model, version)
    form = {"reason": "now", "start_from": "base"}
    path = f"/models/{model.name}/retrain"
    assert 'name="force" value="true" required' in site.get(f"/models/{model.name}").text
    assert site.post(path, data=form, headers=OURS).status_code == 409
    assert site.post(path, data={**form, "force": "true"}, headers=OURS).status_code == 303


@pytest.mark.parametrize(
    "headers",
    [{}, {"Sec-Fetch-Site": "cross-site"}, {"Origin": "http://evil.example"}, {"Origin": "null"}],
)
def test_a_form_from_elsewhere_changes_nothing(site, work, model, headers):
    answer = site.post(f"/models/{model.name}/pause", data={"reason": "x"}, headers=headers)
    assert answer.status_code == 403
    assert not state_of(work, model).is_paused


def test_an_action_without_a_reason_is_refused_in_words(site, work, model):
    answer = site.post(f"/models/{model.name}/pause", data={"reason": "  "}, headers=OURS)
    assert answer.status_code == 422
    assert "a reason is needed" in answer.text
    assert not state_of(work, model).is_paused


def test_a_form_sent_twice_starts_one_run(site, work, actor, model):
    crown(work, actor, model, add_version(work, model).number)
    feed(work, actor, model, 4, right=0.5)
    form = {"reason": "again", "start_from": "champion", "nonce": new_id().hex}
    answers = [
        site.post(f"/models/{model.name}/retrain", data=form, headers=OURS).status_code
        for _ in range(2)
    ]
    assert answers == [303, 303]
    other = site.post(
        f"/models/{model.name}/retrain", data={**form, "nonce": "other"}, headers=OURS
    )
    assert other.status_code == 409
    with work:
        run = work.runs.in_flight(model.id)
    stop = site.post(
        f"/models/{model.name}/runs/{run.id}/cancel", data={"reason": "no"}, headers=OURS
    )
    assert stop.status_code == 303


def test_a_promotion_judged_against_another_champion_is_refused(site, work, actor, model):
    crown(work, actor, model, add_version(work, model).number)
    second = add_version(work, model).number
    form = {"number": second, "reason": "better", "force": "true"}
    path = f"/models/{model.name}/promote"
    stale = site.post(path, data={**form, "judged_against": 7}, headers=OURS)
    assert stale.status_code == 409
    done = site.post(path, data={**form, "judged_against": 1}, headers=OURS)
    assert done.status_code == 303
    back = site.post(
        f"/models/{model.name}/rollback", data={"reason": "worse", "to": 1}, headers=OURS
    )
    assert back.status_code == 303
    page = site.get(f"/models/{model.name}").text
    assert "quarantined" in page


def test_a_public_domain_pointed_here_is_refused_while_there_are_no_keys(site, model):
    answer = site.get(f"/models/{model.name}", headers={"Host": "evil.example"})
    assert answer.status_code == 403


def test_an_unknown_model_is_a_page_that_says_so(site):
    answer = site.get("/models/nope")
    assert answer.status_code == 404
    assert "there is no model" in answer.text
    assert answer.headers["content-type"].startswith("text/html")


def test_pages_load_nothing_from_elsewhere(site, model):
    page = site.get(f"/models/{model.name}")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert re.findall(r'(?:src|href|action)="(?:https?:)?//', page.text) == []
    assert "style=" not in page.text


def test_a_static_file_is_kept_for_good_under_the_address_of_its_content(site):
    address = re.search(r'href="(/static/upkeep\.css[^"]*)"', site.get("/").text).group(1)
    pinned = site.get(address)
    assert "immutable" in pinned.headers["cache-control"]
    loose = site.get("/static/upkeep.css")
    assert "immutable" not in loose.headers["cache-control"]
    again = site.get(address, headers={"If-None-Match": pinned.headers["etag"]})
    assert again.status_code == 304
    assert site.get("/static/..%2Fpages.py").status_code == 404


def test_the_pages_are_no_part_of_the_api_document(site):
    assert all(path.startswith(("/v1", "/healthz", "/readyz", "/metrics"))
               for path in site.get("/openapi.json").json()["paths"])  # fmt: skip


@pytest.fixture
def locked(servers, tmp_path):
    """A site with an admin's and a viewer's key."""
    with running_site(servers, tmp_path) as (site, work):
        made = site.post("/v1/keys", json={"name": "ada", "role": "admin"}).json()
        admin = {"Authorization": f"Bearer {made['key']}"}
        viewer = site.post("/v1/keys", json={"name": "vi", "role": "viewer"}, headers=admin).json()
        yield site, work, made["key"], viewer["key"]


def test_with_keys_a_visitor_signs_in_and_may_do_what_the_key_may(locked):
    site, work, admin, viewer = locked
    with work:
        actor = Actor("tester", "admin", work.keys.default_project())
    model = new_model(work, actor)
    path, pause = f"/models/{model.name}", f"/models/{model.name}/pause"
    turned_away = site.get(path)
    assert turned_away.headers["location"] == f"/login?next={path}"
    wrong = site.post("/login", data={"key": "upk_no", "next": path}, headers=OURS)
    assert wrong.status_code == 401
    assert "set-cookie" not in wrong.headers

    signed = site.post("/login", data={"key": viewer, "next": path}, headers=OURS)
    assert signed.headers["location"] == path
    said = set(re.split(r"; ?", signed.headers["set-cookie"].lower()))
    assert {"httponly", "samesite=strict"} <= said
    page = site.get(path).text
    assert "may look only" in page
    assert viewer not in page
    assert site.post(pause, data={"reason": "x"}, headers=OURS).status_code == 403
    assert not state_of(work, model).is_paused

    site.post("/logout", headers=OURS)
    assert site.get(path).status_code == 303
    away = site.post("/login", data={"key": admin, "next": "//evil.example"}, headers=OURS)
    assert away.headers["location"] == "/"
    assert site.post(pause, data={"reason": "x"}, headers=OURS).status_code == 303
    assert "<td>ada</td>" in site.get("/audit").text

"""A run over REST while it waits and while it goes on: its place, its changes, its figures."""

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import islice, pairwise

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import text

from app.domain.training import FRESH_LINES, SAMPLED_LINES, RunEvent
from app.services import training
from tests.conftest import UPKEEP, free_port, wait_until
from tests.integration.support import actor, examples, retrain, text_model, upload
from upkeep import NotFound, Retries, Unavailable, Upkeep


@contextmanager
def served(servers, database_url, home, **more) -> Iterator[str]:
    """A process of the API, one of several over the same database."""
    url = f"http://127.0.0.1:{free_port()}"
    environment = {
        **os.environ,
        "DATABASE_URL": database_url,
        "REDIS_URL": servers[1],
        "UPKEEP_HOME": str(home),
        **{f"UPKEEP_{name.upper()}": str(value) for name, value in more.items()},
    }
    command = [*UPKEEP, "api", "--port", url.rpartition(":")[2]]
    with subprocess.Popen(command, env=environment) as process:
        try:
            wait_until(lambda: is_alive(url), what="the API answers")
            yield url
        finally:
            process.terminate()


def is_alive(url) -> bool:
    with suppress(httpx.TransportError):
        return httpx.get(f"{url}/healthz").status_code == 200
    return False


@pytest.fixture(scope="module")
def address(servers, database_url, home, announced):
    with served(servers, database_url, home) as url:
        yield url


@pytest.fixture
def run(work, model, artifacts):
    upload(work, artifacts, model, examples(40))
    return retrain(work, model)


def begin(work, run):
    return training.begin(work, owner="w", seconds=600.0, only=run.id)


def tell(work, lease, **progress):
    with work:
        assert work.runs.set_progress(lease, {"phase": "train", **progress})


def fail(work, lease):
    training.end_early(work, lease, RunEvent.FAILED, {"detail": "the test ends it"})


def numbered(changes):
    return [(one["number"], one["what"]) for one in changes]


def test_a_waiting_run_tells_its_place_and_a_priority_out_of_bounds_is_refused(
    api, work, model, artifacts
):
    upload(work, artifacts, model, examples(40))
    url = f"/v1/models/{model.name}"

    asked = api.post(f"{url}/retrain", json={"reason": "now", "priority": 10}).json()
    shown = api.get(asked["url"]).json()
    listed = api.get(f"{url}/runs").json()["items"][0]
    refused = api.post(f"{url}/retrain", json={"reason": "now", "priority": 11})

    assert shown["queue"]["position"] >= 1
    assert shown["queue"]["n_waiting"] >= shown["queue"]["position"]
    assert shown["waited_seconds"] >= 0
    assert (shown["priority"], shown["device"]) == (10, None)
    assert listed["queue"]["position"] >= 1
    assert refused.status_code == 422
    assert refused.json()["errors"][0]["pointer"] == "/priority"
    training.cancel(work, actor(work), model.name, asked["id"], reason="the test is over")
    assert api.get(asked["url"]).json()["queue"] is None


class TestEvents:
    def test_each_line_and_each_move_comes_once_in_order_and_the_stream_ends_with_the_run(
        self, address, work, model, run
    ):
        with Upkeep(address) as client:
            following = client.model(model.name).follow(str(run.id))
            seen = list(islice(following, 1))
            lease = begin(work, run)
            seen += islice(following, 1)
            for step in (1, 2):
                tell(work, lease, step=step, loss=1.0 / step)
                seen += islice(following, 1)
            training.cancel(work, actor(work), model.name, run.id, reason="enough")
            seen += islice(following, 1)
            training.end_early(work, lease, RunEvent.CANCELLED)
            seen += following

        assert numbered(seen) == [
            (1, "queued"),
            (2, "started"),
            (3, "progress"),
            (4, "progress"),
            (5, "cancel_requested"),
            (6, "cancelled"),
        ]
        assert [one["state"] for one in seen[-2:]] == ["running", "cancelled"]
        assert seen[3]["progress"] == {"phase": "train", "step": 2, "loss": 0.5}

    def test_a_reader_goes_on_at_another_process_where_it_stopped(
        self, servers, database_url, home, address, work, model, run
    ):
        lease = begin(work, run)
        tell(work, lease, step=1)
        path = f"/v1/models/{model.name}/runs/{run.id}/events"
        first = islice(events_at(f"{address}{path}"), 3)
        last = [event["id"] for event in first][-1]
        tell(work, lease, step=2)
        fail(work, lease)

        with served(servers, database_url, home) as other:
            rest = list(events_at(f"{other}{path}", last_event_id=last))

        assert last == "3"
        assert [(one["id"], one["event"]) for one in rest] == [("4", "progress"), ("5", "state")]
        assert json.loads(rest[-1]["data"])["state"] == "failed"
        assert list(events_at(f"{address}{path}", last_event_id="5")) == []

    def test_a_silent_run_is_known_to_be_followed_still(self, api, work, model, run):
        async def first_two():
            following = api.app.state.services.following
            lines = following.lines(run.id, after=1, heartbeat_seconds=0.01)
            return [await anext(lines), await anext(lines)]

        assert api.portal.call(first_two) == ["retry: 1000\n\n", ": no news\n\n"]
        training.cancel(work, actor(work), model.name, run.id, reason="the test is over")

    def test_streams_beyond_the_limit_are_refused_until_one_ends(
        self, servers, database_url, home, work, model, run
    ):
        with served(servers, database_url, home, maximum_streams=2) as url:
            events = f"{url}/v1/models/{model.name}/runs/{run.id}/events"
            with httpx.stream("GET", events) as one, httpx.stream("GET", events) as two:
                open_lines = [one.iter_lines(), two.iter_lines()]
                assert [next(lines) for lines in open_lines] == ["retry: 1000"] * 2
                refused = httpx.get(events)
                with (
                    Upkeep(url, retries=Retries(patience_seconds=0.0)) as impatient,
                    pytest.raises(Unavailable, match="UPKEEP_MAXIMUM_STREAMS"),
                ):
                    next(impatient.model(model.name).follow(str(run.id)))
            wait_until(lambda: is_open(events), seconds=20, what="a stream is free again")

        assert refused.status_code == 503
        assert refused.json()["type"] == "/problems/busy"
        assert refused.headers["Retry-After"] == "5"
        training.cancel(work, actor(work), model.name, run.id, reason="the test is over")

    def test_what_is_not_there_is_not_followed(self, address, model, run, work):
        with Upkeep(address) as client:
            with pytest.raises(NotFound):
                next(client.model(model.name).follow("00000000-0000-7000-8000-000000000000"))
            other = text_model(work)
            with pytest.raises(NotFound):
                next(client.model(other.name).follow(str(run.id)))


def is_open(url) -> bool:
    with httpx.stream("GET", url) as answer:
        return answer.status_code == 200


def events_at(url, *, last_event_id=None):
    """The events of a stream, as a browser reads them."""
    headers = {} if last_event_id is None else {"Last-Event-ID": last_event_id}
    with httpx.stream("GET", url, headers=headers, timeout=30) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        event: dict[str, str] = {}
        for line in answer.iter_lines():
            name, _, value = line.partition(": ")
            if not line and "data" in event:
                yield event
                event = {}
            elif name in {"id", "event", "data"}:
                event[name] = value


class TestHistory:
    def test_a_long_runs_history_is_bounded_even_and_loses_no_fresh_line(
        self, api, engine, work, model, run
    ):
        lease = begin(work, run)
        n_lines = 2000
        for step in range(1, n_lines + 1):
            tell(work, lease, step=step)

        shown = api.get(f"/v1/models/{model.name}/runs/{run.id}/history").json()

        lines = [one for one in shown["items"] if one["what"] == "progress"]
        steps = [one["progress"]["step"] for one in lines]
        assert SAMPLED_LINES // 2 <= len(lines) <= SAMPLED_LINES + FRESH_LINES <= 200
        assert steps[-FRESH_LINES:] == list(range(n_lines - FRESH_LINES + 1, n_lines + 1))
        gaps = {after - before for before, after in pairwise(steps[:-FRESH_LINES])}
        assert steps[0] == 1
        assert gaps == {16}
        assert numbered(shown["items"])[:2] == [(1, "queued"), (2, "started")]
        fail(work, lease)

    def test_a_worker_that_lost_its_run_adds_nothing_to_its_history(self, engine, work, run):
        old = begin(work, run)
        with engine.begin() as connection:
            connection.execute(
                text("UPDATE training_runs SET fencing_token = fencing_token + 1 WHERE id = :id"),
                {"id": run.id},
            )
        with work:
            assert not work.runs.set_progress(old, {"step": 1})
            assert [one.what for one in work.runs.history(run.id)] == ["queued", "started"]

    def test_the_page_of_a_run_draws_its_course(self, api, work, model, run):
        lease = begin(work, run)
        tell(work, lease, step=1, loss=2.0, rows_per_second=10.0)
        tell(work, lease, step=2, loss=1.0, rows_per_second=12.0)
        fail(work, lease)

        shown = api.get(f"/models/{model.name}/records/runs/{run.id}")

        assert shown.status_code == 200
        assert shown.text.count("<polyline") == 2
        assert "from 2 to 1" in shown.text


class TestMetrics:
    def test_the_figures_of_a_run_in_training_are_gone_when_it_ends(self, api, work, model, run):
        assert sample(api, "upkeep_training_queue_age_seconds", model) >= 0
        lease = begin(work, run)
        tell(work, lease, step=3, total_steps=12, loss=0.5, rows_per_second=80.0, eta_seconds=9.0,
             memory_bytes=1e8, utilisation=0.4)  # fmt: skip

        assert sample(api, "upkeep_training_run_steps", model) == 3
        assert sample(api, "upkeep_training_run_total_steps", model) == 12
        assert sample(api, "upkeep_training_run_loss", model) == 0.5
        assert sample(api, "upkeep_training_run_rows_per_second", model) == 80
        assert sample(api, "upkeep_training_run_eta_seconds", model) == 9
        assert sample(api, "upkeep_training_run_memory_bytes", model) == 1e8
        assert sample(api, "upkeep_training_run_utilisation_ratio", model) == 0.4
        assert sample(api, "upkeep_training_queue_age_seconds", model) is None

        fail(work, lease)

        assert sample(api, "upkeep_training_run_steps", model) is None
        assert sample(api, "upkeep_training_run_outcomes", model, outcome="failed") == 1
        name = "upkeep_training_run_duration_seconds"
        assert sample(api, f"{name}_count", model, outcome="failed") == 1
        assert sample(api, f"{name}_bucket", model, outcome="failed", le="1.0") in {0, 1}
        assert sample(api, f"{name}_bucket", model, outcome="failed", le="+Inf") == 1
        assert sample(api, "upkeep_training_queue_wait_seconds_count", model) == 1


def sample(api, name, model, **labels):
    wanted = {"model": model.name, **labels}
    for family in text_string_to_metric_families(api.get("/metrics").text):
        for one in family.samples:
            if one.name == name and one.labels == wanted:
                return one.value
    return None

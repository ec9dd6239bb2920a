"""A search tries, prunes and remembers: no trial is lost or done twice, whoever goes on with it."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import workers.task_types
from app.domain.errors import Invalid
from app.domain.policies import KnobChoices, KnobRange, SearchPolicy
from app.domain.registry import scan
from app.services import training
from app.services.cards import card
from app.services.policies import checked_policy
from tests.integration.support import add_version, examples, retrain, upload
from tests.integration.test_training_knobs import rewrite
from tests.integration.test_training_process import image_job
from workers.jobs.searching import Search, Watch
from workers.task_types import task_types
from workers.training.errors import TrainingError
from workers.training.files import read_json
from workers.training.job import RESULT, read_job
from workers.training.progress import Preempted, Progress, Stop
from workers.training.run import execute
from workers.training.supervise import Outcome

scan(workers.task_types)
SPACE = {
    "learning_rate": KnobRange(1e-6, 2e-2, log=True),
    "epochs": KnobRange(3, 5),
    "mixup": KnobChoices([0.0, 0.1]),
}


class Heard(Progress):
    """Tells its lines to a watch, as the supervisor does."""

    def __init__(self, watch: Watch) -> None:
        super().__init__(None)
        self._watch = watch

    def say(self, phase: str, *, at_once: bool = False, **fields: Any) -> None:
        self._watch.on_progress({"phase": phase, **fields})


class Asking(Stop):
    """Stops when the watch says so."""

    def __init__(self, watch: Watch) -> None:
        super().__init__()
        self._watch = watch

    def check(self) -> None:
        self.is_requested = self._watch.should_stop() is not None
        super().check()


def here(directory: Path, watch: Watch) -> Outcome:
    """Run a trial in this process: the trainer is the real one, without its start."""
    job = read_job(directory)
    try:
        execute(job, task_types.get(job.task_type), Heard(watch), Asking(watch))
    except Preempted:
        return Outcome("cancelled", None, None, 75)
    except TrainingError as error:
        return Outcome("failed", None, error.as_problem(), 1)
    return Outcome("succeeded", read_json(directory / RESULT), None, 0)


def wanted(**changes: Any) -> SearchPolicy:
    return SearchPolicy(**{"n_trials": 6, "space": SPACE, **changes})


@pytest.fixture
def begun(work, model, artifacts, tmp_path):
    """Begin a run that searches; return its lease and the folder of its job."""

    def begin(search: SearchPolicy, name: str = "job"):
        if not work_has_rows(work, model):
            upload(work, artifacts, model, examples(40))
        run = retrain(work, model, search=search, seed=5)
        lease = training.begin(work, only=run.id, owner="w", seconds=60.0)
        directory = image_job(tmp_path / name)
        return lease, directory

    return begin


def work_has_rows(work, model):
    with work:
        return bool(work.datasets.of(model.id, "training"))


def search_of(work, lease, directory, supervised=here):
    with work:
        run = work.runs.get(lease.job_id)
    by = {**run.spec.search, "metric": "log_loss", "direction": "minimize"}
    run = replace(run, spec=replace(run.spec, search=by))
    return Search(work, lease, run, directory, supervised)


def trials_of(work, lease):
    with work:
        return [dict(one) for one in work.runs.get(lease.job_id).trials]


def untimed(trials):
    return [{**one, "seconds": None} for one in trials]


def test_a_search_prunes_what_falls_behind_and_the_job_gets_the_best_recipe(work, begun):
    lease, directory = begun(wanted())

    assert search_of(work, lease, directory).run() is None

    trials = trials_of(work, lease)
    complete = [one for one in trials if one["state"] == "complete"]
    assert [one["number"] for one in trials] == list(range(6))
    assert {one["state"] for one in trials} == {"complete", "pruned"}
    best = min(complete, key=lambda one: one["score"])
    job = read_job(directory)
    told = dict(best["scores"])
    assert best["score"] == pytest.approx(told[best["best_epoch"]], abs=1e-5)
    assert best["score"] == pytest.approx(min(told.values()), abs=1e-5)
    knobs = {**best["recipe"], "epochs": best["best_epoch"]}
    assert {name: job.recipe[name] for name in SPACE} == knobs
    assert job.recipe["patience"] is None  # there is nothing to judge its epochs by
    assert job.validation_share == 0.0  # in the end it learns from all rows
    assert not list(directory.glob("trial-*"))
    for one in trials:
        assert [epoch for epoch, _ in one["scores"]] == list(range(len(one["scores"])))
        assert one["state"] == "complete" or len(one["scores"]) <= one["recipe"]["epochs"]


def test_a_search_whose_worker_was_lost_ends_as_if_it_had_not_been(work, model, begun):
    lease, whole = begun(wanted(n_trials=4), "whole")
    search_of(work, lease, whole).run()
    expected = untimed(trials_of(work, lease))
    with work:
        work.runs.advance(lease.job_id, training.RunEvent.FAILED)
    lease, directory = begun(wanted(n_trials=4), "broken")
    n_left = [7]

    def breaking(place: Path, watch: Watch) -> Outcome:
        class Breaks(Heard):
            def say(self, phase: str, *, at_once: bool = False, **fields: Any) -> None:
                super().say(phase, at_once=at_once, **fields)
                n_left[0] -= bool(fields.get("validation"))
                if n_left[0] < 0:
                    raise ConnectionError("the worker is gone")

        job = read_job(place)
        execute(job, task_types.get(job.task_type), Breaks(watch), Asking(watch))
        return Outcome("succeeded", read_json(place / RESULT), None, 0)

    with pytest.raises(ConnectionError):
        search_of(work, lease, directory, breaking).run()
    left = trials_of(work, lease)
    assert [one["state"] for one in left].count("running") == 1

    search_of(work, lease, directory).run()

    assert untimed(trials_of(work, lease)) == expected
    assert len(left) < len(expected)


def test_a_spent_budget_begins_no_further_trial(work, begun):
    lease, directory = begun(wanted(budget_seconds=1e-3))

    assert search_of(work, lease, directory).run() is None

    assert [one["state"] for one in trials_of(work, lease)] == ["complete"]


def test_trials_that_fail_are_kept_with_their_reason_and_a_search_of_them_alone_fails(work, begun):
    lease, directory = begun(wanted(n_trials=2))
    rewrite(directory, "label", ["level"] * 96)

    ended = search_of(work, lease, directory).run()

    assert [one["state"] for one in trials_of(work, lease)] == ["failed", "failed"]
    assert ended is not None
    assert (ended.kind, ended.exit_code) == ("failed", 1)
    assert "at least 2 classes" in ended.error["detail"]


def test_a_ladder_that_the_last_training_could_not_climb_fails_in_the_first_trials(work, begun):
    lease, directory = begun(wanted(n_trials=2))
    rewritten = read_json(directory / "job.json")
    rewritten["validation"] = None
    rewritten["recipe"] |= {"rungs": ["top", "full"], "trainable_layers": 1}
    (directory / "job.json").write_text(json.dumps(rewritten))

    outcome = search_of(work, lease, directory).run()

    assert outcome is not None
    assert "set validation_share" in outcome.error["detail"]
    assert all(one["scores"] == [] for one in trials_of(work, lease))


def test_no_trial_is_begun_beyond_the_deadline_of_the_run(work, begun):
    lease, directory = begun(wanted())
    job = read_json(directory / "job.json")
    (directory / "job.json").write_text(json.dumps({**job, "deadline_seconds": 1e-6}))

    def late(place: Path, watch: Watch) -> Outcome:
        return Outcome("failed", None, {"detail": "the time is up"}, 1)

    ended = search_of(work, lease, directory, late).run()

    assert [one["state"] for one in trials_of(work, lease)] == ["failed"]
    assert "the time is up" in ended.error["detail"]


def test_a_search_by_what_trials_do_not_tell_ends_with_the_first(work, begun):
    lease, directory = begun(wanted())

    def untold(place: Path, watch: Watch) -> Outcome:
        return Outcome("succeeded", {"metrics": {"f1_micro": 0.5}}, None, 0)

    ended = search_of(work, lease, directory, untold).run()

    assert [one["state"] for one in trials_of(work, lease)] == ["failed"]
    assert ended is not None
    assert (ended.kind, ended.exit_code) == ("failed", 1)
    assert "do not tell log_loss" in ended.error["detail"]


def test_a_worker_that_lost_its_lease_writes_no_trial(work, begun, engine):
    lease, directory = begun(wanted())
    search = search_of(work, lease, directory)
    with work:
        work.runs.advance(lease.job_id, training.RunEvent.LOST)

    with pytest.raises(training.Conflict):
        search.run()
    assert trials_of(work, lease) == []


def test_a_search_is_asked_for_over_rest_with_its_space_written_out(api, work, model, artifacts):
    upload(work, artifacts, model, examples(40))
    url = f"/v1/models/{model.name}/retrain"

    run = api.post(url, json={"reason": "r", "search": {"n_trials": 3}}).json()

    search = api.get(run["url"]).json()["search"]
    assert search["space"]["epochs"] == {"low": 1, "high": 4, "log": False}
    assert (search["metric"], search["direction"], search["trials"]) == ("accuracy", "maximize", [])
    assert run["recipe"]["sufficient"] == 1.0


@pytest.mark.parametrize(
    ("search", "pointer", "said"),
    [
        ({"space": {"epoch": {"low": 1, "high": 2}}}, "/search/space/epoch", "unknown knob"),
        ({"space": {"epochs": {"low": 1, "high": 2.5}}}, "/search/space/epochs", "integer"),
        ({"space": {"dropout": {"low": 0.1, "high": 1.5}}}, "/search/space/dropout", "maximum"),
        ({"space": {"head": {"choices": ["probe", "best"]}}}, "/search/space/head", "'best'"),
        ({"space": {"epochs": {"low": 3, "high": 2}}}, "/search/space", "low must be below high"),
        ({"space": {"l2": {"low": 0, "high": 2, "log": True}}}, "/search/space", "above 0"),
        ({"n_trials": 0}, "/search/n_trials", "greater than or equal to 1"),
    ],
)
def test_a_search_that_no_recipe_allows_is_refused_and_says_where(
    api, work, model, artifacts, search, pointer, said
):
    upload(work, artifacts, model, examples(40))

    answer = api.post(f"/v1/models/{model.name}/retrain", json={"reason": "r", "search": search})

    assert answer.status_code == 422
    assert any(
        one["pointer"].startswith(pointer) and said in one["detail"]
        for one in answer.json()["errors"]
    ), answer.json()


def test_a_policy_of_a_search_that_no_recipe_allows_is_refused(work, model):
    body = {"retrain": {"search": {"space": {"epoch": {"low": 1, "high": 2}}}}}
    with work, pytest.raises(Invalid) as found:
        checked_policy(work, body, model.task_type)
    assert found.value.faults[0].pointer == "/policy/retrain/search/space/epoch"


def test_a_card_tells_all_trials(work, model, begun):
    lease, directory = begun(wanted(n_trials=2))
    search_of(work, lease, directory).run()
    version = add_version(work, model, run_id=lease.job_id)

    with work:
        told = card(work, model, work.versions.by_id(version.id))

    assert "| Trial | Knobs | State | Score | Seconds |" in told
    assert "by accuracy on 20% of the newest training rows" in told
    for one in trials_of(work, lease):
        assert json.dumps(one["recipe"], sort_keys=True) in told

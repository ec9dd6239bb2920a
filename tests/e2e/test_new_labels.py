"""A class that nobody knew of: refused, made known, and learned without a step of training."""

import pytest

from tests.e2e.support import FAST, LABELS, framed, pictures, unique
from upkeep import Invalid, Upkeep
from upkeep.champion import Champion

WAIT = 240.0
POLICY = {
    "check": {"settle_seconds": 0.5, "minimum_rows": 50, "window_rows": 200},
    "retrain": {"cool_down_seconds": 0.0, "recipe": FAST},
    "triggers": {},
}


@pytest.fixture
def client(stack):
    with Upkeep(stack.url, actor="tester") as made:
        yield made


@pytest.fixture
def model(client):
    made = client.create_model(
        unique("shapes"),
        task_type="image-classification",
        base_model="preset:resnet-tiny-gray",
        labels=LABELS,
        objective={"baseline": 0.8},
        policy=POLICY,
    )
    made.upload("training", pictures(300, seed=0))
    made.retrain("the first champion", seed=1, wait=True, timeout_seconds=WAIT)
    assert made.champion()["accepted"]["accuracy"] >= 0.9
    return made


def observe(model, champion, rows):
    """Answer rows with the champion, which logs them; return their ids with their labels."""
    answers = champion.answer([row["inputs"] for row in rows])
    return {one.id: row["label"] for one, row in zip(answers, rows, strict=True)}


def test_a_new_class_is_learned_from_its_centroid_and_the_old_ones_stay(model, tmp_path):
    with Champion(model, tmp_path / "cache", refresh_seconds=3600.0) as champion:
        known = observe(model, champion, pictures(120, seed=1))
        new = observe(model, champion, framed(60, seed=2))
        model.labels(known)
        with pytest.raises(Invalid, match="must be one of the model's labels: across, down"):
            model.labels(new)

        widened = model.add_labels(["framed"], reason="a new shape is made now")
        assert widened["labels"] == [*LABELS, "framed"]
        assert model.add_labels(["framed", "down"])["labels"] == widened["labels"]
        model.labels(new)
        model.wait_until_settled(WAIT)

        recipe = {**FAST, "rungs": ["centroid"]}
        run = model.retrain("learn it", recipe=recipe, seed=1, wait=True, timeout_seconds=WAIT)
        assert (run["state"], run["outcome"]) == ("succeeded", "promoted"), run
        (rung,) = run["result"]["rungs"]
        assert (rung["name"], run["result"]["steps"]) == ("centroid", 0)
        assert rung["accuracy"] > 0.9
        assert run["result"]["n_features_taken"] > 100  # what the first run kept of its rows
        assert run["result"]["features"]["n_rows"] > run["result"]["n_features_taken"]

        unseen = [*pictures(60, seed=3), *framed(30, seed=4)]
        before = champion.predict([row["inputs"] for row in unseen])
        assert champion.refresh()
        after = champion.predict([row["inputs"] for row in unseen])
    assert "framed" not in {one.label for one in before}
    right = [one.label == row["label"] for one, row in zip(after, unseen, strict=True)]
    assert sum(right[:60]) >= 54
    assert sum(right[60:]) >= 27

    again = model.retrain("the same again", repeat_of=run["id"], wait=True, timeout_seconds=WAIT)
    assert again["snapshot"] == run["snapshot"]
    assert again["result"]["files"] == run["result"]["files"]

    oldest = list(model.runs())[-1]
    before = model.retrain("as it was", repeat_of=oldest["id"], wait=True, timeout_seconds=WAIT)
    assert (before["state"], before["outcome"]) == ("succeeded", "rejected")
    verdicts = {one["gate"]: one for one in model.version(before["version"])["verdicts"]}
    refused = verdicts["knows-all-labels"]
    assert not refused["passed"]
    assert refused["values"] == {"lost": ["framed"]}


def test_an_empty_label_is_refused_and_nothing_is_added(model):
    with pytest.raises(Invalid, match="empty label"):
        model.add_labels(["round", ""])
    assert model.document()["labels"] == list(LABELS)

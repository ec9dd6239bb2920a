"""Broken inputs start no run, and mended they are forgotten."""

import numpy as np
import pytest

from tests.e2e.support import FAST, LABELS, pictures, unique
from upkeep import Conflict, Invalid, Upkeep

WAIT = 240.0
FIELDS = [
    {"name": "image", "type": "image"},
    {"name": "age", "type": "number", "required": False},
    {"name": "place", "type": "category", "required": False},
]
POLICY = {
    "check": {"settle_seconds": 0.5, "minimum_rows": 50, "window_rows": 200},
    "performance": {"minimum_labels": 50},
    "retrain": {"cool_down_seconds": 0.0, "recipe": FAST, "minimum_growth_share": 0.1},
}


@pytest.fixture
def client(stack):
    with Upkeep(stack.url, actor="tester") as made:
        yield made


def rows(n, seed, *, swapped=False, without=()):
    generator = np.random.default_rng(seed)
    made = pictures(n, seed, swapped=swapped)
    for row in made:
        row["inputs"] |= {
            "age": float(generator.integers(3, 6) * 10),
            "place": str(generator.choice(["inn", "home", "road"])),
        }
        for name in without:
            del row["inputs"][name]
    return made


def observe(model, seen, *, right):
    """Log rows and their labels, as a champion would that is right so often."""
    n_right = round(right * len(seen))
    logged = [
        {
            "id": f"{unique('o')}-{index}",
            "inputs": row["inputs"],
            "prediction": row["label"] if index < n_right else LABELS[row["label"] == LABELS[0]],
        }
        for index, row in enumerate(seen)
    ]
    model.log(logged)
    model.labels({one["id"]: row["label"] for one, row in zip(logged, seen, strict=True)})
    model.wait_until_settled(WAIT)


def champion_of_mixed(client, **policy):
    model = client.create_model(
        unique("mixed"),
        task_type="image-classification",
        base_model="preset:resnet-tiny-gray",
        labels=LABELS,
        input_contract={"fields": FIELDS},
        objective={"baseline": 0.8},
        policy={**POLICY, **policy},
    )
    model.upload("training", rows(300, seed=0))
    first = model.retrain("the first champion", seed=1, wait=True, timeout_seconds=WAIT)
    assert (first["state"], first["outcome"]) == ("succeeded", "promoted"), first
    return model


def test_a_null_spike_starts_no_run_and_ends_by_itself(client):
    model = champion_of_mixed(client)
    observe(model, rows(100, seed=1), right=1.0)
    assert list(model.incidents()) == []

    observe(model, rows(120, seed=2, without=["age"]), right=0.5)

    (opened,) = list(model.incidents())
    assert (opened["field"], opened["kind"], opened["state"]) == ("age", "missing", "open")
    assert opened["last_sequence"] - opened["first_sequence"] == 119
    decided = next(model.decisions())
    assert (decided["outcome"], decided["trigger"]) == ("defer", "performance")
    assert opened["id"] in decided["reason"]
    assert len(list(model.runs())) == 1
    assert next(model.reports())["finding"] == "fault"

    observe(model, rows(80, seed=3), right=1.0)

    (ended,) = list(model.incidents())
    assert (ended["state"], ended["resolved_by"]) == ("resolved", "upkeep")
    assert next(model.reports())["performance"]["n"] == 180  # answers to sound rows
    assert len(list(model.runs())) == 1


def test_a_broken_schema_is_looked_at_though_no_row_is_stored(client):
    model = champion_of_mixed(client)
    renamed = [
        {"id": f"{unique('r')}-{index}", "inputs": {"picture": row["inputs"]["image"]}}
        for index, row in enumerate(rows(60, seed=1))
    ]
    with pytest.raises(Invalid):
        model.log(renamed)
    model.wait_until_settled(WAIT)

    (opened,) = list(model.incidents())
    assert (opened["kind"], opened["state"]) == ("schema", "open")
    assert "/inputs/picture unknown field" in opened["reason"]
    assert model.acknowledge(opened["id"], "the sender was told")["state"] == "acknowledged"
    with pytest.raises(Conflict, match="force"):
        model.retrain("in spite of it")

    observe(model, rows(100, seed=2), right=1.0)

    (ended,) = list(model.incidents(state="resolved"))
    assert model.incident(opened["id"]) == ended
    with pytest.raises(Conflict, match="resolved"):
        model.resolve(opened["id"], "again")


def test_what_a_version_is_held_against_is_shown_and_replaced(client):
    model = champion_of_mixed(client)
    first = model.reference(1)
    uploaded = model.upload("reference", rows(120, seed=5))

    replaced = model.replace_reference(1, uploaded["id"], "the old one was of last year")

    assert (replaced["dataset"], replaced["n_rows"]) == (uploaded["id"], 120)
    assert [one["dataset"] for one in replaced["history"]] == [uploaded["id"], first["dataset"]]
    observe(model, rows(100, seed=6), right=1.0)
    report = next(model.reports())
    assert (report["finding"], report["n_reference"]) == ("no_drift", 120)
    assert set(model.moved(report["id"])) == {"histograms", "exemplars", "classes"}
    assert model.alarms()["n_alarms"] == 0
    assert model.label_lag()["coverage"] > 0
    assert model.retention()["inputs"]["days"] is None

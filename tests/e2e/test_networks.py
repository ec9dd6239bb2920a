"""Networks over columns end to end: trained from nothing, watched, trained further, imported."""

import numpy as np
import pytest

from tests.e2e.support import unique
from upkeep import Upkeep
from upkeep.champion import Champion

WAIT = 240.0
FIELDS = [
    {"name": "rooms", "type": "number"},
    {"name": "district", "type": "category"},
    {"name": "age", "type": "number", "required": False},
]
POLICY = {
    "check": {"settle_seconds": 0.5, "minimum_rows": 50, "window_rows": 400},
    "performance": {"minimum_labels": 50},
    "retrain": {"cool_down_seconds": 0.0, "minimum_growth_share": 0.1},
    # What homes cost will change: rows of before, the holdout among them, are wrong then.
    "gates": {"not-inferior": {}, "no-leakage": {}},
}


def homes(n, *, seed, turned=False):
    """Return n homes with their rent; where the world has turned, age is worth something."""
    draw = np.random.default_rng(seed)
    rows = []
    for _ in range(n):
        rooms, district = float(draw.integers(1, 7)), "quay" if draw.random() < 0.3 else "mill"
        age = None if draw.random() < 0.2 else float(draw.uniform(0, 80))
        known = 40.0 if age is None else age
        rent = (280.0 if district == "quay" else 90.0) * rooms + float(draw.normal(0, 40.0)) + 600.0
        rent += (8.0 if turned else -4.0) * known
        inputs = {"rooms": rooms, "district": district} | ({} if age is None else {"age": age})
        rows.append({"inputs": inputs, "label": round(rent, 2)})
    return rows


@pytest.fixture
def client(stack):
    with Upkeep(stack.url, actor="tester") as made:
        yield made


def create(client):
    return client.create_model(
        unique("rent"),
        task_type="neural-tabular-regression",
        base_model="preset:column-network",
        target={"unit": "EUR", "min": 0},
        input_contract={"fields": FIELDS},
        policy=POLICY,
    )


def rmse(champion, rows):
    said = champion.predict([row["inputs"] for row in rows])
    return float(
        np.sqrt(np.mean([(a.value - b["label"]) ** 2 for a, b in zip(said, rows, strict=True)]))
    )


def test_a_network_is_trained_watched_trained_further_and_imported(client, tmp_path):
    model = create(client)
    model.upload("training", homes(900, seed=1))
    run = model.retrain("the first version", wait=True)
    assert (run["state"], run["outcome"]) == ("succeeded", "promoted"), run

    with Champion(model, tmp_path / "cache", refresh_seconds=3600.0) as champion:
        assert rmse(champion, homes(300, seed=2)) < 120
        turned = homes(700, seed=3, turned=True)
        answers = champion.answer([row["inputs"] for row in turned])
        model.labels({one.id: row["label"] for one, row in zip(answers, turned, strict=True)})
        model.wait_until_settled(WAIT)
        unseen = homes(300, seed=4, turned=True)
        before = rmse(champion, unseen)
        assert champion.refresh()
        assert rmse(champion, unseen) < before / 1.5

    newest = next(model.runs())
    assert (newest["state"], newest["outcome"]) == ("succeeded", "promoted"), newest
    files = {
        file["path"]: client.transport.send("GET", file["url"]).content
        for file in model.champion()["files"]
    }
    assert sorted(files) == ["config.json", "model.safetensors", "upkeep.json"]

    other = create(client)
    reference = other.upload("reference", homes(300, seed=5, turned=True))
    other.import_version(files, reference=reference["id"], reason="deployed elsewhere")
    other.wait_until_settled(WAIT)
    with Champion(other, tmp_path / "other") as imported:
        assert rmse(imported, unseen) < before / 1.5

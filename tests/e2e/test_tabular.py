"""Columns end to end: a LightGBM model already deployed is watched, retrained, judged, replaced."""

import json

import lightgbm
import numpy as np
import pytest

from tests.conftest import wait_until
from tests.e2e.support import unique
from upkeep import Invalid, Upkeep
from upkeep.champion import Champion

WAIT = 240.0
LABELS = ("refused", "granted")
REGIONS = ("north", "east", "south")
FIELDS = [
    {"name": "income", "type": "number"},
    {"name": "region", "type": "category"},
    {"name": "is_new", "type": "boolean"},
    {"name": "debt", "type": "number", "required": False},
    {"name": "remark", "type": "text", "required": False},
]
COLUMNS = [
    {"name": "income", "type": "number"},
    {"name": "region", "type": "category", "categories": list(REGIONS[:2])},
    {"name": "is_new", "type": "boolean"},
    {"name": "debt", "type": "number"},
]
POLICY = {
    "check": {"settle_seconds": 0.5, "minimum_rows": 50, "window_rows": 400},
    "performance": {"minimum_labels": 50},
    "retrain": {"cool_down_seconds": 0.0, "minimum_growth_share": 0.1},
}


def loans(n, *, seed, south=0.0, shuffled=False):
    """Return n labelled rows; in the south, which is new, the opposite decides."""
    draw = np.random.default_rng(seed)
    rows = []
    for _ in range(n):
        region = "south" if draw.random() < south else str(draw.choice(REGIONS[:2]))
        income, is_new = float(draw.normal(30.0, 8.0)), bool(draw.random() < 0.4)
        debt = None if draw.random() < 0.2 else float(draw.exponential(5.0))
        is_good = (income - (debt or 5.0) > 25.0) != is_new
        is_good = is_good != (region == "south")
        inputs = {"income": income, "region": region, "is_new": is_new}
        inputs |= {} if debt is None else {"debt": debt}
        rows.append({"inputs": inputs, "label": LABELS[is_good]})
    if shuffled:
        labels = draw.permutation([row["label"] for row in rows])
        rows = [{**row, "label": str(label)} for row, label in zip(rows, labels, strict=True)]
    return rows


def encoded(rows, columns):
    """Return inputs as whoever has LightGBM alone would encode them by config.json."""

    def cell(column, value):
        if value is None:
            return np.nan
        if column["type"] == "category":
            known = column["categories"]
            return known.index(value) if value in known else np.nan
        return float(value)

    return np.array(
        [[cell(column, row["inputs"].get(column["name"])) for column in columns] for row in rows]
    )


@pytest.fixture(scope="module")
def deployed(tmp_path_factory):
    """A model that somebody trained with LightGBM alone."""
    rows = loans(1200, seed=0)
    data = lightgbm.Dataset(
        encoded(rows, COLUMNS),
        label=[LABELS.index(row["label"]) for row in rows],
        categorical_feature=[1],
        free_raw_data=False,
    )
    settings = {"objective": "binary", "verbosity": -1, "num_leaves": 15, "num_threads": 1}
    directory = tmp_path_factory.mktemp("deployed")
    lightgbm.train(settings, data, 60).save_model(directory / "model.txt")
    config = {"columns": COLUMNS, "id2label": {"0": LABELS[0], "1": LABELS[1]}}
    (directory / "config.json").write_text(json.dumps(config))
    return directory


@pytest.fixture
def client(stack):
    with Upkeep(stack.url, actor="tester") as made:
        yield made


@pytest.fixture
def model(client, deployed):
    made = client.create_model(
        unique("loans"),
        task_type="tabular-classification",
        base_model="preset:boosted-trees",
        labels=LABELS,
        input_contract={"fields": FIELDS},
        policy=POLICY,
    )
    reference = made.upload("reference", loans(800, seed=1))
    made.import_version(deployed, reference=reference["id"], reason="deployed since May")
    made.wait_until_settled(WAIT)
    champion = made.champion()
    assert (champion["number"], champion["origin"]) == (1, "imported")
    assert champion["accepted"]["accuracy"] >= 0.9
    return made


def observe(model, champion, rows):
    """Answer rows with the champion, which logs them, and send their labels."""
    answers = champion.answer([row["inputs"] for row in rows])
    model.labels({one.id: row["label"] for one, row in zip(answers, rows, strict=True)})
    model.wait_until_settled(WAIT)


def test_trees_that_were_deployed_are_replaced_when_their_world_grows(client, model, tmp_path):
    with Champion(model, tmp_path / "cache", refresh_seconds=3600.0) as champion:
        observe(model, champion, loans(300, seed=2))
        assert next(model.decisions())["outcome"] == "skip", next(model.decisions())["reason"]

        observe(model, champion, loans(600, seed=3, south=0.5))

        newest = next(model.runs())
        assert (newest["state"], newest["outcome"]) == ("succeeded", "promoted"), newest
        decided = next(model.decisions(outcome="retrain"))
        assert decided["run"] == newest["id"]
        report = client.transport.get(f"/v1/models/{model.name}/reports/{decided['report']}")
        drifted = {score["feature"] for score in report["scores"] if score["drifted"]}
        assert {"region", "unseen_share"} <= drifted
        assert not {"income", "debt", "is_new"} & drifted
        assert newest["result"]["cleaning"]["new_categories"] == {"region": 1}

        unseen = loans(500, seed=4, south=0.5)
        before = champion.predict([row["inputs"] for row in unseen])
        assert champion.refresh()
        after = champion.predict([row["inputs"] for row in unseen])

    assert share_right(before, unseen) < 0.75
    assert share_right(after, unseen) > 0.85
    assert_plain_lightgbm_agrees(client, model, unseen, after, tmp_path)


def share_right(answers, rows):
    pairs = zip(answers, rows, strict=True)
    return np.mean([answer.label == row["label"] for answer, row in pairs])


def assert_plain_lightgbm_agrees(client, model, rows, answers, folder):
    """The version that was promoted is text and JSON, and LightGBM alone answers as we do."""
    files = {file["path"]: file["url"] for file in model.champion()["files"]}
    assert sorted(files) == ["config.json", "model.txt", "upkeep.json"]
    for path, url in files.items():
        (folder / path).write_bytes(client.transport.send("GET", url).content)
    config = json.loads((folder / "config.json").read_text())
    assert config["id2label"] == {"0": LABELS[0], "1": LABELS[1]}
    booster = lightgbm.Booster(model_file=folder / "model.txt")
    said = booster.predict(encoded(rows, config["columns"]))
    assert np.allclose(said, [one.scores[LABELS[1]] for one in answers], atol=1e-6)


def test_trees_grown_on_shuffled_labels_are_refused(model, tmp_path):
    with Champion(model, tmp_path / "cache") as champion:
        observe(model, champion, loans(600, seed=5, shuffled=True))
        run = next(model.runs(), None) or model.retrain("a control", wait=True)
    assert (run["state"], run["outcome"]) == ("succeeded", "rejected"), run
    assert model.champion()["number"] == 1
    verdicts = model.version(2)["verdicts"]
    assert {one["gate"] for one in verdicts if not one["passed"]} >= {"not-inferior"}, verdicts


def test_a_model_without_columns_and_files_that_do_not_fit_are_refused(client, model, deployed):
    with pytest.raises(Invalid, match="needs a field of type number, category, boolean"):
        client.create_model(
            unique("none"),
            task_type="tabular-classification",
            base_model="preset:boosted-trees",
            labels=LABELS,
        )
    with pytest.raises(Invalid, match=r"/files/model.txt: is required"):
        model.import_version({"config.json": b"{}"}, reason="no trees")
    model.import_version({"config.json": b"{}", "model.txt": b"tree\n"}, reason="no trees")
    assert "could not be loaded" in refusal_of(model, 2)
    renamed = (deployed / "config.json").read_bytes().replace(b"income", b"salary")
    files = {"config.json": renamed, "model.txt": (deployed / "model.txt").read_bytes()}
    model.import_version(files, reason="other columns")
    assert "reads the columns salary, which the model's input contract" in refusal_of(model, 3)
    assert model.champion()["number"] == 1


def refusal_of(model, number):
    """Return why a worker refused an imported version."""
    wait_until(lambda: model.version(number)["state"] != "imported", what="a worker has looked")
    assert model.version(number)["state"] == "rejected"
    return model.version(number)["history"][-1]["reason"]

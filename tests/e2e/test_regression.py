"""Numbers end to end: trees that tell a number are watched, retrained, judged, replaced."""

import json
import math

import httpx
import lightgbm
import numpy as np
import pytest

from tests.conftest import wait_until
from tests.e2e.support import unique
from upkeep import Invalid, Upkeep
from upkeep.champion import Champion

WAIT = 240.0
FIELDS = [
    {"name": "rooms", "type": "number"},
    {"name": "district", "type": "category"},
    {"name": "has_lift", "type": "boolean"},
    {"name": "age", "type": "number", "required": False},
]
COLUMNS = [
    {"name": "rooms", "type": "number"},
    {"name": "district", "type": "category", "categories": ["mill", "quay"]},
    {"name": "has_lift", "type": "boolean"},
    {"name": "age", "type": "number"},
]
POLICY = {
    "check": {"settle_seconds": 0.5, "minimum_rows": 50, "window_rows": 400},
    "performance": {"minimum_labels": 50},
    "retrain": {"cool_down_seconds": 0.0, "minimum_growth_share": 0.1},
    # What homes cost will change: rows of before, the holdout among them, are wrong then.
    "gates": {"not-inferior": {}, "no-leakage": {}},
}


def homes(n, *, seed, turned=False, shuffled=False):
    """Return n homes with their rent; where the world has turned, age is worth something."""
    draw = np.random.default_rng(seed)
    rows = []
    for _ in range(n):
        rooms, district = float(draw.integers(1, 7)), "quay" if draw.random() < 0.3 else "mill"
        has_lift = bool(draw.random() < 0.5)
        age = None if draw.random() < 0.2 else float(draw.uniform(0, 80))
        known = 40.0 if age is None else age
        rent = (280.0 if district == "quay" else 90.0) * rooms + 60.0 * has_lift
        rent += (8.0 if turned else -4.0) * known + float(draw.normal(0, 40.0)) + 600.0
        inputs = {"rooms": rooms, "district": district, "has_lift": has_lift}
        inputs |= {} if age is None else {"age": age}
        rows.append({"inputs": inputs, "label": round(rent, 2)})
    if shuffled:
        labels = draw.permutation([row["label"] for row in rows]).tolist()
        rows = [{**row, "label": label} for row, label in zip(rows, labels, strict=True)]
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


def labels_of(rows):
    return np.array([row["label"] for row in rows])


@pytest.fixture(scope="module")
def deployed(tmp_path_factory):
    """A model that somebody trained with LightGBM alone."""
    rows = homes(1200, seed=0)
    data = lightgbm.Dataset(
        encoded(rows, COLUMNS), label=labels_of(rows), categorical_feature=[1], free_raw_data=False
    )
    settings = {"objective": "regression", "verbosity": -1, "num_leaves": 15, "num_threads": 1}
    directory = tmp_path_factory.mktemp("deployed")
    lightgbm.train(settings, data, 80).save_model(directory / "model.txt")
    (directory / "config.json").write_text(json.dumps({"columns": COLUMNS}))
    return directory


@pytest.fixture
def client(stack):
    with Upkeep(stack.url, actor="tester") as made:
        yield made


def create(client, **more):
    stated = {
        "task_type": "tabular-regression",
        "base_model": "preset:boosted-trees",
        "target": {"unit": "EUR", "min": 0},
        "objective": {"slices": ["district"]},
        "input_contract": {"fields": FIELDS},
        "policy": POLICY,
    }
    return client.create_model(unique("rent"), **stated | more)


@pytest.fixture
def model(client, deployed):
    made = create(client)
    reference = made.upload("reference", homes(800, seed=1))
    made.import_version(deployed, reference=reference["id"], reason="deployed since May")
    made.wait_until_settled(WAIT)
    champion = made.champion()
    assert (champion["number"], champion["origin"]) == (1, "imported")
    assert champion["accepted"]["metric"] == "rmse"
    assert champion["accepted"]["value"] < 100
    assert 0.8 < champion["accepted"]["accuracy"] < 1  # closeness
    return made


def observe(model, champion, rows):
    """Answer rows with the champion, which logs them, and send their labels."""
    answers = champion.answer([row["inputs"] for row in rows])
    model.labels({one.id: row["label"] for one, row in zip(answers, rows, strict=True)})
    model.wait_until_settled(WAIT)
    return answers


def rmse(answers, rows):
    return float(
        np.sqrt(np.mean((np.array([one.value for one in answers]) - labels_of(rows)) ** 2))
    )


def test_numbers_are_watched_and_their_model_replaced_when_the_world_turns(
    client, model, stack, tmp_path
):
    with Champion(model, tmp_path / "cache", refresh_seconds=3600.0) as champion:
        answers = observe(model, champion, homes(120, seed=2))
        assert next(model.decisions())["outcome"] == "skip", next(model.decisions())["reason"]
        assert_a_report_tells_of_numbers(model, answers)

        observe(model, champion, homes(700, seed=3, turned=True))

        newest = next(model.runs())
        assert (newest["state"], newest["outcome"]) == ("succeeded", "promoted"), [
            one["reason"] for one in model.version(2)["verdicts"]
        ]
        decided = next(model.decisions(outcome="retrain"))
        assert decided["trigger"] == "performance"
        assert "closeness" in decided["reason"]
        assert "rmse" in decided["reason"]
        judged = {one["gate"]: one for one in model.version(2)["verdicts"]}
        assert "mean squared error" in judged["not-inferior"]["reason"]

        unseen = homes(400, seed=4, turned=True)
        before = champion.predict([row["inputs"] for row in unseen])
        assert champion.refresh()
        after = champion.predict([row["inputs"] for row in unseen])

    assert rmse(before, unseen) > 300
    assert rmse(after, unseen) < rmse(before, unseen) / 2
    assert_plain_lightgbm_agrees(client, model, unseen, after, tmp_path)
    assert_pages_and_metrics_tell_it(stack, model)
    model.rollback("a drill", to=1)
    assert model.champion()["number"] == 1


def assert_a_report_tells_of_numbers(model, answers):
    report = next(model.reports())
    scores = {score["feature"]: score for score in report["scores"]}
    assert scores["prediction"]["kind"] != "categorical"
    assert "confidence" not in scores
    assert report["finding"] == "no_drift", [one for one in report["scores"] if one["drifted"]]
    labelled = report["performance"]
    assert labelled["measure"] == "closeness"
    assert labelled["n"] == 120
    assert 0 < labelled["errors"]["mae"] < labelled["errors"]["rmse"] < 100
    assert labelled["lower"] < labelled["accuracy"] < labelled["upper"]
    assert report["estimate"]["state"] == "not_estimated"
    assert {one["name"] for one in report["slices"]} == {"district=mill", "district=quay"}
    assert all(one["state"] == "watched" for one in report["slices"])
    found = model.observation(answers[0].id)
    assert math.isclose(found["prediction"], answers[0].value)
    assert isinstance(found["label"], float)
    (bucket,) = model.performance(bucket=1000)["items"]
    assert math.isclose(bucket["accuracy"], labelled["accuracy"])
    assert math.isclose(bucket["errors"]["rmse"], labelled["errors"]["rmse"])


def assert_plain_lightgbm_agrees(client, model, rows, answers, folder):
    """The version that was promoted is text and JSON, and LightGBM alone answers as we do."""
    files = {file["path"]: file["url"] for file in model.champion()["files"]}
    assert sorted(files) == ["config.json", "model.txt", "upkeep.json"]
    for path, url in files.items():
        (folder / path).write_bytes(client.transport.send("GET", url).content)
    config = json.loads((folder / "config.json").read_text())
    said = lightgbm.Booster(model_file=folder / "model.txt").predict(
        encoded(rows, config["columns"])
    )
    assert np.allclose(said, [one.value for one in answers], rtol=1e-9)


def assert_pages_and_metrics_tell_it(stack, model):
    page = httpx.get(f"{stack.url}/models/{model.name}").text
    assert "numbers in EUR" in page
    assert "Closeness" in page
    assert "Accuracy" not in page
    metrics = httpx.get(f"{stack.url}/metrics").text
    assert f'upkeep_accuracy_ratio{{model="{model.name}"}}' in metrics
    assert f'upkeep_error{{metric="rmse",model="{model.name}"}}' in metrics
    assert f'upkeep_accuracy_estimate_stands{{model="{model.name}"}}' not in metrics


def test_trees_grown_on_shuffled_labels_are_refused(model, tmp_path):
    with Champion(model, tmp_path / "cache") as champion:
        observe(model, champion, homes(500, seed=5, shuffled=True))
        run = next(model.runs(), None) or model.retrain("a control", wait=True)
    assert (run["state"], run["outcome"]) == ("succeeded", "rejected"), run
    assert model.champion()["number"] == 1
    failed = {one["gate"] for one in model.version(2)["verdicts"] if not one["passed"]}
    assert "not-inferior" in failed, model.version(2)["verdicts"]


def test_the_first_champion_of_numbers_is_trained_from_rows(client):
    made = create(client, policy={})
    made.upload("training", homes(600, seed=6))
    run = made.retrain("the first champion", wait=True)
    assert (run["state"], run["outcome"]) == ("succeeded", "promoted"), made.version(1)
    document = made.document()
    assert (document["answers"], document["labels"]) == ("number", [])
    assert document["objective"]["metric"] == "rmse"
    assert document["objective"]["direction"] == "minimize"
    assert document["target"]["scale"] > 0  # learned from the rows it was judged on
    accepted = made.champion()["accepted"]
    assert accepted["value"] < 100
    assert document["measured_baseline"] > accepted["value"]
    judged = {one["gate"]: one["reason"] for one in made.version(1)["verdicts"]}
    assert judged["beats-baseline"].startswith("rmse ")


def said_of(rejected):
    return [one["errors"][0]["detail"] for one in rejected]


def test_labels_and_predictions_that_are_no_numbers_are_refused_row_by_row(client, model):
    inputs = homes(1, seed=7)[0]["inputs"]
    bad = ["cheap", True, None, -5.0, 1e39]
    rows = [{"id": f"row-{place}", "inputs": inputs, "prediction": 700} for place in range(6)]
    assert model.log(rows).n_accepted == 6
    labels = [{"id": f"row-{place}", "label": label} for place, label in enumerate(bad)]
    receipt = model.labels([*labels, {"id": "row-5", "label": 712}])
    assert receipt.n_accepted == 1
    said = said_of(receipt.rejected)
    assert said[0] == "must be a number, not str"
    assert said[1] == "must be a number, not bool"
    assert said[2] == "must be a number, not NoneType"
    assert said[3] == "must be at least 0"
    assert said[4] == "must be a finite number of single precision"

    assert model.labels({"row-5": 712.0}).n_accepted == 0  # the same number
    assert model.labels({"row-5": 715}).n_accepted == 1
    found = model.observation("row-5")
    assert [one["label"] for one in found["labels"]] == [712.0, 715.0]
    assert (found["prediction"], found["label"]) == (700.0, 715.0)

    with pytest.raises(Invalid, match="must be a number, not str"):
        model.log([{"id": "text", "inputs": inputs, "prediction": "700"}])
    with pytest.raises(Invalid, match="must be left out: this model answers with numbers"):
        model.log([{"id": "scored", "inputs": inputs, "prediction": 7, "scores": {"a": 1.0}}])
    body = b'{"observations": [{"id": "nan", "inputs": {}, "prediction": NaN}]}'
    answer = httpx.post(
        f"{client.transport.base_url}/v1/models/{model.name}/observations",
        content=body,
        headers={"Content-Type": "application/json"},
    )
    assert answer.status_code == 422
    assert "must be a finite number of single precision" in answer.text


def test_what_can_teach_no_number_is_refused(client):
    made = create(client)
    same = [{**row, "label": 500.0} for row in homes(80, seed=8)]
    with pytest.raises(Invalid, match="fewer than two different numbers"):
        made.upload("training", same)
    with pytest.raises(Invalid, match="must be a number, not str"):
        made.upload("training", [{**row, "label": "dear"} for row in same])
    with pytest.raises(Invalid, match="at least two different numbers"):
        made.retrain("nothing was uploaded")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"labels": ["cheap", "dear"]},
            "must be left out: tabular-regression answers with numbers",
        ),
        ({"objective": {"metric": "accuracy"}}, "must be one of rmse, mae, r2"),
        ({"objective": {"metric": "rmse", "direction": "maximize"}}, "must be 'minimize' for rmse"),
        ({"target": {"min": 5, "max": 1}}, "min must be below max"),
        ({"target": {"scale": 0}}, "greater than 0"),
        (
            {"task_type": "tabular-classification", "labels": ["a", "b"]},
            "must be left out: tabular-classification answers with labels",
        ),
        ({"task_type": "tabular-classification", "target": None}, "needs at least two different"),
    ],
)
def test_a_model_that_contradicts_its_kind_of_answer_is_refused(client, change, said):
    with pytest.raises(Invalid, match=said):
        create(client, **change)


def test_trees_that_tell_classes_are_no_version_of_numbers(client, model, deployed, tmp_path):
    rows = homes(200, seed=9)
    data = lightgbm.Dataset(encoded(rows, COLUMNS), label=labels_of(rows) > 900)
    lightgbm.train({"objective": "binary", "verbosity": -1}, data, 5).save_model(
        tmp_path / "model.txt"
    )
    files = {
        "config.json": (deployed / "config.json").read_bytes(),
        "model.txt": (tmp_path / "model.txt").read_bytes(),
    }
    model.import_version(files, reason="classes")
    wait_until(lambda: model.version(2)["state"] != "imported", what="a worker has looked")
    assert model.version(2)["state"] == "rejected"
    assert "its objective is binary" in model.version(2)["history"][-1]["reason"]

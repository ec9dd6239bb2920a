"""Spans end to end: prices, dates and names in texts are learned, watched, retrained, judged."""

import httpx
import pytest
import transformers

from app.domain.spans import added_up, matched, spans_of
from tests.e2e.support import deals, encoder, unique
from upkeep import Invalid, Upkeep
from upkeep.champion import Champion

WAIT = 240.0
LABELS = ["price", "date", "name"]
RECIPE = {
    "epochs": 3,
    "learning_rate": 5e-3,
    "head_learning_rate": 5e-3,
    "trainable_layers": None,
    "token_budget": 256,
    "precision": "fp32",
}
POLICY = {
    "check": {"settle_seconds": 0.5, "minimum_rows": 50, "window_rows": 400},
    "performance": {"minimum_labels": 50},
    "retrain": {"cool_down_seconds": 0.0, "minimum_growth_share": 0.1, "recipe": RECIPE},
}


@pytest.fixture
def client(stack):
    with Upkeep(stack.url, actor="tester") as made:
        yield made


def create(client, base, **more):
    stated = {
        "task_type": "token-classification",
        "base_model": str(base),
        "labels": LABELS,
        "policy": POLICY,
    }
    return client.create_model(unique("deals"), **stated | more)


def observe(model, champion, rows):
    """Answer rows with the champion, which logs them, and send their labels."""
    answers = champion.answer([row["inputs"] for row in rows])
    model.labels({one.id: row["label"] for one, row in zip(answers, rows, strict=True)})
    model.wait_until_settled(WAIT)
    return answers


def f1(answers, rows):
    pairs = zip(answers, rows, strict=True)
    return added_up(matched(map(tuple, one.spans), spans_of(row["label"])) for one, row in pairs).f1


def test_spans_are_watched_and_their_model_replaced_when_texts_turn(client, stack, tmp_path):
    model = create(client, encoder(tmp_path / "base"))
    model.upload("training", deals(400, seed=0))
    run = model.retrain("the first", recipe=RECIPE | {"epochs": 8}, wait=True)
    assert (run["state"], run["outcome"]) == ("succeeded", "promoted"), model.version(1)
    told = run["result"]["spans"]
    assert told["n_spans"] > 500
    assert (told["n_beyond"], told["n_inexact"], told["n_texts_cut"]) == (0, 0, 0)
    assert_the_first_champion_is_judged(model)

    with Champion(model, tmp_path / "cache", refresh_seconds=3600.0) as champion:
        rows = deals(100, seed=2)
        answers = observe(model, champion, rows)
        assert f1(answers, rows) > 0.9
        assert next(model.decisions())["outcome"] == "skip", next(model.decisions())["reason"]
        assert_a_report_tells_of_spans(model, answers)
        assert_labels_that_are_no_spans_are_refused(model, answers[0].id, rows[0])

        observe(model, champion, deals(250, seed=3, turned=True))
        newest = next(model.runs())
        assert (newest["state"], newest["outcome"]) == ("succeeded", "promoted"), [
            one["reason"] for one in model.version(2)["verdicts"]
        ]
        assert "f1_samples" in next(model.decisions(outcome="retrain"))["reason"]

        unseen = deals(100, seed=4, turned=True)
        before = champion.predict([row["inputs"] for row in unseen])
        assert champion.refresh()
        after = champion.predict([row["inputs"] for row in unseen])
        assert f1(before, unseen) < 0.7
        assert f1(after, unseen) > 0.85
        assert_plain_transformers_agrees(client, model, unseen, after, tmp_path / "plain")
        assert_pages_and_metrics_tell_it(stack, model)

        observe(model, champion, deals(150, seed=5, turned=True, shuffled=True))
        control = next(model.runs())
        if control["id"] == newest["id"]:
            control = model.retrain("a control", wait=True)
    assert (control["state"], control["outcome"]) == ("succeeded", "rejected"), control
    failed = {one["gate"] for one in model.version(3)["verdicts"] if not one["passed"]}
    assert "not-inferior" in failed, model.version(3)["verdicts"]


def assert_the_first_champion_is_judged(model):
    document = model.document()
    assert (document["answers"], document["labels"]) == ("spans", LABELS)
    assert document["objective"]["metric"] == "f1_micro"
    champion = model.champion()
    assert 0.3 < document["measured_baseline"] < 0.8 < champion["accepted"]["value"]
    judged = champion["metrics"]["holdout"]
    assert set(judged["by_class"]) == set(LABELS)
    assert 0 < judged["log_loss"] < 0.5 < judged["exact_match"] < judged["token_accuracy"] <= 1


def assert_a_report_tells_of_spans(model, answers):
    report = next(model.reports())
    kinds = {score["feature"]: score["kind"] for score in report["scores"]}
    assert {"n_spans", "span_share", "main_label", "confidence", "embedding"} <= set(kinds)
    assert report["finding"] == "no_drift", [one for one in report["scores"] if one["drifted"]]
    labelled = report["performance"]
    assert (labelled["measure"], labelled["n"]) == ("f1_samples", 100)
    assert 0.9 < labelled["errors"]["f1_micro"] <= 1
    assert labelled["lower"] < labelled["accuracy"] < labelled["upper"]
    assert report["estimate"]["state"] == "not_estimated"
    found = model.observation(answers[0].id)
    assert found["prediction"] == [span._asdict() for span in answers[0].spans]


def assert_labels_that_are_no_spans_are_refused(model, known, row):
    n = len(row["inputs"]["text"])
    (refused,) = model.labels(
        [
            {"id": known, "label": [{"start": 0, "end": n + 1, "label": "price"}]},
            {"id": known, "label": row["label"]},
        ]
    ).rejected
    (fault,) = refused["errors"]
    assert fault["pointer"] == "/label/0/end"
    assert fault["detail"] == f"must be at most {n}, the length of the text"
    with pytest.raises(Invalid, match="must be one of the model's labels"):
        model.log(
            [{"inputs": row["inputs"], "prediction": [{"start": 0, "end": 1, "label": "city"}]}]
        )


def assert_plain_transformers_agrees(client, model, rows, answers, folder):
    """The version that was promoted is plain transformers', and finds the same spans there."""
    folder.mkdir()
    for file in model.champion()["files"]:
        content = client.transport.send("GET", file["url"]).content
        (folder / file["path"]).write_bytes(content)
    find = transformers.pipeline(
        "token-classification",
        model=transformers.AutoModelForTokenClassification.from_pretrained(folder).eval(),
        tokenizer=transformers.AutoTokenizer.from_pretrained(folder),
        aggregation_strategy="simple",
    )
    said = [
        [(one["start"], one["end"], one["entity_group"]) for one in found]
        for found in find([row["inputs"]["text"] for row in rows])
    ]
    assert said == [[tuple(span) for span in one.spans] for one in answers]


def assert_pages_and_metrics_tell_it(stack, model):
    page = httpx.get(f"{stack.url}/models/{model.name}").text
    assert "spans of 3 labels" in page
    metrics = httpx.get(f"{stack.url}/metrics").text
    assert f'upkeep_error{{metric="f1_micro",model="{model.name}"}}' in metrics


def test_a_model_that_contradicts_spans_is_refused(client, tmp_path):
    base = encoder(tmp_path / "base")
    for change, said in (
        ({"labels": []}, "needs at least one label, not 0"),
        ({"labels": ["price", "price"]}, "holds a label twice"),
        ({"target": {"unit": "EUR"}}, "must be left out: token-classification answers with spans"),
        ({"objective": {"metric": "accuracy"}}, "must be one of f1_micro"),
    ):
        with pytest.raises(Invalid, match=said):
            create(client, base, **change)
    made = create(client, base)
    empty = [{**row, "label": []} for row in deals(20, seed=6)]
    with pytest.raises(Invalid, match="fewer than two different lists of spans"):
        made.upload("training", empty)

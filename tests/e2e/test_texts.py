"""Texts end to end: replies are learned, watched, retrained by LoRA, judged, read elsewhere."""

import httpx
import numpy as np
import pytest
import torch
import transformers

from tests.e2e.support import replies, unique, writer
from upkeep import Invalid, Upkeep
from upkeep.champion import Champion

WAIT = 240.0
RECIPE = {
    "epochs": 12,
    "learning_rate": 1e-2,
    "token_budget": 512,
    "dropout": 0.0,
    "precision": "fp32",
}
POLICY = {
    "check": {"settle_seconds": 0.5, "minimum_rows": 50, "window_rows": 400},
    "performance": {"minimum_labels": 50},
    "retrain": {
        "cool_down_seconds": 0.0,
        "minimum_growth_share": 0.1,
        "recipe": RECIPE | {"lora_rank": 8, "epochs": 20, "learning_rate": 2e-2},
    },
}


@pytest.fixture
def client(stack):
    with Upkeep(stack.url, actor="tester") as made:
        yield made


def create(client, base, **more):
    stated = {"task_type": "text-generation", "base_model": str(base), "policy": POLICY}
    return client.create_model(unique("replies"), **stated | more)


def observe(model, champion, rows):
    """Answer rows with the champion, which logs them, and send their labels."""
    answers = champion.answer([row["inputs"] for row in rows])
    model.labels({one.id: row["label"] for one, row in zip(answers, rows, strict=True)})
    model.wait_until_settled(WAIT)
    return answers


def right(answers, rows):
    return np.mean([one.text == row["label"] for one, row in zip(answers, rows, strict=True)])


def test_replies_are_watched_and_their_model_replaced_when_questions_turn(client, stack, tmp_path):
    model = create(client, writer(tmp_path / "base"))
    model.upload("training", replies(400, seed=0))
    model.upload("holdout", replies(100, seed=1))
    run = model.retrain("the first", recipe=RECIPE | {"lora_rank": 0}, wait=True)
    assert (run["state"], run["outcome"]) == ("succeeded", "promoted"), model.version(1)
    assert run["result"]["texts"] == {"n_cut": 0}
    assert_the_first_champion_is_judged(model)

    with Champion(model, tmp_path / "cache", refresh_seconds=3600.0) as champion:
        rows = replies(100, seed=2)
        answers = observe(model, champion, rows)
        assert right(answers, rows) > 0.9
        assert next(model.decisions())["outcome"] == "skip", next(model.decisions())["reason"]
        assert_a_report_tells_of_texts(model, answers)
        with pytest.raises(Invalid, match="must be a text, not int"):
            model.labels({answers[0].id: 12})

        observe(model, champion, replies(250, seed=3, turned=True))
        newest = next(model.runs())
        assert (newest["state"], newest["outcome"]) == ("succeeded", "promoted"), [
            one["reason"] for one in model.version(2)["verdicts"]
        ]
        assert "chrf" in next(model.decisions(outcome="retrain"))["reason"]
        assert newest["result"]["recipe"]["lora_rank"] == 8

        unseen = replies(100, seed=4, turned=True)
        before = champion.predict([row["inputs"] for row in unseen])
        assert champion.refresh()
        after = champion.predict([row["inputs"] for row in unseen])
        assert right(before, unseen) < 0.1
        assert right(after, unseen) > 0.8
        assert_plain_transformers_agrees(client, model, unseen, after, tmp_path / "plain")
        page = httpx.get(f"{stack.url}/models/{model.name}").text
        assert "texts" in page

        for turned in (False, True):
            model.upload("training", replies(400, seed=5, turned=turned, shuffled=True))
        run = model.retrain("a control", recipe=RECIPE, wait=True)
    assert (run["state"], run["outcome"]) == ("succeeded", "rejected"), run
    failed = {one["gate"] for one in model.version(3)["verdicts"] if not one["passed"]}
    assert "not-inferior" in failed, model.version(3)["verdicts"]


def assert_the_first_champion_is_judged(model):
    document = model.document()
    assert (document["answers"], document["labels"]) == ("text", [])
    assert (document["objective"]["metric"], document["objective"]["direction"]) == (
        "log_loss",
        "minimize",
    )
    champion = model.champion()
    assert champion["accepted"]["value"] < 0.2
    assert document["measured_baseline"] > 1
    judged = champion["metrics"]["holdout"]
    assert judged["perplexity"] == pytest.approx(np.exp(judged["log_loss"]))
    assert 0.9 < judged["bits_saved"] < 1
    assert 0.9 < judged["exact_match"] <= judged["chrf"] <= 1


def assert_a_report_tells_of_texts(model, answers):
    report = next(model.reports())
    kinds = {score["feature"]: score["kind"] for score in report["scores"]}
    assert {"answer_length", "repeated_share", "confidence", "embedding"} <= set(kinds)
    assert report["finding"] == "no_drift", [one for one in report["scores"] if one["drifted"]]
    labelled = report["performance"]
    assert (labelled["measure"], labelled["n"]) == ("chrf", 100)
    assert 0.9 < labelled["errors"]["exact_match"] <= 1
    assert model.observation(answers[0].id)["prediction"] == answers[0].text


def assert_plain_transformers_agrees(client, model, rows, answers, folder):
    """The version that was promoted is plain transformers', and writes the same there."""
    folder.mkdir()
    for file in model.champion()["files"]:
        content = client.transport.send("GET", file["url"]).content
        (folder / file["path"]).write_bytes(content)
    plain = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    for row, answer in zip(rows, answers, strict=True):
        ids = [tokenizer.eos_token_id, *tokenizer(row["inputs"]["text"])["input_ids"]]
        said = plain.generate(torch.tensor([ids]))[0, len(ids) :]
        assert tokenizer.decode(said, skip_special_tokens=True) == answer.text


def test_a_model_that_contradicts_texts_is_refused(client, tmp_path):
    base = writer(tmp_path / "base")
    for change, said in (
        ({"labels": ["a", "b"]}, "must be left out: text-generation answers with texts"),
        ({"target": {"unit": "EUR"}}, "must be left out: text-generation answers with texts"),
        ({"objective": {"metric": "accuracy"}}, "must be one of log_loss"),
    ):
        with pytest.raises(Invalid, match=said):
            create(client, base, **change)
    made = create(client, base)
    with pytest.raises(Invalid, match="fewer than two different texts"):
        made.upload("training", [{**row, "label": "so it goes"} for row in replies(20, seed=6)])

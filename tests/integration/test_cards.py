"""A model card says what the record says, and what is not recorded it says is not."""

import json

import pytest

from app.domain.training import RunEvent
from app.domain.usage import Rates, usage_of
from app.domain.versions import ModelFile
from app.services import snapshots, training
from tests.integration.support import (
    add_version,
    examples,
    now,
    retrain,
    text_model,
    upload,
)

RESULT = {
    "metrics": {"accuracy": 0.875, "log_loss": 0.5, "by_class": {"negative": {"f1": 0.5}}},
    "seconds": 12.5,
    "steps": 96,
    "recipe": {"epochs": 3, "note": "```"},
    "deterministic": True,
    "device": "cpu",
    "precision": "fp32",
    "threads": 2,
    "peak_memory_bytes": 500_000_000,
    "code": {"version": "0.1.0", "sha256": "ab" * 32},
    "library_versions": {"torch": "2.13.0"},
}


@pytest.fixture
def trained(work, model, artifacts):
    """A version as a worker records one, with a reason that would like to be Markdown."""
    upload(work, artifacts, model, examples(40))
    run = retrain(work, model, reason="new | labels\n# <b>now</b>")
    lease = training.begin(work, owner="w", seconds=60.0, only=run.id)
    snapshot = snapshots.snapshot_of(work, artifacts, lease)
    used = usage_of(
        cpu_seconds=20.0,
        gpu_seconds=0.0,
        measured_gpu_joules=None,
        rates=Rates(watts_per_core=9.0, cost_per_core_hour=1.8),
    )
    with work:
        assert work.runs.set_usage(lease, used)
    files = [ModelFile("config.json", *artifacts.put(b"{}"))]
    version = training.succeed(work, artifacts, lease, files, RESULT, snapshot, now=now())
    return run, version, snapshot


def test_a_card_holds_what_the_record_holds(api, work, model, trained):
    run, version, snapshot = trained

    answer = api.get(f"/v1/models/{model.name}/versions/{version.number}/card")

    card = answer.text
    assert answer.headers["content-type"] == "text/markdown; charset=utf-8"
    assert "README.md" in answer.headers["content-disposition"]
    assert card.startswith("---\nmodel_name: ")
    for said in (
        f"Snapshot of the data (SHA-256): `{snapshot.sha256}`",
        f"Training rows: {len(snapshot.train)} (",
        f"Seed: {run.spec.seed}",
        "Deterministic: yes",
        "0.1.0, sources `" + "ab" * 32,
        "torch 2.13.0",
        "| accuracy | 0.875 |",
        "Energy: 180 J = 5e-05 kWh (CPU estimated at 9 W a busy core, GPU none used)",
        "Cost: 0.01",
        "Carbon dioxide: unknown",
        "2 labels and no others: `negative`, `positive`",
        "| `text` | text | yes |",
        "No gate has judged it",
        f"`repeat_of` `{run.id}`",
    ):
        assert said in card, said
    assert "by_class" not in card


def test_words_of_a_user_do_not_become_markup(api, model, trained):
    card = api.get(f"/v1/models/{model.name}/versions/1/card").text
    assert r"new \| labels \# \<b\>now\</b\>" in card
    assert "\n# <b>" not in card
    recipe = card.partition("```json\n")[2].partition("\n```")[0]
    assert json.loads(recipe) == {"epochs": 3, "note": "'''"}


def test_an_imported_version_says_that_its_making_is_not_recorded(api, work):
    model = text_model(work)
    add_version(work, model, judged_against=None, metrics={"window": {"accuracy": 1.0, "n": 50}})
    card = api.get(f"/v1/models/{model.name}/versions/1/card").text
    assert "how it was trained, and on what, is not recorded" in card
    assert "| beats-baseline | passed |" in card
    assert "Its use of machines is not recorded" in card
    assert "| n | 50 |" in card


def test_a_version_states_what_it_took_and_its_page_leads_to_the_card(api, work, model, trained):
    shown = api.get(f"/v1/models/{model.name}/versions/1").json()
    run = api.get(f"/v1/models/{model.name}/runs/{trained[0].id}").json()
    page = api.get(f"/models/{model.name}").text

    assert shown["usage"] == run["usage"]
    assert (shown["usage"]["energy_joules"], run["deterministic"]) == (180.0, True)
    assert f"/models/{model.name}/versions/1/card" in page
    assert "0.05 Wh" in page.replace("\u202f", " ")
    card = api.get(f"/models/{model.name}/versions/1/card")
    assert "Snapshot of the data" in card.text
    assert "<b>now" not in card.text


def test_what_training_took_is_divided_by_the_points_that_were_promoted(
    api, work, model, trained, artifacts
):
    run, version, _ = trained
    comparison = {
        "role": "window",
        "n": 100,
        "challenger": {"accuracy": 0.9},
        "champion": {"accuracy": 0.85},
    }
    with work:
        work.versions.set_accepted(version.id, {"role": "window"}, {})
        work.versions.add_evidence(model.id, version.id, None, {"comparisons": [comparison]}, [])
        work.runs.set_result(run.id, outcome="promoted")
        work.runs.advance(run.id, RunEvent.SUCCEEDED)
    fruitless = retrain(work, model)
    lease = training.begin(work, owner="w", seconds=60.0, only=fruitless.id)
    used = usage_of(cpu_seconds=30.0, gpu_seconds=0.0, measured_gpu_joules=None, rates=Rates(9.0))
    with work:
        assert work.runs.set_usage(lease, used)
    training.end_early(work, lease, RunEvent.FAILED, {"detail": "the test ends it"})

    told = api.get(f"/v1/models/{model.name}/usage").json()

    assert (told["n_runs"], told["n_runs_unstated"], told["n_promoted"]) == (2, 0, 1)
    assert told["total"]["cpu_seconds"] == 50.0
    assert told["points_gained"] == pytest.approx(5.0)
    assert told["per_point"]["cpu_seconds"] == pytest.approx(10.0)
    assert "cost" not in told["per_point"]


def test_a_model_that_was_never_trained_has_used_nothing(api, model):
    told = api.get(f"/v1/models/{model.name}/usage").json()
    assert (told["n_runs"], told["total"], told["per_point"]) == (0, None, None)


def test_a_version_that_is_not_there_has_no_card(api, model):
    assert api.get(f"/v1/models/{model.name}/versions/9/card").status_code == 404

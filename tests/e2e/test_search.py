"""A search end to end: its worker is killed, another goes on, the best recipe is the version's."""

from tests.conftest import wait_until
from tests.e2e.support import FAST, LABELS, pictures, unique
from upkeep import Upkeep

WAIT = 240.0
SEARCH = {
    "n_trials": 2,
    "space": {
        "learning_rate": {"low": 1e-4, "high": 2e-2, "log": True},
        "head_learning_rate": {"choices": [2e-3, 1e-2]},
    },
}


def test_a_search_outlives_its_worker_and_its_best_recipe_becomes_the_version(stack):
    with Upkeep(stack.url, actor="tester") as client:
        model = client.create_model(
            unique("search"),
            task_type="image-classification",
            base_model="preset:resnet-tiny-gray",
            labels=LABELS,
            objective={"baseline": 0.5},
        )
        model.upload("training", pictures(120, seed=0))
        asked = model.retrain("search", seed=1, recipe={**FAST, "epochs": 2}, search=SEARCH)

        def trials():
            return model.run(asked["id"])["search"]["trials"]

        wait_until(
            lambda: [one["state"] for one in trials()] == ["complete", "running"],
            seconds=WAIT,
            what="the second trial is under way",
        )
        stack.kill("training")
        before = trials()
        stack.start("training", "worker", "--queue", "training")
        run = model.wait_for_run(asked["id"], timeout_seconds=WAIT)

        search = run["search"]
        assert run["state"] == "succeeded", run["error"]
        assert run["attempt"] == 2
        assert [one["number"] for one in search["trials"]] == [0, 1]
        assert {one["state"] for one in search["trials"]} <= {"complete", "pruned"}
        assert search["trials"][0] == before[0]
        assert search["trials"][1]["recipe"] == before[1]["recipe"]
        best = search["trials"][search["best"]]
        assert best["recipe"].items() <= run["result"]["recipe"].items()
        assert run["result"]["search"]["best"] == best
        assert run["result"]["n_validation"] == 0
        assert [one["number"] for one in model.versions()] == [run["version"]]
        assert f"| {search['best']}, the best |" in model.card(run["version"])
        told = [one["progress"] for one in model.run_history(asked["id"]) if one["progress"]]
        assert {line.get("trial") for line in told} >= {0, 1, None}

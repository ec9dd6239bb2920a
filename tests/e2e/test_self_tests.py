"""A model's detectors are tested over the real service, also when their worker is killed."""

import httpx

from tests.conftest import wait_until
from tests.e2e.support import FAST, LABELS, pictures, unique
from upkeep import Upkeep

WAIT = 240.0
POLICY = {
    "check": {
        "settle_seconds": 0.5,
        "window_rows": 100,
        "self_test": {"budget_seconds": 5.0},
    },
    "retrain": {"recipe": FAST},
}


def test_a_killed_worker_leaves_its_self_test_to_the_next_and_one_result_is_stored(stack):
    with Upkeep(stack.url, actor="tester") as client:
        model = client.create_model(
            unique("stripes"),
            task_type="image-classification",
            base_model="preset:resnet-tiny-gray",
            labels=LABELS,
            objective={"baseline": 0.8},
            policy=POLICY,
        )
        model.upload("training", pictures(400, seed=0))
        model.retrain("the first champion", seed=1, wait=True, timeout_seconds=WAIT)
        model.log(
            [
                {"id": f"o-{n}", "inputs": row["inputs"], "prediction": row["label"], "version": 1}
                for n, row in enumerate(pictures(250, seed=1))
            ]
        )
        model.wait_until_settled(WAIT)
        test_id = model.self_test(wait=False)["id"]

        def state():
            return model.self_test_document(test_id)["state"]

        wait_until(lambda: state() == "running", seconds=WAIT, what="the test runs")
        stack.kill("checks")
        stack.start("checks", "worker", "--queue", "checks")
        wait_until(lambda: state() == "completed", seconds=WAIT, what="the test is done again")

        (only,) = model.self_tests()
        result = only["result"]
        assert (result["outcome"], result["source"]) == ("measured", "live"), result["reason"]
        assert (result["n_rows"], result["window_rows"]) == (200, 100)
        by_name = {f"{one['kind']}/{one['name']}": one for one in result["shifts"]}
        assert {"numeric/mean", "prediction/frequency", "embedding/cluster"} <= set(by_name)
        for one in by_name.values():
            assert one["n_trials"] >= 1
            assert one["lower"] <= one["power"] <= one["upper"]
            assert one["is_blind"] == (one["upper"] < 0.8)
        assert (
            f'upkeep_blind_shifts{{model="{model.name}"}}' in httpx.get(f"{stack.url}/metrics").text
        )

"""Numbers, categories, times and embeddings beside a picture: none is learned from, all watched."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from tests.e2e.support import LABELS, pictures, unique
from upkeep import Upkeep
from upkeep.champion import Champion
from upkeep.images import encoded

WAIT = 240.0
N = 200
FIELDS = [
    {"name": "kind", "type": "category"},
    {"name": "image", "type": "image"},
    {"name": "age", "type": "number", "min": 0},
    {"name": "since", "type": "datetime"},
    {"name": "embedding", "type": "embedding", "dimension": 4},
]
SHIFTED = {"age", "kind", "since.age_seconds", "input.embedding", "embedding.length"}


def rows_of(n, *, seed, shift=0.0):
    """Return n labelled rows observed at any time of the past year."""
    draw = np.random.default_rng(seed)
    rows = []
    for row in pictures(n, seed=seed):
        at = datetime.now(UTC) - timedelta(days=float(draw.uniform(0, 365)))
        old = timedelta(days=40 + float(draw.exponential(100)) + 200 * shift)
        inputs = {
            **row["inputs"],
            "age": 40 + 5 * abs(float(draw.normal())) + 10 * shift,
            "kind": "new" if shift and draw.random() < 0.3 else str(draw.choice(["a", "b", "c"])),
            "since": at - old,
            "embedding": (draw.normal(size=4) + 2 * shift).astype(np.float32),
        }
        rows.append({"inputs": inputs, "label": row["label"], "at": at})
    return rows


@pytest.fixture
def model(stack):
    with Upkeep(stack.url, actor="tester") as client:
        yield client.create_model(
            unique("mixed"),
            task_type="image-classification",
            base_model="preset:resnet-tiny-gray",
            labels=LABELS,
            input_contract={"fields": FIELDS},
            objective={"baseline": 0.5, "slices": ["kind"]},
            policy={
                "check": {"settle_seconds": 0.5, "minimum_rows": 50, "window_rows": N},
                "triggers": {},
            },
        )


def looked_at(model, champion, rows):
    """Log rows as the champion answers them; return the report of the look that follows."""
    answers = champion.predict([row["inputs"] for row in rows])
    model.log(
        {**sent(row), "prediction": answer.label, "version": answer.version}
        for row, answer in zip(rows, answers, strict=True)
    )
    model.wait_until_settled(WAIT)
    return next(model.reports())


def sent(row):
    return {"at": row["at"], "inputs": encoded(row["inputs"])}


def drifted(report):
    return {score["feature"] for score in report["scores"] if score["drifted"]}


def test_every_field_beside_the_picture_is_watched_and_none_hinders_training(model, tmp_path):
    model.upload("training", [{**row, **sent(row)} for row in rows_of(400, seed=0)])
    run = model.retrain("the first champion", seed=1, wait=True, timeout_seconds=WAIT)
    assert (run["state"], run["outcome"]) == ("succeeded", "promoted"), run
    champion = Champion(model, tmp_path / "champion")

    quiet = looked_at(model, champion, rows_of(N, seed=1))
    moved = looked_at(model, champion, rows_of(N, seed=2, shift=1.0))

    watched = {score["feature"] for score in quiet["scores"]}
    assert watched >= {*SHIFTED, "since.part_of_day", "since.weekday", "embedding", "brightness"}
    assert drifted(quiet) == set()
    assert drifted(moved) == SHIFTED
    slices = {one["name"]: one["drift"] for one in quiet["slices"]}
    assert set(slices) == {"kind=a", "kind=b", "kind=c"}
    for one in slices.values():
        is_enough = min(one["n_reference"], one["n_current"]) >= 50
        assert one["finding"] == ("no_drift" if is_enough else "insufficient_data"), one
    assert {"age", "input.embedding"} & set(quiet["slices"][0]["drift"]["drifted"]) == set()

"""What users get wrong, on a running service: never a 500, and always what would work."""

import base64
import contextlib
import json

import httpx
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conftest import wait_until
from tests.e2e.support import FAST, LABELS, pictures, unique
from upkeep import Upkeep

IMAGE_MODEL = {
    "task_type": "image-classification",
    "base_model": "preset:resnet-tiny-gray",
    "labels": list(LABELS),
    "input_contract": {
        "fields": [
            {"name": "image", "type": "image"},
            {"name": "age", "type": "number", "required": False},
        ]
    },
    "policy": {
        "check": {"every_seconds": 86_400, "settle_seconds": 86_400},
        "triggers": {},
        "gates": {},
        "retrain": {"recipe": FAST},
    },
}


@pytest.fixture(scope="module")
def http(stack):
    with httpx.Client(base_url=stack.url, timeout=60) as client:
        yield client


@pytest.fixture(scope="module")
def name(http):
    """A model of pictures and a number that may be missing, with a champion."""
    made = http.post("/v1/models", json={**IMAGE_MODEL, "name": unique("bad")}).json()["name"]
    http.post(f"/v1/models/{made}/datasets?role=training", json={"rows": pictures(200, 0)})
    http.post(f"/v1/models/{made}/retrain", json={"reason": "the first"})
    url = f"/v1/models/{made}/champion"
    wait_until(lambda: http.get(url).status_code == 200, seconds=240, what="a champion is there")
    return made


def refused(answer, *, status=422, said=""):
    assert answer.status_code == status, answer.text[:500]
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert {"type", "title", "status", "detail", "instance"} <= set(body)
    assert said in json.dumps(body, ensure_ascii=False), body
    return body


def created(http, **changes):
    return http.post("/v1/models", json={**IMAGE_MODEL, "name": unique("new"), **changes})


def truncated():
    """A picture whose file was cut in the middle."""
    whole = base64.b64decode(pictures(1, 0)[0]["inputs"]["image"])
    return base64.b64encode(whole[: len(whole) // 2]).decode()


def check(http, name):
    asked = http.post(f"/v1/models/{name}/checks", json={}).json()
    url = f"/v1/models/{name}/checks/{asked['id']}"
    ends = {"completed", "failed"}
    wait_until(lambda: http.get(url).json()["state"] in ends, seconds=120, what="the check ended")
    return http.get(url).json()


def report(http, name):
    done = check(http, name)
    assert done["state"] == "completed", done
    return http.get(f"/v1/models/{name}/reports/{done['report']}").json()


def test_an_unknown_model_is_not_found(http):
    refused(http.get("/v1/models/nobody"), status=404, said="GET /v1/models lists them")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"task_type": "image-clasification"}, "known: image-classification"),
        ({"policy": {"check": {"detectors": {"numeric": {"pis": {}}}}}}, "unknown detector 'pis'"),
        ({"policy": {"triggers": {"moon": {}}}}, "unknown trigger 'moon'; known: drift"),
        ({"policy": {"gates": {"moon": {}}}}, "unknown gate 'moon'; known: beats-baseline"),
        ({"policy": {"retrain": {"recipe": {"epoch": 3}}}}, "epoch"),
        ({"policy": {"triggers": {"schedule": {"cron": "soon"}}}}, "soon"),
        ({"objective": {"metric": "luck"}}, "must be one of accuracy"),
        ({"labels": ["one"]}, "at least two different labels"),
        ({"labels": ["a", "a"]}, "holds a label twice"),
        ({"name": "Über"}, "pattern"),
        (
            {"input_contract": {"fields": [{"name": "age", "type": "number"}]}},
            "needs a required field of type image",
        ),
        ({"task_typo": "x"}, "/task_typo"),
    ],
)
def test_a_model_that_cannot_work_is_refused_with_what_would(http, changes, said):
    refused(created(http, **changes), said=said)


def test_a_wrong_field_and_a_wrong_type_are_named(http, name):
    rows = [
        {"id": "a", "inputs": {"picture": "x"}},
        {"id": "b", "inputs": {"image": 5}},
        {"id": "c", "inputs": {**pictures(1, 0)[0]["inputs"], "age": "old"}},
    ]

    body = refused(http.post(f"/v1/models/{name}/observations", json={"observations": rows}))

    said = {error["pointer"]: error["detail"] for error in body["errors"]}
    assert said["/0/inputs/picture"] == "unknown field; the contract has image, age"
    assert said["/0/inputs/image"] == "is required"
    assert said["/1/inputs/image"] == "must be a PNG as a base64 string, not int"
    assert said["/2/inputs/age"] == "must be a number, not str"


def test_an_empty_window_is_reported_as_insufficient_data(http):
    made = created(http).json()["name"]
    http.post(f"/v1/models/{made}/datasets?role=training", json={"rows": pictures(200, 0)})
    refused(http.post(f"/v1/models/{made}/checks", json={}), status=409, said="no champion")
    http.post(f"/v1/models/{made}/retrain", json={"reason": "the first"})
    url = f"/v1/models/{made}/champion"
    wait_until(lambda: http.get(url).status_code == 200, seconds=240, what="a champion is there")

    found = report(http, made)

    assert found["finding"] == "insufficient_data"
    assert found["window"]["n_observations"] == 0
    assert set(found["window"].values()) == {0}  # every count and every reach


def test_a_field_that_is_always_missing_and_a_corrupt_picture_stop_no_check(http, name):
    rows = [
        {"id": f"n-{index}", "inputs": {**row["inputs"], "age": None}, "prediction": row["label"]}
        for index, row in enumerate(pictures(80, 5))
    ]
    answer = http.post(f"/v1/models/{name}/observations", json={"observations": rows})
    assert answer.json()["accepted"] == 80
    good = base64.b64decode(rows[0]["inputs"]["image"])
    corrupt = base64.b64encode(good[:50] + b"\xff" * 8 + good[58:]).decode()
    http.post(
        f"/v1/models/{name}/observations",
        json={"observations": [{"id": "corrupt", "inputs": {"image": corrupt}}]},
    )

    found = report(http, name)

    assert found["finding"] in {"no_drift", "drift"}
    assert "age" in {score["feature"] for score in found["scores"]}


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([], "no usable row"),
        ([{**row, "label": "down"} for row in pictures(4, 0)], "at least two classes"),
        ([{"inputs": {"image": "AAAA"}, "label": "down"}], "PNG"),
        ([{**row, "label": "sideways"} for row in pictures(4, 0)], "across, down"),
        ([{"inputs": {}, "label": "down"}], "is required"),
        ([{"inputs": {"image": truncated()}, "label": "down"}], "is a truncated PNG"),
        ([{"inputs": {**row["inputs"], "age": "NaN"}, "label": "down"} for row in pictures(2, 0)],
         "must be a number"),
    ],
)  # fmt: skip
def test_a_training_set_that_teaches_nothing_is_refused(http, name, rows, said):
    refused(http.post(f"/v1/models/{name}/datasets?role=training", json={"rows": rows}), said=said)


def test_rows_with_one_id_are_learned_from_and_the_run_says_how_many(http):
    made = created(http).json()["name"]
    rows = [{**row, "id": f"row-{index // 2}"} for index, row in enumerate(pictures(200, 0))]
    http.post(f"/v1/models/{made}/datasets?role=training", json={"rows": rows})
    run = http.post(f"/v1/models/{made}/retrain", json={"reason": "the first"}).json()
    ends = {"succeeded", "failed"}
    wait_until(lambda: http.get(run["url"]).json()["state"] in ends, seconds=240, what="it ended")

    found = http.get(run["url"]).json()

    assert found["state"] == "succeeded", found["error"]
    assert 0 < found["result"]["repeated_ids"] <= 100


@pytest.mark.parametrize(
    ("path", "data", "said"),
    [
        ("pytorch_model.bin", b"\x80\x02}q\x00.", "pickle"),
        ("model.safetensors", b"\x80\x04\x95", "pickle"),
        ("weights.json", b"PK\x03\x04zip", "zip"),
        ("modeling.py", b"print()", "refused"),
        ("../config.json", b"{}", "plain file name"),
        ("config.json", b'{"auto_map": {"AutoModel": "x.Y"}}', "remote code"),
        ("model.safetensors", b"\x08\0\0\0\0\0\0\0{}", "safetensors"),
        ("model.safetensors", b'\x10\0\0\0\0\0\0\0{"a": {"b": 12}}', "safetensors"),
    ],
)
def test_a_file_that_could_run_code_is_refused(http, name, path, data, said):
    answer = http.post(f"/v1/models/{name}/versions", files=[("files", (path, data))])

    assert refused(answer, said=said)["type"] == "/problems/unsafe-artifact"


@pytest.mark.parametrize(
    "body",
    [
        '{"check": {"every_seconds": Infinity}}',
        '{"check": {"every_seconds": NaN}}',
        '{"retrain": {"recipe": {"learning_rate": NaN}}}',
        '{"retrain": {"recipe": {"head": "\\ud800"}}}',
        '{"\\u0000": 1}',
        "[]",
        "{",
        "",
    ],
)
def test_a_policy_that_json_or_postgres_cannot_hold_is_refused(http, name, body):
    before = http.get(f"/v1/models/{name}/policy").json()

    answer = http.patch(
        f"/v1/models/{name}/policy", content=body, headers={"Content-Type": "application/json"}
    )

    refused(answer)
    assert http.get(f"/v1/models/{name}/policy").json() == before


@pytest.mark.parametrize("text", ["\\ud800", "\\u0000"])
@pytest.mark.parametrize(
    ("route", "body"),
    [
        ("retrain", '{"reason": "%s"}'),
        ("retrain", '{"reason": "x", "recipe": {"%s": 1}}'),
        ("pause", '{"reason": "%s"}'),
        ("rollback", '{"reason": "%s"}'),
        ("versions/1/promote", '{"reason": "%s", "force": true}'),
        ("labels", '{"labels": [{"id": "%s", "label": "down"}]}'),
        ("labels", '{"labels": [{"id": "x", "label": "%s"}]}'),
        ("datasets?role=golden", '{"rows": [{"image": "x", "label": "%s"}]}'),
    ],
)
def test_texts_that_cannot_be_stored_are_refused(http, name, route, body, text):
    answer = http.post(
        f"/v1/models/{name}/{route}",
        content=body % text,
        headers={"Content-Type": "application/json"},
    )

    refused(answer)


@pytest.mark.parametrize(
    "path",
    [
        "?limit=0",
        "?limit=501",
        "?cursor=x",
        "?cursor=WyJ4Il0=",
        "?cursor=%00",
        "/%00",
        "/{name}/versions/4294967296",
        "/{name}/versions/9223372036854775808",
        "/{name}/runs/x",
        "/{name}/observations/%00",
        "/{name}/champion?at=yesterday",
        "/{name}/champion?at=2026-01-31",
        "/{name}/performance?bucket=0",
        "/{name}/runs?state=lost",
        "/{name}/decisions?cursor=WyJ4Il0=",
    ],
)
def test_an_odd_address_is_refused(http, name, path):
    answer = http.get(f"/v1/models{path.format(name=name)}")

    refused(answer, status=404 if answer.status_code == 404 else 422)


def test_ten_megabytes_of_text_are_refused_with_the_length_allowed(http):
    made = http.post(
        "/v1/models",
        json={
            "name": unique("text"),
            "task_type": "text-classification",
            "base_model": "anything",
            "labels": ["a", "b"],
        },
    ).json()["name"]
    rows = [{"id": "long", "inputs": {"text": "x" * 10_000_000}}]

    answer = http.post(f"/v1/models/{made}/observations", json={"observations": rows})

    refused(answer, said="at most 10000 are allowed")


def test_a_base_model_that_is_not_there_fails_the_run_with_the_reason(http):
    made = created(http, base_model="preset:resnet-huge").json()["name"]
    http.post(f"/v1/models/{made}/datasets?role=training", json={"rows": pictures(20, 0)})

    run = http.post(f"/v1/models/{made}/retrain", json={"reason": "the first"}).json()
    wait_until(
        lambda: http.get(run["url"]).json()["state"] == "failed", seconds=120, what="it failed"
    )

    assert "resnet-tiny-gray" in http.get(run["url"]).json()["error"]["detail"]


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(), max_size=20)
    | st.sampled_from(["down", "across", "id", "iVBORw0KGgo="]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                ["id", "at", "inputs", "image", "age", "label", "prediction", "scores", "version"]
            )
            | st.text(max_size=5),
            inner,
            max_size=5,
        )
    ),
    max_leaves=12,
)
ROWS = st.lists(
    JSON
    | st.fixed_dictionaries(
        {"id": st.text(max_size=5), "inputs": st.fixed_dictionaries({"image": JSON, "age": JSON})},
        optional={
            "at": JSON,
            "label": JSON,
            "prediction": JSON,
            "scores": JSON,
            "version": JSON,
            "shadow": JSON,
        },
    ),
    max_size=4,
)


@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    rows=ROWS,
    route=st.sampled_from(["observations", "labels", "datasets?role=golden"]),
    kind=st.sampled_from(["application/json", "application/x-ndjson"]),
    noise=st.none() | st.tuples(st.integers(0, 400), st.integers(0, 255)),
)
def test_whatever_is_sent_the_service_never_fails(http, name, rows, route, kind, noise):
    if kind == "application/json":
        key = {"observations": "observations", "labels": "labels"}.get(route, "rows")
        text = json.dumps({key: rows})
    else:
        text = "\n".join(map(json.dumps, rows))
    body = bytearray(text.encode())
    if noise is not None and body:
        body[noise[0] % len(body)] = noise[1]

    answer = http.post(
        f"/v1/models/{name}/{route}", content=bytes(body), headers={"Content-Type": kind}
    )

    assert answer.status_code in {200, 201, 422}, (answer.status_code, answer.text[:300])
    with contextlib.suppress(ValueError):
        assert np.isfinite(answer.json().get("accepted", 0))


def test_after_all_of_this_the_service_is_ready_and_the_audit_whole(http, stack):
    assert http.get("/readyz").json()["status"] == "ready"
    with Upkeep(stack.url) as client:
        assert client.transport.get("/v1/audit/verify")["is_whole"]

"""Policy documents: their bounds, and merge patches as RFC 7396 has them."""

import pytest

import app.gates
import app.triggers
from app.domain.errors import Invalid
from app.domain.policies import Policy
from app.domain.registry import scan
from app.services.documents import document
from app.services.options import option_faults
from app.services.policies import merged, policy_schema, read_policy
from app.triggers import triggers

scan(app.gates)
scan(app.triggers)

RFC_7396 = [
    ({"a": "b"}, {"a": "c"}, {"a": "c"}),
    ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
    ({"a": "b"}, {"a": None}, {}),
    ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
    ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
    ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
    ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
    ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
    ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
    ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
]


@pytest.mark.parametrize(("base", "patch", "result"), RFC_7396)
def test_the_examples_of_rfc_7396(base, patch, result):
    before = repr(base)

    assert merged(base, patch) == result
    assert repr(base) == before


def test_an_empty_document_is_the_default_policy_and_comes_back_whole():
    assert read_policy({}) == Policy()
    assert read_policy(document(Policy())) == Policy()


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"chekc": {}}, "/policy/chekc"),
        ({"check": {"fdr": 0}}, "/policy/check/fdr"),
        ({"check": {"fdr": 1}}, "/policy/check/fdr"),
        ({"check": {"window_rows": 0}}, "/policy/check/window_rows"),
        ({"check": {"every_seconds": -1}}, "/policy/check/every_seconds"),
        ({"check": {"every_seconds": float("inf")}}, "/policy/check/every_seconds"),
        ({"check": {"settle_seconds": float("nan")}}, "/policy/check/settle_seconds"),
        ({"check": {"every_seconds": "soon"}}, "/policy/check/every_seconds"),
        ({"retrain": {"holdout_share": 1.0}}, "/policy/retrain/holdout_share"),
        ({"retrain": {"start_from": "scratch"}}, "/policy/retrain/start_from"),
        ({"triggers": {"drift": 5}}, "/policy/triggers/drift"),
        ({"gates": []}, "/policy/gates"),
    ],
)
def test_what_is_out_of_bounds_is_refused_with_its_place(body, pointer):
    with pytest.raises(Invalid) as caught:
        read_policy(body)

    assert any(fault.pointer.startswith(pointer) for fault in caught.value.faults)


@pytest.mark.parametrize(
    ("cron", "is_valid"),
    [
        ("0 3 * * 1", True),
        ("*/5 * * * *", True),
        ("garbage", False),
        ("", False),
        ("61 * * * *", False),
        ("0 0 31 2 *", False),
        ("* * * * * *", False),
    ],
)
def test_a_schedule_must_come_due_some_day(cron, is_valid):
    schema = triggers.get("schedule").options

    assert (not option_faults(schema, {"cron": cron}, "/policy/triggers/schedule")) is is_valid


def test_the_schema_says_what_a_policy_may_hold():
    assert set(policy_schema()["properties"]) == {
        "check",
        "faults",
        "performance",
        "retrain",
        "retention",
        "triggers",
        "gates",
    }

"""What is wrong with a value is said in words that tell what would work."""

import math
from uuid import UUID

import pytest

from app.domain.observations import ContractField, FieldType, InputContract, Intake

SINCE = ContractField("since", FieldType.DATETIME, minimum=0.0, maximum=1.5)
VECTOR = ContractField("vector", FieldType.EMBEDDING, dimension=3)


@pytest.mark.parametrize("value", ["1970-01-01T00:00:00Z", "1970-01-01T01:00:01.5+01:00"])
def test_a_time_on_a_bound_is_good(value):
    assert SINCE.problem(value) is None


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("yesterday", "must be an RFC 3339 time with an offset, such as 2026-01-31T12:00:00Z"),
        ("1970-01-01T00:00:00", "must be an RFC 3339 time with an offset"),
        (12, "must be an RFC 3339 time"),
        ("1969-12-31T23:59:59.999999Z", "must be at 1970-01-01T00:00:00+00:00 or later"),
        ("1970-01-01T00:00:01.500001Z", "must be at 1970-01-01T00:00:01.500000+00:00 or earlier"),
        (None, "is required"),
    ],
)
def test_a_bad_time_is_told_what_would_work(value, said):
    assert said in (SINCE.problem(value) or "")


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("1,2,3", "must be a list of 3 numbers, not str"),
        ([1.0, 2.0], "has 2 numbers; exactly 3 are needed"),
        ([1.0, "2", 3.0], "must hold numbers only; the one at 1 is str"),
        ([1.0, True, 3.0], "must hold numbers only; the one at 1 is bool"),
        ([1.0, None, 3.0], "must hold numbers only; the one at 1 is NoneType"),
        ([1.0, 2.0, math.nan], "must hold finite numbers of single precision; the one at 2 is not"),
        ([1.0, 1e39, 3.0], "the one at 1 is not"),
        ([10**400, 2.0, 3.0], "the one at 0 is not"),
    ],
)
def test_a_bad_embedding_is_told_what_would_work(value, said):
    assert said in (VECTOR.problem(value) or "")


def test_good_inputs_are_kept_in_one_form_whatever_they_were_sent_in():
    contract = InputContract([SINCE, VECTOR, ContractField("n", FieldType.NUMBER)])

    first = {"since": "1970-01-01T02:00:01+02:00", "vector": [1, 2, 0.5], "n": None}
    other = {"vector": [1.0, 2.0, 0.5], "since": "1970-01-01T00:00:01Z"}

    assert Intake(UUID(int=1), (), contract, None).stored(first) == Intake(
        UUID(int=1), (), contract, None
    ).stored(other)
    assert Intake(UUID(int=1), (), contract, None).stored(first) == {
        "since": "1970-01-01T00:00:01+00:00",
        "vector": [1.0, 2.0, 0.5],
    }

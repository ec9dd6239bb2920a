"""What refused rows break is counted by field and kind, under names that cannot become many."""

from uuid import UUID

import pytest

from app.domain.observations import ContractField, FieldType, InputContract, Intake
from app.services.violations import violations

FIELDS = (
    ContractField("age", FieldType.NUMBER, minimum=0.0),
    ContractField("plan", FieldType.CATEGORY, is_required=False, categories=("free", "paid")),
    ContractField("vector", FieldType.EMBEDDING, is_required=False, dimension=2),
    ContractField("since", FieldType.DATETIME, is_required=False),
)
INTAKE = Intake(UUID(int=1), ("a", "b"), InputContract(FIELDS), None)
GOOD = {"id": "1", "inputs": {"age": 1}}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"inputs": {}}, {("age", "missing")}),
        ({"inputs": {"age": "1"}}, {("age", "type")}),
        ({"inputs": {"age": True}}, {("age", "type")}),
        ({"inputs": {"age": -1}}, {("age", "value")}),
        ({"inputs": {"age": 1, "plan": "gift"}}, {("plan", "value")}),
        ({"inputs": {"age": 1, "vector": [1.0]}}, {("vector", "value")}),
        ({"inputs": {"age": 1, "since": 5}}, {("since", "type")}),
        (
            {"inputs": {"age": 1, "since": "soon", "plan": 5}},
            {("since", "value"), ("plan", "type")},
        ),
        ({"inputs": {"age": 1, "x": 1, "y": 2}}, {("?", "unknown")}),
        ({"z": 1}, {("?", "unknown")}),
        ({"inputs": None}, {("inputs", "missing")}),
        ({"inputs": [1]}, {("inputs", "type")}),
        ({"id": None}, {("id", "missing")}),
        ({"prediction": "c", "at": "soon"}, {("prediction", "value"), ("at", "value")}),
    ],
)
def test_a_row_counts_once_for_each_field_and_kind_it_breaks(change, expected):
    found = violations([{**GOOD, **change}] * 3, INTAKE)

    assert found == dict.fromkeys(expected, 3)


@pytest.mark.parametrize("row", ["text", None, [1], 7])
def test_what_is_no_object_counts_as_inputs_of_another_type(row):
    assert violations([row], INTAKE) == {("inputs", "type"): 1}

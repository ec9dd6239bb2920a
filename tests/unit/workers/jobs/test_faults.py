"""Which columns of a window show which field of the input."""

from app.domain.observations import ContractField, FieldType
from workers.jobs.faults import fields_of

CONTRACT = [
    ContractField("image", FieldType.IMAGE),
    ContractField("age", FieldType.NUMBER),
    ContractField("brightness", FieldType.NUMBER),
    ContractField("born", FieldType.DATETIME),
]


def test_a_column_shows_the_field_it_is_named_after():
    columns = ["brightness", "contrast", "input.brightness", "age", "born.age_seconds"]
    assert fields_of(columns, CONTRACT) == {
        "input.brightness": "brightness",
        "age": "age",
        "born.age_seconds": "born",
    }

"""A search as its run keeps it: what may be tried of each knob."""

from pydantic import TypeAdapter

from app.domain.models import Objective
from app.domain.policies import SearchPolicy
from app.services.searches import resolved

SCHEMA = {
    "properties": {
        "layers": {"type": ["integer", "null"]},
        "share": {"type": "number"},
        "head": {"enum": ["probe", "random"]},
    }
}


def test_values_of_whole_knobs_are_whole_however_json_was_read():
    search = TypeAdapter(SearchPolicy).validate_json(
        """{"space": {
            "layers": {"choices": [0, 1, 2, null]},
            "share": {"choices": [0, 0.5]},
            "head": {"choices": ["probe", "random"]}
        }}"""
    )
    space = resolved(SCHEMA, search, Objective("accuracy", "maximize"))["space"]
    kinds = {name: [type(one) for one in wanted["choices"]] for name, wanted in space.items()}
    assert kinds == {
        "layers": [int, int, int, type(None)],
        "share": [float, float],
        "head": [str, str],
    }

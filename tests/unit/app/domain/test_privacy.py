"""A pseudonym stands for one value of one field of one model, and tells nothing of it."""

import pytest

from app.domain.errors import Conflict
from app.domain.privacy import pseudonym

SECRET = bytes(range(32))


def test_a_pseudonym_is_the_hmac_of_field_and_value():
    known = "007095d1fcf6ae7ffd2d6183d8dc1056f8ab2a17fa1d3cccad9a7437795843cf"

    assert pseudonym(SECRET, "email", "x") == known


@pytest.mark.parametrize(
    "other", [(SECRET[::-1], "email", "x"), (SECRET, "mail", "x"), (SECRET, "email", "y")]
)
def test_another_model_field_or_value_has_another_pseudonym(other):
    assert pseudonym(*other) != pseudonym(SECRET, "email", "x")


def test_nothing_is_hashed_without_a_secret():
    with pytest.raises(Conflict, match="register the model anew"):
        pseudonym(b"", "email", "x")

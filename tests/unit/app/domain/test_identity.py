"""Ids that sort by time, and one hash for one content."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.identity import canonical_json, content_hash, digest_of_files, new_id

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner),
    max_leaves=10,
)


def test_ids_are_version_7_and_sort_by_the_time_they_were_made():
    made = []
    for _ in range(5):
        made.append(new_id())
        begun = time.time_ns() // 1_000_000
        while time.time_ns() // 1_000_000 == begun:
            pass

    assert made == sorted(made)
    assert {each.version for each in made} == {7}
    assert {each.variant for each in made} == {"specified in RFC 4122"}


def test_ids_of_one_millisecond_differ():
    assert len({new_id() for _ in range(10_000)}) == 10_000


@given(st.dictionaries(st.text(st.characters(codec="utf-8")), JSON))
def test_the_order_of_keys_does_not_change_a_hash(value):
    turned = dict(reversed(value.items()))

    assert content_hash(value) == content_hash(turned)
    assert canonical_json(value) == canonical_json(turned)


@given(JSON, JSON)
def test_different_values_have_different_texts(one, other):
    if repr(one) != repr(other) and one != other:
        assert canonical_json(one) != canonical_json(other)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_json_does_not_have_has_no_hash(value):
    with pytest.raises(ValueError, match="JSON compliant"):
        content_hash({"x": value})


def test_a_digest_depends_on_names_and_contents():
    assert digest_of_files({"a": "1", "b": "2"}) == digest_of_files({"b": "2", "a": "1"})
    assert digest_of_files({"a": "1"}) != digest_of_files({"a": "2"})
    assert digest_of_files({"a": "1"}) != digest_of_files({"b": "1"})

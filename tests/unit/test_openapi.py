"""A change of the API is seen in review."""

import json

from tests.openapi import SNAPSHOT, document


def test_the_snapshot_says_what_the_api_does():
    assert json.loads(SNAPSHOT.read_text()) == document(), "run `make openapi` and read the diff"

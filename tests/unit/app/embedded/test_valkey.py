"""Does a Redis URL become what Celery takes?"""

import pytest

from app.embedded.valkey import celery_url


@pytest.mark.parametrize(
    ("redis_url", "expected"),
    [
        ("unix:///run/v.sock?db=3", "redis+socket:///run/v.sock?virtual_host=3"),
        ("unix:///run/v.sock", "redis+socket:///run/v.sock?virtual_host=0"),
        ("unix:///a%20b/v.sock?db=0", "redis+socket:///a%20b/v.sock?virtual_host=0"),
        ("redis://host:6379/1", "redis://host:6379/1"),
        ("rediss://:secret@host/0", "rediss://:secret@host/0"),
    ],
)
def test_only_a_socket_is_named_differently_to_celery(redis_url: str, expected: str) -> None:
    assert celery_url(redis_url) == expected

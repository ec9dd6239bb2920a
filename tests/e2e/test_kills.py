"""One of each kill of the drill: nothing is lost, nothing is done twice."""

import math
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from bench.drill import KINDS, Drill, Service, running
from tests.conftest import free_port
from tests.servers import fresh_database, passable_home

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def drill() -> Iterator[Drill]:
    with ExitStack() as stack:
        home = stack.enter_context(passable_home())
        urls = {}
        if admin_url := os.environ.get("DATABASE_URL"):
            urls["DATABASE_URL"] = stack.enter_context(fresh_database(admin_url))
        up = stack.enter_context(running(home, free_port(), **urls))
        yield stack.enter_context(ready(up))


@contextmanager
def ready(service: Service) -> Iterator[Drill]:
    redis_is_ours = "REDIS_URL" not in os.environ
    # How soon a run is taken over is for bench/drill.py to measure: it takes a machine at rest.
    with Drill(service, seed=1, redis_is_ours=redis_is_ours, takeover_seconds=math.inf) as found:
        found.warm_up()
        yield found


@pytest.mark.parametrize("kind", KINDS)
def test_after_a_kill_nothing_is_lost_and_nothing_done_twice(drill, kind):
    assert drill.play(kind).violations == []

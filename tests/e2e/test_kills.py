"""One of each kill of the drill: nothing is lost, nothing is done twice."""

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from bench.drill import KINDS, Drill, Service, running
from tests.conftest import free_port
from tests.servers import fresh_database

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def drill(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Drill]:
    home = tmp_path_factory.mktemp("drill")
    for folder in (home, *home.parents[:2]):
        folder.chmod(0o711)  # ours: the embedded servers' lesser user must pass through
    if admin_url := os.environ.get("DATABASE_URL"):
        with (
            fresh_database(admin_url) as url,
            running(home, free_port(), DATABASE_URL=url) as up,
            ready(up) as found,
        ):
            yield found
    else:
        with running(home, free_port()) as up, ready(up) as found:
            yield found


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

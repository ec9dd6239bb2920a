"""Which rows and signals of a slice are compared, and what bounds that."""

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

import workers.detectors
from app.domain.policies import CheckPolicy, Policy
from app.domain.registry import scan
from app.services.windows import Window
from workers.jobs import slicing
from workers.jobs.looking import Sight
from workers.jobs.slicing import drift_by_slice

scan(workers.detectors)


def side(n: int, seed: int, sites: str, *, moved: str = "") -> tuple[list[Any], Any]:
    """Rows of some sites in turn; at one of them `age` is shifted and so are the embeddings."""
    rng = np.random.default_rng(seed)
    site = np.array([sites[i % len(sites)] for i in range(n)], dtype=object)
    shift = np.where(site == moved, 1.5, 0.0)
    columns = {
        "numeric": {"age": rng.normal(size=n) + shift, "height": rng.normal(size=n)},
        "categorical": {"site": site, "colour": rng.choice(np.array(["r", "g"], dtype=object), n)},
        "embedding": {"embedding": rng.normal(size=(n, 6)) + shift[:, None]},
        "text": {},
    }
    return [SimpleNamespace(inputs={"site": value}) for value in site], columns


def look(
    *,
    sites: str = "abcd",
    n: int = 400,
    m: int = 320,
    moved: str = "",
    level: float = 0.01,
    fields: tuple[str, ...] = ("site",),
) -> Any:
    (reference, before), (current, after) = side(n, 1, sites), side(m, 2, sites, moved=moved)
    window = SimpleNamespace(
        model=SimpleNamespace(objective=SimpleNamespace(slices=fields)),
        policy=Policy(check=CheckPolicy(minimum_rows=50)),
        reference=reference,
        current=current,
        last=m,
        through=(m, 0),
    )
    looked = cast("Any", SimpleNamespace(look=lambda window: (level, m)))
    return drift_by_slice(cast("Window", window), Sight(before, after, None, looked), ())


def test_a_shift_within_one_slice_is_told_of_that_slice_alone() -> None:
    found = look(moved="c")
    assert {name: one.finding for name, one in found.items()} == {
        "site=a": "no_drift",
        "site=b": "no_drift",
        "site=c": "drift",
        "site=d": "no_drift",
    }
    assert set(found["site=c"].drifted) == {"age", "embedding"}
    assert found["site=c"].strongest["q_value"] <= 0.01
    assert (found["site=c"].n_reference, found["site=c"].n_current) == (100, 80)
    assert found["site=c"].n_signals == 4  # the site itself is no signal
    assert found["site=c"].last_sequence == 320


def test_without_declared_slices_or_a_look_nothing_is_measured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(slicing, "compared", lambda *args, **kwargs: pytest.fail("measured"))
    assert look(fields=()) == {}
    assert look(level=0.0) == {}


def test_a_slice_of_few_rows_says_so_whatever_it_shows() -> None:
    found = look(sites="aaaaaaab", n=400, m=300, moved="b")
    assert (found["site=b"].finding, found["site=b"].n_current) == ("insufficient_data", 37)
    assert found["site=a"].finding == "no_drift"


def test_what_is_beyond_the_bounds_is_left_out_and_said_to_be(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(slicing, "AT_MOST_SLICES", 3)
    monkeypatch.setattr(slicing, "AT_MOST_SIGNALS", 2)
    monkeypatch.setattr(slicing, "AT_MOST_EMBEDDINGS", 1)
    found = look()
    left_out = [(one.n_signals, one.n_left_out) for one in found.values()]
    assert left_out == [(3, 1), (2, 2), (2, 2), (0, 0)]
    assert [one.finding for one in found.values()][-1] == "not_looked_at"

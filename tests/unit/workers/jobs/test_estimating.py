"""A check's estimate: calibrated once on the reference, then tested by each label that came."""

from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace

import numpy as np
import pytest

from app.domain.answers import Classes
from app.domain.estimation import EstimateState
from app.domain.models import Objective
from app.domain.observations import Observation
from app.domain.policies import Policy
from app.services.ports import Example
from workers.jobs.estimating import estimated, sliced

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)


def rows(n, seed, *, shift=0.0, start=0):
    rng = np.random.default_rng(seed)
    confidence = rng.uniform(0.5, 1.0, n).round(6)
    right = rng.random(n) < confidence - shift
    observed = [
        Observation(
            str(i), NOW, {}, "a", {"a": c, "b": 1 - c}, 1, label="ab"[1 - r], sequence=start + i + 1
        )
        for i, (c, r) in enumerate(zip(confidence.tolist(), right.tolist(), strict=True))
    ]
    return confidence, observed


def columns(confidence):
    answers = np.full(len(confidence), "a", dtype=object)
    return {"numeric": {"confidence": confidence}, "categorical": {"prediction": answers}}


CONFIDENCE, KNOWN = rows(1000, 1)
REFERENCE = columns(CONFIDENCE)
LABELLED = [Example(row.id, {}, row.label) for row in KNOWN]


def window(current, labelled=(), **more):
    said = {
        "policy": Policy(),
        "model": SimpleNamespace(
            objective=Objective(slices=("site",)), answers_with=None, answer=Classes(("a", "b"))
        ),
        "slices": (),
        "champion": SimpleNamespace(reference="r"),
        "reference": LABELLED,
        "current": current,
        "labelled": labelled,
        "labelled_through": 7,
        "floor": 0.7,
        "estimate": None,
    }
    return SimpleNamespace(**(said | more))


def test_the_first_check_calibrates_and_the_next_goes_on_from_it():
    confidence, current = rows(300, 2)
    first = estimated(window(current, current[:40]), REFERENCE, columns(confidence), now=NOW)
    again = window(current, current[40:50], estimate=first, reference=[])
    second = estimated(again, REFERENCE, columns(confidence), now=NOW)

    assert (first.n_labels, second.n_labels) == (40, 50)
    assert second.calibration is first.calibration
    assert second.accuracy.n_rows == 300


def test_a_late_label_of_a_row_outside_the_window_counts_with_its_logged_confidence():
    confidence, current = rows(100, 3, start=1000)
    _, older = rows(400, 4, shift=0.3)

    found = estimated(window(current, older), REFERENCE, columns(confidence), now=NOW)

    assert found.state is EstimateState.WITHDRAWN
    assert found.n_labels == 400


def test_reference_rows_without_label_do_not_calibrate():
    confidence, current = rows(100, 3)
    bare = [Example(row.id, {}, "") for row in LABELLED]

    found = estimated(window(current, reference=bare), REFERENCE, columns(confidence), now=NOW)

    assert found.state is EstimateState.INSUFFICIENT
    assert "0 labelled reference rows" in found.reason


@pytest.mark.parametrize("current", [[], KNOWN])
def test_without_rows_or_reference_there_is_nothing_to_estimate(current):
    found = estimated(window(current), {}, {}, now=NOW)

    assert found is None or found.state is EstimateState.INSUFFICIENT


def test_slices_are_known_from_the_reference_and_go_on_from_check_to_check():
    _, current = rows(300, 2)
    by_site = [Example(row.id, {"site": "a"}, row.label) for row in LABELLED]
    first = sliced(window(current, reference=by_site), REFERENCE)
    labelled = [replace(row, inputs={"site": "a"}) for row in current]
    second = sliced(window(current, labelled, reference=[], slices=first), REFERENCE)

    assert [(one.name, one.n_reference, one.n) for one in first] == [("site=a", 1000, 0)]
    assert [(one.name, one.n_reference, one.n) for one in second] == [("site=a", 1000, 300)]

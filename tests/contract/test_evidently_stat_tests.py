"""Plain Evidently answers with our numbers."""

import importlib
import json
import warnings

import numpy as np
import pytest

import workers.detectors
from app.domain.registry import scan
from workers.detectors import detectors
from workers.detectors.evidently_stat_tests import register_stat_tests

scan(workers.detectors)
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def samples():
    rng = np.random.default_rng(0)
    levels = np.array(list("abcd"), dtype=object)
    return [
        {"number": rng.normal(shift, 1.0, n), "level": levels[rng.integers(0, 4, n)]}
        for shift, n in ((0.0, 1500), (0.15, 400))
    ]


@pytest.mark.parametrize(
    ("name", "column"),
    [
        ("calibrated", "number"),
        ("calibrated", "level"),
        ("ks", "number"),
        ("spread", "number"),
        ("chi-square", "level"),
    ],
)
def test_plain_evidently_reports_the_p_value_that_we_measure(samples, name, column):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pandas = importlib.import_module("pandas")
        evidently = importlib.import_module("evidently")
        metrics = importlib.import_module("evidently.metrics")
        assert "upkeep_calibrated" in register_stat_tests()
        reference, current = (pandas.DataFrame(side) for side in samples)
        method = "upkeep_" + name.replace("-", "_")
        drift = metrics.ValueDrift(column=column, method=method)
        run = evidently.Report([drift]).run(current, reference)
        value = json.loads(run.json())["metrics"][0]["value"]

    ours = detectors.get(name).measure(*(side[column] for side in samples), seed=0)
    assert value == pytest.approx(ours.p_value, rel=1e-9)

"""A window is measured signal by signal and judged as a whole."""

import json
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest

import workers.detectors
from app.domain.drift import DriftScore
from app.domain.errors import Invalid, UnknownName
from app.domain.registry import scan
from app.domain.windows import WindowCounts
from workers.detectors import DEFAULTS
from workers.detectors.measure import Counted, measure_window
from workers.statistics.profile import FittedReference, Seen
from workers.statistics.watching import table_of

scan(workers.detectors)


def window(n: int, seed: int) -> dict[str, dict[str, Any]]:
    rng = np.random.default_rng(seed)
    letters = np.array(["a", "b", "c"], dtype=object)
    return {
        "numeric": {"brightness": rng.normal(size=n), "contrast": rng.normal(size=n)},
        "categorical": {"prediction": rng.choice(letters, n)},
        "embedding": {"features": rng.normal(size=(n, 8))},
    }


def by_name(scores: list[DriftScore]) -> dict[str, DriftScore]:
    return {score.feature: score for score in scores}


def measured(
    reference: Any, current: Any, selected: Any = DEFAULTS, *, seed: int = 0
) -> dict[str, DriftScore]:
    return by_name(measure_window(reference, current, selected, fdr=0.05, seed=seed))


def test_a_quiet_window_has_one_score_a_signal_and_none_drifted() -> None:
    scores = measure_window(window(600, 1), window(200, 2), DEFAULTS, fdr=0.05, seed=0)
    assert [s.feature for s in scores] == ["brightness", "contrast", "prediction", "features"]
    assert not any(score.drifted for score in scores)
    assert all(score.q_value is not None and score.n_current == 200 for score in scores)


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (lambda x, rng: x + 1, "location"),
        (lambda x, rng: x * 2, "spread"),
        (lambda x, rng: np.where(rng.random(len(x)) < 0.2, np.nan, x), "missing"),
    ],
)
def test_a_drifted_number_is_named_with_what_moved(change: Any, kind: str) -> None:
    reference, current = window(600, 1), window(200, 2)
    column = current["numeric"]["contrast"]
    current["numeric"]["contrast"] = change(column, np.random.default_rng(3))
    scores = measured(reference, current)
    assert [name for name, score in scores.items() if score.drifted] == ["contrast"]
    assert scores["contrast"].kind == kind


@pytest.mark.parametrize(
    ("share", "value", "kind"), [(0.1, "d", "new_category"), (0.4, "a", "frequency")]
)
def test_a_drifted_category_is_named_with_what_moved(share: float, value: str, kind: str) -> None:
    reference, current = window(600, 1), window(200, 2)
    current["categorical"]["prediction"][: int(200 * share)] = value
    score = measured(reference, current)["prediction"]
    assert score.drifted
    assert score.kind == kind


def test_a_moved_embedding_drifts() -> None:
    reference, current = window(600, 1), window(200, 2)
    current["embedding"]["features"][:, 0] += 1
    score = measured(reference, current)["features"]
    assert score.drifted
    assert score.kind == "embedding"
    assert set(score.detail["readings"]) == {"classifier", "neighbours"}


@pytest.mark.parametrize("kind", ["numeric", "categorical", "embedding"])
def test_a_signal_that_is_gone_drifts_as_missing(kind: str) -> None:
    reference, current = window(600, 1), window(200, 2)
    name = next(iter(current[kind]))
    absent = {**current, kind: {k: v for k, v in current[kind].items() if k != name}}
    nothing: Any = None if kind == "categorical" else np.nan
    null = {**current, kind: {**current[kind], name: np.full_like(current[kind][name], nothing)}}
    for gone in (absent, null):
        score = measured(reference, gone)[name]
        assert score.drifted
        assert score.kind == "missing"
        assert score.effect == 1.0


def test_a_signal_never_there_is_insufficient() -> None:
    nothing = {"numeric": {"x": np.full(100, np.nan)}}
    score = measured(nothing, nothing)["x"]
    assert score.kind == "insufficient"
    assert not score.drifted


def test_a_nearly_empty_signal_that_is_empty_by_chance_does_not_drift() -> None:
    rare = np.full(600, np.nan)
    rare[:3] = 1.0
    score = measured({"numeric": {"x": rare}}, {"numeric": {"x": np.full(100, np.nan)}})["x"]
    assert score.kind == "missing"
    assert not score.drifted


@pytest.mark.parametrize("n", [0, 1, 29])
def test_fewer_than_thirty_rows_are_insufficient(n: int) -> None:
    scores = measured(window(600, 1), window(n, 2))
    assert all(s.kind == "insufficient" and not s.drifted for s in scores.values())


def test_two_percent_missing_among_five_hundred_rows_are_seen() -> None:
    reference, current = window(2000, 1), window(500, 2)
    current["numeric"]["contrast"][:10] = np.nan
    current["categorical"]["prediction"][:10] = None
    scores = measured(reference, current)
    assert scores["contrast"].drifted
    assert scores["contrast"].kind == "missing"
    assert scores["prediction"].drifted
    assert scores["prediction"].kind == "missing"


def test_a_trifle_stays_a_trifle_in_a_window_of_any_size() -> None:
    rng = np.random.default_rng(0)
    for n in (500, 5000, 50_000):
        reference = {"numeric": {"x": rng.normal(size=50_000)}}
        score = measured(reference, {"numeric": {"x": rng.normal(0.03, 1, n)}})["x"]
        assert not score.drifted
    assert score.p_value is not None
    assert score.p_value < 0.01  # sure, but too small to matter


def test_the_same_seed_gives_the_same_scores() -> None:
    reference, current = window(300, 1), window(100, 2)
    assert measured(reference, current, seed=5) == measured(reference, current, seed=5)


def test_scores_are_json() -> None:
    reference, current = window(300, 1), window(100, 2)
    current["numeric"]["contrast"][:] = np.nan
    scores = measure_window(reference, current, DEFAULTS, fdr=0.05, seed=0)
    json.dumps([asdict(score) for score in scores], allow_nan=False)


def test_a_number_that_became_text_is_missing() -> None:
    current = {"numeric": {"x": np.array(["a lot"] * 100, dtype=object)}}
    score = measured({"numeric": {"x": np.arange(100.0)}}, current)["x"]
    assert score.drifted
    assert score.kind == "missing"


def test_an_unknown_detector_or_option_is_refused() -> None:
    frames = window(60, 1)
    with pytest.raises(UnknownName, match="known: "):
        measure_window(frames, frames, {"numeric": [("pis", {})]}, fdr=0.05, seed=0)
    with pytest.raises(Invalid, match="cannot take these options"):
        measure_window(frames, frames, {"numeric": [("ks", {"bins": 3})]}, fdr=0.05, seed=0)


def test_a_kind_without_detectors_is_not_called_drift() -> None:
    scores = measured(window(60, 1), window(60, 2), {})
    assert not any(score.drifted for score in scores.values())


def test_a_certain_trifle_lends_no_certainty_to_other_signals() -> None:
    rng = np.random.default_rng(1)
    n = 40_000
    trifles = {f"t{i}": (rng.normal(size=n), rng.normal(0.04, 1, n)) for i in range(20)}
    reference = {"numeric": {name: pair[0] for name, pair in trifles.items()}}
    current = {"numeric": {name: pair[1] for name, pair in trifles.items()}}
    scores = measured(reference, current, {"numeric": [("ks", {})]})
    assert all(score.q_value == 1.0 and not score.drifted for score in scores.values())
    assert replace(scores["t0"]).p_value != 1.0


def added_up(
    reference: dict[str, dict[str, Any]], current: dict[str, dict[str, Any]], portions: list[int]
) -> Counted:
    """The newest 400 rows of a window, counted a portion at a time as checks would."""
    fitted = FittedReference.of(table_of(reference))
    counts, start = WindowCounts(400), 0
    for n in portions:
        columns = {name: values[start : start + n] for name, values in table_of(current).items()}
        numbers = np.arange(start + 1, start + n + 1)
        codes = fitted.layout.codes(columns, n)
        counts = counts.with_rows(fitted.layout, codes, sequences=numbers, observed_at=numbers)
        start += n
    return Counted(fitted, Seen.of(counts, fitted.layout))


@pytest.mark.parametrize("portions", [[1000], [50] * 20, [1, 599, 7, 393]])
def test_a_window_added_up_over_many_checks_has_the_scores_of_its_rows_read_at_once(
    portions: list[int],
) -> None:
    reference, current = window(600, 1), window(1000, 2)
    current["numeric"]["brightness"][700:] += 0.3
    current["numeric"]["contrast"][::9] = np.nan
    current["categorical"]["prediction"][900:] = "d"
    newest = {
        kind: {name: values[-400:] for name, values in columns.items()}
        for kind, columns in current.items()
    }
    at_once = measured(reference, newest)
    counted = added_up(reference, current, portions)
    scores = by_name(
        measure_window(
            reference,
            {kind: {n: v[-50:] for n, v in columns.items()} for kind, columns in newest.items()},
            {**DEFAULTS, "embedding": []},
            fdr=0.05,
            seed=0,
            counted=counted,
        )
    )

    for name in ("brightness", "contrast", "prediction"):
        score, direct = scores[name], at_once[name]
        assert (score.p_value, score.effect, score.kind, score.n_current, score.detail) == (
            direct.p_value,
            direct.effect,
            direct.kind,
            400,
            direct.detail,
        )
    assert scores["brightness"].drifted


def test_a_detector_of_the_users_reads_the_sample_and_says_how_many_rows_it_has() -> None:
    reference, current = window(600, 1), window(1000, 2)
    selected = {**DEFAULTS, "numeric": [("ks", {})], "embedding": []}
    sample = {kind: {n: v[-300:] for n, v in columns.items()} for kind, columns in current.items()}
    counted = added_up(reference, current, [1000])
    found = measure_window(reference, sample, selected, fdr=0.05, seed=0, counted=counted)
    scores = by_name(found)

    assert (scores["brightness"].detector, scores["brightness"].n_current) == ("ks", 300)
    assert (scores["prediction"].detector, scores["prediction"].n_current) == ("calibrated", 400)


def test_a_column_that_nobody_sent_any_more_is_missing_in_the_counts_too() -> None:
    reference, current = window(600, 1), window(1000, 2)
    current["numeric"]["contrast"][:] = np.nan
    counted = added_up(reference, current, [1000])
    found = measure_window(reference, current, DEFAULTS, fdr=0.05, seed=0, counted=counted)

    assert (by_name(found)["contrast"].kind, by_name(found)["contrast"].drifted) == (
        "missing",
        True,
    )

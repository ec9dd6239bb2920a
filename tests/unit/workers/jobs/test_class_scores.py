"""Which scores of the champion's classes are read, and what a report says of them."""

import gzip
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast
from uuid import uuid4

import numpy as np
import pytest

import workers.detectors
import workers.task_types
from app.domain.drift import DriftScore, Watch
from app.domain.observations import ContractField, FieldType, Observation
from app.domain.policies import CheckPolicy, Policy
from app.domain.registry import scan
from app.services.ports import Example
from app.services.windows import Window
from workers.detectors.evidently_report import build_report
from workers.jobs import columns
from workers.jobs.class_scores import SIGNAL, chosen_for, comparable, with_classes
from workers.jobs.columns import reference_columns, sample_columns
from workers.jobs.looking import Sight
from workers.jobs.measuring import measured
from workers.jobs.moved import what_moved

scan(workers.detectors)
scan(workers.task_types)
AT = datetime(2026, 1, 1, tzinfo=UTC)
LABELS = ("a", "b", "c")


class Sure:
    """A champion that reads its scores off the text: three numbers, or two."""

    def __init__(self, labels: tuple[str, ...]) -> None:
        self.labels = labels
        self.n_asked = 0

    def scores(self, inputs: Any) -> Any:
        self.n_asked += len(inputs)
        return np.array([read(row["text"])[: len(self.labels)] for row in inputs], np.float32)

    def features(self, inputs: Any) -> Any:
        return np.array([read(row["text"]) for row in inputs], dtype=np.float32)


def read(text: str) -> list[float]:
    return [float(part) for part in text.split()]


def said(n: int, seed: int) -> Any:
    """Scores of n rows, (n, 3): mostly of one class, the rest shared by the others as it falls."""
    rng = np.random.default_rng(seed)
    first, rest = rng.integers(0, 3, n), rng.uniform(0.05, 0.3, n)
    share = rng.beta(2, 2, n)
    scores = np.empty((n, 3))
    rows = np.arange(n)
    scores[rows, first] = 1 - rest
    scores[rows, (first + 1) % 3] = rest * share
    scores[rows, (first + 2) % 3] = rest * (1 - share)
    return scores


def texts(scores: Any) -> list[str]:
    return [" ".join(f"{value:.6f}" for value in row) for row in scores]


def window(current: list[Observation], *, n_reference: int = 600, **policy: Any) -> Window:
    reference = [
        Example(f"r{i}", {"text": t}, "a") for i, t in enumerate(texts(said(n_reference, 0)))
    ]
    fields = (
        ContractField("text", FieldType.TEXT),
        ContractField(SIGNAL, FieldType.NUMBER, is_required=False),
    )
    found = SimpleNamespace(
        champion=SimpleNamespace(digest=uuid4().hex, reference=uuid4()),
        model=SimpleNamespace(
            name="m", task_type="text-classification", contract=SimpleNamespace(fields=fields)
        ),
        policy=Policy(check=CheckPolicy(**policy)),
        reference=reference,
        n_reference=n_reference,
        current=current,
        profile=None,
        through=(1, 0),
    )
    return cast("Window", found)


def row(i: int, own: Any, logged: Any = None, labels: tuple[str, ...] = LABELS) -> Observation:
    return Observation(
        f"o{i}",
        AT,
        {"text": texts([own])[0]},
        prediction=LABELS[int(np.argmax(own))],
        scores=None if logged is None else dict(zip(labels, map(float, logged), strict=False)),
        sequence=i + 1,
    )


@pytest.fixture
def champion(monkeypatch: pytest.MonkeyPatch) -> Sure:
    found = Sure(LABELS)
    monkeypatch.setattr(columns, "loaded", lambda model, version: found)
    return found


def judged(seen: Window) -> Any:
    sight = Sight(
        reference_columns(seen),
        sample_columns(seen),
        None,
        cast("Any", SimpleNamespace(look=lambda window: (0.01, 1), watch=Watch())),
    )
    return sight, {score.feature: score for score in measured(seen, sight)}


def test_logged_scores_are_taken_where_every_class_has_one(champion: Sure) -> None:
    own, logged = said(4, 1), said(4, 2)
    seen = window(
        [
            row(0, own[0], logged[0]),
            row(1, own[1], logged[1][:2]),  # the third class is missing
            row(2, own[2]),
            row(3, own[3], logged[3][::-1], LABELS[::-1]),
        ]
    )
    reference_columns(seen)
    champion.n_asked = 0
    found = sample_columns(seen)

    expected = [logged[0], own[1], own[2], logged[3]]
    assert found["embedding"][SIGNAL] == pytest.approx(np.array(expected), abs=1e-6)
    confidence = [logged[0].max(), logged[1][:2].max(), own[2].max(), logged[3].max()]
    assert found["numeric"]["confidence"] == pytest.approx(np.array(confidence), abs=1e-6)
    assert champion.n_asked == 2
    sample_columns(seen)
    assert champion.n_asked == 2


def test_two_classes_have_no_joint_signal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(columns, "loaded", lambda model, version: Sure(("a", "b")))
    own = said(2, 1)
    seen = window([row(0, own[0], own[0][:1]), row(1, own[1])])

    assert SIGNAL not in reference_columns(seen)["embedding"]
    found = sample_columns(seen)
    assert SIGNAL not in found["embedding"]
    assert found["numeric"]["confidence"] == pytest.approx([own[0][0], own[1][:2].max()], abs=1e-6)


def test_a_field_of_that_name_is_a_signal_of_its_own(champion: Sure) -> None:
    found = reference_columns(window([row(0, said(1, 1)[0])]))
    assert found["numeric"][f"input.{SIGNAL}"].shape == (600,)
    assert found["embedding"][SIGNAL].shape == (600, 3)


@pytest.fixture
def swapped(champion: Sure) -> Window:
    """300 rows whose logged second and third choice are such that "c" never comes second to "a"."""
    own = said(300, 3)
    logged = own.copy()
    of_a = own.argmax(axis=1) == 0
    logged[of_a, 1:] = np.sort(own[of_a, 1:], axis=1)[:, ::-1]
    return window(
        [row(i, one, other) for i, (one, other) in enumerate(zip(own, logged, strict=True))]
    )


def test_a_shift_that_leaves_the_answers_and_their_confidence_is_found_by_scores_alone(
    swapped: Window,
) -> None:
    _, found = judged(swapped)
    assert [name for name, score in found.items() if score.drifted] == [SIGNAL]
    assert found[SIGNAL].kind == "class_scores"
    assert found[SIGNAL].detector == "classifier"
    assert found[SIGNAL].n_current == 300


def test_the_report_names_the_classes_that_moved(swapped: Window) -> None:
    sight, found = judged(swapped)
    moved = found[SIGNAL].detail["classes"]
    assert [one["label"] for one in moved[:2]] in (["b", "c"], ["c", "b"])
    of_b = next(one for one in moved if one["label"] == "b")
    assert of_b["now"] == pytest.approx(sight.sample["embedding"][SIGNAL][:, 1].mean())
    assert of_b["now"] - of_b["before"] > 0.01
    shown = what_moved(swapped, sight.reference, sight.sample, [found[SIGNAL]], Watch())
    assert list(shown["histograms"]) == [f"{SIGNAL} of {one['label']}" for one in moved[:3]]


@pytest.mark.slow
def test_evidentlys_page_draws_the_classes_that_moved(swapped: Window) -> None:
    sight, found = judged(swapped)
    page, document = build_report(sight.reference, sight.sample, list(found.values()))
    assert {"scores of b", "scores of c"} <= set(document["drawn"])
    assert "class_scores" in gzip.decompress(page).decode()


def test_the_policys_detectors_are_obeyed(champion: Sure) -> None:
    assert chosen_for([("neighbours", {}), ("classifier", {"max_rows": 50})]) == [
        ("classifier", {"max_rows": 50})
    ]
    assert chosen_for([("mmd", {})]) == [("mmd", {})]
    seen = window([row(i, one) for i, one in enumerate(said(100, 4))], detectors={"embedding": {}})
    _, found = judged(seen)
    assert found[SIGNAL].p_value is None


def test_scores_are_compared_by_what_the_answer_leaves_open() -> None:
    scores, others = said(400, 5), said(200, 6)
    sides = [{"embedding": {SIGNAL: side, "other": side}} for side in (scores, others)]
    left = comparable(sides[0], sides[1])
    both = np.concatenate([side["embedding"][SIGNAL] for side in left])
    answers = np.concatenate([scores, others]).argmax(axis=1)

    for answer in range(3):
        assert both[answers == answer].mean(axis=0) == pytest.approx(np.zeros(3), abs=1e-9)
    assert left[0]["embedding"]["other"] is scores
    assert sides[0]["embedding"][SIGNAL] is scores


def test_more_of_one_answer_is_no_change_of_what_it_leaves_open() -> None:
    scores = said(900, 7)
    more = np.concatenate([scores[scores.argmax(axis=1) == 0]] * 3 + [scores])
    score = DriftScore(SIGNAL, "embedding", "classifier", 0.5, 0.5, 900, len(more))
    sides = [{"embedding": {SIGNAL: side}} for side in (scores, more)]
    (found,) = with_classes([score], sides[0], sides[1], LABELS)
    for one in found.detail["classes"]:
        assert one["now"] == pytest.approx(one["before"])
    assert found.detail["classes"][0]["now"] != pytest.approx(1 / 3, abs=0.05)

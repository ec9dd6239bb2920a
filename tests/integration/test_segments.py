"""Batches kept as columns: read back as sent, each id once, and forgotten day by day."""

import contextlib
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from sqlalchemy import text

from app.adapters.postgres.writing import INLINE_ROWS
from app.domain.observations import ContractField, FieldType
from app.services import observations
from bench.ingest_kills import kills
from bench.ingest_malformed import FIELDS, Judge, payloads
from bench.ingest_support import Servers
from tests.conftest import free_port
from tests.integration.support import (
    LABELS,
    actor,
    add_version,
    fresh,
    now,
    partitions,
    text_model,
)

N = 3 * INLINE_ROWS
CONTRACT = [
    ContractField("text", FieldType.TEXT),
    ContractField("age", FieldType.NUMBER, is_required=False),
]


@pytest.fixture
def held(work, announced):
    """A model of a text and a number that may be missing."""
    return text_model(work, contract=CONTRACT)


def rows_of(n, *, prefix="s", start=0, version=1):
    return [
        {
            "id": f"{prefix}-{index}",
            "inputs": {"text": f"text {index}", "age": [index, index / 2, None][index % 3]},
            "prediction": LABELS[index % 2],
            "scores": {"negative": 0.25, "positive": 0.75} if index % 2 else None,
            "version": version,
        }
        for index in range(start, start + n)
    ]


def log(work, model, rows):
    return observations.ingest(work, actor(work), model.name, rows, now=now())


def inputs_sent(rows):
    return [{k: v for k, v in row["inputs"].items() if v is not None} for row in rows]


def newest(work, model, limit=10_000):
    with work:
        return work.observations.newest(model.id, version=1, limit=limit)


@pytest.mark.parametrize("n", [INLINE_ROWS - 1, N])
def test_a_batch_of_any_size_is_read_as_it_was_sent(work, held, n):
    rows = rows_of(n)
    log(work, held, rows)

    found = newest(work, held)

    assert [row.inputs for row in found] == inputs_sent(rows)
    assert [row.scores for row in found] == [row["scores"] for row in rows]
    assert [row.prediction for row in found] == [row["prediction"] for row in rows]


def test_only_the_newest_rows_come_where_fewer_are_asked_for(work, held):
    log(work, held, rows_of(N))
    log(work, held, rows_of(5, prefix="t"))

    assert [row.id for row in newest(work, held, 7)] == [
        f"s-{N - 2}", f"s-{N - 1}", *(f"t-{n}" for n in range(5))
    ]  # fmt: skip


@pytest.mark.parametrize("step", [1, 7])
def test_rows_that_are_known_are_not_stored_again_wherever_they_stand(work, engine, held, step):
    """Step 7 misses the sample by which a new batch is told, so that the key must object."""
    known = rows_of(N)[3 : N - 3 : step]
    log(work, held, known)

    done = log(work, held, rows_of(N))

    assert (done.n_accepted, done.n_duplicates) == (N - len(known), len(known))
    assert sorted(row.id for row in newest(work, held)) == sorted(row["id"] for row in rows_of(N))
    with engine.connect() as connection:
        query = "SELECT count(*), count(DISTINCT sequence) FROM observations WHERE model_id = :m"
        assert tuple(connection.execute(text(query), {"m": held.id}).one()) == (N, N)


def test_labelled_rows_of_both_kinds_come_with_their_inputs(work, held):
    rows = [*rows_of(N), *rows_of(3, prefix="t")]
    log(work, held, rows[:N])
    log(work, held, rows[N:])
    labels = [{"id": row["id"], "label": LABELS[0]} for row in rows]
    observations.add_labels(work, actor(work), held.name, labels, now=now())

    with work:
        through = work.observations.horizon(held.id)[1]
        found = [
            row.example
            for row in work.observations.labelled(held.id, after_label=0, through_label=through)
        ]

    assert [(row.id, row.inputs) for row in found] == list(
        zip((row["id"] for row in rows), inputs_sent(rows), strict=True)
    )


def test_labels_that_come_along_are_kept_and_undo_no_correction(work, held):
    rows = [{**row, "label": LABELS[0]} for row in rows_of(N)]
    log(work, held, rows)
    correction = [{"id": "s-1", "label": LABELS[1]}]
    observations.add_labels(work, actor(work), held.name, correction, now=now())

    log(work, held, rows)

    assert [row.label for row in newest(work, held)][:3] == [LABELS[0], LABELS[1], LABELS[0]]


def test_columns_hold_what_the_rows_hold(work, held):
    log(work, held, rows_of(N))
    log(work, held, rows_of(4, prefix="t"))
    log(work, held, rows_of(N, prefix="other", version=2))
    log(work, held, rows_of(N, prefix="u"))
    rows = newest(work, held)

    with work:
        found = work.observations.columns(
            held.id, version=1, after_sequence=rows[9].sequence, limit=N + 100
        )

    expected = rows[10 : N + 110]
    assert found.sequences.tolist() == [row.sequence for row in expected]
    assert found.predictions.tolist() == [row.prediction for row in expected]
    assert found.inputs["text"].tolist() == [row.inputs["text"] for row in expected]
    np.testing.assert_array_equal(
        found.inputs["age"], [row.inputs.get("age", np.nan) for row in expected]
    )
    np.testing.assert_array_equal(
        found.scores["positive"],
        [row.scores["positive"] if row.scores else np.nan for row in expected],
    )


def test_columns_of_nothing_are_empty(work, held):
    with work:
        found = work.observations.columns(held.id, version=1, after_sequence=0, limit=10)

    assert len(found.sequences) == len(found.predictions) == len(found.inputs) == 0


def test_the_coming_days_have_partitions(servers):
    with fresh(servers) as (work, engine):
        today = datetime.now(UTC).date()
        model = text_model(work, contract=CONTRACT)
        with work:
            work.observations.prepare_days(today - timedelta(days=4), ahead=7)
        log(work, model, rows_of(N))  # today's partition is one of them
        assert partitions(engine) == {
            "observation_segments_default",
            *(f"observation_segments_{today + timedelta(days=n):%Y%m%d}" for n in range(-3, 4)),
        }
        assert len(newest(work, model)) == N


def test_a_day_whose_rows_came_before_its_partition_needs_none(servers):
    with fresh(servers) as (work, engine):
        today = datetime.now(UTC).date()
        model = text_model(work, contract=CONTRACT)
        log(work, model, rows_of(N))

        with work:
            work.observations.prepare_days(today - timedelta(days=1), ahead=2)

        tomorrow = f"observation_segments_{today + timedelta(days=1):%Y%m%d}"
        assert partitions(engine) == {"observation_segments_default", tomorrow}
        log(work, model, rows_of(N, prefix="more"))
        assert len(newest(work, model)) == 2 * N


def test_whatever_is_sent_nothing_fails_and_nothing_is_half_stored(
    api, work, announced, database_url, servers
):
    model = text_model(work, contract=[ContractField("text", FieldType.TEXT), *FIELDS])
    add_version(work, model)
    url, found = f"/v1/models/{model.name}", Servers(database_url, servers[1])

    with contextlib.closing(Judge(api.post, url, model.id, found)) as judge:

        @settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
        @given(payloads())
        def every(payload):
            judge.judge(*payload)

        every()


@pytest.mark.slow
def test_after_a_kill_every_acknowledged_row_is_there_once():
    found = kills(1, seed=1, port=free_port())

    assert found["rows_acknowledged"] > 0

"""One champion a model, at every moment, whoever promotes and rolls back at once."""

import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import Connection, text
from sqlalchemy.exc import IntegrityError

from app.adapters.postgres.unit_of_work import PostgresUnitOfWork
from app.domain.errors import Conflict, StaleVerdict
from app.domain.evaluation import Evidence
from app.domain.models import MaintainedModel
from app.domain.promotion import Verdict
from app.domain.versions import VersionState
from app.services import promotion, versions
from app.services.ports import Page
from tests.integration.support import actor, add_version

N_MOVERS = 4
N_MOVES = 20
N_READS = 1000


def crowned(work: PostgresUnitOfWork, model: MaintainedModel):
    """Return the model's first champion."""
    first = add_version(work, model)
    promote(work, model, first.number, force=True)
    with work:
        return work.versions.by_id(first.id)


def promote(work, model, number, *, force=False, judged_against=None):
    return promotion.promote(
        work,
        actor(work),
        model.name,
        number,
        reason="a test says so",
        force=force,
        judged_against=judged_against,
    )


def roll_back(work, model, to=None):
    return promotion.roll_back(work, actor(work), model.name, to=to, reason="a test says so")


def n_champions(connection: Connection, model: MaintainedModel) -> int:
    query = text("SELECT count(*) FROM model_versions WHERE model_id = :m AND state = 'champion'")
    return connection.execute(query, {"m": model.id}).scalar_one()


def test_promotions_and_rollbacks_at_once_never_leave_none_or_two_champions(engine, work, model):
    crowned(work, model)
    numbers = [add_version(work, model).number for _ in range(N_MOVERS)]
    enough, counts, n_moves = threading.Event(), [], 0

    def move(number: int) -> None:
        nonlocal n_moves
        mine = PostgresUnitOfWork(engine)
        while not enough.is_set():
            for step in (
                lambda: promote(mine, model, number, force=True),
                lambda: roll_back(mine, model),
                lambda: roll_back(mine, model, to=number),
            ):
                with contextlib.suppress(Conflict):  # another was faster
                    step()
                    n_moves += 1

    def read() -> None:
        mine = PostgresUnitOfWork(engine)
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            while len(counts) < N_READS or n_moves < N_MOVES:
                counts.append(n_champions(connection, model))
                if len(counts) % 50 == 0:
                    versions.champion_at(mine, actor(mine), model.name, None)
        enough.set()

    with ThreadPoolExecutor(N_MOVERS + 1) as pool:
        movers = [pool.submit(move, number) for number in numbers]
        reader = pool.submit(read)
        try:
            reader.result(timeout=120)
        finally:
            enough.set()
        for mover in movers:
            mover.result()

    assert set(counts) == {1}
    with work:
        history = work.versions.transitions(model.id)
    rises = [move.number for move in history if move.after is VersionState.CHAMPION]
    falls = [move.number for move in history if move.before is VersionState.CHAMPION]
    assert rises[:-1] == falls  # each served, and left before the next rose


def test_of_twenty_challengers_judged_against_one_champion_one_is_promoted(engine, work, model):
    first = crowned(work, model)
    numbers = [add_version(work, model, judged_against=first.id).number for _ in range(N_MOVES)]
    start = threading.Barrier(N_MOVES)

    def attempt(number: int) -> str:
        start.wait(30)
        try:
            promote(PostgresUnitOfWork(engine), model, number)
        except StaleVerdict:
            return "stale"
        return "promoted"

    with ThreadPoolExecutor(N_MOVES) as pool:
        outcomes = list(pool.map(attempt, numbers))

    assert sorted(outcomes) == ["promoted"] + ["stale"] * (N_MOVES - 1)
    with engine.connect() as connection:
        assert n_champions(connection, model) == 1


def test_a_verdict_reached_against_another_champion_is_refused_with_409(api, work, model):
    first = crowned(work, model)
    second = add_version(work, model, judged_against=first.id)
    third = add_version(work, model, judged_against=first.id)
    promote(work, model, second.number)

    answer = api.post(
        f"/v1/models/{model.name}/versions/{third.number}/promote", json={"reason": "now me"}
    )

    assert answer.status_code == 409
    assert answer.json()["type"] == "/problems/stale-verdict"
    assert "judge it again" in answer.json()["detail"]


def test_a_person_who_judged_against_a_former_champion_is_refused_even_with_force(work, model):
    first = crowned(work, model)
    second, third = add_version(work, model), add_version(work, model)
    promote(work, model, second.number, force=True)

    with pytest.raises(StaleVerdict):
        promote(work, model, third.number, force=True, judged_against=first.number)


def test_evidence_against_a_former_champion_is_not_stored(work, model):
    first = crowned(work, model)
    challenger = add_version(work, model)
    promote(work, model, add_version(work, model).number, force=True)
    evidence = Evidence(challenger.id, first.id, [], "accuracy", 0.01)

    def conclude() -> None:
        with work:
            work.versions.add_evidence(model.id, challenger.id, first.id, {}, [])
            promotion.conclude(work, model, challenger, evidence, [Verdict("g", True, "")])

    with pytest.raises(StaleVerdict):
        conclude()

    with work:
        assert work.versions.evidence(challenger.id) == []
        assert work.versions.by_id(challenger.id).state is VersionState.CHALLENGER


def test_a_rejected_version_comes_back_only_by_force_and_the_audit_says_who(work, model):
    crowned(work, model)
    rejected = add_version(work, model, VersionState.REJECTED)

    with pytest.raises(Conflict, match="force"):
        promote(work, model, rejected.number)
    with pytest.raises(Conflict, match="never served"):
        roll_back(work, model, to=rejected.number)
    promote(work, model, rejected.number, force=True)

    with work:
        entry = work.events.listed(model.project_id, Page(), model_id=model.id).items[0]
    assert (entry["action"], entry["actor"]) == ("model_version.forced", "tester")


def test_a_challenger_that_failed_its_gates_needs_force(work, model):
    first = crowned(work, model)
    failed = add_version(work, model, judged_against=first.id, passed=False)

    with pytest.raises(Conflict, match="did not pass its gates"):
        promote(work, model, failed.number)


@pytest.mark.parametrize("state", [VersionState.TRAINED, VersionState.IMPORTED])
def test_a_version_nobody_has_loaded_cannot_even_be_forced(work, model, state):
    first = crowned(work, model)
    unproven = add_version(work, model, state)

    with pytest.raises(Conflict):
        promote(work, model, unproven.number, force=True)

    with work:
        assert work.versions.champion(model.id).id == first.id


def test_a_rollback_skips_what_was_quarantined(work, model):
    first = crowned(work, model)
    second, third = add_version(work, model), add_version(work, model)
    promote(work, model, second.number, force=True)
    roll_back(work, model)
    promote(work, model, third.number, force=True)

    assert roll_back(work, model).number == first.number
    with pytest.raises(Conflict, match="no earlier version"):
        roll_back(work, model)


def test_the_database_itself_refuses_a_second_champion(engine, work, model):
    crowned(work, model)
    other = add_version(work, model)

    with pytest.raises(IntegrityError, match="uq_model_versions_champion"), engine.begin() as sql:
        sql.execute(
            text("UPDATE model_versions SET state = 'champion' WHERE id = :id"), {"id": other.id}
        )


def test_who_served_at_a_time_is_known_with_the_reason(api, work, model):
    first = crowned(work, model)
    second = add_version(work, model)
    with work:
        served = work.versions.transitions(model.id)[-1].at
    promote(work, model, second.number, force=True)

    then = api.get(f"/v1/models/{model.name}/champion", params={"at": served.isoformat()}).json()
    before = api.get(f"/v1/models/{model.name}/champion", params={"at": "2020-01-01T00:00:00Z"})

    assert then["number"] == first.number
    assert then["why"] == {"event": "forced", "actor": "tester", "reason": "a test says so"}
    assert before.status_code == 404

"""When will a waiting run start? Only what can be known is said."""

from uuid import UUID, uuid4

from app.domain.queueing import UnderWay, Waiting, expected_starts

A, B = uuid4(), uuid4()


def waits(model: UUID, *, usual: float | None = 10.0, concurrency: int = 1) -> Waiting:
    return Waiting(
        run_id=uuid4(),
        model_id=model,
        priority=0,
        position=1,
        waits_for="worker",
        concurrency=concurrency,
        n_under_way=0,
        usual_seconds=usual,
    )


def trains(model: UUID, left: float | None) -> UnderWay:
    return UnderWay(uuid4(), model, left)


def starts(waiting: list[Waiting], under_way: list[UnderWay], n_slots: int) -> list[float | None]:
    found = expected_starts(waiting, under_way, n_slots=n_slots)
    return [found[run.run_id] for run in waiting]


def test_a_free_worker_takes_the_first_at_once_and_the_second_after_it():
    assert starts([waits(A), waits(B)], [], n_slots=1) == [0.0, 10.0]


def test_a_run_waits_for_the_worker_that_is_free_first():
    assert starts([waits(A)], [trains(B, 30.0), trains(B, 7.0)], n_slots=2) == [7.0]


def test_a_run_whose_model_is_busy_lets_those_behind_it_pass():
    assert starts([waits(A), waits(B)], [trains(A, 50.0)], n_slots=2) == [50.0, 0.0]


def test_a_model_that_may_train_two_at_once_waits_for_no_run_of_its_own():
    two = [waits(A, concurrency=2), waits(A, concurrency=2)]
    assert starts(two, [], n_slots=2) == [0.0, 0.0]
    assert starts(two, [trains(A, 4.0)], n_slots=3) == [0.0, 4.0]


def test_behind_a_run_of_unknown_length_nothing_is_promised():
    assert starts([waits(A, usual=None), waits(B)], [], n_slots=1) == [0.0, None]
    assert starts([waits(A)], [trains(B, None)], n_slots=1) == [None]


def test_a_run_that_waits_for_its_models_own_of_unknown_length_is_promised_nothing():
    assert starts([waits(A), waits(B)], [trains(A, None)], n_slots=2) == [None, 0.0]


def test_without_a_living_worker_nothing_is_promised():
    assert starts([waits(A)], [], n_slots=0) == [None]

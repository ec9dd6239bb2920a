"""How are answers logged without an outage of Upkeep ever becoming an outage of the model?"""

import pytest

from upkeep import Unavailable
from upkeep.logbook import Logbook
from upkeep.receipts import BATCH_ROWS

OBSERVATIONS = "/v1/models/fraud/observations"
TAKEN = {"accepted": 1, "duplicates": 0, "rejected": []}


@pytest.fixture
def fraud(upkeep):
    return upkeep.model("fraud")


def _rows(*ids):
    return [{"id": str(id_), "inputs": {}} for id_ in ids]


def _sent(service):
    return [
        [row["id"] for row in seen.json["observations"]]
        for seen in service.requests("POST", OBSERVATIONS)
    ]


def test_rows_are_sent_before_the_writer_goes_on(service, fraud):
    service.answers("POST", OBSERVATIONS, TAKEN)
    Logbook(fraud).write(_rows(1, 2))
    assert _sent(service) == [["1", "2"]]


def test_a_service_that_is_away_is_left_alone_for_a_while(service, fraud, refuse):
    service.answers("POST", OBSERVATIONS, refuse(503))
    logbook = Logbook(fraud, pause_seconds=3600.0)
    logbook.write(_rows(1))
    logbook.write(_rows(2))
    assert _sent(service) == [["1"]]
    assert logbook.n_kept == 2


def test_a_flush_sends_all_that_is_kept(service, fraud, refuse):
    service.answers("POST", OBSERVATIONS, refuse(503), TAKEN)
    logbook = Logbook(fraud, pause_seconds=3600.0)
    logbook.write(_rows(*range(BATCH_ROWS + 1)))
    logbook.flush()
    assert [len(batch) for batch in _sent(service)[1:]] == [BATCH_ROWS, 1]
    assert logbook.n_kept == 0


def test_a_flush_in_vain_raises_and_keeps_the_rows(service, fraud, refuse):
    service.answers("POST", OBSERVATIONS, refuse(503))
    logbook = Logbook(fraud)
    logbook.write(_rows(1))
    with pytest.raises(Unavailable):
        logbook.flush()
    assert logbook.n_kept == 1


def test_beyond_its_capacity_the_oldest_rows_are_dropped_and_counted(service, fraud, refuse):
    service.answers("POST", OBSERVATIONS, refuse(503), TAKEN)
    logbook = Logbook(fraud, capacity_rows=3, pause_seconds=3600.0)
    logbook.write(_rows(1, 2))
    logbook.write(_rows(3, 4))
    assert logbook.n_dropped == 1
    logbook.flush()
    assert _sent(service)[-1] == ["2", "3", "4"]


@pytest.mark.parametrize("is_whole", [True, False])
def test_rows_that_the_service_refuses_are_counted_and_not_sent_again(
    service, fraud, refuse, is_whole
):
    rejected = [{"index": 0, "id": "1", "errors": []}]
    some = {"accepted": 1, "duplicates": 0, "rejected": rejected}
    service.answers("POST", OBSERVATIONS, refuse(422) if is_whole else some)
    logbook = Logbook(fraud)
    logbook.write(_rows(1, 2))
    assert logbook.n_rejected == (2 if is_whole else 1)
    assert logbook.n_kept == 0

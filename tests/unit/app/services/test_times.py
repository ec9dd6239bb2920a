"""Times read a column at once are those read one by one."""

from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.observations import microseconds, time_of
from app.services.times import array_of, instants, instants_of, to_microseconds

parts = st.sampled_from(["2026", "0001", "9999", "-", "01", "31", "T", " ", "24", "12", ":", "60"])
texts = (
    st.lists(parts | st.sampled_from(["Z", "+00:60", "+23:59", "-02", "+0200", ".5"])).map("".join)
    | st.datetimes(timezones=st.just(UTC)).map(datetime.isoformat)
    | st.text(max_size=30)
)


@given(st.lists(texts | st.none(), min_size=1, max_size=4))
def test_a_column_of_texts_tells_the_times_that_each_tells_by_itself(sent):
    try:
        found = instants(pa.array(sent, pa.string()))
    except UnicodeEncodeError:
        return
    if found is not None:
        each = [None if text is None else time_of(text) for text in sent]
        assert [text is None for text in sent] == [at is None for at in each]
        expected = [None if at is None else microseconds(at) for at in each]
        assert found.cast(pa.int64()).to_pylist() == expected


@pytest.mark.parametrize(
    "sent", ["2026-01-31", "0001-01-01T00:00:00Z", "9999-12-31T00:00:00Z", "2026-01-31T12:00:00"]
)
def test_what_is_no_time_or_at_the_end_of_the_calendar_is_left_to_the_rules(sent):
    assert instants(pa.array(["2026-01-31T12:00:00Z", sent])) is None


def test_good_times_of_every_form_are_one_column():
    sent = ["2026-01-31T12:00:00.1234567Z", None, datetime(2026, 1, 31, 12, tzinfo=UTC)]

    found = array_of(instants_of(sent))

    assert found[0] == np.datetime64("2026-01-31T12:00:00.123456")
    assert np.isnat(found[1])
    assert found[2] == np.datetime64("2026-01-31T12:00:00")


def test_nanoseconds_are_cut_to_microseconds_wherever_they_are_in_a_table():
    at = pa.array([1_000_000_001, None], pa.timestamp("ns", "UTC"))
    table = pa.table({"at": at, "inputs": pa.StructArray.from_arrays([at], ["since"])})

    coarse = to_microseconds(table)

    assert coarse["at"].type == pa.timestamp("us", "UTC")
    assert coarse["inputs"].to_pylist()[0]["since"] == datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)

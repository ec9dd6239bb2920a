"""In which pieces do rows travel, and what became of all of them together?"""

import json

from hypothesis import given
from hypothesis import strategies as st

from upkeep import Invalid, Receipt, with_ids
from upkeep.receipts import batches

texts = st.lists(st.text(max_size=30), max_size=40)


@given(texts=texts, rows_each=st.integers(1, 7), bytes_each=st.integers(1, 300))
def test_batches_hold_every_row_once_in_order_and_within_bounds(texts, rows_each, bytes_each):
    rows = [{"id": str(index), "inputs": {"text": text}} for index, text in enumerate(texts)]
    found = list(batches("observations", rows, rows_each=rows_each, bytes_each=bytes_each))
    sent = [json.loads(batch.body)["observations"] for batch in found]
    assert [row for batch in sent for row in batch] == rows
    assert [batch.ids for batch in found] == [[row["id"] for row in batch] for batch in sent]
    envelope = len('{"observations":[]}')
    for batch, inside in zip(found, sent, strict=True):
        assert 1 <= len(inside) <= rows_each
        assert len(inside) == 1 or len(batch.body) - envelope <= bytes_each


def test_batches_are_made_while_rows_are_read():
    read = []

    def rows():
        for index in range(10):
            read.append(index)
            yield {"id": str(index)}

    next(batches("labels", rows(), rows_each=2))
    assert len(read) == 3


def test_only_missing_ids_are_made_up():
    given_, made, other = with_ids([{"id": "a"}, {"inputs": {}}, {"id": None}])
    assert given_ == {"id": "a"}
    assert made["id"] != other["id"]
    assert len(made["id"]) == 32


def test_the_rows_given_are_left_as_they_are():
    row = {"inputs": {}}
    with_ids([row])
    assert row == {"inputs": {}}


def test_a_refused_batch_is_told_row_by_row():
    receipt = Receipt()
    receipt.add(["a", "b"], {"accepted": 1, "duplicates": 1, "rejected": []})
    error = {"pointer": "/0/inputs/text", "detail": "is required"}
    receipt.add_refused(["c", "d"], Invalid("none could be stored", errors=[error]))
    assert (receipt.n_accepted, receipt.n_known) == (1, 1)
    assert receipt.rejected == [
        {
            "index": 2,
            "id": "c",
            "errors": [{"pointer": "/inputs/text", "detail": "is required"}],
        },
        {"index": 3, "id": "d", "errors": [{"pointer": "", "detail": "none could be stored"}]},
    ]

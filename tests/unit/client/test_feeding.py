"""How does a model get what it lives on?"""

from datetime import UTC, datetime

import pytest
from starlette.responses import JSONResponse

from upkeep import Invalid, Unavailable

OBSERVATIONS = "/v1/models/fraud/observations"
LABELS = "/v1/models/fraud/labels"
DATASETS = "/v1/models/fraud/datasets"
VERSIONS = "/v1/models/fraud/versions"


class Store:
    """Keeps rows by id, as the service does."""

    def __init__(self, key="observations"):
        self.key = key
        self.rows = {}

    def __call__(self, seen):
        given = seen.json[self.key]
        new = {row["id"]: row for row in given if row["id"] not in self.rows}
        self.rows |= new
        return {"accepted": len(new), "duplicates": len(given) - len(new), "rejected": []}


def _rows(n):
    return ({"inputs": {"text": str(index)}, "prediction": "ok"} for index in range(n))


def test_many_observations_travel_in_batches_of_five_thousand(service, upkeep):
    store = Store()
    service.answers("POST", OBSERVATIONS, store)
    receipt = upkeep.model("fraud").log(_rows(12_001))
    sizes = [len(seen.json["observations"]) for seen in service.requests("POST", OBSERVATIONS)]
    assert sizes == [5000, 5000, 2001]
    assert (receipt.n_accepted, receipt.n_known, receipt.rejected) == (12_001, 0, [])
    assert receipt.ids == list(store.rows)


def test_a_batch_whose_answer_was_lost_is_stored_once(service, upkeep, refuse):
    store = Store()

    def stored_but_not_told(seen):
        store(seen)
        return refuse(502)

    service.answers("POST", OBSERVATIONS, stored_but_not_told, store)
    receipt = upkeep.model("fraud").log(_rows(3))
    assert len(store.rows) == 3
    assert (receipt.n_accepted, receipt.n_known) == (0, 3)


def test_a_row_keeps_its_own_id_and_time(service, upkeep):
    service.answers("POST", OBSERVATIONS, store := Store())
    at = datetime(2026, 1, 31, 12, tzinfo=UTC)
    upkeep.model("fraud").log([{"id": "a", "at": at, "inputs": {"text": "é"}}])
    assert store.rows == {
        "a": {"id": "a", "at": "2026-01-31T12:00:00+00:00", "inputs": {"text": "é"}}
    }


def test_nothing_to_log_asks_nothing(service, upkeep):
    assert upkeep.model("fraud").log([]).ids == []
    assert service.seen == []


def test_rejected_rows_are_told_by_their_place_among_all(service, upkeep):
    rejected = [{"index": 1, "id": None, "errors": [{"pointer": "/inputs", "detail": "no"}]}]
    service.answers(
        "POST",
        OBSERVATIONS,
        {"accepted": 5000, "duplicates": 0, "rejected": []},
        {"accepted": 1, "duplicates": 0, "rejected": rejected},
    )
    receipt = upkeep.model("fraud").log(_rows(5002))
    assert [row["index"] for row in receipt.rejected] == [5001]


def test_a_batch_refused_whole_does_not_hide_what_was_stored(service, upkeep, refuse):
    taken = {"accepted": 5000, "duplicates": 0, "rejected": []}
    service.answers("POST", OBSERVATIONS, taken, refuse(422, "none of the 2 rows"), taken)
    receipt = upkeep.model("fraud").log(_rows(5002))
    assert receipt.n_accepted == 5000
    assert [row["index"] for row in receipt.rejected] == [5000, 5001]


def test_rows_refused_all_together_raise(service, upkeep, refuse):
    service.answers("POST", OBSERVATIONS, refuse(422, "none of the 2 rows could be stored"))
    with pytest.raises(Invalid, match="none of the 2 rows"):
        upkeep.model("fraud").log(_rows(2))


def test_a_service_that_stays_away_raises(service, upkeep, refuse):
    headers = {"Retry-After": "30"}
    service.answers("POST", OBSERVATIONS, refuse(503, "no Postgres", headers=headers))
    with pytest.raises(Unavailable, match="no Postgres"):
        upkeep.model("fraud").log(_rows(2))


@pytest.mark.parametrize("given", [{"a": "spam"}, [{"id": "a", "label": "spam"}]])
def test_labels_come_as_rows_or_as_a_mapping(service, upkeep, given):
    service.answers("POST", LABELS, {"accepted": 0, "unchanged": 1, "rejected": []})
    receipt = upkeep.model("fraud").labels(given)
    assert service.seen[0].json == {"labels": [{"id": "a", "label": "spam"}]}
    assert (receipt.ids, receipt.n_known) == (["a"], 1)


def test_examples_travel_as_lines_of_json(service, upkeep):
    service.answers("POST", DATASETS, JSONResponse({"id": "d"}, 201))
    upkeep.model("fraud").upload("golden", [{"text": "a\nb", "label": "x"}, {"text": "c"}])
    seen = service.seen[0]
    assert seen.query == {"role": "golden"}
    assert seen.headers["content-type"] == "application/x-ndjson"
    assert seen.body.splitlines() == [b'{"text":"a\\nb","label":"x"}', b'{"text":"c"}']


@pytest.mark.parametrize("way", ["path", "text", "bytes"])
def test_a_parquet_file_travels_as_it_is(service, upkeep, tmp_path, way):
    service.answers("POST", DATASETS, JSONResponse({"id": "d"}, 201))
    path = tmp_path / "rows.parquet"
    path.write_bytes(b"PAR1 and so on")
    source = {"path": path, "text": str(path), "bytes": path.read_bytes()}[way]
    upkeep.model("fraud").upload("training", parquet=source)
    assert service.seen[0].body == b"PAR1 and so on"
    assert service.seen[0].headers["content-type"] == "application/vnd.apache.parquet"


@pytest.mark.parametrize("given", [{}, {"rows": [], "parquet": b""}])
def test_examples_are_given_in_exactly_one_way(upkeep, given):
    with pytest.raises(TypeError, match="one of rows, parquet and ndjson"):
        upkeep.model("fraud").upload("training", **given)


@pytest.fixture
def directory(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(bytes(range(256)) * 1000)
    (tmp_path / ".DS_Store").write_bytes(b"junk")
    return tmp_path


@pytest.mark.parametrize("way", ["directory", "files", "contents"])
def test_a_version_is_imported_with_its_files_and_wishes(service, upkeep, directory, way):
    service.answers("POST", VERSIONS, JSONResponse({"number": 1}, 202))
    paths = [directory / "config.json", directory / "model.safetensors"]
    files = {
        "directory": directory,
        "files": paths,
        "contents": {path.name: path.read_bytes() for path in paths},
    }[way]
    upkeep.model("fraud").import_version(files, adopt=True, reference="d", reason="deployed")
    assert service.seen[0].fields == {
        "adopt": "true",
        "reference": "d",
        "reason": "deployed",
    }
    assert service.seen[0].files == {path.name: path.read_bytes() for path in paths}


def test_an_import_that_is_sent_again_is_sent_whole(service, upkeep, refuse, directory):
    service.answers("POST", VERSIONS, refuse(503), JSONResponse({"number": 1}, 202))
    upkeep.model("fraud").import_version(directory, reason="deployed")
    first, second = service.seen
    assert [len(content) for content in second.files.values()] == [2, 256_000]
    assert first.files == second.files

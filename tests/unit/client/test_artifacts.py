"""Are a version's files on this disk, whole, and nothing but what was promised?"""

import hashlib
import os
import threading
import time

import pytest
from starlette.responses import Response

from upkeep import Unavailable, UnsafeArtifact
from upkeep.artifacts import VERSIONS_KEPT, fetch, prune, write_json

FILES = {"config.json": b'{"a": 1}', "model.safetensors": bytes(range(256)) * 5000}


def _sha256(content):
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def publish(service):
    """Put files on the service; return the version's document."""

    def publish(files=FILES, *, promised=None, digest=None, number=1):
        promised = files if promised is None else promised
        for path, content in files.items():
            url = f"/v1/models/fraud/versions/{number}/files/{path}"
            service.answers("GET", url, Response(content))
        return {
            "number": number,
            "digest": digest or _sha256(repr(sorted(promised.items())).encode()),
            "files": [
                {"path": path, "sha256": _sha256(content), "size_bytes": len(content)}
                for path, content in promised.items()
            ],
        }

    return publish


@pytest.fixture
def fraud(upkeep):
    return upkeep.model("fraud")


def _contents(directory):
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def _left_behind(directory):
    return sorted(path.name for path in (directory / "versions").glob("*"))


def test_a_version_is_fetched_whole(publish, fraud, tmp_path):
    version = publish()
    directory = fetch(fraud, version, tmp_path)
    assert directory.name == version["digest"]
    assert _contents(directory) == FILES


def test_a_version_that_is_there_is_not_fetched_again(publish, service, fraud, tmp_path):
    version = publish()
    first = fetch(fraud, version, tmp_path)
    service.seen.clear()
    assert fetch(fraud, version, tmp_path) == first
    assert service.seen == []


@pytest.mark.parametrize("damage", ["changed", "removed", "added"])
def test_a_damaged_version_is_fetched_again(publish, fraud, tmp_path, damage):
    version = publish()
    directory = fetch(fraud, version, tmp_path)
    match damage:
        case "changed":
            (directory / "model.safetensors").write_bytes(b"\x00" * len(FILES["model.safetensors"]))
        case "removed":
            (directory / "config.json").unlink()
        case "added":
            (directory / "more.json").write_text("{}")
    assert _contents(fetch(fraud, version, tmp_path)) == FILES
    assert _left_behind(tmp_path) == [version["digest"]]


@pytest.mark.parametrize(
    "content", [b'{"a": 2}', b"", b'{"a": 1} ', b'{"a": 1}' * 1000], ids=["other", "no", "+", "++"]
)
def test_a_file_that_is_not_as_promised_is_refused_and_not_kept(publish, fraud, tmp_path, content):
    version = publish({**FILES, "config.json": content}, promised=FILES)
    with pytest.raises(UnsafeArtifact, match=r"config\.json of version 1 is not the file"):
        fetch(fraud, version, tmp_path)
    assert _left_behind(tmp_path) == []


@pytest.mark.parametrize(
    "path",
    [
        "pytorch_model.bin",
        "modeling.py",
        "weights.pkl",
        "model.safetensors.py",
        "noext",
        "../config.json",
        "/etc/config.json",
        "..\\config.json",
        ".hidden.json",
    ],
)
def test_a_file_that_could_run_code_or_leave_its_place_is_never_asked_for(
    publish, service, fraud, tmp_path, path
):
    version = publish({}, promised={**FILES, path: b"x"})
    with pytest.raises(UnsafeArtifact, match="files are loaded"):
        fetch(fraud, version, tmp_path)
    assert service.seen == []


@pytest.mark.parametrize("digest", ["../../x", "", "A" * 64, "g" * 64])
def test_a_digest_that_is_none_names_no_directory(publish, fraud, tmp_path, digest):
    with pytest.raises(UnsafeArtifact, match="no usable digest"):
        fetch(fraud, {**publish(), "digest": digest}, tmp_path)


def test_settings_that_name_code_of_their_own_are_refused(publish, fraud, tmp_path):
    files = {**FILES, "config.json": b'{"auto_map": {"AutoModel": "modeling.Evil"}}'}
    with pytest.raises(UnsafeArtifact, match="names code of its own"):
        fetch(fraud, publish(files), tmp_path)
    assert _left_behind(tmp_path) == []


def test_a_download_that_breaks_off_leaves_nothing(publish, service, fraud, tmp_path):
    version = publish()
    short = Response(b"half", headers={"Content-Length": "1280000"})
    service.answers("GET", "/v1/models/fraud/versions/1/files/model.safetensors", short)
    with pytest.raises(Unavailable, match="broke off"):
        fetch(fraud, version, tmp_path)
    assert _left_behind(tmp_path) == []


def test_many_who_fetch_the_same_version_at_once_all_get_it(publish, fraud, tmp_path):
    version = publish()
    found, together = [], threading.Barrier(6)

    def one():
        together.wait()
        found.append(_contents(fetch(fraud, version, tmp_path)))

    threads = [threading.Thread(target=one) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [FILES] * 6
    assert _left_behind(tmp_path) == [version["digest"]]


def test_only_the_versions_used_last_stay_on_the_disk(tmp_path):
    now = time.time()
    for age in range(6):
        path = tmp_path / "versions" / f"{age:064x}"
        path.mkdir(parents=True)
        os.utime(path, (now - age, now - age))
    for name, age in (("a.tmp-1", 10), ("b.tmp-1", 86_400)):
        path = tmp_path / "versions" / name
        path.mkdir()
        os.utime(path, (now - age, now - age))
    prune(tmp_path, keep=tmp_path / "versions" / f"{5:064x}")
    kept = [f"{age:064x}" for age in (*range(VERSIONS_KEPT), 5)]
    assert _left_behind(tmp_path) == [*kept, "a.tmp-1"]


def test_a_note_is_replaced_whole(tmp_path):
    write_json(tmp_path / "a" / "note.json", {"x": 1})
    write_json(tmp_path / "a" / "note.json", {"x": 2})
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["note.json"]

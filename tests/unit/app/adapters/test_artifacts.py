"""Files addressed by their hash: whole or not there, and damage is noticed."""

import hashlib
from concurrent.futures import ThreadPoolExecutor

import pytest

from app.adapters.artifacts import FileArtifacts, sha256_of
from app.domain.errors import NotFound, Unavailable
from app.domain.versions import ModelFile


@pytest.fixture
def store(tmp_path):
    return FileArtifacts(tmp_path / "artifacts")


def test_what_is_stored_comes_back_under_its_hash(store):
    sha256, size_bytes = store.put(b"content")

    assert (sha256, size_bytes) == (hashlib.sha256(b"content").hexdigest(), 7)
    assert store.read(sha256) == b"content"


def test_a_file_is_stored_as_its_bytes_are(store, tmp_path):
    source = tmp_path / "weights"
    source.write_bytes(b"x" * 3_000_000)

    assert store.put_file(source) == store.put(source.read_bytes())
    assert sha256_of(source) == store.put(source.read_bytes())[0]


def test_a_damaged_file_is_never_handed_out(store, tmp_path):
    sha256, _ = store.put(b"content")
    store.path(sha256).write_bytes(b"contenT")

    with pytest.raises(Unavailable, match="damaged"):
        store.read(sha256)
    with pytest.raises(Unavailable, match="damaged"):
        store.checkout([ModelFile("a.json", sha256, 7)], tmp_path / "out")
    assert not (tmp_path / "out" / "a.json").exists()


def test_what_was_never_stored_is_not_found(store):
    with pytest.raises(NotFound):
        store.read("0" * 64)


def test_a_failed_write_leaves_nothing_under_the_name(store, tmp_path):
    source = tmp_path / "gone"
    source.write_bytes(b"content")
    sha256 = sha256_of(source)
    folder = store.path(sha256).parent
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.write_bytes(b"a file where the folder should be")

    with pytest.raises(OSError, match="exists"):
        store.put(b"content")

    assert not store.path(sha256).exists()


def test_many_writers_of_one_content_leave_one_whole_file(store):
    with ThreadPoolExecutor(8) as pool:
        hashes = {sha for sha, _ in pool.map(lambda _: store.put(b"x" * 100_000), range(40))}

    (sha256,) = hashes
    assert store.read(sha256) == b"x" * 100_000
    assert [path.name for path in store.path(sha256).parent.iterdir()] == [sha256[2:]]

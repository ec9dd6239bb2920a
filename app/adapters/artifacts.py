"""Model files and datasets on a file system, addressed by the SHA-256 of their content."""

import hashlib
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from uuid import uuid4

from app.domain.errors import NotFound, Unavailable
from app.domain.versions import ModelFile

_CHUNK = 1 << 20


class FileArtifacts:
    """Keeps `app.services.ports.Artifacts` in a folder that all processes share.

    A file is written beside its place, fsynced and renamed, so a name never holds half a file.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        root.mkdir(parents=True, exist_ok=True)

    def path(self, sha256: str) -> Path:
        """Return where the content is, or would be."""
        return self._root / sha256[:2] / sha256[2:]

    def put(self, data: bytes) -> tuple[str, int]:
        """Store bytes; return their SHA-256 (hex) and size."""
        sha256 = hashlib.sha256(data).hexdigest()
        target = self.path(sha256)
        if not target.exists():
            spare = self._spare(target)
            with spare.open("wb") as sink:
                sink.write(data)
                sink.flush()
                os.fsync(sink.fileno())
            _settle(spare, target)
        return sha256, len(data)

    def put_file(self, source: Path) -> tuple[str, int]:
        """Store a copy of a file; return its SHA-256 (hex) and size."""
        sha256 = sha256_of(source)
        target = self.path(sha256)
        if not target.exists():
            spare = self._spare(target)
            with source.open("rb") as original, spare.open("wb") as sink:
                shutil.copyfileobj(original, sink, _CHUNK)
                sink.flush()
                os.fsync(sink.fileno())
            _settle(spare, target)
        return sha256, source.stat().st_size

    def put_written(self, write: Callable[[Path], None]) -> tuple[str, int]:
        """Store what is written to the path given; return its SHA-256 (hex) and size.

        Nothing is stored if the writing raises.
        """
        spare = self._root / f"tmp-{uuid4().hex}"
        try:
            write(spare)
            _flush(spare)
            sha256, size_bytes = sha256_of(spare), spare.stat().st_size
            target = self.path(sha256)
            if not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                _settle(spare, target)
        finally:
            spare.unlink(missing_ok=True)
        return sha256, size_bytes

    def _spare(self, target: Path) -> Path:
        target.parent.mkdir(parents=True, exist_ok=True)
        return target.with_name(f"{target.name}.tmp-{uuid4().hex}")

    def read(self, sha256: str) -> bytes:
        """Return the content, verified.

        Raises:
            NotFound: nothing of that hash is stored.
            Unavailable: what is stored no longer has that hash.
        """
        try:
            data = self.path(sha256).read_bytes()
        except FileNotFoundError:
            raise NotFound(f"artifact {sha256} is not in the store") from None
        _check(hashlib.sha256(data).hexdigest(), sha256)
        return data

    def checked(self, sha256: str) -> Path:
        """Return where the content is, verified.

        Raises:
            NotFound: nothing of that hash is stored.
            Unavailable: what is stored no longer has that hash.
        """
        try:
            found = sha256_of(self.path(sha256))
        except FileNotFoundError:
            raise NotFound(f"artifact {sha256} is not in the store") from None
        _check(found, sha256)
        return self.path(sha256)

    def checkout(self, files: Sequence[ModelFile], directory: Path) -> None:
        """Lay out a version's files below a folder, each verified."""
        for file in files:
            place = directory / file.path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(self.read(file.sha256))


def _check(found: str, sha256: str) -> None:
    if found != sha256:
        raise Unavailable(f"artifact {sha256} is damaged; restore it from a backup")


def _settle(spare: Path, target: Path) -> None:
    spare.replace(target)
    _flush(target.parent)


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sha256_of(path: Path) -> str:
    """Return the SHA-256 (hex) of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as source:
        while chunk := source.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()

"""Are a version's files on this disk, whole, and nothing but what was promised?"""

import hashlib
import json
import logging
import os
import re
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any, Final
from uuid import uuid4

from upkeep.documents import FileDocument, VersionDocument
from upkeep.errors import UnsafeArtifact
from upkeep.handle import Handle

SAFE_SUFFIXES: Final = frozenset({".safetensors", ".json", ".txt", ".model", ".md"})
"""Weights, settings, vocabularies and notes; none of these can run code when they are loaded."""
BLOCK_BYTES: Final = 1 << 20
VERSIONS_KEPT: Final = 3
DRAFT_SECONDS: Final = 3600
"""A download that has not grown for so long was abandoned."""

log = logging.getLogger("upkeep")


def default_directory() -> Path:
    """Return where versions are kept unless told otherwise."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "upkeep"


def fetch(handle: Handle, version: VersionDocument, directory: Path) -> Path:
    """Return a directory with a version's files, downloaded unless it is there and whole.

    It appears under its final name only when every digest is right, so several processes may
    share the directory.

    Args:
        handle: the model.
        version: which files, and their digests.
        directory: where versions are kept, by digest.

    Raises:
        UnsafeArtifact: a file is not what was promised, or could run code.
        Unavailable: a download broke off.
    """
    files = version["files"]
    _refuse_unsafe_names(version)
    target = directory / "versions" / version["digest"]
    if _is_whole(target, files):
        os.utime(target)
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.with_name(f"{target.name}.tmp-{uuid4().hex[:8]}")
    try:
        for file in files:
            _download(handle, version["number"], file, draft)
        refuse_code(draft)
        _move_into_place(draft, target, files)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return target


def prune(directory: Path, keep: Path) -> None:
    """Remove all but the versions used last, so that retraining for years fills no disk."""
    found = sorted(_used_at((directory / "versions").iterdir()), reverse=True)
    whole = [path for _, path in found if not path.suffix]
    long_ago = time.time() - DRAFT_SECONDS
    abandoned = [path for used_at, path in found if path.suffix and used_at < long_ago]
    for path in [*whole[VERSIONS_KEPT:], *abandoned]:
        if path != keep:
            shutil.rmtree(path, ignore_errors=True)


def _used_at(paths: Iterable[Path]) -> Iterator[tuple[float, Path]]:
    """Yield (time of last use, path) of what another process does not remove meanwhile."""
    for path in paths:
        with suppress(FileNotFoundError):
            yield path.stat().st_mtime, path


def refuse_code(directory: Path) -> None:
    """Refuse settings that name code of their own.

    Raises:
        UnsafeArtifact: one does (`auto_map`, `custom_pipelines`).
    """
    for path in sorted(directory.rglob("*.json")):
        settings = read_json(path)
        if isinstance(settings, dict) and (
            settings.get("auto_map") or settings.get("custom_pipelines")
        ):
            raise UnsafeArtifact(
                f"{path.name} names code of its own; only what transformers ships is loaded"
            )


def read_json(path: Path) -> Any | None:
    """Return the JSON of a file; None if it is absent or no JSON."""
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None


def write_json(path: Path, value: Any) -> None:
    """Write JSON so that a reader sees the old file or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.tmp-{uuid4().hex[:8]}")
    draft.write_text(json.dumps(value, indent=1))
    draft.replace(path)


def _refuse_unsafe_names(version: VersionDocument) -> None:
    if not re.fullmatch(r"[0-9a-f]{32,128}", version["digest"]):
        raise UnsafeArtifact(f"version {version['number']} has no usable digest")
    for file in version["files"]:
        path = PurePosixPath(file["path"])
        is_below = not path.is_absolute() and ".." not in path.parts and "\\" not in file["path"]
        if not is_below or path.suffix not in SAFE_SUFFIXES or path.name.startswith("."):
            raise UnsafeArtifact(
                f"version {version['number']} has the file {file['path']!r}; only "
                f"{', '.join(sorted(SAFE_SUFFIXES))} files are loaded"
            )


def _download(handle: Handle, number: int, file: FileDocument, directory: Path) -> None:
    path = directory / file["path"]
    path.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    size_bytes = 0
    url = handle.path("versions", number, "files", *PurePosixPath(file["path"]).parts)
    with path.open("xb") as out, handle.transport.streamed(url) as blocks:
        for block in blocks:
            size_bytes += len(block)
            if size_bytes > file["size_bytes"]:
                break
            digest.update(block)
            out.write(block)
    if size_bytes != file["size_bytes"] or digest.hexdigest() != file["sha256"]:
        raise UnsafeArtifact(
            f"{file['path']} of version {number} is not the file that was promised: its SHA-256 "
            "or its size differs; nothing was kept"
        )


def _is_whole(directory: Path, files: list[FileDocument]) -> bool:
    """Return whether exactly the promised files are there, each with its digest."""
    present = {
        path.relative_to(directory).as_posix() for path in directory.rglob("*") if path.is_file()
    }
    return present == {file["path"] for file in files} and all(
        _sha256(directory / file["path"]) == file["sha256"] for file in files
    )


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def _move_into_place(draft: Path, target: Path, files: list[FileDocument]) -> None:
    """Give a whole draft its final name, over what is broken there; another process may win."""
    try:
        draft.rename(target)
    except OSError:
        if _is_whole(target, files):
            return
        log.warning("artifact.replaced %s is damaged", target)
        target.rename(draft.with_name(f"{draft.name}.old"))
        shutil.rmtree(draft.with_name(f"{draft.name}.old"), ignore_errors=True)
        draft.rename(target)

"""How does a file get onto the disk whole, and is what lies there safe and what was promised?"""

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from app.domain.errors import UnsafeArtifact
from workers.training.errors import RecipeError

RUNNABLE_SUFFIXES = frozenset(
    {".bin", ".pt", ".pth", ".pkl", ".pickle", ".joblib", ".ckpt", ".npy", ".npz", ".h5", ".py"}
)
BLOCK_BYTES = 1 << 20


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file as hex."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def describe(directory: Path) -> list[dict[str, Any]]:
    """Return path, sha256 and size_bytes of every file below a directory, sorted by path."""
    return [
        {
            "path": path.relative_to(directory).as_posix(),
            "sha256": sha256(path),
            "size_bytes": path.stat().st_size,
        }
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    ]


def is_as_described(directory: Path, files: list[dict[str, Any]]) -> bool:
    """Return whether every file is there with the size and digest that were written down."""
    for file in files:
        path = directory / str(file["path"])
        if not path.is_file() or path.stat().st_size != file["size_bytes"]:
            return False
        if sha256(path) != file["sha256"]:
            return False
    return True


def flush(path: Path) -> None:
    """Force a file or a directory to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def flush_tree(directory: Path) -> None:
    """Force a directory and all below it to the disk."""
    for path in sorted(directory.rglob("*"), reverse=True):
        flush(path)
    flush(directory)


def write_json(path: Path, value: Any) -> None:  # any JSON value
    """Write JSON so that a reader sees the old file or the new one, never a part."""
    draft = path.with_name(f"{path.name}.tmp-{uuid.uuid4().hex[:8]}")
    try:
        draft.write_text(json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n")
        flush(draft)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    flush(path.parent)


def read_json(path: Path) -> Any | None:  # any JSON value
    """Return the JSON of a file; None if it is absent or no JSON."""
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return None


def replace_directory(draft: Path, target: Path) -> None:
    """Move a finished directory into place, over whatever an earlier attempt left there."""
    flush_tree(draft)
    if target.exists():
        old = target.with_name(f"{target.name}.old-{uuid.uuid4().hex[:8]}")
        target.replace(old)
        shutil.rmtree(old, ignore_errors=True)
    draft.replace(target)
    flush(target.parent)


def _files_of_a_model(directory: Path) -> Iterator[Path]:
    """Yield what belongs to a model: the files of a directory, without hidden ones."""
    for path in sorted(directory.iterdir()):
        if path.is_file() and not path.name.startswith("."):
            yield path


def check_artifact(directory: Path) -> None:
    """Refuse a model directory that could run code when loaded.

    Only safetensors, JSON and text are opened here; weights in any other form are refused, and
    so is a configuration that names code of its own (`auto_map`).

    Raises:
        UnsafeArtifact: it holds such a file.
        RecipeError: it is no model directory.
    """
    if not (directory / "config.json").is_file():
        raise RecipeError(f"{directory.name!r} is no model directory: it has no config.json")
    for path in _files_of_a_model(directory):
        if path.suffix in RUNNABLE_SUFFIXES:
            raise UnsafeArtifact(
                f"{path.name} may hold code; save the weights as model.safetensors and remove it"
            )
        if path.suffix == ".json" and (config := read_json(path)) is not None:
            named = config.get("auto_map") if isinstance(config, dict) else None
            if named:
                raise UnsafeArtifact(
                    f"{path.name} names code of its own (auto_map); only architectures that "
                    "transformers ships are loaded"
                )

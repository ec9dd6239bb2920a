"""Where can a run go on after it was killed?

A checkpoint is a directory `ckpt-<step>`: safetensors and text files, `state.json`, and a manifest
of sizes and digests written last. It is built under another name and renamed, so that a kill at any
moment leaves either the whole checkpoint or none; a reader checks the manifest all the same and
falls back to the checkpoint before.
"""

import shutil
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from workers.training.files import describe, flush, is_as_described, read_json, write_json

PREFIX = "ckpt-"
MANIFEST = "MANIFEST.json"
STATE = "state.json"
N_KEPT = 2

Tensors = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What was read back: groups of named tensors, JSON values, and texts by name."""

    step: int
    tensors: dict[str, dict[str, Any]]
    state: dict[str, Any]
    texts: dict[str, str] = field(default_factory=dict)


def write(
    root: Path,
    step: int,
    tensors: Mapping[str, Tensors],
    state: Mapping[str, Any],
    texts: Mapping[str, str] | None = None,
) -> Path:
    """Write a checkpoint whole and drop all but the last few; return its directory.

    Args:
        root: the run's own directory.
        step: how many optimiser steps are done.
        tensors: groups of named tensors, one file each.
        state: JSON values.
        texts: such as a text model, one file each.
    """
    target = root / f"{PREFIX}{step}"
    draft = root / f"{target.name}.tmp-{uuid.uuid4().hex[:8]}"
    draft.mkdir(parents=True)
    try:
        for group, named in tensors.items():
            path = draft / f"{group}.safetensors"
            save_file({name: value.detach().contiguous() for name, value in named.items()}, path)
            flush(path)
        for name, text in (texts or {}).items():
            path = draft / f"{name}.txt"
            path.write_text(text)
            flush(path)
        write_json(draft / STATE, dict(state))
        write_json(draft / MANIFEST, {"step": step, "files": describe(draft)})
        if target.exists():
            shutil.rmtree(target)
        draft.replace(target)
        flush(root)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    _tidy(root)
    return target


def _numbered(root: Path) -> list[tuple[int, Path]]:
    """Return (step, directory) of everything named like a checkpoint, newest first."""
    found = []
    for path in root.glob(f"{PREFIX}*"):
        number = path.name.removeprefix(PREFIX)
        if number.isdecimal() and path.is_dir():
            found.append((int(number), path))
    return sorted(found, reverse=True)


def _tidy(root: Path) -> None:
    """Remove old checkpoints and the drafts of killed writers."""
    for _, path in _numbered(root)[N_KEPT:]:
        shutil.rmtree(path, ignore_errors=True)
    for path in root.glob(f"{PREFIX}*.tmp-*"):
        shutil.rmtree(path, ignore_errors=True)


def _read(path: Path, step: int) -> Checkpoint | None:
    """Return the checkpoint in a directory; None unless every file is what the manifest says."""
    manifest = read_json(path / MANIFEST)
    if not isinstance(manifest, dict) or manifest.get("step") != step:
        return None
    if not is_as_described(path, manifest["files"]):
        return None
    try:
        tensors = {file.stem: load_file(file) for file in sorted(path.glob("*.safetensors"))}
        texts = {file.stem: file.read_text() for file in sorted(path.glob("*.txt"))}
    except (SafetensorError, OSError):
        return None
    state = read_json(path / STATE)
    return Checkpoint(step, tensors, state, texts) if isinstance(state, dict) else None


def latest(root: Path) -> Checkpoint | None:
    """Return the newest whole checkpoint, or None."""
    for step, path in _numbered(root):
        if (checkpoint := _read(path, step)) is not None:
            return checkpoint
    return None

"""Which code trained a version? Its release, and a digest that tells two states of it apart."""

import hashlib
import importlib.metadata
from functools import cache
from pathlib import Path

DISTRIBUTION = "upkeep-server"
PACKAGE = Path(__file__).parent.parent
TRAINS = ("training", "task_types")
"""Parts of the package that shape what a version learns."""


@cache
def code_version() -> dict[str, str]:
    """Return the release, and the SHA-256 over the sources that shape what a version learns."""
    digest = hashlib.sha256()
    for part in TRAINS:
        for source in sorted((PACKAGE / part).rglob("*.py")):
            digest.update(f"{source.relative_to(PACKAGE).as_posix()}\0".encode())
            digest.update(hashlib.sha256(source.read_bytes()).digest())
    return {"version": importlib.metadata.version(DISTRIBUTION), "sha256": digest.hexdigest()}

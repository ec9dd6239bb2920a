"""In which pieces do rows travel, and what became of all of them together?"""

import os
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from upkeep.documents import Row
from upkeep.errors import Invalid
from upkeep.transport import to_json

BATCH_ROWS: Final = 5_000
BATCH_BYTES: Final = 8 * 2**20


@dataclass(slots=True)
class Receipt:
    """What became of rows sent in one or more batches.

    Attributes:
        ids: of every row sent, in order, those made up here included.
        n_accepted: rows that were new (a label: new or changed).
        n_known: rows that were there already, so that nothing changed.
        rejected: refused rows: {"index": place in what was given, "id", "errors": [...]}.
    """

    ids: list[str] = field(default_factory=list)
    n_accepted: int = 0
    n_known: int = 0
    rejected: list[dict[str, Any]] = field(default_factory=list)

    def add(self, ids: Iterable[str], answer: Mapping[str, Any]) -> None:
        """Enter one batch and the service's answer to it."""
        offset = len(self.ids)
        self.ids.extend(ids)
        self.n_accepted += int(answer["accepted"])
        self.n_known += int(answer.get("duplicates", answer.get("unchanged", 0)))
        for row in answer["rejected"]:
            self.rejected.append({**row, "index": offset + int(row["index"])})

    def add_refused(self, ids: Iterable[str], refusal: Invalid) -> None:
        """Enter a batch of which the service took no row."""
        offset = len(self.ids)
        refused = list(ids)
        found: dict[int, list[dict[str, Any]]] = {index: [] for index in range(len(refused))}
        for error in refusal.errors:
            index, _, rest = str(error.get("pointer", "")).lstrip("/").partition("/")
            if index.isdecimal() and int(index) in found:
                found[int(index)].append({**error, "pointer": f"/{rest}" if rest else ""})
        otherwise = [{"pointer": "", "detail": refusal.detail}]
        self.ids.extend(refused)
        self.rejected.extend(
            {"index": offset + index, "id": refused[index], "errors": errors or otherwise}
            for index, errors in found.items()
        )


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows that travel in one request, already as JSON.

    Attributes:
        ids: of the rows; "" for a row without one.
        body: a JSON object of one array.
    """

    ids: list[str]
    body: bytes


def with_ids(rows: Iterable[Row]) -> list[dict[str, Any]]:
    """Return the rows, each with an `id`: its own, else a new one that sorts by time.

    Do this before `log` where the same rows may be sent again after a failed call: rows with
    the same ids are counted once.
    """
    return [dict(row) if row.get("id") is not None else {**row, "id": _new_id()} for row in rows]


def _new_id() -> str:
    """Return a UUIDv7 (RFC 9562) in hex: ids that sort by time are quicker to store."""
    value = (time.time_ns() // 1_000_000) << 80 | int.from_bytes(os.urandom(10), "big")
    value = value & ~(0xF << 76) | 0x7 << 76
    return f"{value & ~(0x3 << 62) | 0x2 << 62:032x}"


def batches(
    key: str, rows: Iterable[Row], *, rows_each: int = BATCH_ROWS, bytes_each: int = BATCH_BYTES
) -> Iterator[Batch]:
    """Yield rows in batches no larger than asked, though never empty ones.

    Args:
        key: the field of the JSON object that holds the rows.
        rows: read once, batch by batch.
        rows_each: most rows in one batch.
        bytes_each: most bytes in one batch; a single larger row travels alone.
    """
    ids: list[str] = []
    parts: list[bytes] = []
    size_bytes = 0
    for row in rows:
        part = to_json(row)
        if parts and (len(parts) == rows_each or size_bytes + len(part) > bytes_each):
            yield _batch(key, ids, parts)
            ids, parts, size_bytes = [], [], 0
        ids.append(str(row.get("id", "")))
        parts.append(part)
        size_bytes += len(part) + 1
    if parts:
        yield _batch(key, ids, parts)


def _batch(key: str, ids: list[str], parts: list[bytes]) -> Batch:
    return Batch(ids, b'{"' + key.encode() + b'":[' + b",".join(parts) + b"]}")

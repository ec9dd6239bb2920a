"""Lists page by page: a cursor is the last row's sort key, opaque to the caller."""

import base64
import json
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Select, tuple_
from sqlalchemy.orm import InstrumentedAttribute, Session

from app.domain.errors import Fault, Invalid
from app.services.ports import Listed, Page

_READ: Final[dict[type[Any], Callable[[str], Any]]] = {datetime: datetime.fromisoformat}


def _encode(key: Sequence[Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps([str(part) for part in key]).encode()).decode()


def _decode(cursor: str, key: Sequence[InstrumentedAttribute[Any]]) -> list[Any]:
    try:
        parts = json.loads(base64.urlsafe_b64decode(cursor.encode()))
        return [
            _READ.get(column.type.python_type, column.type.python_type)(part)
            for column, part in zip(key, parts, strict=True)  # UUID("..."), int("...")
        ]
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise Invalid(
            "the cursor is not one that this list gave out",
            [Fault("/cursor", "use next_cursor of the page before, or leave it out")],
        ) from error


def page_of(
    session: Session,
    query: Select[Any],
    page: Page,
    key: Sequence[InstrumentedAttribute[Any]],
    render: Callable[[Any], Any],
) -> Listed:
    """Return one page, newest first by `key`."""
    if page.cursor is not None:
        query = query.where(tuple_(*key) < tuple_(*_decode(page.cursor, key)))
    ordered = query.order_by(*(column.desc() for column in key)).limit(page.limit + 1)
    rows = session.scalars(ordered).all()
    more = len(rows) > page.limit
    shown = rows[: page.limit]
    last = _encode([getattr(shown[-1], column.key) for column in key]) if more else None
    return Listed([render(row) for row in shown], last)

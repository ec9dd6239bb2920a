"""How is a list read that comes page by page?"""

from collections.abc import Iterator
from typing import Any, Final

from upkeep.transport import Query, Transport

PAGE_SIZE: Final = 100


def every(
    transport: Transport, path: str, *, query: Query | None = None, limit: int | None = None
) -> Iterator[Any]:
    """Yield the items of a list, asking for the next page only when it is reached.

    Args:
        transport: the service.
        path: of the list.
        query: its filters.
        limit: yield at most so many; None = all.
    """
    cursor: str | None = None
    left = limit
    while left is None or left > 0:
        size = PAGE_SIZE if left is None else min(PAGE_SIZE, left)
        page = transport.get(path, {**(query or {}), "limit": size, "cursor": cursor})
        items = page["items"] if left is None else page["items"][:left]
        yield from items
        left = None if left is None else left - len(items)
        cursor = page.get("next_cursor")
        if not cursor:
            return

"""How is a list read that comes page by page?"""

from itertools import islice


def _pages(service, path: str, n: int, *, size: int) -> None:
    def page(seen):
        start = int(seen.query.get("cursor", "0"))
        end = min(n, start + min(size, int(seen.query["limit"])))
        items = [{"number": number} for number in range(start, end)]
        return {"items": items, "next_cursor": str(end) if end < n else None}

    service.answers("GET", path, page)


VERSIONS = "/v1/models/fraud/versions"


def test_every_item_of_every_page_comes_once_and_in_order(service, upkeep):
    _pages(service, VERSIONS, 25, size=10)
    assert [one["number"] for one in upkeep.model("fraud").versions()] == list(range(25))
    assert len(service.seen) == 3


def test_a_page_is_asked_for_only_when_it_is_reached(service, upkeep):
    _pages(service, VERSIONS, 25, size=10)
    assert len(list(islice(upkeep.model("fraud").versions(), 10))) == 10
    assert len(service.seen) == 1


def test_a_limit_is_held_across_pages(service, upkeep):
    _pages(service, VERSIONS, 25, size=10)
    assert len(list(upkeep.model("fraud").versions(limit=12))) == 12
    assert [seen.query["limit"] for seen in service.seen] == ["12", "2"]


def test_a_limit_of_nothing_asks_nothing(service, upkeep):
    assert list(upkeep.model("fraud").versions(limit=0)) == []
    assert service.seen == []


def test_a_filter_stays_on_every_page(service, upkeep):
    _pages(service, "/v1/models/fraud/runs", 15, size=10)
    assert len(list(upkeep.model("fraud").runs(state="failed"))) == 15
    assert [seen.query["state"] for seen in service.seen] == ["failed", "failed"]


def test_an_empty_list_has_no_items(service, upkeep):
    service.answers("GET", "/v1/models", {"items": [], "next_cursor": None})
    assert list(upkeep.models()) == []

"""Lists come page by page, each row once, whoever adds rows meanwhile."""

import pytest

from app.services import datasets
from tests.integration.support import actor, add_version, examples, now, text_model


def pages(api, url, **query):
    """Return the items of every page, two at a time."""
    items, cursor = [], None
    while True:
        query |= {"limit": 2} if cursor is None else {"limit": 2, "cursor": cursor}
        page = api.get(url, params=query).json()
        items.append(page["items"])
        cursor = page["next_cursor"]
        if cursor is None:
            return items


def test_every_version_is_on_one_page_newest_first(api, work, model):
    for _ in range(5):
        add_version(work, model)

    found = pages(api, f"/v1/models/{model.name}/versions")

    assert [[item["number"] for item in page] for page in found] == [[5, 4], [3, 2], [1]]


def test_a_full_last_page_is_the_last(api, work, model):
    for _ in range(4):
        add_version(work, model)

    assert len(pages(api, f"/v1/models/{model.name}/versions")) == 2


def test_datasets_and_the_audit_are_paged_too(api, work, model, artifacts):
    for n in range(3):
        datasets.upload(
            work,
            artifacts,
            actor(work),
            model.name,
            role="golden",
            rows=examples(2, prefix=str(n)),
            now=now(),
        )

    found = pages(api, f"/v1/models/{model.name}/datasets")
    audit = [item for page in pages(api, "/v1/audit", model=model.name) for item in page]

    assert [len(page) for page in found] == [2, 1]
    assert len({item["id"] for page in found for item in page}) == 3
    assert [item["action"] for item in audit] == ["dataset.uploaded"] * 3 + ["model.created"]


def test_rows_added_meanwhile_do_not_repeat_others(api, work, model):
    for _ in range(3):
        add_version(work, model)
    url = f"/v1/models/{model.name}/versions"
    first = api.get(url, params={"limit": 2}).json()
    add_version(work, model)

    second = api.get(url, params={"limit": 2, "cursor": first["next_cursor"]}).json()

    assert [item["number"] for item in second["items"]] == [1]


@pytest.mark.parametrize("cursor", ["x", "WyJ4Il0=", "W10=", "e30=", "WzFd", "NQ==", "\x00", "ä"])
@pytest.mark.parametrize("kind", ["versions", "datasets", "runs", "decisions", "quarantine"])
def test_a_cursor_that_no_list_gave_out_is_refused(api, model, kind, cursor):
    answer = api.get(f"/v1/models/{model.name}/{kind}", params={"cursor": cursor})

    # ["1"] is a number, so the list that counts takes it
    assert answer.status_code == (200 if (kind, cursor) == ("quarantine", "WzFd") else 422)
    assert answer.headers["content-type"] in {"application/json", "application/problem+json"}


def test_the_models_of_a_project_are_all_listed(api, work, announced):
    made = {text_model(work).name for _ in range(3)}

    listed = {item["name"] for page in pages(api, "/v1/models") for item in page}

    assert made <= listed

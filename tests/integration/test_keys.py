"""Keys and roles: who may do what, on every route there is."""

import re
from uuid import uuid4

import pytest
from fastapi.routing import APIRoute
from starlette.testclient import TestClient

from app.config import Settings
from app.main import create_app
from app.migrating import migrate
from app.services.keys import ALLOWED
from tests.servers import fresh_database

OPEN = {"/healthz", "/readyz", "/metrics"}
APPROVER = {"versions", "promote", "rollback"}
INGEST = {"observations", "labels"}


def needed(route: APIRoute, method: str) -> str:
    """Return the permission that a route ought to need."""
    last = [part for part in route.path.split("/") if "{" not in part][-1]
    if route.path.startswith("/v1/keys"):
        return "administer"
    if method == "GET":
        return "read"
    return "ingest" if last in INGEST else "approve" if last in APPROVER else "operate"


@pytest.fixture(scope="module")
def guarded(servers, tmp_path_factory):
    """A service with one key of each role: (client, role -> headers, routes)."""
    with fresh_database(servers[0]) as url:
        migrate(url)
        app = create_app(
            Settings(database_url=url, redis_url=servers[1], home=tmp_path_factory.mktemp("home"))
        )
        with TestClient(app, raise_server_exceptions=False) as client:
            first = client.post("/v1/keys", json={"name": "admin", "role": "admin"}).json()
            headers = {"admin": {"Authorization": f"Bearer {first['key']}"}}
            for role in ("ingest", "viewer", "operator", "approver"):
                body = {"name": role, "role": role}
                made = client.post("/v1/keys", json=body, headers=headers["admin"]).json()
                headers[role] = {"Authorization": f"Bearer {made['key']}"}
            yield client, headers, routes_of(app), first


def routes_of(app):
    def walk(routes):
        for route in routes:
            if isinstance(route, APIRoute):
                yield route
            else:
                yield from walk(
                    getattr(route, "routes", ())
                    or getattr(getattr(route, "original_router", None), "routes", ())
                )

    return [
        (route, method)
        for route in walk(app.routes)
        for method in sorted(route.methods)
        if route.path not in OPEN and route.path.startswith("/v1")
    ]


def call(client, route, method, headers=None):
    path = re.sub(r"\{[a-z]*_id\}", str(uuid4()), route.path)
    path = re.sub(r"\{number\}", "1", path)
    path = re.sub(r"\{[a-z_]+\}", "nobody", path)
    return client.request(method, path, headers=headers, content=b"")


def test_without_a_key_every_route_answers_401(guarded):
    client, _, routes, _ = guarded

    assert len(routes) >= 35
    for route, method in routes:
        answer = call(client, route, method)
        assert answer.status_code == 401, (method, route.path, answer.text)
        assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("header", ["Bearer upk_wrong", "Basic dTpw", "Bearer ", "upk_bare"])
def test_what_is_no_key_answers_401(guarded, header):
    client = guarded[0]

    assert client.get("/v1/models", headers={"Authorization": header}).status_code == 401


@pytest.mark.parametrize("role", sorted(ALLOWED))
def test_a_role_may_what_it_may_and_nothing_else(guarded, role):
    client, headers, routes, _ = guarded

    for route, method in routes:
        answer = call(client, route, method, headers[role])
        may = needed(route, method) in ALLOWED[role]
        assert (answer.status_code != 403) is may, (method, route.path, answer.text)
        assert answer.status_code < 500, (method, route.path, answer.text)
        if not may:
            assert "roles that may" in answer.json()["detail"]


def test_alive_and_ready_need_no_key(guarded):
    client = guarded[0]

    assert client.get("/healthz").status_code == 200
    assert client.get("/metrics").status_code == 200


def test_a_key_that_was_revoked_is_none(guarded):
    client, headers, _, _ = guarded
    made = client.post(
        "/v1/keys", json={"name": "x", "role": "viewer"}, headers=headers["admin"]
    ).json()
    own = {"Authorization": f"Bearer {made['key']}"}
    assert client.get("/v1/models", headers=own).status_code == 200

    client.delete(f"/v1/keys/{made['id']}", headers=headers["admin"])

    assert client.get("/v1/models", headers=own).status_code == 401


def test_the_last_admin_key_cannot_be_revoked(guarded):
    client, headers, _, first = guarded

    answer = client.delete(f"/v1/keys/{first['id']}", headers=headers["admin"])

    assert answer.status_code == 409
    assert "make another admin key first" in answer.json()["detail"]
    assert client.get("/v1/models").status_code == 401


def test_the_name_of_the_key_is_in_the_audit_and_secrets_are_nowhere(guarded):
    client, headers, _, first = guarded

    entries = client.get("/v1/audit", headers=headers["viewer"]).json()["items"]
    listed = client.get("/v1/keys", headers=headers["admin"])

    assert {entry["actor"] for entry in entries if entry["action"] == "api_key.created"} == {
        "anonymous",
        "admin",
    }
    assert first["key"] not in listed.text + str(entries)


def test_the_first_key_must_be_an_admins(api):
    answer = api.post("/v1/keys", json={"name": "x", "role": "viewer"})

    assert answer.status_code == 422
    assert api.get("/v1/models").status_code == 200

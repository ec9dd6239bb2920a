"""API keys: who a caller is, and what its role allows."""

import hashlib
import secrets
from typing import Final
from uuid import UUID

from app.domain.errors import Conflict, Fault, Forbidden, Invalid, Unauthorized
from app.domain.identity import new_id
from app.services.ports import Actor, UnitOfWork

READ, INGEST, OPERATE, APPROVE, ADMINISTER = "read", "ingest", "operate", "approve", "administer"

ALLOWED: Final[dict[str, frozenset[str]]] = {
    "ingest": frozenset({INGEST}),
    "viewer": frozenset({READ}),
    "operator": frozenset({READ, INGEST, OPERATE}),
    "approver": frozenset({READ, INGEST, OPERATE, APPROVE}),
    "admin": frozenset({READ, INGEST, OPERATE, APPROVE, ADMINISTER}),
}
"""What each role may do."""


def _hash(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def identify(work: UnitOfWork, key: str | None, *, claimed: str | None) -> Actor:
    """Return who calls.

    While there are no keys, everybody is admin under the name they claim (the service then
    listens on loopback only).

    Raises:
        Unauthorized: keys exist, and this is none of them.
    """
    with work:
        if key is not None:
            found = work.keys.find(_hash(key))
            if found is not None:
                return Actor(*found)
        if work.keys.any():
            raise Unauthorized("send a valid API key as `Authorization: Bearer KEY`")
        return Actor((claimed or "anonymous")[:200], "admin", work.keys.default_project())


def allow(actor: Actor, permission: str) -> None:
    """Let the call pass, or refuse it.

    Raises:
        Forbidden: the role does not allow it.
    """
    if permission not in ALLOWED[actor.role]:
        able = ", ".join(role for role, allowed in ALLOWED.items() if permission in allowed)
        raise Forbidden(f"a key of role {actor.role} may not {permission}; roles that may: {able}")


def create(work: UnitOfWork, actor: Actor, name: str, role: str) -> tuple[UUID, str]:
    """Make a key; it is returned this once and kept only as its hash.

    Raises:
        Invalid: an unknown role, or the first key is not an admin's (it would lock everyone out).
    """
    if role not in ALLOWED:
        raise Invalid(
            f"unknown role {role!r}", [Fault("/role", f"must be one of {', '.join(ALLOWED)}")]
        )
    key, key_id = f"upk_{secrets.token_urlsafe(32)}", new_id()
    with work:
        if role != "admin" and not work.keys.any():
            raise Invalid(
                "the first key must be an admin's, or nobody could make another",
                [Fault("/role", "must be admin")],
            )
        work.keys.add(key_id, actor.project_id, name, role, _hash(key))
        work.events.record(
            "api_key.created",
            actor=actor.name,
            subject=name,
            project_id=actor.project_id,
            detail={"key": key_id, "role": role},
        )
    return key_id, key


def revoke(work: UnitOfWork, actor: Actor, key_id: UUID) -> None:
    """End a key.

    Raises:
        NotFound: there is no such key.
        Conflict: it is the last admin's; without it nobody could make keys, and without any key
            everybody could do everything.
    """
    with work:
        admins = {
            item["id"]
            for item in work.keys.listed(actor.project_id)
            if item["role"] == "admin" and item["revoked_at"] is None
        }
        if admins == {key_id}:
            raise Conflict("this is the last admin key; make another admin key first")
        work.keys.revoke(key_id, actor.project_id)
        work.events.record(
            "api_key.revoked",
            actor=actor.name,
            subject=str(key_id),
            project_id=actor.project_id,
        )

"""Who looks at the pages, and what the pages get from the service around them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Final, Protocol

from fastapi import Cookie, Depends, Request

from app.services import keys
from app.services.ports import Actor, UnitOfWork

KEY_COOKIE: Final = "upkeep_key"


class Services(Protocol):
    """The part of `app.state.services` that the pages need."""

    @property
    def open_work(self) -> Callable[[], UnitOfWork]:
        """Return what opens a unit of work."""
        ...


def open_work(request: Request) -> UnitOfWork:
    """Return a unit of work for this request."""
    services: Services = request.app.state.services
    return services.open_work()


Work = Annotated[UnitOfWork, Depends(open_work)]


@dataclass(frozen=True, slots=True)
class Visitor:
    """Who looks: the actor behind the cookie's key, or anybody while there are no keys."""

    actor: Actor
    is_signed_in: bool

    def may(self, permission: str) -> bool:
        """Whether the role allows it, so that a page offers only what can work."""
        return permission in keys.ALLOWED[self.actor.role]


def _visitor(permission: str) -> Callable[..., Visitor]:
    def visitor(work: Work, key: Annotated[str | None, Cookie(alias=KEY_COOKIE)] = None) -> Visitor:
        actor = keys.identify(work, key or None, claimed="web page")
        keys.allow(actor, permission)
        return Visitor(actor, is_signed_in=bool(key) and actor.name != "web page")

    return visitor


Reader = Annotated[Visitor, Depends(_visitor(keys.READ))]
Operator = Annotated[Visitor, Depends(_visitor(keys.OPERATE))]
Approver = Annotated[Visitor, Depends(_visitor(keys.APPROVE))]

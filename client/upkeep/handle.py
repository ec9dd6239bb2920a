"""What do all parts of a model's handle share? The service and the model's address in it."""

from urllib.parse import quote

from upkeep.transport import Transport


class Handle:
    """One maintained model at one service."""

    def __init__(self, transport: Transport, name: str) -> None:
        self.name = name
        self.transport = transport

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r} at {self.transport.base_url}>"

    def path(self, *parts: str | int) -> str:
        """Return the path of something below the model; each part is one segment."""
        return "/".join(
            ["/v1/models", *(quote(str(part), safe="") for part in (self.name, *parts))]
        )

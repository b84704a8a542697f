"""The tests reach real PostgreSQL, MariaDB and Redis: at the default port and on servers of their own."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pymysql
import pytest
from _pytest.outcomes import Failed, Skipped

from tests import services
from tests.services import mariadb_server, postgres_server, redis_server
from tests.services.private import find_binary

pytestmark = pytest.mark.services


@pytest.fixture(autouse=True)
def no_urls(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TEST_POSTGRES_URL", "TEST_MYSQL_URL", "TEST_REDIS_URL"):
        monkeypatch.delenv(name, raising=False)


@contextlib.contextmanager
def started(server: services.PrivateServer) -> Iterator[services.PrivateServer]:
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(server)
        except services.Unavailable as reason:
            services.skip_or_fail(str(reason))
        yield server


def query_postgres(service: services.Service, statement: str) -> list[Any]:
    with postgres_server.connect(service) as connection:
        cursor = connection.execute(statement.encode())
        return [row[0] for row in cursor] if cursor.description else []


def query_mariadb(service: services.Service, statement: str) -> list[Any]:
    with mariadb_server.connect(service) as connection, connection.cursor() as cursor:
        cursor.execute(statement)
        return [row[0] for row in cursor.fetchall()]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One kind of SQL server and what the tests do with it."""

    module: Any
    obtain: Callable[[], contextlib.AbstractContextManager[services.Service]]
    private: type[services.PrivateServer]
    query: Callable[[services.Service, str], list[Any]]
    listing: str
    variable: str
    database: str
    error: type[Exception]


KINDS = {
    "postgres": Kind(
        module=postgres_server,
        obtain=services.postgres,
        private=services.PrivatePostgres,
        query=query_postgres,
        listing="SELECT datname FROM pg_database",
        variable="TEST_POSTGRES_URL",
        database="postgres",
        error=psycopg.OperationalError,
    ),
    "mariadb": Kind(
        module=mariadb_server,
        obtain=services.mariadb,
        private=services.PrivateMariaDB,
        query=query_mariadb,
        listing="SHOW DATABASES",
        variable="TEST_MYSQL_URL",
        database="mysql",
        error=pymysql.Error,
    ),
}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    return KINDS[request.param]


def find_at_default_port(
    module: Any, private: type[services.PrivateServer], stack: contextlib.ExitStack, monkeypatch: pytest.MonkeyPatch
) -> services.Service:
    """Return the server at the default port; where there is none, put one there by moving the default."""
    if module.find_default() is None:
        server = stack.enter_context(started(private()))
        monkeypatch.setattr(module, "PORT", server.port)
    service = module.find_default()
    assert isinstance(service, services.Service)
    return service


def test_default_port_gives_a_database_that_is_gone_afterwards(kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    with contextlib.ExitStack() as stack:
        server = find_at_default_port(kind.module, kind.private, stack, monkeypatch)
        with kind.module.own_database(server) as service:
            assert service.database.startswith("django_mcp_test_")
            kind.query(service, "CREATE TABLE fact (n integer)")
            kind.query(service, "INSERT INTO fact VALUES (7)")
            assert kind.query(service, "SELECT n FROM fact") == [7]
            with kind.module.own_database(server) as other:
                assert other.database != service.database
        assert service.database not in kind.query(server, kind.listing)


def test_database_is_dropped_while_somebody_is_connected(kind: Kind) -> None:
    with contextlib.ExitStack() as stack:
        with kind.obtain() as service:
            held = kind.module.connect(service)
            stack.push(contextlib.suppress(kind.error))
            stack.callback(held.close)
        with pytest.raises(kind.error):
            held.cursor().execute("SELECT 1")


def test_private_server_keeps_its_rows_when_it_is_killed(kind: Kind) -> None:
    with started(kind.private()) as server:
        service = server.service.on(kind.database)
        kind.query(service, "CREATE TABLE fact (n integer)")
        kind.query(service, "INSERT INTO fact VALUES (7)")
        server.kill()
        assert not services.accepts(server.port)
        server.start()
        assert kind.query(service, "SELECT n FROM fact") == [7]
        folder, process = server.folder, server.process
    assert process is not None
    assert process.returncode is not None
    assert folder is not None
    assert not folder.exists()
    assert not services.accepts(server.port)


def test_private_server_stands_in_where_the_default_port_is_closed(
    kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kind.module, "find_default", lambda: None)
    with kind.obtain() as service:
        assert service.port != kind.module.PORT
        assert kind.query(service, "SELECT 7") == [7]


def test_url_in_the_environment_comes_first(kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    with started(kind.private()) as server:
        monkeypatch.setenv(kind.variable, server.service.url)
        with kind.obtain() as service:
            assert service.port == server.port
            assert kind.query(service, "SELECT 7") == [7]


def test_default_redis_gives_an_empty_database_that_is_empty_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    with contextlib.ExitStack() as stack:
        server = find_at_default_port(redis_server, services.PrivateRedis, stack, monkeypatch)
        with redis_server.own_database(server) as service:
            with redis_server.connect(service) as client:
                assert client.dbsize() == 0
                client.set("fact", "7")
            with redis_server.own_database(server) as other:
                assert other.database != service.database
        with redis_server.connect(service) as client:
            assert client.get("fact") is None


def test_database_of_redis_that_holds_something_is_never_taken() -> None:
    with started(services.PrivateRedis()) as server:
        for number in (1, 2):
            with redis_server.connect(server.service.on(str(number))) as client:
                client.set("somebody", "else")
        with redis_server.own_database(server.service) as service:
            assert service.database == "3"
        with redis_server.connect(server.service.on("1")) as client:
            assert client.get("somebody") == b"else"


def test_private_redis_that_is_durable_keeps_its_keys_when_it_is_killed() -> None:
    with started(services.PrivateRedis(durable=True)) as server:
        with redis_server.connect(server.service) as client:
            client.set("fact", "7")
        server.kill()
        assert not services.accepts(server.port)
        server.start()
        with redis_server.connect(server.service) as client:
            assert client.get("fact") == b"7"
        folder = server.folder
    assert folder is not None
    assert not folder.exists()


def test_private_redis_stands_in_where_the_default_port_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_server, "find_default", lambda: None)
    with services.redis() as service:
        assert service.port != redis_server.PORT
        assert redis_server.is_reachable(service)


def test_url_of_redis_in_the_environment_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    with started(services.PrivateRedis()) as server:
        monkeypatch.setenv("TEST_REDIS_URL", server.service.url)
        with services.redis() as service:
            assert service.port == server.port


def test_server_that_does_not_start_says_why() -> None:
    with pytest.raises(services.Unavailable, match=r"PostgreSQL.*(?s:.)no_such_setting"):
        services.PrivatePostgres(no_such_setting="1").start()


@pytest.mark.parametrize(("required", "outcome"), [("", Skipped), ("1", Failed)])
def test_missing_binary_skips_or_fails_with_the_reason(
    required: str, outcome: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    def find_nothing(*names: str, **_: object) -> str:
        return find_binary("surely-no-such-binary")

    monkeypatch.setenv("REQUIRE_SERVICES", required)
    monkeypatch.setattr(postgres_server, "find_default", lambda: None)
    monkeypatch.setattr(postgres_server, "find_binary", find_nothing)
    with pytest.raises(outcome, match="no PostgreSQL: no surely-no-such-binary on this machine"), services.postgres():
        pass


def test_url_and_django_settings_name_the_same_place() -> None:
    service = services.Service(scheme="mysql", host="/run/s.sock", port=3306, user="a", password="p@ss", database="d")
    assert service.url == "mysql://a:p%40ss@%2Frun%2Fs.sock:3306/d"
    assert services.Service.from_url(service.url, scheme="mysql", port=1) == service
    assert service.django["HOST"] == "/run/s.sock"
    assert service.django["PORT"] == ""

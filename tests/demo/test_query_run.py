"""What passes the guard runs on every database, on a connection that cannot write, within its time."""

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.db import DatabaseError, connections, transaction
from django.db.utils import ConnectionHandler
from pytest_django import DjangoDbBlocker

from demo_project.databases import databases
from demo_project.desk.models import Airport, Booking, Itinerary, Leg
from demo_project.desk.query import CheckedQuery, QueryRefused
from demo_project.desk.query_run import DIALECTS, QueryRows, _sqlite, run_query
from tests import services

AIRPORTS = Path(__file__).parent / "fixtures" / "airports.json"
ALIASES = {"default": "desk_default", "readonly": "desk_readonly"}
DEFAULT, READONLY = ALIASES["default"], ALIASES["readonly"]
TABLES = {
    model._meta.db_table: {str(field.column) for field in model._meta.concrete_fields}
    for model in (Airport, Itinerary, Leg, Booking)
}
SECONDS = 5.0


@contextmanager
def sqlite(folder: Path) -> Iterator[str]:
    """Give the URL of a database file."""
    yield f"sqlite:///{folder / 'db.sqlite3'}"


@contextmanager
def served(obtain: Callable[[], AbstractContextManager[services.Service]]) -> Iterator[str]:
    """Give the URL of a database of a real server."""
    with obtain() as service:
        yield service.url


@pytest.fixture(
    scope="module",
    params=[
        "sqlite",
        pytest.param("postgresql", marks=pytest.mark.services),
        pytest.param("mysql", marks=pytest.mark.services),
    ],
)
def vendor(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, django_db_blocker: DjangoDbBlocker
) -> Iterator[str]:
    """Make the desk's two connections on a new database with a few airports, and give its vendor."""
    places: dict[str, AbstractContextManager[str]] = {
        "sqlite": sqlite(tmp_path_factory.mktemp("desk")),
        "postgresql": served(services.postgres),
        "mysql": served(services.mariadb),
    }
    with places[request.param] as url, django_db_blocker.unblock():
        configured = ConnectionHandler(databases(url, query_seconds=SECONDS)).settings
        for name, alias in ALIASES.items():
            connections.settings[alias] = configured[name]
        try:
            call_command("migrate", "desk", database=DEFAULT, verbosity=0)
            call_command("loaddata", AIRPORTS, database=DEFAULT, verbosity=0)
            yield request.param
        finally:
            for alias in ALIASES.values():
                connections[alias].close()
                del connections[alias]
                del connections.settings[alias]


def run(text: str, *, using: str = READONLY, max_rows: int = 500, seconds: float = SECONDS) -> QueryRows:
    return run_query(text, using=using, tables=TABLES, max_rows=max_rows, seconds=seconds)


def rows(text: str, **options: Any) -> list[list[Any]]:
    return run(text, **options).rows


ALL = [
    ("SELECT COUNT(*) FROM desk_airport", [[14]]),
    ("select iata from desk_airport where country = 'CH' order by iata limit 2", [["BRN"], ["GVA"]]),
    ("SELECT iata FROM desk_airport WHERE iata IS NOT NULL ORDER BY 1 DESC LIMIT 2 OFFSET 1", [["SYD"], ["SIN"]]),
    ("SELECT country, COUNT(*) AS n FROM desk_airport GROUP BY country HAVING COUNT(*) > 3", [["US", 4]]),
    ("SELECT DISTINCT country FROM desk_airport WHERE country IN ('CH', 'US') ORDER BY country", [["CH"], ["US"]]),
    ("SELECT MIN(elevation_ft), MAX(elevation_ft), SUM(position) FROM desk_airport, desk_leg", [[None, None, None]]),
    ("SELECT UPPER(name), LOWER(city) FROM desk_airport WHERE iata = 'ZRH'", [["ZURICH AIRPORT", "zurich"]]),
    ("SELECT LENGTH(name), SUBSTR(name, 1, 3), TRIM('  x ') FROM desk_airport WHERE iata = 'ZRH'", [[14, "Zur", "x"]]),
    ("SELECT REPLACE(name, 'Airport', 'Field') FROM desk_airport WHERE iata = 'ZRH'", [["Zurich Field"]]),
    ("SELECT COALESCE(iata, icao), NULLIF('a', 'a') FROM desk_airport WHERE icao = '00AA'", [["00AA", None]]),
    ("SELECT ROUND(2.5), ABS(-3), SIGN(-2), FLOOR(2.7), CEIL(2.1), MOD(7, 4)", [[3, 3, -1, 2, 3, 3]]),
    ("SELECT ROUND(SQRT(16)), ROUND(POWER(2, 10)), ROUND(DEGREES(PI()))", [[4, 1024, 180]]),
    ("SELECT CASE WHEN elevation_ft > 1000 THEN 'high' ELSE 'low' END FROM desk_airport WHERE iata='ZRH'", [["high"]]),
    ("SELECT CAST('7' AS INT) + 1", [[8]]),
    ("SELECT DATE('2027-03-01')", [["2027-03-01"]]),
    ("SELECT CURRENT_DATE, CURRENT_TIMESTAMP", None),
    ("SELECT a.iata FROM desk_airport AS a LEFT JOIN desk_leg AS l ON l.origin_id = a.id WHERE a.id = 1", [["ZRH"]]),
    ("SELECT iata FROM desk_airport AS a WHERE elevation_ft = (SELECT MAX(elevation_ft) FROM desk_airport)", [[None]]),
    ("SELECT iata FROM desk_airport WHERE EXISTS (SELECT 1 FROM desk_leg) OR name LIKE 'Zur%'", [["ZRH"]]),
    ("SELECT iata FROM desk_airport WHERE NOT name LIKE '%q%' AND latitude BETWEEN 1 AND 2", [["SIN"]]),
    ("SELECT n FROM (SELECT country AS c, COUNT(*) AS n FROM desk_airport GROUP BY country) AS t WHERE c='US'", [[4]]),
    ("WITH c AS (SELECT country, COUNT(*) AS n FROM desk_airport GROUP BY country) SELECT MAX(c.n) FROM c", [[4]]),
    ("WITH a AS (SELECT 1 AS x), b AS (SELECT x + 1 AS x FROM a) SELECT a.x, b.x FROM a, b", [[1, 2]]),
    ("WITH auth_user AS (SELECT 7 AS password) SELECT password FROM auth_user", [[7]]),
    (
        "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r WHERE n < 5) SELECT COUNT(*), MAX(n) FROM r",
        [[5, 5]],
    ),
    ("SELECT 1 AS x UNION ALL SELECT 2 ORDER BY x DESC", [[2], [1]]),
    ("SELECT country FROM desk_airport INTERSECT SELECT 'CH'", [["CH"]]),
    ("SELECT country FROM desk_airport WHERE country > 'SA' EXCEPT SELECT 'US'", [["SG"]]),
    (
        "SELECT iata, RANK() OVER (ORDER BY elevation_ft DESC) AS r FROM desk_airport ORDER BY r LIMIT 2",
        [[None, 1], ["BRN", 2]],
    ),
    ("SELECT SUM(elevation_ft) OVER (PARTITION BY country ORDER BY id ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) AS s "
     "FROM desk_airport WHERE country = 'CH' ORDER BY id", [[1416], [2827], [3085]]),
    ("SELECT 'it''s', 'ünïcödé ✈', 'a%s b', '%' AS b", [["it's", "ünïcödé ✈", "a%s b", "%"]]),
    ("SELECT ROUND(ACOS(SIN(RADIANS(a.latitude)) * SIN(RADIANS(b.latitude)) + COS(RADIANS(a.latitude)) * "
     "COS(RADIANS(b.latitude)) * COS(RADIANS(b.longitude - a.longitude))) * 6371.0088) "
     "FROM desk_airport AS a, desk_airport AS b WHERE a.iata = 'LHR' AND b.iata = 'JFK'", [[5540]]),
    ("SELECT name /* why not */ FROM desk_airport -- here too\nWHERE iata = 'ZRH';", [["Zurich Airport"]]),
]  # fmt: skip

SOME = {
    "sqlite": [
        ('SELECT "name" FROM "desk_airport" WHERE [iata] = \'ZRH\'', [["Zurich Airport"]]),
        ("SELECT NAME FROM DESK_AIRPORT WHERE IATA = 'ZRH'", [["Zurich Airport"]]),
        ("SELECT STRFTIME('%Y', '2027-03-01'), JULIANDAY('2027-03-02') - JULIANDAY('2027-03-01')", [["2027", 1]]),
        ("SELECT DATE('2027-03-01', '+1 month'), DATETIME('2027-03-01 10:00')",
         [["2027-04-01", "2027-03-01 10:00:00"]]),
        ("SELECT GROUP_CONCAT(iata, '-') FROM (SELECT iata FROM desk_airport WHERE country = 'CH' ORDER BY iata)",
         [["BRN-GVA-ZRH"]]),
        ("SELECT TOTAL(2) > 0, IFNULL(NULL, 'x'), IIF(1 > 2, 'a', 'b'), INSTR('abc', 'c')", [[1, "x", "b", 3]]),
        ("SELECT 'Zurich' GLOB 'Z*', 1 IS NOT 2, 'a' || 'b'", [[1, 1, "ab"]]),
    ],
    "postgresql": [
        ('SELECT "name" FROM "desk_airport" WHERE "iata" = \'ZRH\'', [["Zurich Airport"]]),
        ("SELECT NAME FROM DESK_AIRPORT WHERE IATA = 'ZRH'", [["Zurich Airport"]]),
        ("SELECT name ILIKE 'zur%', 'a' || 'b' FROM desk_airport WHERE iata = 'ZRH'", [[True, "ab"]]),
        ("SELECT STRING_AGG(iata, '-' ORDER BY iata) FROM desk_airport WHERE country = 'CH'", [["BRN-GVA-ZRH"]]),
        ("SELECT COUNT(*) FILTER (WHERE country = 'CH') FROM desk_airport", [[3]]),
        ("SELECT PERCENTILE_CONT(0.5) WITHIN GROUP (ORDER BY id) FROM desk_airport", [[7.5]]),
        ("SELECT EXTRACT(YEAR FROM DATE '2027-03-01'), DATE_PART('month', DATE '2027-03-01')", [[2027, 3]]),
        ("SELECT DATE_TRUNC('month', TIMESTAMP '2027-03-09 10:00:00')", [["2027-03-01T00:00:00"]]),
        ("SELECT TO_CHAR(DATE '2027-03-09', 'YYYY/MM'), DATE '2027-03-09' + INTERVAL '1 day'",
         [["2027/03", "2027-03-10T00:00:00"]]),
        ("SELECT ROUND(AVG(latitude)::numeric, 2) FROM desk_airport WHERE country = 'CH'", [[46.87]]),
        ("SELECT SPLIT_PART('a-b', '-', 2), INITCAP('ab cd'), LEFT('abc', 1), POSITION('c' IN 'abc')",
         [["b", "Ab Cd", "a", 3]]),
        ("SELECT 'NaN'::float, GREATEST(1, 2), BOOL_AND(id > 0) FROM desk_airport", [["nan", 2, True]]),
        ("SELECT 'a\\', '\\'''", [["a\\", "\\'"]]),
    ],
    "mysql": [
        ("SELECT `name` FROM `desk_airport` WHERE iata = \"ZRH\"", [["Zurich Airport"]]),
        ("SELECT GROUP_CONCAT(iata ORDER BY iata SEPARATOR '-') FROM desk_airport WHERE country = 'CH'",
         [["BRN-GVA-ZRH"]]),
        ("SELECT YEAR('2027-03-01'), MONTH('2027-03-01'), DATEDIFF('2027-03-03', '2027-03-01')", [[2027, 3, 2]]),
        ("SELECT DATE_FORMAT('2027-03-01', '%Y/%m'), DATE_ADD('2027-03-01', INTERVAL 1 DAY)",
         [["2027/03", "2027-03-02"]]),
        ("SELECT IF(1 > 2, 'a', 'b'), IFNULL(NULL, 'x'), CONCAT_WS('-', 'a', 'b'), LOCATE('c', 'abc'), 7 DIV 2",
         [["b", "x", "a-b", 3, 3]]),
        ("SELECT 'a\\'b', 'c\\\\', \"d'e\"", [["a'b", "c\\", "d'e"]]),
        ("SELECT 1 <=> NULL, STDDEV(id) > 0 FROM desk_airport", [[0, 1]]),
    ],
}  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), ALL, ids=[text[:60] for text, _ in ALL])
def test_query_runs_everywhere(vendor: str, text: str, expected: list[list[Any]] | None) -> None:
    found = rows(text)

    assert found
    if expected is not None:
        assert found == expected


def test_queries_of_one_dialect_run_there(vendor: str) -> None:
    for text, expected in SOME[vendor]:
        assert rows(text) == expected, text


def test_columns_are_named(vendor: str) -> None:
    assert run("SELECT iata AS code, name FROM desk_airport LIMIT 1").columns == ["code", "name"]


def test_rows_are_cut_and_it_is_said(vendor: str) -> None:
    assert not run("SELECT id FROM desk_airport", max_rows=14).cut
    cut = run("SELECT id FROM desk_airport ORDER BY id", max_rows=13)
    assert (len(cut.rows), cut.cut) == (13, True)
    assert not run("SELECT id FROM desk_airport ORDER BY id LIMIT 13", max_rows=13).cut


BOMBS = [
    "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT 1 FROM r) SELECT COUNT(*) FROM r",
    "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r WHERE n < 900) "
    "SELECT COUNT(*) FROM r AS a, r AS b, r AS c, r AS d, r AS e, r AS f WHERE SIN(a.n + b.n + c.n + d.n) > 2",
    f"SELECT COUNT(*) FROM {', '.join(f'desk_airport AS {name}' for name in 'abcdefgh')} "
    f"WHERE SIN({' + '.join(f'{name}.id' for name in 'abcdefgh')}) > 2",
]


@pytest.mark.parametrize("bomb", BOMBS, ids=["endless", "crossed", "joined"])
def test_query_that_takes_too_long_is_ended(vendor: str, bomb: str) -> None:
    begun = time.monotonic()

    if vendor == "mysql" and bomb == BOMBS[0]:
        # MariaDB ends an endless recursion by itself, after max_recursive_iterations.
        assert rows(bomb, seconds=0.5)
    else:
        with pytest.raises(QueryRefused, match=r"^The query took longer than 0\.5 seconds\.$"):
            run(bomb, seconds=0.5)

    assert time.monotonic() - begun < 5
    assert rows("SELECT 1") == [[1]]


def test_error_of_the_database_is_one_line(vendor: str) -> None:
    with pytest.raises(QueryRefused, match=r"^The database refused the query: [^\n]+$"):
        run("SELECT x.name FROM desk_airport AS a")
    assert rows("SELECT 1") == [[1]]


def test_connection_for_queries_cannot_write(vendor: str) -> None:
    with pytest.raises(DatabaseError), connections[READONLY].cursor() as cursor:
        cursor.execute("DELETE FROM desk_airport")
    connections[READONLY].close()
    assert Airport.objects.using(DEFAULT).count() == 14


def test_query_in_a_transaction_sees_it_and_leaves_it_as_it_was(vendor: str) -> None:
    with transaction.atomic(using=DEFAULT):
        Airport.objects.using(DEFAULT).filter(iata="ZRH").update(name="Kloten")

        assert rows("SELECT name FROM desk_airport WHERE iata = 'ZRH'", using=DEFAULT) == [["Kloten"]]
        with pytest.raises(QueryRefused):
            run("SELECT x.name FROM desk_airport AS a", using=DEFAULT)

        # Still able to write, and to run what the guard would refuse.
        Airport.objects.using(DEFAULT).filter(iata="GVA").update(name="Cointrin")
        assert Airport.objects.using(DEFAULT).filter(name="Cointrin").exists()
        transaction.set_rollback(True, using=DEFAULT)
    assert Airport.objects.using(DEFAULT).get(iata="ZRH").name == "Zurich Airport"


def test_query_outside_a_transaction_leaves_the_connection_able_to_write(vendor: str) -> None:
    assert rows("SELECT COUNT(*) FROM desk_airport", using=DEFAULT) == [[14]]

    with transaction.atomic(using=DEFAULT):
        assert Airport.objects.using(DEFAULT).update(timezone="UTC") == 14
        transaction.set_rollback(True, using=DEFAULT)


@pytest.mark.parametrize("sql", [
    "DELETE FROM desk_airport",
    "SELECT * FROM auth_user",
    "SELECT * FROM sqlite_master",
    "SELECT * FROM pragma_table_info('auth_user')",
    "SELECT 1 WHERE 1 IN (SELECT id FROM auth_user)",
    "PRAGMA query_only = OFF",
    "ATTACH DATABASE ':memory:' AS x",
    "CREATE TEMP TABLE x (y int)",
    "WITH auth_user AS (SELECT 1 AS x) SELECT * FROM main.auth_user",
])  # fmt: skip
@pytest.mark.parametrize("vendor", ["sqlite"], indirect=True)
def test_sqlite_itself_refuses_what_the_guard_would(vendor: str, sql: str) -> None:
    query = CheckedQuery(sql=sql, tables=frozenset({"desk_airport"}), limit=1)
    connection = connections[DEFAULT]

    with (
        pytest.raises(DatabaseError, match=r"not authorized|prohibited"),
        _sqlite(connection, query, SECONDS) as text,
        connection.cursor() as cursor,
    ):
        cursor.execute(text)

    assert Airport.objects.using(DEFAULT).count() == 14


@pytest.mark.parametrize("vendor", ["sqlite"], indirect=True)
def test_text_in_sqlite_has_a_length(vendor: str) -> None:
    crossed = ", ".join(f"desk_airport AS {name}" for name in "abcd")

    with pytest.raises(QueryRefused, match="too big"):
        run(f"SELECT GROUP_CONCAT(a.name, b.name) FROM {crossed}")

    raw: sqlite3.Connection = connections[READONLY].connection
    assert raw.getlimit(sqlite3.SQLITE_LIMIT_LENGTH) > 1_000_000


def test_every_vendor_has_a_dialect() -> None:
    assert set(DIALECTS) == set(SOME)

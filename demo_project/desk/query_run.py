"""Run a checked query so that the database, too, refuses to write, to wait, and to read anything else.

The guard in `query.py` decides what may run; this module trusts it no more than needed. It works on any connection
and leaves it as it was: on one of its own, and inside the transaction of a test.
"""

import sqlite3
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, timedelta
from datetime import time as time_of_day
from decimal import Decimal
from math import isfinite
from typing import Any

from django.db import DatabaseError, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from demo_project.desk.query import CheckedQuery, Dialect, QueryRefused, check_query

Cell = str | int | float | bool | None

DIALECTS: dict[str, Dialect] = {"sqlite": "sqlite", "postgresql": "postgres", "mysql": "mysql"}
SQLITE_MAX_TEXT = 100_000
SQLITE_STEPS = 1000
# MariaDB's and MySQL's numbers for a statement that ran out of its time, PostgreSQL's state for one.
MYSQL_TIMEOUTS = {1969, 3024}
POSTGRESQL_TIMEOUT = "57014"


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryRows:
    """What a query gave; `cut` says that there was more."""

    columns: list[str]
    rows: list[list[Cell]]
    cut: bool


def run_query(
    text: str, *, using: str, tables: Mapping[str, Collection[str]], max_rows: int, seconds: float
) -> QueryRows:
    """Check `text` and run it on a database alias for at most `seconds`; raise QueryRefused with the reason."""
    connection = connections[using]
    # One row more tells whether there were more.
    query = check_query(text, dialect=DIALECTS[connection.vendor], tables=tables, limit=max_rows + 1)
    try:
        with _READ_ONLY[connection.vendor](connection, query, seconds) as sql, connection.cursor() as cursor:
            cursor.execute(sql)
            columns = [str(column[0]) for column in cursor.description or ()]
            found: Sequence[Sequence[Any]] = cursor.fetchall()
    except (DatabaseError, sqlite3.Error) as error:
        if _timed_out(error):
            raise QueryRefused(f"The query took longer than {seconds:g} seconds.") from error
        raise QueryRefused(f"The database refused the query: {_first_line(error)}") from error
    rows = [[_cell(value) for value in row] for row in found[:max_rows]]
    return QueryRows(columns=columns, rows=rows, cut=len(found) > max_rows)


@contextmanager
def _sqlite(connection: BaseDatabaseWrapper, query: CheckedQuery, seconds: float) -> Iterator[str]:
    """Let SQLite itself watch tables, time and lengths, and give the SQL to run."""
    connection.ensure_connection()
    raw: sqlite3.Connection = connection.connection
    deadline = time.monotonic() + seconds
    was_read_only = raw.execute("PRAGMA query_only").fetchone()[0]
    length = raw.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, SQLITE_MAX_TEXT)
    raw.execute("PRAGMA query_only=ON")
    raw.set_authorizer(lambda *event: _may_sqlite(query.tables, *event))
    raw.set_progress_handler(lambda: time.monotonic() > deadline, SQLITE_STEPS)
    try:
        yield query.sql
    finally:
        raw.set_progress_handler(None, 0)
        raw.set_authorizer(None)
        raw.execute(f"PRAGMA query_only={'ON' if was_read_only else 'OFF'}")
        raw.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, length)


def _may_sqlite(
    tables: frozenset[str], action: int, subject: str | None, column: str | None, database: str | None, _by: str | None
) -> int:
    """Answer SQLite whether a step of a statement may be prepared."""
    if action == sqlite3.SQLITE_READ:
        # Expressions of a WITH are in no database.
        allowed = database is None or (subject or "").lower() in tables
    else:
        allowed = action in {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE}
    return sqlite3.SQLITE_OK if allowed else sqlite3.SQLITE_DENY


@contextmanager
def _postgresql(connection: BaseDatabaseWrapper, query: CheckedQuery, seconds: float) -> Iterator[str]:
    """Give the SQL to run inside a transaction or savepoint that cannot write, rolled back with its settings."""
    with transaction.atomic(using=connection.alias):
        try:
            with connection.cursor() as cursor:
                cursor.execute("SET LOCAL transaction_read_only = on")
                cursor.execute(f"SET LOCAL statement_timeout = {round(seconds * 1000)}")
                # Quotes were written for a database that takes a backslash as it is.
                cursor.execute("SET LOCAL standard_conforming_strings = on")
            yield query.sql
        finally:
            transaction.set_rollback(True, using=connection.alias)


@contextmanager
def _mysql(connection: BaseDatabaseWrapper, query: CheckedQuery, seconds: float) -> Iterator[str]:
    """Give the SQL to run in a transaction that cannot write; one that is open already keeps its own mode."""
    own_transaction = not connection.in_atomic_block
    is_mariadb = bool(getattr(connection, "mysql_is_mariadb", False))
    with connection.cursor() as cursor:
        if own_transaction:
            cursor.execute("START TRANSACTION READ ONLY")
        if not is_mariadb:
            cursor.execute(f"SET SESSION max_execution_time = {round(seconds * 1000)}")
        try:
            yield f"SET STATEMENT max_statement_time = {seconds:.3f} FOR {query.sql}" if is_mariadb else query.sql
        finally:
            if not is_mariadb:
                cursor.execute("SET SESSION max_execution_time = DEFAULT")
            if own_transaction:
                cursor.execute("ROLLBACK")


_READ_ONLY = {"sqlite": _sqlite, "postgresql": _postgresql, "mysql": _mysql}


def _timed_out(error: Exception) -> bool:
    """Tell whether a database ended a statement for its time."""
    cause = error.__cause__ or error
    if isinstance(cause, sqlite3.Error):
        return str(cause) == "interrupted"
    number = error.args[0] if error.args else None
    return getattr(cause, "sqlstate", None) == POSTGRESQL_TIMEOUT or number in MYSQL_TIMEOUTS


def _first_line(error: Exception) -> str:
    """Return what the database says, without the statement that it may quote below."""
    lines = str(error.args[-1] if error.args else error).splitlines()
    return lines[0] if lines else "no reason given"


def _cell(value: Any) -> Cell:
    """Return a value of a row as JSON has it: numbers stay numbers, dates become ISO 8601."""
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, Decimal) and value == value.to_integral_value() and value.is_finite():
        return int(value)
    if isinstance(value, float | Decimal):
        number = float(value)
        return number if isfinite(number) else str(value)
    if isinstance(value, date | time_of_day):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value).hex()
    return str(value)

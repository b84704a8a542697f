"""The two connections of the desk: `default`, and `readonly` for SQL that a client wrote.

A pure function of a URL, so that tests and deployments build the same pair. Both lead to one database; what
`readonly` forbids, the database itself refuses, whatever the program above lets through.
"""

from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import quote

import dj_database_url

SQLITE = "django.db.backends.sqlite3"
POSTGRESQL = "django.db.backends.postgresql"
MYSQL = "django.db.backends.mysql"
CONNECTION_SECONDS = 60
LOCK_SECONDS = 20


def databases(url: str, *, query_seconds: float, readonly_url: str = "") -> dict[str, dict[str, Any]]:
    """Return `DATABASES` for `url`; `readonly_url` may name an account of its own with fewer rights."""
    default = _parse(url)
    readonly = _read_only(_parse(readonly_url or url), query_seconds)
    if default["ENGINE"] == SQLITE:
        default["OPTIONS"] = {
            # A transaction that begins as a reader cannot wait for the lock when it comes to write.
            "transaction_mode": "IMMEDIATE",
            "timeout": LOCK_SECONDS,
            "init_command": "PRAGMA journal_mode=WAL;PRAGMA synchronous=NORMAL",
        }
    readonly["TEST"] = {"MIRROR": "default"}
    return {"default": default, "readonly": readonly}


def _parse(url: str) -> dict[str, Any]:
    """Return the settings that `url` names, with connections that are kept and checked."""
    if url.startswith("mariadb:"):
        url = "mysql:" + url.removeprefix("mariadb:")
    found: dict[str, Any] = dict(
        dj_database_url.parse(url, conn_max_age=CONNECTION_SECONDS, conn_health_checks=True),
    )
    found["OPTIONS"] = dict(found.get("OPTIONS", {}))
    if found["ENGINE"] == MYSQL:
        _install_pymysql()
        found["OPTIONS"].setdefault("charset", "utf8mb4")
    return found


def _read_only(settings: dict[str, Any], query_seconds: float) -> dict[str, Any]:
    """Return `settings` for connections on which the database refuses to write."""
    options: dict[str, Any] = settings["OPTIONS"]
    milliseconds = round(query_seconds * 1000)
    if settings["ENGINE"] == SQLITE:
        if settings["NAME"] != ":memory:":
            settings["NAME"] = f"file:{quote(str(Path(settings['NAME']).absolute()))}?mode=ro"
        options = {"timeout": LOCK_SECONDS, "init_command": "PRAGMA query_only=ON"}
    elif settings["ENGINE"] == POSTGRESQL:
        limits = f"-c default_transaction_read_only=on -c statement_timeout={milliseconds}"
        options["options"] = f"{options.get('options', '')} {limits}".strip()
    elif settings["ENGINE"] == MYSQL:
        options["init_command"] = "SET SESSION TRANSACTION READ ONLY"
    return {**settings, "OPTIONS": options}


def _install_pymysql() -> None:
    """Let Django's MySQL backend find PyMySQL, which needs no compiler, unless mysqlclient is there."""
    if find_spec("MySQLdb") is None:
        import pymysql

        pymysql.install_as_MySQLdb()

"""A URL becomes two connections of which one cannot write."""

from pathlib import Path

from demo_project.databases import databases


def test_sqlite_waits_for_its_lock_and_is_opened_read_only_beside() -> None:
    found = databases("sqlite:////srv/a b/db.sqlite3", query_seconds=3)

    assert found["default"]["NAME"] == "/srv/a b/db.sqlite3"
    assert found["default"]["OPTIONS"]["transaction_mode"] == "IMMEDIATE"
    assert "journal_mode=WAL" in found["default"]["OPTIONS"]["init_command"]
    assert found["readonly"]["NAME"] == f"file:{Path('/srv/a%20b/db.sqlite3')}?mode=ro"
    assert found["readonly"]["OPTIONS"]["init_command"] == "PRAGMA query_only=ON"
    assert found["readonly"]["TEST"] == {"MIRROR": "default"}


def test_postgresql_is_told_at_connecting() -> None:
    found = databases("postgres://me@db.example.com/desk?options=-c%20lock_timeout%3D5s", query_seconds=2.5)

    assert found["default"]["OPTIONS"] == {"options": "-c lock_timeout=5s"}
    assert found["readonly"]["OPTIONS"]["options"] == (
        "-c lock_timeout=5s -c default_transaction_read_only=on -c statement_timeout=2500"
    )


def test_mariadb_goes_through_the_mysql_backend() -> None:
    found = databases("mariadb://root@127.0.0.1/desk", query_seconds=3)

    assert found["default"]["ENGINE"] == "django.db.backends.mysql"
    assert "init_command" not in found["default"]["OPTIONS"]
    assert found["readonly"]["OPTIONS"]["init_command"] == "SET SESSION TRANSACTION READ ONLY"


def test_read_only_account_can_be_another() -> None:
    found = databases("postgres://owner@db/desk", readonly_url="postgres://reader@replica/desk", query_seconds=3)

    assert (found["default"]["USER"], found["default"]["HOST"]) == ("owner", "db")
    assert (found["readonly"]["USER"], found["readonly"]["HOST"]) == ("reader", "replica")

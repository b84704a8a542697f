"""The rows of the call log: what is in them and what never, how long they are kept, and how they are read."""

import io
from collections.abc import Iterator
from dataclasses import asdict, fields
from datetime import timedelta
from pathlib import Path
from typing import Any, get_args

import pytest
from django.contrib.auth.models import Permission, User
from django.core.management import call_command
from django.db import connections
from django.test import Client as Browser
from django.urls import reverse
from django.utils import timezone
from pytest_django import DjangoDbBlocker, Settings

from django_mcp import Server, State
from django_mcp.contrib.call_log import models
from django_mcp.contrib.call_log.models import CallEra, LoggedCall, LoggedOutcome
from django_mcp.server.finished_call import CallOutcome, Era, FinishedCall
from django_mcp.testing import Client
from tests.contrib.call_log.conftest import finished

both_eras = pytest.mark.parametrize("mode", ["modern", "legacy"])
PAGE = "admin:mcp_call_log_loggedcall"


@pytest.fixture
def ada(db: None) -> User:
    return User.objects.create_user("ada")


def test_the_choices_are_those_that_calls_have() -> None:
    assert set(LoggedOutcome.values) == set(get_args(CallOutcome))
    assert set(CallEra.values) == set(get_args(Era))
    kept = {field.name for field in LoggedCall._meta.fields}
    assert kept == {field.name for field in fields(FinishedCall)} - {"ended_at"} | {"created", "id"}


@pytest.mark.usefixtures("listening")
@both_eras
def test_a_test_finds_the_row_of_a_call_when_the_call_has_ended(server: Server, ada: User, mode: str) -> None:
    @server.tool
    def greet(name: str) -> str:
        return f"Hello {name}"

    Client(ada, server="tested", mode=mode).call("greet", {"name": "Bob"})
    row = LoggedCall.objects.get()
    assert (row.tool, row.principal, row.outcome) == ("greet", f"user:{ada.pk}", "ok")
    assert timezone.now() - row.created < timedelta(minutes=1)


@pytest.mark.usefixtures("listening")
@both_eras
def test_nothing_that_was_said_is_in_a_row(server: Server, ada: User, mode: str) -> None:
    @server.tool
    def remember(state: State, text: str) -> str:
        state["text"] = text
        return f"I keep the result {text[::-1]}"

    client = Client(ada, server="tested", mode=mode)
    first = client.call("remember", {"text": "swordfish"})
    client.call("remember", {"text": "swordfish", "handle": first.handle})
    rows = str(list(LoggedCall.objects.values()))
    assert LoggedCall.objects.count() == 2
    assert LoggedCall.objects.values("arguments_digest", "conversation").distinct().count() == 1
    assert first.token is not None
    assert first.handle is not None
    for secret in filter(None, ["swordfish", "hsifdrows", first.token, first.handle, client.session_id]):
        assert secret not in rows


@pytest.mark.usefixtures("listening")
def test_a_table_that_is_not_there_is_no_matter_of_the_call(
    server: Server, ada: User, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    @server.tool
    def greet() -> str:
        return "Hello"

    monkeypatch.setattr(LoggedCall._meta, "db_table", "there_is_no_such_table")
    assert Client(ada, server="tested").call("greet").text == "Hello"
    assert "a call could not be logged" in caplog.text


# Retention


@pytest.mark.django_db
def test_what_is_older_than_the_setting_is_deleted_in_bounded_steps(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models, "SWEEP_ROWS", 2)
    settings.DJANGO_MCP = {"CALL_LOG_DAYS": 3}
    LoggedCall.objects.all().log([finished(days_ago=days, tool=f"{days}") for days in (9, 2, 4, 3.1, 0)])
    rows = LoggedCall.objects.all()
    assert rows.count_over() == 3
    assert rows.sweep() == 2
    assert sorted(rows.values_list("tool", flat=True)) == ["0", "2", "3.1"]
    assert [rows.sweep(), rows.sweep()] == [1, 0]
    assert sorted(LoggedCall.objects.values_list("tool", flat=True)) == ["0", "2"]


@pytest.mark.django_db
def test_gc_deletes_what_is_over_and_a_dry_run_counts_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "SWEEP_ROWS", 2)
    LoggedCall.objects.all().log([finished(days_ago=31)] * 5 + [finished(days_ago=29)])

    def run(*words: str) -> str:
        stdout = io.StringIO()
        call_command("mcp", "gc", *words, stdout=stdout, stderr=io.StringIO())
        return stdout.getvalue().splitlines()[-1]

    assert run("--dry-run") == "Logged calls that are over: 5"
    assert LoggedCall.objects.count() == 6
    assert run() == "Logged calls that are over: 5"
    assert LoggedCall.objects.count() == 1


# Another database


class Elsewhere:
    """A router that keeps the log in the second database."""

    def db_for_read(self, model: Any, **hints: Any) -> str | None:
        return "log" if model._meta.app_label == "mcp_call_log" else None

    db_for_write = db_for_read

    def allow_migrate(self, db: str, app_label: str, **hints: Any) -> bool:
        return (db == "log") == (app_label == "mcp_call_log")


@pytest.fixture
def log_database(tmp_path: Path, django_db_blocker: DjangoDbBlocker) -> Iterator[str]:
    database = {"ENGINE": "django.db.backends.sqlite3", "NAME": tmp_path / "log.sqlite3"}
    connections.settings["log"] = connections.configure_settings({"default": {}, "log": database})["log"]
    with django_db_blocker.unblock():
        yield "log"
        connections["log"].close()
    del connections["log"]
    del connections.settings["log"]


@pytest.mark.usefixtures("listening")
def test_the_log_may_be_in_a_database_of_its_own(server: Server, log_database: str, settings: Settings) -> None:
    @server.tool
    def greet() -> str:
        return "Hello"

    settings.DATABASE_ROUTERS = [f"{__name__}.Elsewhere"]
    call_command("migrate", database=log_database, verbosity=0)
    tables = connections[log_database].introspection.table_names()
    assert set(tables) == {"django_migrations", "mcp_call_log_loggedcall"}
    # A caller in particular would be in the other database.
    Client(server="tested").call("greet")
    row = LoggedCall.objects.get()
    assert (row._state.db, row.tool, row.principal) == ("log", "greet", "anonymous")
    LoggedCall.objects.update(created=timezone.now() - timedelta(days=31))
    assert LoggedCall.objects.all().sweep() == 1


# The admin


def browser(user: User, *permissions: str) -> Browser:
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    client = Browser()
    client.force_login(user)
    return client


def test_the_admin_shows_calls_and_changes_nothing(ada: User) -> None:
    LoggedCall.objects.all().log([finished(tool="greet"), finished(tool="bow", outcome="lost", principal="user:2")])
    row = LoggedCall.objects.get(tool="bow")
    client = browser(User.objects.create_superuser("root"))
    page = client.get(reverse(f"{PAGE}_changelist"), {"outcome__exact": "lost"}).content.decode()
    assert "bow" in page
    assert "greet" not in page
    assert "user:2" in client.get(reverse(f"{PAGE}_changelist"), {"q": "user:2"}).content.decode()
    shown = client.get(reverse(f"{PAGE}_change", args=[row.pk])).content.decode()
    for value in asdict(finished(tool="bow", outcome="lost", principal="user:2")).values():
        if isinstance(value, str):
            assert value in shown
    assert client.get(reverse(f"{PAGE}_add")).status_code == 403
    assert client.post(reverse(f"{PAGE}_change", args=[row.pk]), {"tool": "x"}).status_code == 403
    assert client.post(reverse(f"{PAGE}_delete", args=[row.pk]), {"post": "yes"}).status_code == 403
    assert LoggedCall.objects.filter(tool="bow").exists()


def test_the_admin_needs_the_permission_to_view(ada: User) -> None:
    ada.is_staff = True
    ada.save()
    assert browser(ada).get(reverse(f"{PAGE}_changelist")).status_code == 403
    assert browser(ada, "view_loggedcall").get(reverse(f"{PAGE}_changelist")).status_code == 200

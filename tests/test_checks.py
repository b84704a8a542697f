"""The system checks: each message with its id and its remedy."""

import importlib.metadata
import io
import re
from pathlib import Path
from typing import Any

import pytest
from django.core import checks
from django.core.management import call_command
from django.db import connections, router
from pytest_django import Settings

from django_mcp.checks import (
    CLOCKS,
    check_clocks,
    check_deployment,
    check_installation,
    check_servers,
    check_settings,
    check_stores,
)
from django_mcp.core.principal import Principal
from django_mcp.models import Conversation, MCPSession
from django_mcp.sessions.stores import state_store
from tests.servers import alone, defined

TOKENS = "django_mcp.authentication.AccessTokenAuthentication"
COOKIES = "django_mcp.authentication.LoginCookieAuthentication"


def said(messages: list[checks.CheckMessage]) -> list[tuple[str | None, str]]:
    assert all(message.hint for message in messages)
    return [(message.id, message.msg) for message in messages]


def test_the_tests_own_project_has_nothing_to_report() -> None:
    assert said(checks.run_checks(tags=["django_mcp"])) == []


@pytest.mark.parametrize(
    ("given", "identifier", "message"),
    [
        ({"ACCES": 1}, "E001", "DJANGO_MCP has the unknown key 'ACCES'. Did you mean 'ACCESS'?"),
        ({"ACCESS": "open"}, "E001", "DJANGO_MCP['ACCESS'] is 'open'; it must be 'required' or 'public'."),
        ({"AUTHENTICATION": ["no.Such"]}, "E005", "names 'no.Such', which cannot be imported: No module named 'no'."),
        ({"AUTHENTICATION": ["os.path.join"]}, "E005", "'os.path.join', which is no authentication class"),
        ({"AUTHENTICATION": []}, "E005", "is empty and ACCESS is 'required', so nobody can call."),
        ({"TENANT": "os.nothing"}, "E006", "DJANGO_MCP['TENANT'] names 'os.nothing', which cannot be imported:"),
        ({"TENANT": "os.sep"}, "E006", "DJANGO_MCP['TENANT'] names 'os.sep', which is not callable."),
        ({"AROUND_CALL": ["no.such"]}, "E006", "DJANGO_MCP['AROUND_CALL'] names 'no.such', which cannot be imported"),
        ({"AUTHENTICATION": [TOKENS, COOKIES]}, "E007", f"{COOKIES!r} reads login cookies, which are believed from"),
        (
            {"AUTHENTICATION": [COOKIES], "ALLOWED_ORIGINS": ["*"]},
            "E007",
            f"{COOKIES!r} reads login cookies while ALLOWED_ORIGINS has '*'.",
        ),
    ],
)
def test_wrong_settings_are_errors(settings: Settings, given: Any, identifier: str, message: str) -> None:
    settings.DJANGO_MCP = given
    ((found, text),) = said(check_settings(None))
    assert found == f"django_mcp.{identifier}"
    assert message in text


def test_settings_that_cannot_be_read_are_reported_once(settings: Settings) -> None:
    settings.DJANGO_MCP = {"ACCESS": "open"}
    assert [identifier for identifier, _ in said(checks.run_checks(tags=["django_mcp"]))] == ["django_mcp.E001"]
    assert check_deployment(None) == []


@pytest.mark.parametrize(
    "given",
    [
        {"AUTHENTICATION": [TOKENS, COOKIES], "ALLOWED_ORIGINS": ["https://app.example.com"]},
        {"AUTHENTICATION": [], "ACCESS": "public"},
        {"AROUND_CALL": ["contextlib.nullcontext"], "TENANT": "os.path.basename"},
    ],
)
def test_good_settings_are_not_reported(settings: Settings, given: Any) -> None:
    settings.DJANGO_MCP = given
    assert said(check_settings(None)) == []


def test_a_store_is_reported_by_its_alias(settings: Settings) -> None:
    database = "django_mcp.sessions.stores.database.DatabaseStore"
    settings.DJANGO_MCP = {
        "STORES": {
            "default": {"BACKEND": database, "OPTIONS": {"USING": "nowhere"}},
            "other": {"BACKEND": "no.Such"},
            "third": {"BACKEND": database, "OPTIONS": {"LOCATION": "x"}},
        }
    }
    assert said(check_stores(None)) == [
        (
            "django_mcp.E010",
            "The store 'default' uses the database 'nowhere', which is not in DATABASES.",
        ),
        (
            "django_mcp.E009",
            "DJANGO_MCP['STORES']['other']: 'no.Such' cannot be imported: No module named 'no'",
        ),
        (
            "django_mcp.E009",
            "DJANGO_MCP['STORES']['third']['OPTIONS'] has the unknown keys ['LOCATION']; the known ones are "
            "BLOBS, BLOBS_FROM_BYTES, MAX_CLAIMS_PER_PRINCIPAL, MAX_CONVERSATIONS, MAX_RESULTS_PER_PRINCIPAL, USING.",
        ),
    ]


def test_a_missing_application_is_an_error(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("django_mcp.checks.REQUIRED_APPS", ("django.contrib.auth", "django.contrib.gis"))
    assert said(check_installation(None)) == [
        ("django_mcp.E004", "'django.contrib.gis' is not in INSTALLED_APPS."),
    ]


@pytest.mark.parametrize(
    ("owners", "reported"),
    [
        ([], []),
        (["django-mcp-durable"], []),
        (["django_mcp_durable", "Django-MCP-Durable"], []),
        (["django-mcp-durable", "django-mcp", "django-mcp"], ["django-mcp"]),
    ],
)
def test_a_second_distribution_with_our_files_is_an_error(
    monkeypatch: pytest.MonkeyPatch, owners: list[str], reported: list[str]
) -> None:
    monkeypatch.setattr(importlib.metadata, "packages_distributions", lambda: {"django_mcp": owners})
    assert said(check_installation(None)) == [
        (
            "django_mcp.E002",
            f"The distribution {name!r} has files under django_mcp/ too, so the two overwrite each other.",
        )
        for name in reported
    ]


def deployed(settings: Settings) -> list[str | None]:
    return [message.id for message in checks.run_checks(tags=["django_mcp"], include_deployment_checks=True)]


def test_public_access_is_named_before_a_deployment(settings: Settings) -> None:
    settings.DJANGO_MCP = {"ACCESS": "public"}
    assert "django_mcp.W001" in deployed(settings)
    assert said(checks.run_checks(tags=["django_mcp"])) == []
    (message, *_) = check_deployment(None)
    assert message.msg.startswith("ACCESS is 'public': everybody who reaches the server may list and call")


@pytest.mark.parametrize(
    ("key", "reported"), [("short", True), ("django-insecure-" + "x" * 60, True), ("x" * 49, True), ("x" * 50, False)]
)
def test_a_weak_secret_key_is_named_before_a_deployment(settings: Settings, key: str, reported: bool) -> None:
    settings.SECRET_KEY = key
    assert ("django_mcp.W002" in deployed(settings)) is reported


@pytest.mark.parametrize(
    ("options", "reported"),
    [
        ({}, True),
        ({"transaction_mode": "IMMEDIATE"}, True),
        ({"init_command": "PRAGMA journal_mode=WAL;"}, True),
        ({"transaction_mode": "immediate", "init_command": "PRAGMA synchronous=1; PRAGMA journal_mode = WAL"}, False),
    ],
)
def test_sqlite_without_a_write_ahead_log_is_named_before_a_deployment(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, options: dict[str, str], reported: bool
) -> None:
    params = {"ENGINE": "django.db.backends.sqlite3", "OPTIONS": options}
    monkeypatch.setitem(connections.settings, "default", {**connections.settings["default"], **params})
    monkeypatch.setitem(connections.settings, "theirs", {**connections.settings["default"], **params, "OPTIONS": {}})
    assert deployed(settings).count("django_mcp.W003") == int(reported)


# Databases

ALICE = Principal(kind="user", id="1")


def begin_conversation(server: str) -> str:
    return state_store().begin(server=server, tenant="", principal=ALICE).conversation.id


def begin_session(server: str) -> MCPSession:
    return MCPSession.objects.begin(
        server=server, principal=ALICE, protocol_version="2025-11-25", client_info={}, capabilities={}
    )[0]


@pytest.mark.django_db
def test_what_was_begun_under_another_name_of_the_server_is_named(settings: Settings) -> None:
    settings.DJANGO_MCP = {"SERVER_NAME": "old"}
    with alone(), defined("ops"):
        for server in ("old", "old", "old/ops"):
            begin_conversation(server)
        begin_session("old")
        assert said(check_servers(None, databases=["default"])) == []
        settings.DJANGO_MCP = {"SERVER_NAME": "new"}
        warnings = check_servers(None, databases=["default"])
    known = "which is not one of this project's (new, new/ops): their tokens, handles and ids are refused."
    assert said(warnings) == [
        (
            "django_mcp.W005",
            "The database 'default' has 2 active conversations and 1 active session of the server 'old', " + known,
        ),
        ("django_mcp.W005", "The database 'default' has 1 active conversation of the server 'old/ops', " + known),
    ]
    hint = (
        "Set DJANGO_MCP['SERVER_NAME'] to 'old', which it was (by default it is the project's package), or end them "
        "with `manage.py mcp`."
    )
    assert [warning.hint for warning in warnings] == [hint, hint]


@pytest.mark.django_db
def test_a_server_that_was_taken_out_is_named_as_such(settings: Settings) -> None:
    settings.DJANGO_MCP = {"SERVER_NAME": "desk"}
    session = begin_session("desk/ops")
    (warning,) = check_servers(None, databases=["default"])
    assert warning.msg.startswith("The database 'default' has 1 active session of the server 'desk/ops', which is not")
    assert warning.hint == "Make Server('ops') again in a module mcp_tools, or end them with `manage.py mcp`."
    session.revoke()
    assert check_servers(None, databases=["default"]) == []


@pytest.mark.django_db
def test_conversations_that_have_ended_are_of_no_server(settings: Settings) -> None:
    begin_conversation("gone")
    Conversation.objects.update(state="expired")
    assert check_servers(None, databases=["default"]) == []


@pytest.mark.parametrize("databases", [None, [], ["other"]])
def test_a_database_that_is_not_named_is_not_asked(
    monkeypatch: pytest.MonkeyPatch, databases: list[str] | None
) -> None:
    monkeypatch.setitem(CLOCKS, "sqlite", "SELECT no_such_function()")
    assert check_servers(None, databases=databases) == check_clocks(None, databases=databases) == []


@pytest.mark.django_db
def test_a_database_of_other_applications_is_not_asked(settings: Settings) -> None:
    begin_conversation("gone")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(router, "db_for_write", lambda *args, **hints: "elsewhere")
        settings.DJANGO_MCP = {"STORES": {"default": {"BACKEND": "no.Such"}}}
        assert check_servers(None, databases=["default"]) == []


def test_before_the_first_migration_there_is_nothing_to_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: Settings, django_db_blocker: Any
) -> None:
    params = {**connections.settings["default"], "NAME": str(tmp_path / "empty.sqlite3")}
    monkeypatch.setitem(connections.settings, "empty", params)
    database = "django_mcp.sessions.stores.database.DatabaseStore"
    settings.DJANGO_MCP = {"STORES": {"default": {"BACKEND": database, "OPTIONS": {"USING": "empty"}}}}
    with django_db_blocker.unblock():
        assert check_servers(None, databases=["empty"]) == check_clocks(None, databases=["empty"]) == []
        connections["empty"].close()
    del connections["empty"]


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("seconds", "message"),
    [
        (-90, "The clock of the database 'default' is 90 seconds behind this machine's, and leases and expiry need"),
        (90, "The clock of the database 'default' is 90 seconds ahead of this machine's, and leases and expiry need"),
        (-30, None),
        (30, None),
    ],
)
def test_a_clock_that_differs_by_more_than_a_minute_is_named(
    monkeypatch: pytest.MonkeyPatch, seconds: int, message: str | None
) -> None:
    monkeypatch.setitem(CLOCKS, "sqlite", f"SELECT (julianday('now') - 2440587.5) * 86400.0 + {seconds}")
    found = said(check_clocks(None, databases=["default"]))
    assert [identifier for identifier, _ in found] == ([] if message is None else ["django_mcp.W006"])
    assert all(text.startswith(str(message)) for _, text in found)


def test_the_clocks_of_real_databases_are_read(concurrent_database: str, settings: Settings) -> None:
    database = "django_mcp.sessions.stores.database.DatabaseStore"
    settings.DJANGO_MCP = {"STORES": {"default": {"BACKEND": database, "OPTIONS": {"USING": concurrent_database}}}}
    vendor = connections[concurrent_database].vendor
    assert check_clocks(None, databases=[concurrent_database]) == []
    for change, way in (("- 90", "behind"), ("+ 90", "ahead of")):
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(CLOCKS, vendor, f"{CLOCKS[vendor]} {change}")
            ((_, text),) = said(check_clocks(None, databases=[concurrent_database]))
        assert re.search(rf"is (89|90|91) seconds {way} this machine's", text)
    state_store().begin(server="gone", tenant="", principal=ALICE)
    assert [one.id for one in check_servers(None, databases=[concurrent_database])] == ["django_mcp.W005"]


@pytest.mark.django_db
def test_the_check_command_asks_the_database_that_it_is_told(settings: Settings) -> None:
    begin_conversation("gone")
    stderr = io.StringIO()
    call_command("check", stderr=stderr, stdout=io.StringIO(), no_color=True)
    assert "W005" not in stderr.getvalue()
    call_command("check", databases=["default"], stderr=stderr, stdout=io.StringIO(), no_color=True)
    assert (
        "(django_mcp.W005) The database 'default' has 1 active conversation of the server 'gone'" in stderr.getvalue()
    )

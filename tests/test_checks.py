"""The system checks: each message with its id and its remedy."""

import importlib.metadata
from typing import Any

import pytest
from django.core import checks
from django.db import connections
from pytest_django import Settings

from django_mcp.checks import check_deployment, check_installation, check_settings, check_stores

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
        ({"AUTHENTICATION": ["os.path.join"]}, "E005", "'os.path.join', which is not a subclass of django_mcp.auth"),
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
            "MAX_CONVERSATIONS, MAX_RESULTS_PER_PRINCIPAL, USING.",
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
    assert ("django_mcp.W003" in deployed(settings)) is reported

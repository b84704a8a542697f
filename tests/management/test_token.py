"""`manage.py mcp token`: made, listed and revoked from the command line."""

import io
from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from pytest_django import DjangoAssertNumQueries, Settings

from django_mcp.management.verbs import verbs
from django_mcp.models import MCPAccessToken
from django_mcp.models.access_token import UNLIMITED

pytestmark = pytest.mark.django_db


@pytest.fixture
def user() -> User:
    return User.objects.create_user("alice")


def run(*arguments: str) -> tuple[str, str]:
    stdout, stderr = io.StringIO(), io.StringIO()
    call_command("mcp", "token", *arguments, stdout=stdout, stderr=stderr, no_color=True)
    return stdout.getvalue(), stderr.getvalue()


def test_create_prints_the_secret_alone_on_stdout(user: User) -> None:
    stdout, stderr = run("create", "alice", "--name", "laptop", "--days", "7")
    token = MCPAccessToken.objects.get()
    assert MCPAccessToken.objects.authenticate(stdout.removesuffix("\n")) == token
    assert (token.user, token.name) == (user, "laptop")
    assert token.expires_at == token.created_at + timedelta(days=7)
    assert stderr.startswith(f"Access token {token.fingerprint} of alice, expires ")
    assert stderr.endswith(" It is not shown again.\n")


def test_create_takes_the_life_of_the_settings_or_none(user: User, settings: Settings) -> None:
    settings.DJANGO_MCP = {"ACCESS_TOKEN_DAYS": 2}
    run("create", "alice")
    token = MCPAccessToken.objects.get()
    assert token.expires_at == token.created_at + timedelta(days=2)
    assert token.name == "command line"
    _, stderr = run("create", "alice", "--days", "0")
    assert "never expires" in stderr
    assert MCPAccessToken.objects.filter(expires_at=None).count() == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["create", "nobody"], "There is no user 'nobody'."),
        (["create", "alice", "--days", "-1"], "'-1' is not a number of days between 0 and 36500"),
        (["create", "alice", "--days", "x"], "'x' is not a number of days between 0 and 36500"),
        (["create", "alice", "--days", "99999999999"], "is not a number of days between 0 and 36500"),
        (["create", "alice", "--name", ""], "The name must have 1 to 100 characters."),
        (["create", "alice", "--name", "x" * 101], "The name must have 1 to 100 characters."),
        (["list", "nobody"], "There is no user 'nobody'."),
        (["revoke", "0123abcd"], "There is no access token '0123abcd'; `manage.py mcp token list` shows them."),
        ([], "the following arguments are required: action"),
    ],
)
def test_what_cannot_be_done_is_said(user: User, arguments: list[str], message: str) -> None:
    with pytest.raises(CommandError) as caught:
        run(*arguments)
    assert message in str(caught.value)
    assert MCPAccessToken.objects.count() == 0


def test_list_shows_each_token_and_no_secret(user: User) -> None:
    bob = User.objects.create_user("bob")
    live, secret = MCPAccessToken.objects.issue(user, "laptop", lifetime=UNLIMITED)
    expired, _ = MCPAccessToken.objects.issue(bob, "old", lifetime=timedelta(0))
    revoked, _ = MCPAccessToken.objects.issue(bob, "lost")
    revoked.revoke()
    stdout, _ = run("list")
    heading, *rows = [line.split() for line in stdout.splitlines()]
    assert heading == ["fingerprint", "user", "name", "state", "created", "expires", "last", "used"]
    assert [row[:4] for row in rows] == [
        [live.fingerprint, "alice", "laptop", "live"],
        [expired.fingerprint, "bob", "old", "expired"],
        [revoked.fingerprint, "bob", "lost", "revoked"],
    ]
    assert rows[0][-2:] == ["never", "never"]
    assert secret not in stdout
    assert live.key_digest not in stdout
    stdout, _ = run("list", "alice")
    assert [line.split()[1] for line in stdout.splitlines()[1:]] == ["alice"]


def test_list_costs_one_query(user: User, django_assert_num_queries: DjangoAssertNumQueries) -> None:
    for number in range(5):
        MCPAccessToken.objects.issue(User.objects.create_user(str(number)), "laptop")
    with django_assert_num_queries(1):
        run("list")


def test_revoke_ends_a_token_at_once(user: User) -> None:
    token, secret = MCPAccessToken.objects.issue(user, "laptop")
    assert run("revoke", token.fingerprint.upper())[0] == f"Access token {token.fingerprint} is revoked.\n"
    assert MCPAccessToken.objects.authenticate(secret) is None
    assert run("revoke", token.fingerprint)[0] == f"Access token {token.fingerprint} was revoked before.\n"


def test_a_fingerprint_that_two_tokens_have_is_not_guessed(user: User) -> None:
    for name in ("one", "two"):
        MCPAccessToken.objects.issue(user, name)
    MCPAccessToken.objects.update(fingerprint="0123abcd")
    with pytest.raises(CommandError, match="2 access tokens have the fingerprint '0123abcd'; use the admin"):
        run("revoke", "0123abcd")
    assert MCPAccessToken.objects.live().count() == 2


def test_every_module_of_the_verbs_is_a_verb_with_a_help() -> None:
    assert "token" in verbs()
    assert all(name == verb.name and verb.help.endswith(".") for name, verb in verbs().items())


def test_a_verb_is_needed() -> None:
    with pytest.raises(CommandError, match="the following arguments are required: verb"):
        call_command("mcp")

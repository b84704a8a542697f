"""`manage.py mcp sessions`: listed, shown and ended from the command line."""

import io
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries, Settings

from django_mcp.core.principal import Principal
from django_mcp.exceptions import SessionNotFound
from django_mcp.models import MCPSession

pytestmark = pytest.mark.django_db


@pytest.fixture
def user() -> User:
    return User.objects.create_user("alice")


def run(*words: str) -> tuple[str, str]:
    stdout, stderr = io.StringIO(), io.StringIO()
    call_command("mcp", "sessions", *words, stdout=stdout, stderr=stderr, no_color=True)
    return stdout.getvalue(), stderr.getvalue()


def begin(user: User | None = None, **terms: Any) -> tuple[MCPSession, str]:
    principal = Principal(kind="anonymous") if user is None else Principal(kind="user", id=str(user.pk))
    given: dict[str, Any] = {
        "server": "tests",
        "principal": principal,
        "user": user,
        "protocol_version": "2025-11-25",
        "client_info": {"name": "editor", "version": "1.2"},
        "capabilities": {"roots": {}},
    }
    return MCPSession.objects.begin(**{**given, **terms})


def renamed(session: MCPSession, key: str) -> None:
    MCPSession.objects.filter(pk=session.pk).update(key=key)


def listed(*words: str) -> list[str]:
    return [line.split()[0] for line in run("list", *words)[0].splitlines()[1:]]


def test_list_shows_whose_they_are_and_no_id_that_opens_one(user: User) -> None:
    session, session_id = begin(user, tenant="north")
    nobodys, _ = begin(client_info={})
    MCPSession.objects.filter(pk=nobodys.pk).update(last_used_at=timezone.now() - timedelta(hours=1))
    stdout, stderr = run("list")
    heading, first, second = stdout.splitlines()
    assert heading.split() == [
        "id", "user", "server", "tenant", "client", "protocol", "state", "created", "last", "used",
    ]  # fmt: skip
    assert first.split()[:8] == [
        session.fingerprint, "alice", "tests", "north", "editor", "1.2", "2025-11-25", "active",
    ]  # fmt: skip
    assert second.split()[:7] == [nobodys.fingerprint, "anonymous", "tests", "-", "-", "2025-11-25", "active"]
    assert session_id not in stdout
    assert stderr == ""


def test_list_is_narrowed_by_what_a_session_belongs_to(user: User, settings: Settings) -> None:
    settings.DJANGO_MCP = {"SERVER_NAME": "desk"}
    mine = begin(user)[0].fingerprint
    other = begin(User.objects.create_user("bob"), tenant="north")[0].fingerprint
    ours = begin(server="desk")[0].fingerprint
    ended = begin(server="desk/ops")[0]
    ended.terminate()
    assert listed("--user", "alice") == [mine]
    assert listed("--tenant", "north") == [other]
    assert set(listed("--tenant", "")) == {mine, ours, ended.fingerprint}
    assert listed("--server", "default") == listed("--server", "desk") == [ours]
    assert listed("--server", "desk/ops") == listed("--state", "terminated") == [ended.fingerprint]
    assert run("list", "--server", "nowhere") == ("", "There are no such sessions.\n")


def test_list_is_as_long_as_its_limit_and_says_that_there_are_more(
    user: User, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    for _ in range(3):
        begin(user)
    with django_assert_num_queries(1):
        stdout, stderr = run("list", "--limit", "2")
    assert len(stdout.splitlines()) == 3
    assert stderr == "There are more; --limit says how many are shown.\n"
    assert run("list", "--limit", "3")[1] == ""


def test_what_a_client_says_cannot_move_the_cursor(user: User) -> None:
    session, _ = begin(user, tenant="\x1b[2J", client_info={"name": "\x1b]0;x\x07", "title": "\x1b[1m"})
    MCPSession.objects.filter(pk=session.pk).update(principal="oauth:\x1b[31m")
    for words in (["list"], ["show", session.fingerprint]):
        assert "\x1b" not in run(*words)[0]


def test_show_tells_all_there_is(user: User) -> None:
    session, _ = begin(user, address="192.0.2.7")
    session.subscribe("book://1")
    session.set_log_level("warning")
    stdout, _ = run("show", session.fingerprint[:4])
    facts = dict(line.split("  ", 1) for line in stdout.splitlines())
    assert {name: text.strip() for name, text in facts.items()} == {
        "id": session.key,
        "server": "tests",
        "tenant": "-",
        "principal": f"user:{user.pk}",
        "user": "alice",
        "address": "192.0.2.7",
        "protocol": "2025-11-25",
        "client": "editor 1.2",
        "client info": '{"name": "editor", "version": "1.2"}',
        "capabilities": '{"roots": {}}',
        "log level": "warning",
        "subscriptions": '["book://1"]',
        "state": "active",
        "used": "no",
        "created": f"{session.created_at:%Y-%m-%d %H:%M}",
        "last used": f"{session.last_used_at:%Y-%m-%d %H:%M}",
        "ended": "never",
    }


@pytest.mark.parametrize(("action", "state"), [("expire", "expired"), ("revoke", "revoked")])
def test_a_session_is_ended_once(user: User, action: str, state: str) -> None:
    session, session_id = begin(user)
    assert run(action, session.key)[0] == f"Session {session.fingerprint} is {state}.\n"
    with pytest.raises(SessionNotFound, match=r"^Session not found$"):
        MCPSession.objects.find(
            session_id, server="tests", principal=Principal(kind="user", id=str(user.pk)), user=user
        )
    assert run("revoke", session.key)[0] == f"Session {session.fingerprint} had ended before.\n"
    assert MCPSession.objects.get().state == state


def test_the_beginning_of_an_id_is_enough_while_it_is_of_one_session() -> None:
    for end in ("1", "2"):
        renamed(begin()[0], f"abcd{end}".ljust(64, "0"))
    assert run("expire", "ABCD1…")[0] == "Session abcd1000 is expired.\n"
    with pytest.raises(CommandError) as caught:
        run("revoke", "abcd")
    names = ", ".join(f"abcd{end}".ljust(64, "0") for end in ("1", "2"))
    assert str(caught.value) == f"Several sessions begin with 'abcd', give more of the one you mean: {names}."
    assert MCPSession.objects.active().count() == 1


def test_not_all_of_many_that_begin_alike_are_named() -> None:
    for number in range(7):
        renamed(begin()[0], f"abcd{number}".ljust(64, "0"))
    with pytest.raises(CommandError, match=r"abcd40{59} and more\.$"):
        run("show", "abcd")


@pytest.mark.parametrize("given", ["0", "", "…", "%", "_", "not hexadecimal", "a" * 65])
def test_an_id_that_is_of_none_is_told(given: str) -> None:
    session, _ = begin()
    renamed(session, "f" * 64)
    with pytest.raises(CommandError) as caught:
        run("show", given)
    assert str(caught.value) == f"There is no session {given!r}; `manage.py mcp sessions list` shows them."


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "the following arguments are required: action"),
        (("list", "--user", "nobody"), "There is no user 'nobody'."),
        (("list", "--state", "over"), "invalid choice: 'over'"),
        (("list", "--limit", "0"), "'0' is not a whole number, 1 or more"),
    ],
)
def test_what_cannot_be_done_is_told(words: tuple[str, ...], message: str) -> None:
    with pytest.raises(CommandError) as caught:
        run(*words)
    assert message in str(caught.value)

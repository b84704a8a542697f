"""The admin of access tokens and sessions: what is shown once, what never, and who may do what."""

import re
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import reverse
from pytest_django import DjangoAssertNumQueries

from django_mcp.core.principal import Principal
from django_mcp.models import MCPAccessToken, MCPSession

pytestmark = pytest.mark.django_db

TOKENS = "admin:django_mcp_mcpaccesstoken"
SESSIONS = "admin:django_mcp_mcpsession"
SECRET = re.compile(r"mcp_[A-Za-z0-9_-]{43}")


@pytest.fixture
def root() -> User:
    return User.objects.create_superuser("root")


@pytest.fixture
def alice() -> User:
    return User.objects.create_user("alice", is_staff=True)


def browser(user: User, *permissions: str) -> Client:
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    client = Client()
    client.force_login(user)
    return client


def page(client: Client, name: str, *args: Any, **query: str) -> str:
    answer = client.get(reverse(name, args=args), query)
    assert answer.status_code == 200, answer.status_code
    return answer.content.decode()


def act(client: Client, name: str, action: str, *keys: Any) -> str:
    answer = client.post(reverse(f"{name}_changelist"), {"action": action, "_selected_action": keys}, follow=True)
    assert answer.status_code == 200
    return answer.content.decode()


def begin(user: User, **changes: Any) -> MCPSession:
    terms: dict[str, Any] = {
        "server": "desk",
        "principal": Principal(kind="user", id=str(user.pk)),
        "user": user,
        "protocol_version": "2025-11-25",
        "client_info": {"name": "editor", "version": "1.2", "title": "<b>né</b>"},
        "capabilities": {"elicitation": {}},
    }
    return MCPSession.objects.begin(**{**terms, **changes})[0]


# Access tokens


def test_the_secret_of_a_new_token_is_shown_once(root: User, alice: User) -> None:
    client = browser(root)
    form = {"user": alice.pk, "name": "laptop", "days": "7"}
    answer = client.post(reverse(f"{TOKENS}_add"), form, follow=True)
    (secret,) = set(SECRET.findall(answer.content.decode()))
    token = MCPAccessToken.objects.get()
    assert token.user == alice
    assert token.expires_at == token.created_at + timedelta(days=7)
    assert MCPAccessToken.objects.authenticate(secret) == token
    for shown in (page(client, f"{TOKENS}_changelist"), page(client, f"{TOKENS}_change", token.pk)):
        assert not SECRET.search(shown)
        assert token.key_digest not in shown
        assert token.fingerprint in shown
    assert not SECRET.search(page(client, f"{TOKENS}_history", token.pk))


def test_the_lifetime_is_the_settings_unless_it_is_emptied(root: User) -> None:
    client = browser(root)
    assert 'name="days" value="90"' in page(client, f"{TOKENS}_add")
    client.post(reverse(f"{TOKENS}_add"), {"user": root.pk, "name": "forever", "days": ""})
    assert MCPAccessToken.objects.get().expires_at is None
    answer = client.post(reverse(f"{TOKENS}_add"), {"user": root.pk, "name": "none", "days": "0"})
    assert "Ensure this value is greater than or equal to 1." in answer.content.decode()
    assert MCPAccessToken.objects.count() == 1


def test_only_the_name_of_a_token_can_be_changed(root: User, alice: User) -> None:
    client = browser(root)
    token, secret = MCPAccessToken.objects.issue(alice, "laptop")
    before = MCPAccessToken.objects.values().get()
    form = {"name": "desktop", "user": root.pk, "key_digest": "0" * 64, "expires_at_0": "2099-01-01", "days": "1"}
    client.post(reverse(f"{TOKENS}_change", args=[token.pk]), form)
    assert MCPAccessToken.objects.values().get() == {**before, "name": "desktop"}
    assert MCPAccessToken.objects.authenticate(secret) == token


def test_selected_tokens_are_revoked(root: User, alice: User) -> None:
    tokens = [MCPAccessToken.objects.issue(alice, str(number))[0] for number in range(3)]
    tokens[0].revoke()
    shown = act(browser(root), TOKENS, "revoke", tokens[0].pk, tokens[1].pk)
    assert "1 access token was revoked." in shown
    assert set(MCPAccessToken.objects.live()) == {tokens[2]}


def test_whoever_is_no_superuser_makes_tokens_of_their_own_alone(root: User, alice: User) -> None:
    client = browser(alice, "add_mcpaccesstoken", "view_mcpaccesstoken", "view_user")
    assert "root" not in page(client, f"{TOKENS}_add")
    answer = client.post(reverse(f"{TOKENS}_add"), {"user": root.pk, "name": "steal", "days": "1"})
    assert "Select a valid choice." in answer.content.decode()
    assert MCPAccessToken.objects.count() == 0
    client.post(reverse(f"{TOKENS}_add"), {"user": alice.pk, "name": "mine", "days": "1"})
    assert MCPAccessToken.objects.get().user == alice


def test_viewing_tokens_is_not_revoking_them(alice: User) -> None:
    token, _ = MCPAccessToken.objects.issue(alice, "laptop")
    client = browser(alice, "view_mcpaccesstoken")
    assert "Revoke selected" not in page(client, f"{TOKENS}_changelist")
    act(client, TOKENS, "revoke", token.pk)
    token.refresh_from_db()
    assert token.revoked_at is None
    assert browser(alice).get(reverse(f"{TOKENS}_changelist")).status_code == 403


def test_tokens_are_found_and_filtered(root: User, alice: User) -> None:
    live, _ = MCPAccessToken.objects.issue(alice, "live one")
    expired, _ = MCPAccessToken.objects.issue(root, "expired one", lifetime=timedelta(0))
    revoked, _ = MCPAccessToken.objects.issue(root, "revoked one")
    revoked.revoke()
    client = browser(root)
    for query, found in (
        ({"q": "alice"}, live),
        ({"q": expired.fingerprint}, expired),
        ({"q": "revoked"}, revoked),
        ({"state": "live"}, live),
        ({"state": "expired"}, expired),
        ({"state": "revoked"}, revoked),
    ):
        shown = page(client, f"{TOKENS}_changelist", **query)
        assert [token.name for token in (live, expired, revoked) if token.name in shown] == [found.name]


# Sessions


def test_sessions_are_read_and_never_written(root: User, alice: User) -> None:
    session = begin(alice)
    session.subscribe("file:///<a>")
    client = browser(root)
    assert client.get(reverse(f"{SESSIONS}_add")).status_code == 403
    assert client.post(reverse(f"{SESSIONS}_change", args=[session.pk]), {"state": "revoked"}).status_code == 403
    shown = page(client, f"{SESSIONS}_change", session.pk)
    assert "&lt;b&gt;né&lt;/b&gt;" in shown
    assert "file:///&lt;a&gt;" in shown
    assert session.auth_hash not in shown
    assert "_save" not in shown


@pytest.mark.parametrize(("action", "state"), [("revoke", "revoked"), ("expire", "expired")])
def test_selected_sessions_are_ended(root: User, alice: User, action: str, state: str) -> None:
    ended, chosen, other = begin(alice), begin(alice), begin(alice)
    ended.terminate()
    shown = act(browser(root), SESSIONS, action, ended.pk, chosen.pk)
    assert "1 session was ended." in shown
    states = dict(MCPSession.objects.values_list("pk", "state"))
    assert states == {ended.pk: "terminated", chosen.pk: state, other.pk: "active"}


def test_viewing_sessions_is_not_ending_them(alice: User) -> None:
    session = begin(alice)
    viewer = browser(alice, "view_mcpsession")
    assert "Revoke selected" not in page(viewer, f"{SESSIONS}_changelist")
    act(viewer, SESSIONS, "revoke", session.pk)
    session.refresh_from_db()
    assert session.state == "active"
    changer = browser(User.objects.create_user("carol", is_staff=True), "change_mcpsession")
    act(changer, SESSIONS, "revoke", session.pk)
    session.refresh_from_db()
    assert session.state == "revoked"


def test_sessions_are_found_and_filtered(root: User, alice: User) -> None:
    first = begin(alice, client_info={"name": "editor"})
    second = begin(root, server="other", client_info={"name": "inspector"})
    second.terminate()
    client = browser(root)
    for query, found in (
        ({"q": "alice"}, first),
        ({"q": second.key[:12]}, second),
        ({"q": "inspector"}, second),
        ({"state__exact": "active"}, first),
        ({"server": "other"}, second),
    ):
        shown = page(client, f"{SESSIONS}_changelist", **query)
        rows = [session for session in (first, second) if reverse(f"{SESSIONS}_change", args=[session.pk]) in shown]
        assert rows == [found]


def test_a_user_with_sessions_and_tokens_can_be_deleted(root: User, alice: User) -> None:
    begin(alice)
    MCPAccessToken.objects.issue(alice, "laptop")
    browser(root).post(reverse("admin:auth_user_delete", args=[alice.pk]), {"post": "yes"})
    assert not User.objects.filter(pk=alice.pk).exists()
    assert MCPSession.objects.count() == MCPAccessToken.objects.count() == 0


@pytest.mark.parametrize("name", [TOKENS, SESSIONS])
def test_a_list_costs_the_same_for_one_row_and_for_twenty(
    root: User, name: str, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    client = browser(root)
    page(client, f"{name}_changelist")
    counts = []
    for batch in (1, 20):
        for number in range(batch):
            user = User.objects.create_user(f"user {batch} {number}")
            begin(user)
            MCPAccessToken.objects.issue(user, "laptop")
        with django_assert_max_num_queries(20) as captured:
            page(client, f"{name}_changelist")
        counts.append(len(captured.captured_queries))
    assert counts[0] == counts[1]

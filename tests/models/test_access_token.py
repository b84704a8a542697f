"""Access tokens: issued once, kept as a hash, refused as soon as they should be."""

import json
from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.db import OperationalError, connections
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries, Settings

from django_mcp.exceptions import StoreUnavailable
from django_mcp.models import MCPAccessToken
from django_mcp.models.access_token import UNLIMITED, digest_of

pytestmark = pytest.mark.django_db


@pytest.fixture
def user() -> User:
    return User.objects.create_user("alice")


def test_a_token_authenticates_its_user(user: User) -> None:
    token, secret = MCPAccessToken.objects.issue(user, "laptop")
    assert secret.startswith("mcp_")
    assert len(secret) == 47
    found = MCPAccessToken.objects.authenticate(secret)
    assert found == token
    assert found.user == user


def test_the_secret_is_not_kept(user: User) -> None:
    token, secret = MCPAccessToken.objects.issue(user, "laptop")
    row = json.dumps(list(MCPAccessToken.objects.values()), default=str)
    assert secret not in row
    assert secret.removeprefix("mcp_") not in row
    assert token.key_digest == digest_of(secret)
    assert str(token) == f"laptop ({token.fingerprint}…)"
    assert token.key_digest.startswith(token.fingerprint)


def test_a_token_lives_as_long_as_the_setting_says_or_as_asked(user: User, settings: Settings) -> None:
    settings.DJANGO_MCP = {"ACCESS_TOKEN_DAYS": 3}
    usual, _ = MCPAccessToken.objects.issue(user, "usual")
    short, _ = MCPAccessToken.objects.issue(user, "short", lifetime=timedelta(hours=1))
    forever, _ = MCPAccessToken.objects.issue(user, "forever", lifetime=UNLIMITED)
    assert usual.expires_at == usual.created_at + timedelta(days=3)
    assert short.expires_at == short.created_at + timedelta(hours=1)
    assert forever.expires_at is None


@pytest.mark.parametrize("secret", ["", "mcp_", "mcp_" + "a" * 43, "mcp_" + "\ud800" * 43, "x" * 100_000, "Bearer"])
def test_an_unknown_secret_authenticates_nobody(secret: str, user: User) -> None:
    MCPAccessToken.objects.issue(user, "laptop")
    assert MCPAccessToken.objects.authenticate(secret) is None


def test_an_expired_token_authenticates_nobody(user: User) -> None:
    _, secret = MCPAccessToken.objects.issue(user, "laptop", lifetime=timedelta(0))
    assert MCPAccessToken.objects.authenticate(secret) is None


def test_a_revoked_token_authenticates_nobody_from_then_on(user: User) -> None:
    token, secret = MCPAccessToken.objects.issue(user, "laptop")
    assert token.revoke()
    revoked_at = token.revoked_at
    assert revoked_at is not None
    assert MCPAccessToken.objects.authenticate(secret) is None
    assert not token.revoke()
    assert token.revoked_at == revoked_at


def test_the_token_of_an_inactive_or_deleted_user_authenticates_nobody(user: User) -> None:
    _, secret = MCPAccessToken.objects.issue(user, "laptop")
    User.objects.update(is_active=False)
    assert MCPAccessToken.objects.authenticate(secret) is None
    User.objects.all().delete()
    assert MCPAccessToken.objects.authenticate(secret) is None
    assert MCPAccessToken.objects.count() == 0


def test_the_use_is_recorded_once_a_minute(user: User, django_assert_num_queries: DjangoAssertNumQueries) -> None:
    _, secret = MCPAccessToken.objects.issue(user, "laptop")
    with django_assert_num_queries(2):
        MCPAccessToken.objects.authenticate(secret)
    used = MCPAccessToken.objects.get().last_used_at
    assert used is not None
    with django_assert_num_queries(1):
        MCPAccessToken.objects.authenticate(secret)
    assert MCPAccessToken.objects.get().last_used_at == used
    MCPAccessToken.objects.update(last_used_at=used - timedelta(seconds=61))
    with django_assert_num_queries(2):
        MCPAccessToken.objects.authenticate(secret)


def test_two_processes_record_the_use_once(user: User) -> None:
    token, _ = MCPAccessToken.objects.issue(user, "laptop")
    here, there = MCPAccessToken.objects.get(), MCPAccessToken.objects.get()
    now = timezone.now()
    here.touch(now)
    there.touch(now + timedelta(seconds=30))
    token.refresh_from_db()
    assert token.last_used_at == now


def test_the_live_ones_are_those_that_would_authenticate(user: User) -> None:
    live, _ = MCPAccessToken.objects.issue(user, "live")
    forever, _ = MCPAccessToken.objects.issue(user, "forever", lifetime=UNLIMITED)
    MCPAccessToken.objects.issue(user, "expired", lifetime=timedelta(0))
    MCPAccessToken.objects.issue(user, "revoked")[0].revoke()
    assert set(MCPAccessToken.objects.live()) == {live, forever}


def test_many_are_revoked_at_once_and_counted_once(user: User) -> None:
    for number in range(3):
        MCPAccessToken.objects.issue(user, str(number))
    assert MCPAccessToken.objects.filter(name__in=["0", "1"]).revoke() == 2
    assert MCPAccessToken.objects.all().revoke() == 1


def test_a_database_that_is_down_is_no_unknown_token(user: User) -> None:
    _, secret = MCPAccessToken.objects.issue(user, "laptop")

    def down(*args: object) -> None:
        raise OperationalError("the server is gone")

    with connections["default"].execute_wrapper(down), pytest.raises(StoreUnavailable):
        MCPAccessToken.objects.authenticate(secret)

"""What Redis keeps of a conversation goes with its row, and who keeps a conversation is found by its row."""

import hashlib
from collections.abc import Iterator

import pytest
from django.contrib.auth.models import User
from django.db import transaction
from django.test import override_settings

from django_mcp.core.principal import Principal
from django_mcp.exceptions import ConfigurationError
from django_mcp.models import Conversation
from django_mcp.sessions.stores import Head, Kind, StateStore, state_store, store_of
from django_mcp.testing.state_contract import manifest_of
from tests import services
from tests.redis_stores import cache_of
from tests.services import redis_server

pytestmark = [pytest.mark.services, pytest.mark.django_db(transaction=True)]

BODY = b"what is large enough to be a blob"
STORES = {
    "default": {"BACKEND": "django_mcp.sessions.stores.cache.CacheStore"},
    "old": {"BACKEND": "django_mcp.sessions.stores.database.DatabaseStore"},
}


@pytest.fixture
def redis() -> Iterator[services.Service]:
    with services.redis() as service, cache_of(service), override_settings(DJANGO_MCP={"STORES": STORES}):
        yield service


@pytest.fixture
def user() -> User:
    return User.objects.create_user("alice")


def kept(store: StateStore, user: User, kind: Kind = "conversation") -> Head:
    """Begin a conversation, and commit a value to it."""
    principal = Principal(kind="user", id=str(user.pk))
    head = store.begin(server="s", tenant="", principal=principal, user=user, kind=kind)
    manifest = manifest_of(BODY)
    return store.commit(
        head.conversation,
        base_generation=0,
        manifest=manifest,
        snapshot=hashlib.sha256(manifest).hexdigest(),
        blobs={hashlib.sha256(BODY).hexdigest(): BODY},
    )


def keys_of(redis: services.Service, head: Head) -> set[bytes]:
    """Return the keys of the family, but what a step leaves for a minute."""
    with redis_server.connect(redis) as client:
        found = set(client.scan_iter(match=f"*{head.conversation.family}*"))
    return {key for key in found if b":once:" not in key}


@pytest.mark.parametrize("kind", ["conversation", "user"])
def test_what_a_user_kept_on_redis_goes_with_the_user(redis: services.Service, user: User, kind: Kind) -> None:
    head = kept(state_store(), user, kind)
    assert keys_of(redis, head)
    with transaction.atomic():
        user.delete()
        assert keys_of(redis, head)
    assert not Conversation.objects.exists()
    assert not keys_of(redis, head)


def test_the_blobs_of_a_family_stay_while_a_fork_needs_them(redis: services.Service, user: User) -> None:
    store = state_store()
    head = kept(store, user)
    fork = store.fork(head.conversation)
    Conversation.objects.get(pk=fork.conversation.id).delete()
    assert store.blob(head.conversation, hashlib.sha256(BODY).hexdigest()) == BODY


def test_rows_are_deleted_while_redis_is_away(
    redis: services.Service, user: User, caplog: pytest.LogCaptureFixture
) -> None:
    head = kept(state_store(), user)
    with override_settings(CACHES={"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}):
        user.delete()
    assert not Conversation.objects.exists()
    assert f"conversation {head.conversation.id[:8]} stays there" in caplog.text


def test_who_keeps_a_conversation_is_found_by_its_row(redis: services.Service, user: User) -> None:
    for alias in STORES:
        head = kept(state_store(alias), user)
        assert store_of(Conversation.objects.get(pk=head.conversation.id)) is state_store(alias)
    one = {"STORES": {"default": STORES["default"]}}
    with (
        override_settings(DJANGO_MCP=one),
        pytest.raises(ConfigurationError, match="No store in DJANGO_MCP"),
    ):
        store_of(Conversation.objects.get(store=""))

"""What a Redis forgets that it had acknowledged: nothing older than what somebody has seen is ever served."""

import logging
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from django_mcp.core.principal import Principal
from django_mcp.exceptions import ConversationNotFound, StateLost, StoreUnavailable
from django_mcp.models import Conversation
from django_mcp.models.conversation import ConversationState
from django_mcp.models.session import TOUCH_INTERVAL
from django_mcp.sessions.stores import redis_link
from django_mcp.sessions.stores.cache_state import CacheStateStore
from django_mcp.sessions.stores.state import ConversationRecord, Head
from django_mcp.testing.state_contract import manifest_of, sha256
from tests.redis_stores import cache_on, make_state
from tests.services.redis_server import PrivateRedis, connect

pytestmark = [pytest.mark.services, pytest.mark.django_db(transaction=True)]

CALLER: dict[str, Any] = {"server": "s", "tenant": "", "principal": Principal(kind="user", id="1")}


def begin(store: CacheStateStore, **terms: Any) -> ConversationRecord:
    return store.begin(**{**CALLER, **terms}).conversation


def commit(store: CacheStateStore, record: ConversationRecord, base: int, *blobs: bytes, **values: Any) -> Head:
    manifest = manifest_of(*blobs, **values)
    return store.commit(
        record,
        base_generation=base,
        manifest=manifest,
        snapshot=sha256(manifest),
        blobs={sha256(body): body for body in blobs},
    )


def row_of(record: ConversationRecord) -> Conversation:
    return Conversation.objects.get(pk=record.id)


def restart(server: PrivateRedis) -> None:
    server.kill()
    server.start()


@pytest.fixture(autouse=True)
def beat_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_link, "BEAT_SECONDS", 0.0)


@pytest.fixture
def durable() -> Iterator[PrivateRedis]:
    with PrivateRedis(durable=True) as server:
        yield server


@pytest.fixture
def forgetful() -> Iterator[PrivateRedis]:
    """Run a Redis that has on disk what somebody tells it to save."""
    with PrivateRedis() as server:
        yield server


def save(server: PrivateRedis) -> None:
    with connect(server.service) as client:
        client.save()


def test_where_nothing_acknowledged_is_lost_everything_goes_on(durable: PrivateRedis) -> None:
    with cache_on(durable.service) as cache:
        store = make_state(cache)
        record, own = begin(store), begin(store, kind="user")
        commit(store, record, 0, b"a large value")
        commit(store, own, 0, a=1)
        restart(durable)
        for again in (store, make_state(cache)):
            head = again.find(record.id, **CALLER)
            assert head.manifest == manifest_of(b"a large value")
            assert again.blob(record, sha256(b"a large value")) == b"a large value"
            assert commit(again, record, head.generation, b"a large value").generation == head.generation + 1
            assert again.find_named(kind="user", **CALLER).generation == 1


def test_what_had_commits_that_may_be_lost_ends_and_is_never_older(
    forgetful: PrivateRedis, caplog: pytest.LogCaptureFixture
) -> None:
    with cache_on(forgetful.service) as cache:
        store = make_state(cache)
        record = begin(store)
        commit(store, record, 0, a=1)
        save(forgetful)
        commit(store, record, 1, a=2)
        restart(forgetful)
        with caplog.at_level(logging.ERROR, "django_mcp.stores"):
            for again in (store, make_state(cache)):
                for use in (
                    lambda again=again: again.find(record.id, **CALLER),
                    lambda again=again: again.find_by_handle(str(record.handle), **CALLER),
                    lambda again=again: commit(again, record, 1, a=3),
                    lambda again=again: commit(again, record, 2, a=3),
                    lambda again=again: again.rewind(record, 0),
                    lambda again=again: again.fork(record),
                    lambda again=again: again.revoke_tokens(record),
                ):
                    with pytest.raises(ConversationNotFound):
                        use()
        assert [entry.getMessage() for entry in caplog.records if entry.levelno == logging.ERROR] == [
            f"The store 'redis' lost commits: conversation {record.id[:8]}… of user:1, at generation 1 or later, has "
            "ended for that"
        ]
        row = row_of(record)
        assert (row.state, row.has_lost) == (ConversationState.EXPIRED, True)


@pytest.mark.parametrize("use", ["find", "commit", "rewind", "fork", "revoke_tokens", "find_by_handle"])
def test_each_first_use_of_what_is_in_doubt_ends_it(forgetful: PrivateRedis, use: str) -> None:
    with cache_on(forgetful.service) as cache:
        store = make_state(cache)
        record = begin(store)
        commit(store, record, 0, a=1)
        save(forgetful)
        restart(forgetful)
        uses: dict[str, Any] = {
            "find": lambda: store.find(record.id, **CALLER),
            "find_by_handle": lambda: store.find_by_handle(str(record.handle), **CALLER),
            "commit": lambda: commit(store, record, 1, a=2),
            "rewind": lambda: store.rewind(record, 0),
            "fork": lambda: store.fork(record),
            "revoke_tokens": lambda: store.revoke_tokens(record),
        }
        with pytest.raises(ConversationNotFound):
            uses[use]()
        assert row_of(record).has_lost


def test_what_was_not_used_since_long_before_the_last_beat_goes_on(forgetful: PrivateRedis) -> None:
    with cache_on(forgetful.service) as cache:
        store = make_state(cache)
        idle, busy, empty = (begin(store) for _ in range(3))
        for record in (idle, busy):
            commit(store, record, 0, a=1)
        store.find(busy.id, **CALLER)
        Conversation.objects.filter(pk=idle.id).update(
            last_used_at=timezone.now() - TOUCH_INTERVAL - timedelta(seconds=30)
        )
        save(forgetful)
        restart(forgetful)
        assert store.find(idle.id, **CALLER).manifest == manifest_of(a=1)
        assert commit(store, idle, 1, a=2).generation == 2
        with pytest.raises(ConversationNotFound):
            make_state(cache).find(busy.id, **CALLER)
        assert store.find(empty.id, **CALLER).generation == 0
        assert commit(store, empty, 0, a=1).generation == 1


def test_what_was_adopted_is_in_doubt_again_after_the_next_loss(forgetful: PrivateRedis) -> None:
    with cache_on(forgetful.service) as cache:
        store = make_state(cache)
        record = begin(store)
        commit(store, record, 0, a=1)
        Conversation.objects.filter(pk=record.id).update(
            last_used_at=timezone.now() - TOUCH_INTERVAL - timedelta(seconds=30)
        )
        store.inspect(record.id)
        save(forgetful)
        restart(forgetful)
        assert store.find(record.id, **CALLER).generation == 1
        # Adopted and committed to, which the next restart forgets: what is on disk says nothing of either.
        Conversation.objects.filter(pk=record.id).update(last_used_at=timezone.now())
        assert commit(store, record, 1, a=2).generation == 2
        restart(forgetful)
        with pytest.raises(ConversationNotFound):
            store.find(record.id, **CALLER)
        assert row_of(record).has_lost


def test_a_loss_with_no_beat_that_survived_ends_what_ever_kept_something(forgetful: PrivateRedis) -> None:
    with cache_on(forgetful.service) as cache:
        store = make_state(cache)
        record = begin(store)
        commit(store, record, 0, a=1)
        Conversation.objects.filter(pk=record.id).update(last_used_at=timezone.now() - timedelta(hours=1))
        with connect(forgetful.service) as client:
            client.hdel(store.link.key("epoch"), "beat")
        save(forgetful)
        restart(forgetful)
        with pytest.raises(ConversationNotFound):
            store.find(record.id, **CALLER)


@pytest.mark.parametrize("is_flushed", [True, False], ids=["flush", "restart without a disk"])
def test_what_is_gone_is_not_begun_anew_in_silence(
    forgetful: PrivateRedis, caplog: pytest.LogCaptureFixture, is_flushed: bool
) -> None:
    with cache_on(forgetful.service) as cache:
        store = make_state(cache)
        record, named, own, empty = begin(store), begin(store, name="n"), begin(store, kind="user"), begin(store)
        for each in (record, named, own):
            commit(store, each, 0, a=1)
        if is_flushed:
            with connect(forgetful.service) as client:
                client.flushall()
        else:
            restart(forgetful)
        others = make_state(cache)
        with pytest.raises(ConversationNotFound):
            store.find(record.id, **CALLER)
        with pytest.raises(ConversationNotFound):
            others.find_named("n", **CALLER)
        with pytest.raises(StateLost, match="was lost in a failure of the store"):
            others.find_named(kind="user", **CALLER)
        assert sum("lost commits" in entry.getMessage() for entry in caplog.records) == 3
        with pytest.raises(ConversationNotFound):
            store.find_named(kind="user", **CALLER)
        anew = begin(store, kind="user")
        assert anew.id != own.id
        assert commit(others, anew, 0, a=2).generation == 1
        assert store.find_named(kind="user", **CALLER).manifest == manifest_of(a=2)
        assert store.find_by_handle(str(empty.handle), **CALLER).generation == 0
        assert Conversation.objects.filter(has_lost=True).count() == 3


@pytest.mark.parametrize("use", ["begin", "commit"])
def test_a_loss_of_what_a_user_keeps_is_told_whoever_comes_upon_it(forgetful: PrivateRedis, use: str) -> None:
    with cache_on(forgetful.service) as cache:
        store = make_state(cache)
        own = begin(store, kind="user")
        commit(store, own, 0, a=1)
        with connect(forgetful.service) as client:
            client.flushall()
        with pytest.raises(StateLost):
            begin(store, kind="user") if use == "begin" else commit(store, own, 1, a=2)
        assert begin(store, kind="user").id != own.id


def test_all_processes_find_one_epoch_after_a_flush(forgetful: PrivateRedis) -> None:
    with cache_on(forgetful.service) as cache:
        first = make_state(cache)
        begin(first)
        with connect(forgetful.service) as client:
            client.flushall()
        second = make_state(cache)
        record = begin(second)
        commit(second, record, 0, a=1)
        assert first.find(record.id, **CALLER).generation == 1
        assert commit(first, record, 1, a=2).generation == 2
        assert second.find(record.id, **CALLER).generation == 2


def test_an_outage_is_never_taken_for_an_empty_store(forgetful: PrivateRedis) -> None:
    with cache_on(forgetful.service) as cache:
        store = make_state(cache)
        record = begin(store)
        commit(store, record, 0, b"blob")
        forgetful.kill()
        for ask in (
            lambda: begin(store),
            lambda: store.find(record.id, **CALLER),
            lambda: store.find_by_handle("handle", **CALLER),
            lambda: store.find_named("name", **CALLER),
            lambda: store.inspect(record.id),
            lambda: commit(store, record, 1, b"blob"),
            lambda: store.blob(record, sha256(b"blob")),
            lambda: store.snapshot(record, 0),
            lambda: store.history(record),
            lambda: store.calls(record),
            lambda: store.rewind(record, 0),
            lambda: store.fork(record),
            lambda: store.revoke_tokens(record),
            lambda: store.revoke(record),
        ):
            with pytest.raises(StoreUnavailable):
                ask()
        assert not Conversation.objects.filter(state=ConversationState.ACTIVE).exists()
        forgetful.start()
        with pytest.raises(ConversationNotFound):
            store.find(record.id, **CALLER)

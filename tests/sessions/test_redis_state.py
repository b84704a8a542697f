"""The state store on Redis: the contract, what time and deaths on the way do, and what it costs."""

import dataclasses
import json
import pickle
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any, cast

import pytest
from django.contrib.auth.models import User
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries, Settings
from redis import Redis
from redis.connection import AbstractConnection
from redis.exceptions import ConnectionError as RedisConnectionError

from django_mcp.core.principal import ANONYMOUS, Principal
from django_mcp.exceptions import ConversationNotFound, CorruptBlob, HeadMoved, Overloaded, StoreUnavailable
from django_mcp.models import Conversation
from django_mcp.models.conversation import ConversationState
from django_mcp.models.session import IN_USE
from django_mcp.sessions.stores import redis_state
from django_mcp.sessions.stores.cache_state import CacheStateStore
from django_mcp.sessions.stores.database_state import DatabaseStateStore
from django_mcp.sessions.stores.state import CallNote, Collected, ConversationRecord, Head, StateStore
from django_mcp.testing.state_contract import StateStoreContract, manifest_of, references, sha256
from tests import services
from tests.redis_stores import cache_on, make_state

pytestmark = [pytest.mark.services, pytest.mark.django_db(transaction=True)]

ALICE = Principal(kind="user", id="1")
BOB = Principal(kind="user", id="2")
CALLER: dict[str, Any] = {"server": "s", "tenant": "", "principal": ALICE}
MILLISECONDS_A_DAY = 86_400_000


@pytest.fixture
def cache() -> Iterator[str]:
    with services.redis() as service, cache_on(service) as alias:
        yield alias


@pytest.fixture
def store(cache: str) -> CacheStateStore:
    return make_state(cache)


@pytest.fixture
def client(store: CacheStateStore) -> Redis:
    return client_of(store)


def client_of(store: CacheStateStore) -> Redis:
    client = store.link.client
    assert isinstance(client, Redis)
    return client


def keys_of(client: Redis) -> list[bytes]:
    return cast("list[bytes]", client.keys("*"))


class TestContractOnRedis(StateStoreContract):
    @pytest.fixture
    def store(self, cache: str) -> StateStore:
        return make_state(cache)


@pytest.fixture(scope="module")
def cluster() -> Iterator[services.PrivateRedisCluster]:
    with services.PrivateRedisCluster() as server:
        yield server


class TestContractOnANodeOfACluster(StateStoreContract):
    @pytest.fixture
    def store(self, cluster: services.PrivateRedisCluster) -> Iterator[StateStore]:
        with cache_on(cluster.service) as alias:
            yield make_state(alias)


def begin(store: StateStore, **terms: Any) -> ConversationRecord:
    return store.begin(**{**CALLER, **terms}).conversation


def commit(store: StateStore, record: ConversationRecord, base: int, *blobs: bytes, **values: Any) -> Head:
    manifest = manifest_of(*blobs, **values)
    return store.commit(
        record,
        base_generation=base,
        manifest=manifest,
        snapshot=sha256(manifest),
        blobs={sha256(body): body for body in blobs},
    )


def key(store: CacheStateStore, record: ConversationRecord, *parts: str) -> str:
    return store.link.key(f"f:{record.family}", *parts)


def move_back(store: CacheStateStore, record: ConversationRecord, **ago: float) -> None:
    """Make the last use, in the index and on Redis, as long ago."""
    then = timezone.now() - timedelta(**ago)
    Conversation.objects.filter(pk=record.id).update(last_used_at=then)
    store.link.client.hset(key(store, record, f"c:{record.id}"), "touched", round(then.timestamp() * 1000))


def age_blobs(store: CacheStateStore, record: ConversationRecord) -> None:
    """Make every blob of the family old enough to be collected."""
    name, client = key(store, record, "blobs"), client_of(store)
    for digest in cast("list[bytes]", client.zrange(name, 0, -1)):
        client.zadd(name, {digest: 0})


def look_now() -> None:
    """Make collection look at every conversation."""
    Conversation.objects.update(garbage_at=timezone.now())


def state_of(record: ConversationRecord) -> str:
    return Conversation.objects.get(pk=record.id).state


# Costs


def test_a_warm_conversation_is_read_and_written_without_the_database(
    store: CacheStateStore, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    record, own = begin(store, name="n"), begin(store, kind="user")
    for each in (record, own):
        commit(store, each, 0, a=1)
    fork = store.fork(record).conversation
    commit(store, fork, 1, a=2)
    for other in (store, make_state(store.link.cache)):
        with django_assert_num_queries(0):
            head = other.find(record.id, **CALLER)
            commit(other, record, head.generation, b"large", n=head.generation)
            assert other.find_by_handle(str(record.handle), **CALLER).generation == head.generation + 1
            assert other.find_named("n", **CALLER).generation == head.generation + 1
            assert other.find(fork.id, **CALLER).generation == 2
            assert other.find_by_handle(str(fork.handle), **CALLER).generation == 2
            found = other.find_named(kind="user", **CALLER)
            commit(other, own, found.generation, n=found.generation)
            other.note(record, CallNote(name="note"))
            other.calls(record)
            other.blob(record, sha256(b"large"))
            other.rewind(record, 1)


def test_a_find_is_one_question_and_a_commit_is_one(
    store: CacheStateStore, client: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = begin(store)
    commit(store, record, 0, a=1)
    sent: list[str] = []
    real: Callable[..., Any] = Redis.execute_command

    def listen(self: Redis, *args: Any, **options: Any) -> Any:
        sent.append(args[0])
        return real(self, *args, **options)

    monkeypatch.setattr(Redis, "execute_command", listen)
    monkeypatch.setattr(store.link, "_next_beat", float("inf"))
    store.find(record.id, **CALLER)
    store.find_by_handle(str(record.handle), **CALLER)
    commit(store, record, 1, b"one", b"two")
    assert sent == ["EVALSHA"] * 3


def test_a_use_is_recorded_once_a_minute_and_before_a_commit(
    store: CacheStateStore, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    record = begin(store)
    assert Conversation.objects.get().generation == 0
    commit(store, record, 0, a=1)
    assert Conversation.objects.get().generation == 1
    commit(store, record, 1, a=2)
    uses: list[Callable[[], Head]] = [lambda: store.find(record.id, **CALLER), lambda: commit(store, record, 2, a=3)]
    for use in uses:
        move_back(store, record, seconds=61)
        before = timezone.now()
        use()
        row = Conversation.objects.get()
        assert (row.generation, row.last_used_at >= before - timedelta(seconds=1)) == (2, True)
        with django_assert_num_queries(0):
            store.find(record.id, **CALLER)
    move_back(store, record, seconds=61)
    store.inspect(record.id)
    assert Conversation.objects.get().last_used_at < timezone.now() - timedelta(seconds=60)


def test_no_commit_is_kept_of_what_the_index_cannot_record(
    store: CacheStateStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = begin(store)

    def down(*args: Any, **terms: Any) -> bool:
        raise StoreUnavailable

    monkeypatch.setattr(store.index, "use", down)
    with pytest.raises(StoreUnavailable):
        commit(store, record, 0, a=1)
    monkeypatch.undo()
    assert store.find(record.id, **CALLER).generation == 0
    commit(store, record, 0, a=1)
    move_back(store, record, seconds=61)
    monkeypatch.setattr(store.index, "use", down)
    moves: list[Callable[[], Head]] = [
        lambda: commit(store, record, 1, a=2),
        lambda: store.rewind(record, 0),
        lambda: store.revoke_tokens(record),
    ]
    for moved in moves:
        with pytest.raises(StoreUnavailable):
            moved()
    assert store.inspect(record.id).generation == 1


# What is on Redis


def test_everything_on_redis_ends_but_what_is_documented_and_nothing_is_pickled(
    store: CacheStateStore, client: Redis
) -> None:
    record, own = begin(store, name="n"), begin(store, kind="user")
    for each in (record, own):
        commit(store, each, 0, b"large", a=1)
        store.note(each, CallNote(name="note"))
        store.rewind(each, 0)
    fork = store.fork(record, 1).conversation
    commit(store, fork, 1, b"larger")
    store.revoke_tokens(fork, fingerprint="abc")
    documented = {store.link.key("epoch")}
    for name in ("c", "l", "m", "n"):
        documented.add(key(store, own, f"{name}:{own.id}"))
    documented |= {key(store, own, name) for name in ("members", "blobs", f"b:{sha256(b'large')}")}
    keys = {name.decode() for name in keys_of(client)}
    endless = {name for name in keys if client.pttl(name) == -1}
    assert endless == documented
    for name in keys:
        if client.type(name) == b"string" and ":once:" not in name:
            with pytest.raises(Exception):  # noqa: B017, PT011 - whatever pickle says
                pickle.loads(cast("bytes", client.get(name)))
    assert str(record.handle) not in "".join(keys)


def test_a_conversation_lives_as_long_on_redis_as_it_may_be_used(
    store: CacheStateStore, client: Redis, settings: Settings
) -> None:
    settings.DJANGO_MCP = {"CONVERSATION_SECONDS": 30 * 86_400, "CONVERSATION_IDLE_SECONDS": 7 * 86_400}
    record = begin(store)
    commit(store, record, 0, b"large")
    for name in "clm":
        assert 7 <= client.pttl(key(store, record, f"{name}:{record.id}")) / MILLISECONDS_A_DAY <= 8
    blob = key(store, record, f"b:{sha256(b'large')}")
    assert 30 <= client.pttl(blob) / MILLISECONDS_A_DAY <= 31

    # A fork needs the blobs for its own time, and a longer time that somebody sets is that of what is there too.
    settings.DJANGO_MCP = {"CONVERSATION_SECONDS": 60 * 86_400}
    fork = store.fork(record).conversation
    assert 60 <= client.pttl(blob) / MILLISECONDS_A_DAY <= 61
    commit(store, fork, 1, b"larger")
    settings.DJANGO_MCP = {"CONVERSATION_SECONDS": 90 * 86_400}
    move_back(store, record, seconds=61)
    store.find(record.id, **CALLER)
    for body in (b"large", b"larger"):
        assert 90 <= client.pttl(key(store, record, f"b:{sha256(body)}")) / MILLISECONDS_A_DAY <= 91


def test_a_prolongation_that_died_on_the_way_is_made_at_the_next_touch(
    store: CacheStateStore, client: Redis, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.DJANGO_MCP = {"CONVERSATION_SECONDS": 86_400}
    record = begin(store)
    commit(store, record, 0, b"large")
    settings.DJANGO_MCP = {"CONVERSATION_SECONDS": 30 * 86_400}
    run = store.link.run

    def die(step: Any, *args: Any, **terms: Any) -> Any:
        if step is redis_state.PROLONG:
            raise StoreUnavailable
        return run(step, *args, **terms)

    monkeypatch.setattr(store.link, "run", die)
    move_back(store, record, seconds=61)
    with pytest.raises(StoreUnavailable):
        store.find(record.id, **CALLER)
    monkeypatch.undo()
    move_back(store, record, seconds=61)
    store.find(record.id, **CALLER)
    assert client.pttl(key(store, record, f"b:{sha256(b'large')}")) > 29 * MILLISECONDS_A_DAY


# Answers that are lost


class LostAnswers:
    """Lose the answer to so many commits, after Redis has made them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, count: int) -> None:
        self.left = count
        real: Callable[..., Any] = AbstractConnection.read_response
        lost = self

        def read(connection: AbstractConnection, *args: Any, **options: Any) -> Any:
            answer = real(connection, *args, **options)
            if lost.left and answer == [b"done", [b"done"]]:
                lost.left -= 1
                raise RedisConnectionError("the answer is lost")
            return answer

        monkeypatch.setattr(AbstractConnection, "read_response", read)


def test_a_commit_whose_answer_is_lost_is_sent_again_and_made_once(
    store: CacheStateStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = begin(store)
    commit(store, record, 0, a=1)
    lost = LostAnswers(monkeypatch, 2)
    assert commit(store, record, 1, b"large", a=2).generation == 2
    assert lost.left == 0
    assert [line.number for line in store.history(record)] == [2, 1]


def test_a_commit_that_runs_each_time_it_is_sent_is_caught(
    store: CacheStateStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = begin(store)
    commit(store, record, 0, a=1)
    monkeypatch.setattr(redis_state, "COMMIT", dataclasses.replace(redis_state.COMMIT, writes=False))
    LostAnswers(monkeypatch, 1)
    with pytest.raises(HeadMoved):
        commit(store, record, 1, a=2)


# Users and time


def test_a_conversation_of_a_user_is_found_by_that_user_while_active(store: CacheStateStore) -> None:
    user, other = User.objects.create_user("alice"), User.objects.create_user("bob")
    terms = {**CALLER, "user": user}
    record = begin(store, user=user)
    assert store.find(record.id, **terms).conversation == store.inspect(record.id).conversation
    for wrong in (None, other, User(pk=user.pk, is_active=False)):
        with pytest.raises(ConversationNotFound):
            store.find(record.id, **{**CALLER, "user": wrong})
    assert state_of(record) == ConversationState.ACTIVE
    begin(store, kind="user", user=user)
    with pytest.raises(ConversationNotFound):
        begin(store, kind="user", user=other)
    anonymous = begin(store, principal=ANONYMOUS)
    assert store.find(anonymous.id, **{**CALLER, "principal": ANONYMOUS}).generation == 0


@pytest.mark.parametrize(("fine", "over"), [(6.9, 7)])
def test_a_conversation_ends_by_the_clock(store: CacheStateStore, fine: float, over: float) -> None:
    record = begin(store)
    move_back(store, record, days=fine)
    assert store.find(record.id, **CALLER).generation == 0
    move_back(store, record, days=over)
    with pytest.raises(ConversationNotFound):
        store.find(record.id, **CALLER)
    assert state_of(record) == ConversationState.EXPIRED
    with pytest.raises(ConversationNotFound):
        commit(store, record, 0, a=1)


def test_what_the_index_knows_to_be_used_does_not_end_by_the_clock_of_redis(store: CacheStateStore) -> None:
    record = begin(store)
    move_back(store, record, days=8)
    Conversation.objects.update(last_used_at=timezone.now())
    assert store.find(record.id, **CALLER).generation == 0


def test_what_redis_has_dropped_when_its_time_was_over_is_not_lost(store: CacheStateStore, client: Redis) -> None:
    record = begin(store)
    commit(store, record, 0, a=1)
    move_back(store, record, days=9)
    client.delete(key(store, record, f"c:{record.id}"))
    with pytest.raises(ConversationNotFound):
        store.find(record.id, **CALLER)
    row = Conversation.objects.get()
    assert (row.state, row.has_lost) == (ConversationState.EXPIRED, False)


def test_the_state_of_a_user_has_no_clock(store: CacheStateStore) -> None:
    record = begin(store, kind="user")
    commit(store, record, 0, a=1)
    move_back(store, record, days=400)
    Conversation.objects.update(created_at=timezone.now() - timedelta(days=400))
    store.collect(references)
    assert store.find_named(kind="user", **CALLER).conversation.id == record.id


# Ends


@pytest.mark.parametrize("end", ["expire", "revoke"])
@pytest.mark.parametrize("healing", ["again", "touch", "collect"])
def test_an_end_that_died_half_way_is_completed(
    store: CacheStateStore, monkeypatch: pytest.MonkeyPatch, end: str, healing: str
) -> None:
    record = begin(store)
    commit(store, record, 0, a=1)

    def die(*args: Any) -> None:
        raise StoreUnavailable

    monkeypatch.setattr(store.remote, "end", die)
    with pytest.raises(StoreUnavailable):
        getattr(store, end)(record)
    monkeypatch.undo()
    assert state_of(record) != ConversationState.ACTIVE
    assert store.find(record.id, **CALLER).generation == 1
    if healing == "again":
        assert not store.expire(record)
    elif healing == "touch":
        move_back(store, record, seconds=61)
        with pytest.raises(ConversationNotFound):
            commit(store, record, 1, a=2)
    else:
        store.collect(references)
    with pytest.raises(ConversationNotFound):
        store.find(record.id, **CALLER)
    with pytest.raises(ConversationNotFound):
        commit(store, record, 1, a=2)


def test_what_makes_room_ends_on_redis_too(store: CacheStateStore, settings: Settings) -> None:
    settings.DJANGO_MCP = {"MAX_CONVERSATIONS_PER_PRINCIPAL": 3}
    busy, idle, empty = (begin(store) for _ in range(3))
    commit(store, idle, 0, a=1)
    for record in (idle, empty):
        move_back(store, record, seconds=IN_USE.total_seconds() + 1)
    for gone in (empty, idle):
        commit(store, begin(store), 0, a=1)
        assert state_of(gone) == ConversationState.EXPIRED
        with pytest.raises(ConversationNotFound):
            commit(store, gone, 1 if gone is idle else 0, a=2)
    with pytest.raises(Overloaded, match="Too many conversations"):
        begin(store)
    assert state_of(busy) == ConversationState.ACTIVE


def test_what_cannot_be_begun_on_redis_is_not_begun(store: CacheStateStore, monkeypatch: pytest.MonkeyPatch) -> None:
    record = begin(store)
    commit(store, record, 0, a=1)

    def die(*args: Any, **terms: Any) -> None:
        raise StoreUnavailable

    for name, use in (("begin", lambda: begin(store)), ("fork", lambda: store.fork(record))):
        monkeypatch.setattr(store.remote, name, die)
        with pytest.raises(StoreUnavailable):
            use()
        monkeypatch.undo()
    assert [row.pk for row in Conversation.objects.active()] == [record.id]


def test_a_begin_that_died_half_way_is_found_empty(store: CacheStateStore, client: Redis) -> None:
    record = begin(store, kind="user")
    client.flushdb()
    found = make_state(store.link.cache).find_named(kind="user", **CALLER)
    assert (found.conversation.id, found.generation) == (record.id, 0)
    assert commit(store, record, 0, a=1).generation == 1


# Beside another store


def test_each_store_counts_ends_and_collects_its_own(store: CacheStateStore, settings: Settings) -> None:
    settings.DJANGO_MCP = {"MAX_CONVERSATIONS_PER_PRINCIPAL": 2}
    database = DatabaseStateStore("default", {})
    stores: list[StateStore] = [store, database]
    names: dict[StateStore, str] = {store: "n", database: "m"}
    third: dict[StateStore, dict[str, Any]] = {store: {"kind": "user"}, database: {"tenant": "t"}}
    records = [[begin(each, name=names[each]), begin(each, **third[each]), begin(each)] for each in stores]
    for mine, other, own in ((store, database, records[0]), (database, store, records[1])):
        assert begin(mine, name=names[mine]).id == own[0].id
        for record in own:
            commit(mine, record, 0, b"large")
            with pytest.raises(ConversationNotFound):
                other.find(record.id, **CALLER)
            with pytest.raises(ConversationNotFound):
                other.inspect(record.id)
            with pytest.raises(ConversationNotFound):
                other.find_by_handle(str(record.handle), **CALLER)
            assert not other.revoke(record)
        with pytest.raises(Overloaded):
            begin(mine)
    Conversation.objects.update(last_used_at=timezone.now() - timedelta(days=8))
    assert database.collect(references).expired == 3
    assert [state_of(record) for record in records[0]] == ["active"] * 3
    assert store.collect(references).expired == 2
    assert [state_of(record) for record in records[0]] == ["expired", "active", "expired"]


def test_all_of_the_store_have_a_cap(cache: str) -> None:
    store = make_state(cache, MAX_CONVERSATIONS=2)
    first = begin(store)
    begin(store, principal=BOB)
    begin(DatabaseStateStore("default", {}), principal=BOB)
    for refused in (lambda: begin(store, tenant="other"), lambda: store.fork(first)):
        with pytest.raises(Overloaded, match="Too many conversations") as caught:
            refused()
        assert caught.value.scope == "global"


# Collection


def test_blobs_that_no_kept_generation_needs_are_collected_when_they_are_old(
    store: CacheStateStore, client: Redis, settings: Settings
) -> None:
    settings.DJANGO_MCP = {"STATE_HISTORY": 2}
    record = begin(store)
    page = manifest_of(b"in the page")
    manifest = manifest_of(b"early", pages=(page,))
    early = {sha256(body): body for body in (b"early", b"in the page", page)}
    store.commit(record, base_generation=0, manifest=manifest, snapshot=sha256(manifest), blobs=early)
    for base in range(1, 10):
        commit(store, record, base, b"late", b"%d" % base)
    assert client.hlen(key(store, record, f"m:{record.id}")) == 2
    assert store.collect(references) == Collected()
    move_back(store, record, seconds=61)
    store.find(record.id, **CALLER)
    assert Conversation.objects.get().garbage_at is not None
    assert store.collect(references) == Collected()
    assert client.zcard(key(store, record, "blobs")) == 3 + 1 + 9

    age_blobs(store, record)
    look_now()
    dry = store.collect(references, dry_run=True)
    assert client.zcard(key(store, record, "blobs")) == 13
    done = store.collect(references)
    assert done == dry
    assert (done.blobs, done.bytes) == (10, sum(map(len, early.values())) + 7)
    names = set(client.zrange(key(store, record, "blobs"), 0, -1))
    assert names == {sha256(body).encode() for body in (b"late", b"8", b"9")}
    assert sum(b"}:b:" in name for name in keys_of(client)) == 3
    assert store.collect(references) == Collected()
    assert Conversation.objects.get().garbage_at is None


def test_a_blob_that_a_commit_supplies_again_is_young_again(store: CacheStateStore, settings: Settings) -> None:
    settings.DJANGO_MCP = {"STATE_HISTORY": 1}
    record = begin(store)
    commit(store, record, 0, b"a large value")
    commit(store, record, 1, a=1)
    age_blobs(store, record)
    commit(store, record, 2, b"a large value")
    commit(store, record, 3, a=1)
    look_now()
    assert store.collect(references).blobs == 0
    assert store.blob(record, sha256(b"a large value"))


def test_a_generation_that_is_rewound_to_and_cut_while_it_is_marked_keeps_its_blobs(
    store: CacheStateStore, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.DJANGO_MCP = {"STATE_HISTORY": 2}
    record = begin(store)
    commit(store, record, 0, b"a large value")
    commit(store, record, 1, a=1)
    age_blobs(store, record)
    look_now()
    read, moved = store.remote.manifests, list[int]()

    def move_before_manifests_are_read(chosen: Any) -> Any:
        if not moved:
            moved.append(store.rewind(record, 1).generation)
        return read(chosen)

    monkeypatch.setattr(store.remote, "manifests", move_before_manifests_are_read)
    assert store.collect(references).blobs == 0
    assert moved == [3]
    assert store.blob(record, sha256(b"a large value")) == b"a large value"


def test_a_fork_keeps_what_its_origin_has_given_up(store: CacheStateStore, client: Redis) -> None:
    record = begin(store)
    commit(store, record, 0, b"of both")
    commit(store, record, 1, b"of the origin")
    fork = store.fork(record, 1).conversation
    commit(store, fork, 1, b"of both", b"of the fork")
    store.revoke(record)
    age_blobs(store, record)
    collected = store.collect(references)
    assert (collected.snapshots, collected.blobs, collected.bytes) == (2, 1, 13)
    assert store.blobs(fork, [sha256(b"of both"), sha256(b"of the fork")])
    store.revoke(fork)
    collected = store.collect(references)
    assert (collected.snapshots, collected.blobs) == (2, 2)
    left = [name for name in keys_of(client) if record.family.encode() in name and b":once:" not in name]
    assert left == []


def test_what_is_due_ends_and_what_ended_long_ago_is_forgotten(store: CacheStateStore) -> None:
    due, live, ended, root = (begin(store) for _ in range(4))
    fork = store.fork(root).conversation
    for record in (due, ended):
        commit(store, record, 0, b"a large value")
    move_back(store, due, days=8)
    store.revoke(ended)
    store.expire(root)
    assert store.collect(references, dry_run=True).expired == 1
    first = store.collect(references)
    assert (first.expired, first.conversations, first.snapshots) == (1, 0, 2)
    with pytest.raises(CorruptBlob, match="is missing"):
        store.inspect(ended.id)
    for record in (due, ended):
        age_blobs(store, record)
    look_now()
    store.collect(references)
    for record in (ended, root):
        Conversation.objects.filter(pk=record.id).update(ended_at=timezone.now() - timedelta(days=15))
    assert store.collect(references, dry_run=True).conversations == 1
    assert store.collect(references).conversations == 1
    left = set(Conversation.objects.values_list("pk", flat=True))
    assert left == {due.id, live.id, root.id, fork.id}


@pytest.mark.parametrize("damage", ["page", "manifest"])
def test_a_family_whose_manifest_cannot_be_read_keeps_everything(
    store: CacheStateStore, client: Redis, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    record = begin(store)
    page = manifest_of(b"in the page")
    manifest = manifest_of(pages=(page,))
    blobs = {sha256(body): body for body in (page, b"in the page", b"garbage")}
    store.commit(record, base_generation=0, manifest=manifest, snapshot=sha256(manifest), blobs=blobs)
    if damage == "page":
        client.set(key(store, record, f"b:{sha256(page)}"), b"{}", keepttl=True)
    else:
        client.hset(key(store, record, f"m:{record.id}"), "1", json.dumps({}))
    age_blobs(store, record)
    look_now()
    assert store.collect(references).blobs == 0
    assert client.zcard(key(store, record, "blobs")) == 3
    assert "keeps all its blobs, since a manifest cannot be read" in caplog.text


def test_a_head_whose_manifest_is_damaged_or_missing_is_corrupt_and_not_empty(
    store: CacheStateStore, client: Redis
) -> None:
    record = begin(store)
    commit(store, record, 0, a=1)
    client.hset(key(store, record, f"m:{record.id}"), "1", b"{}")
    with pytest.raises(CorruptBlob, match="does not hash to its name"):
        store.find(record.id, **CALLER)
    client.delete(key(store, record, f"m:{record.id}"))
    with pytest.raises(CorruptBlob, match=r"of generation 1 of .* is missing"):
        store.find(record.id, **CALLER)

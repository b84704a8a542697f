"""The database store behind a cache: the contract on every kind of cache, and that none of them is believed."""

import random
from collections.abc import Iterator
from typing import Any

import pytest
from django.core.cache import caches
from django.core.cache.backends.locmem import LocMemCache
from django.db import OperationalError, connections
from pytest_django import DjangoAssertNumQueries, Settings

from django_mcp.exceptions import ConfigurationError, CorruptBlob, StoreUnavailable
from django_mcp.models import Blob
from django_mcp.sessions.stores import state_store
from django_mcp.sessions.stores.blob_cache import PAUSE_SECONDS
from django_mcp.sessions.stores.cached_database import CachedDatabaseStateStore, CachedDatabaseStore
from django_mcp.sessions.stores.state import ConversationRecord, Head, StateStore
from django_mcp.testing.state_contract import StateStoreContract, manifest_of, sha256
from tests import services
from tests.databases import together
from tests.sessions.calls import ALICE, Call, values_of

VALUE = b"a large value"
OTHER = b"another large value"
BACKEND = "django_mcp.sessions.stores.cached_database.CachedDatabaseStore"


class LosingCache(LocMemCache):
    """Lose half of all there is, at random."""

    def get_many(self, keys: Any, version: int | None = None) -> dict[Any, Any]:
        for key in keys:
            if random.random() < 0.5:
                self.delete(key, version)
        return super().get_many(keys, version)


class BrokenCache(LocMemCache):
    """Raise whatever is asked of it, and count that."""

    asked = 0

    def get(self, key: Any, default: Any = None, version: int | None = None) -> Any:
        type(self).asked += 1
        raise ConnectionError("it is away")

    def set(self, *args: Any, **kwargs: Any) -> None:
        type(self).asked += 1
        raise ConnectionError("it is away")


def make(alias: str = "default", **options: Any) -> CachedDatabaseStateStore:
    return CachedDatabaseStateStore(alias, {"OPTIONS": options})


def begin(store: StateStore) -> ConversationRecord:
    return store.begin(**ALICE.owner).conversation


def commit(store: StateStore, record: ConversationRecord, base: int, *blobs: bytes) -> Head:
    manifest = manifest_of(*blobs)
    return store.commit(
        record,
        base_generation=base,
        manifest=manifest,
        snapshot=sha256(manifest),
        blobs={sha256(body): body for body in blobs},
    )


def use(settings: Settings, backend: str, **params: Any) -> None:
    settings.CACHES = {"default": {"BACKEND": backend, **params}}
    caches["default"].clear()


@pytest.fixture(scope="module")
def redis_url() -> Iterator[str]:
    with services.redis() as service:
        yield f"redis://{service.host}:{service.port}/{service.database}"


@pytest.fixture
def local(settings: Settings) -> None:
    use(settings, "django.core.cache.backends.locmem.LocMemCache", LOCATION="cached-database")


def kept() -> dict[str, Any]:
    """Return what the local cache has, by key."""
    cache: Any = caches["default"]
    keys = [key.removeprefix(":1:") for key in cache._cache]
    return dict(cache.get_many(keys))


@pytest.mark.django_db(transaction=True)
class Contract(StateStoreContract):
    @pytest.fixture
    def store(self) -> StateStore:
        return make()


@pytest.mark.usefixtures("local")
class TestContractWithLocalMemory(Contract):
    pass


class TestContractWithACacheThatLoses(Contract):
    @pytest.fixture(autouse=True)
    def cached(self, settings: Settings) -> None:
        use(settings, f"{__name__}.LosingCache", LOCATION="losing")


class TestContractWithACacheThatRaises(Contract):
    @pytest.fixture(autouse=True)
    def cached(self, settings: Settings) -> None:
        settings.CACHES = {"default": {"BACKEND": f"{__name__}.BrokenCache"}}


@pytest.mark.services
class TestContractWithRedis(Contract):
    @pytest.fixture(autouse=True)
    def cached(self, settings: Settings, redis_url: str) -> Iterator[None]:
        use(settings, "django_redis.cache.RedisCache", LOCATION=redis_url)
        yield
        caches["default"].close()

    def test_what_is_read_twice_is_read_from_redis(
        self, store: StateStore, django_assert_num_queries: DjangoAssertNumQueries
    ) -> None:
        record = begin(store)
        commit(store, record, 0, VALUE, OTHER)
        names = [sha256(VALUE), sha256(OTHER)]
        store.blobs(record, names)
        with django_assert_num_queries(0):
            assert store.blobs(record, names) == {names[0]: VALUE, names[1]: OTHER}

    def test_what_django_redis_cannot_read_is_overwritten(
        self, store: StateStore, django_assert_num_queries: DjangoAssertNumQueries
    ) -> None:
        record = begin(store)
        commit(store, record, 0, VALUE)
        store.blob(record, sha256(VALUE))
        client = caches["default"].client.get_client()  # type: ignore[attr-defined]
        (key,) = client.keys("*")
        for foreign in (b"not a pickle", b"5", b""):
            client.set(key, foreign)
            assert store.blob(record, sha256(VALUE)) == VALUE
            with django_assert_num_queries(0):
                assert store.blob(record, sha256(VALUE)) == VALUE
        assert 0 < client.ttl(key) <= 3_600


# Costs


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("local")
def test_a_warm_call_costs_one_query(django_assert_num_queries: DjangoAssertNumQueries) -> None:
    store = make()
    record = begin(store)
    commit(store, record, 0, VALUE, OTHER)
    names = [sha256(OTHER), sha256(VALUE)]
    for queries in (2, 1, 1):
        with django_assert_num_queries(queries):
            head = store.find(record.id, **ALICE.owner)
            assert list(store.blobs(head.conversation, names).items()) == [(names[0], OTHER), (names[1], VALUE)]
    commit(store, record, 1, VALUE, b"new")
    with django_assert_num_queries(1):
        assert store.find(record.id, **ALICE.owner).manifest == manifest_of(VALUE, b"new")
    with django_assert_num_queries(1) as captured:
        store.blobs(record, [*names, sha256(b"new")])
    assert sha256(VALUE) not in captured.captured_queries[0]["sql"]


# The cache is not believed


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("local")
@pytest.mark.parametrize("foreign", [b"", b"a large walue", "a large value", 5, None, ["a"]])
def test_a_value_that_is_another_is_a_miss_and_is_overwritten(foreign: Any) -> None:
    store = make()
    record = begin(store)
    commit(store, record, 0, VALUE)
    store.blob(record, sha256(VALUE))
    (key,) = kept()
    caches["default"].set(key, foreign)
    assert store.blob(record, sha256(VALUE)) == VALUE
    assert kept() == {key: VALUE}


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("local")
def test_what_is_corrupt_or_missing_is_not_cached() -> None:
    store = make()
    record = begin(store)
    manifest = manifest_of()
    blobs = {sha256(b"name"): b"body"}
    store.commit(record, base_generation=0, manifest=manifest, snapshot=sha256(manifest), blobs=blobs)
    for digest in (sha256(b"name"), sha256(b"unknown"), "", "x" * 10_000):
        with pytest.raises(CorruptBlob):
            store.blob(record, digest)
    assert kept() == {}


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("local")
def test_nothing_is_shared_between_families_stores_and_projects(settings: Settings) -> None:
    store = make()
    mine, other = begin(store), begin(store)
    commit(store, mine, 0, VALUE)
    commit(store, other, 0, OTHER)
    store.blob(mine, sha256(VALUE))
    with pytest.raises(CorruptBlob, match="is missing"):
        store.blob(other, sha256(VALUE))
    second = make("second")
    second.blob(mine, sha256(VALUE))
    settings.DJANGO_MCP = {"KEY_PREFIX": "another"}
    store.blob(mine, sha256(VALUE))
    keys = sorted(kept())
    assert len(keys) == len({key.split(":")[2] + key.split(":")[0] for key in keys}) == 3
    assert [key.split(":")[0] for key in keys] == ["another", "django_mcp", "django_mcp"]
    assert max(map(len, keys)) < 200
    assert mine.id not in "".join(keys)


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("local")
def test_a_fork_shares_what_its_family_has_cached(django_assert_num_queries: DjangoAssertNumQueries) -> None:
    store = make()
    record = begin(store)
    commit(store, record, 0, VALUE)
    store.blob(record, sha256(VALUE))
    fork = store.fork(record).conversation
    with django_assert_num_queries(0):
        assert store.blob(fork, sha256(VALUE)) == VALUE


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("local")
def test_what_is_too_large_is_not_cached() -> None:
    store = make(CACHE_MAX_BYTES=len(VALUE))
    record = begin(store)
    commit(store, record, 0, VALUE, OTHER)
    assert store.blobs(record, [sha256(VALUE), sha256(OTHER)]) == {sha256(VALUE): VALUE, sha256(OTHER): OTHER}
    assert list(kept().values()) == [VALUE]


@pytest.mark.django_db(transaction=True)
def test_a_cache_that_is_away_is_left_alone_for_a_moment(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    settings.CACHES = {"default": {"BACKEND": f"{__name__}.BrokenCache"}}
    monkeypatch.setattr(BrokenCache, "asked", 0)
    store = make()
    record = begin(store)
    commit(store, record, 0, VALUE)
    for _ in range(10):
        assert store.blob(record, sha256(VALUE)) == VALUE
    assert BrokenCache.asked == 2
    assert "The cache 'default' is left alone for 5 s: it is away" in caplog.text
    monkeypatch.setattr(store._cache, "_pause_until", store._cache._pause_until - PAUSE_SECONDS)
    assert store.blob(record, sha256(VALUE)) == VALUE
    assert BrokenCache.asked == 4


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("local")
def test_an_outage_of_the_database_is_one_of_the_store_whatever_is_cached() -> None:
    def down(*args: object) -> None:
        raise OperationalError("the server is gone")

    store = make()
    record = begin(store)
    commit(store, record, 0, VALUE)
    store.blob(record, sha256(VALUE))
    with connections["default"].execute_wrapper(down):
        with pytest.raises(StoreUnavailable):
            store.find(record.id, **ALICE.owner)
        with pytest.raises(StoreUnavailable):
            store.blob(record, sha256(OTHER))


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("local")
def test_collection_does_not_believe_the_cache_either() -> None:
    store = make()
    record = begin(store)
    commit(store, record, 0, VALUE)
    store.blob(record, sha256(VALUE))
    Blob.objects.all().delete()
    assert store.blob(record, sha256(VALUE)) == VALUE
    caches["default"].clear()
    with pytest.raises(CorruptBlob, match="is missing"):
        store.blob(record, sha256(VALUE))


# Many at once


def test_a_large_counter_that_64_callers_increment_is_exact(
    concurrent_database: str, settings: Settings, redis_url: str
) -> None:
    use(settings, "django_redis.cache.RedisCache", LOCATION=redis_url)
    store = make(USING=concurrent_database)
    record = begin(store)

    def work(number: int) -> None:
        for _ in range(5):
            call = Call(store, store.find(record.id, **ALICE.owner))
            call.state.update("count", lambda count: {"n": count["n"] + 1, "pad": "x" * 500}, {"n": 0})
            call.commit()
        caches.close_all()

    assert together(64, work) == [None] * 64
    head = store.find(record.id, **ALICE.owner)
    assert (head.generation, values_of(store, head)["count"]["n"]) == (320, 320)


# Settings


def test_the_store_is_named_in_the_settings(settings: Settings) -> None:
    settings.DJANGO_MCP = {"STORES": {"default": {"BACKEND": BACKEND, "OPTIONS": {"CACHE": "default"}}}}
    assert isinstance(state_store(), CachedDatabaseStateStore)
    with pytest.raises(ConfigurationError, match=r"unknown keys \['CACHES'\]; the known ones are BLOBS,.* CACHE,"):
        CachedDatabaseStore("default", {"OPTIONS": {"CACHES": "default"}})
    for wrong in (0, "1", True, None):
        with pytest.raises(ConfigurationError, match="it must be a whole number, 1 or more"):
            CachedDatabaseStore("default", {"OPTIONS": {"CACHE_MAX_BYTES": wrong}})


@pytest.mark.parametrize(
    ("backend", "said"),
    [
        ("locmem.LocMemCache", "a LocMemCache, which is each process's own"),
        ("dummy.DummyCache", "a DummyCache, which keeps nothing"),
        ("db.DatabaseCache", "a DatabaseCache, which asks a database as the store itself does"),
        ("filebased.FileBasedCache", "a FileBasedCache, which deletes at random and is one machine's own"),
        ("redis.RedisCache", None),
    ],
)
def test_a_pointless_cache_is_warned_of(settings: Settings, backend: str, said: str | None) -> None:
    settings.CACHES = {"fast": {"BACKEND": f"django.core.cache.backends.{backend}", "LOCATION": "place"}}
    messages = list(CachedDatabaseStore("default", {"OPTIONS": {"CACHE": "fast"}}).check())
    assert [(message.id, message.msg) for message in messages] == (
        [] if said is None else [("django_mcp.W007", f"The store 'default' uses the cache 'fast', {said}.")]
    )
    assert all(message.hint for message in messages)


def test_a_cache_that_is_not_there_is_an_error(settings: Settings) -> None:
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.dummy.DummyCache"}}
    (message,) = CachedDatabaseStore("default", {"OPTIONS": {"CACHE": "fast"}}).check()
    assert message.id == "django_mcp.E012"
    assert message.msg.startswith("The store 'default' uses the cache 'fast', which cannot be had from CACHES:")
    assert message.hint == "Set DJANGO_MCP['STORES']['default']['OPTIONS']['CACHE'] to one of ['default']."

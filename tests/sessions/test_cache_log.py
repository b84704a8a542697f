"""The log store on Redis: the contract on a server and on a cluster, what it keeps and for how long, outages."""

import secrets
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from redis import RedisCluster

from django_mcp.core.principal import ANONYMOUS, Principal, scope_digest
from django_mcp.exceptions import ConfigurationError, OutputLimit, Overloaded, StoreUnavailable
from django_mcp.sessions.stores import CallHold, Claimed, LogStore, NewCall, Running
from django_mcp.sessions.stores.base import EVERYTHING
from django_mcp.sessions.stores.cache import CacheStore
from django_mcp.sessions.stores.cache_abandoned_calls import ABANDONED
from django_mcp.sessions.stores.cache_places import Place
from django_mcp.sessions.stores.cache_standing_calls import CALL_LIFE, due_tag
from django_mcp.sessions.stores.cache_streams import POST_BYTES, POST_LIFE
from django_mcp.sessions.stores.redis_link import RedisLink
from django_mcp.testing.store_contracts import LogStoreContract
from tests import services
from tests.redis_stores import cache_of, contents, make_log
from tests.services.redis_server import connect

pytestmark = pytest.mark.services


@pytest.fixture
def redis() -> Iterator[services.Service]:
    with services.redis() as service, cache_of(service):
        yield service


@pytest.fixture(scope="module")
def one_node_cluster() -> Iterator[services.Service]:
    with services.PrivateRedisCluster() as server:
        yield server.service


class TestContractOnRedis(LogStoreContract):
    @pytest.fixture
    def store(self, redis: services.Service) -> Iterator[LogStore]:
        made = make_log()
        yield made
        with connect(redis) as client:
            found = contents(client)
        # The epoch alone lasts: a conversation that has no clock is of it.
        assert {key for key, (life, _) in found.items() if life < 0} <= {made.link.key("epoch").encode()}
        pickles = [key for key, (_, values) in found.items() for value in values if value[:1] == b"\x80"]
        assert pickles == []


class TestContractOnACluster(LogStoreContract):
    @pytest.fixture
    def store(self, one_node_cluster: services.Service) -> Iterator[LogStore]:
        with cache_of(one_node_cluster):
            yield make_log()


class TestContractThroughTheClientOfClusters(LogStoreContract):
    @pytest.fixture
    def store(self, one_node_cluster: services.Service, monkeypatch: pytest.MonkeyPatch) -> Iterator[LogStore]:
        client = RedisCluster(host=one_node_cluster.host, port=one_node_cluster.port)
        monkeypatch.setattr(RedisLink, "client", client)
        yield make_log()
        client.close()


# What is counted, and for how long it is kept

ALICE = Principal(kind="user", id="1")
SCOPE = scope_digest("", ALICE)
MINUTE = 60_000


@pytest.fixture
def store(redis: services.Service) -> CacheStore:
    return make_log()


@pytest.fixture
def session() -> str:
    return secrets.token_hex(32)


def begin(
    store: LogStore, session: str | None, stream: str = "", *, lease_seconds: float = 30, **terms: Any
) -> CallHold:
    (hold,) = store.begin_calls(
        "s",
        "scope",
        [NewCall(request_id="1", **terms)],
        owner="one",
        lease_seconds=lease_seconds,
        session=session,
        stream=stream,
    )
    return hold


def raw(store: CacheStore) -> Any:
    return store.link.client


def key(store: CacheStore, session: str, name: str) -> str:
    return store.link.key(f"s:{session}", name)


def life(store: CacheStore, session: str, name: str) -> int:
    lives: int = raw(store).pttl(key(store, session, name))
    return lives


def test_the_bytes_of_open_post_streams_are_counted_exactly(store: CacheStore, session: str) -> None:
    def held() -> int:
        return int(raw(store).hget(key(store, session, "outlet"), "bytes"))

    first, second = (store.open_stream(session, "post") for _ in range(2))
    store.open_stream(session, "standalone")
    store.push(session, [b"not counted"])
    calls = [begin(store, session, first) for _ in range(2)]
    store.append(session, first, [b"12345"])
    store.append(session, second, [b"123"])
    assert held() == 8
    store.finish_call(calls[0], "succeeded", event=b"12")
    assert held() == 10
    store.finish_call(calls[1], "succeeded", event=b"12")
    assert held() == 3
    store.append(session, second, [b"ordinary", b"terminal"], close=True)
    assert held() == 0


def test_the_bytes_of_a_stream_that_is_gone_are_found_again_when_there_is_no_room(
    store: CacheStore, session: str
) -> None:
    part = POST_BYTES // 4
    streams = [store.open_stream(session, "post") for _ in range(5)]
    for stream in streams[:4]:
        store.append(session, stream, [b"x" * part])
    with pytest.raises(OutputLimit):
        store.append(session, streams[4], [b"x"])
    raw(store).delete(*(key(store, session, f"{kind}:{streams[0]}") for kind in ("stream", "events")))
    assert store.append(session, streams[4], [b"x"]) == 1


def test_what_a_standalone_stream_shed_is_not_in_redis(store: CacheStore, session: str) -> None:
    stream = store.open_stream(session, "standalone")
    store.push(session, [b"x"] * 1_500)
    store.push(session, [b"y" * 10])
    events = key(store, session, f"events:{stream}")
    assert raw(store).xlen(events) == 1_000
    found = raw(store).hmget(key(store, session, f"stream:{stream}"), "first", "last", "size")
    assert found == [b"502", b"1501", b"1009"]


def test_a_closed_stream_lives_for_its_time_and_an_open_one_is_kept_by_what_is_written(
    store: CacheStore, session: str
) -> None:
    closed, open_ = (store.open_stream(session, "post") for _ in range(2))
    store.append(session, closed, [b"1"], close=True)
    store.append(session, open_, [b"1"])
    for kind in ("stream", "events"):
        assert 14 * MINUTE < life(store, session, f"{kind}:{closed}") <= 15 * MINUTE
        assert life(store, session, f"{kind}:{open_}") > POST_LIFE - MINUTE
        raw(store).pexpire(key(store, session, f"{kind}:{open_}"), MINUTE)
    raw(store).pexpire(key(store, session, "outlet"), MINUTE)
    store.append(session, open_, [b"2"])
    for kind in ("stream", "events"):
        assert life(store, session, f"{kind}:{open_}") > POST_LIFE - MINUTE
    assert life(store, session, "outlet") > POST_LIFE


def test_a_stream_of_which_redis_let_go_of_events_is_not_served_with_a_gap(store: CacheStore, session: str) -> None:
    stream = store.open_stream(session, "post")
    store.append(session, stream, [b"1"])
    assert store.read_stream(session, stream, 1) is not None
    raw(store).delete(key(store, session, f"events:{stream}"))
    assert store.read_stream(session, stream) is None
    store.append(session, stream, [b"2"])
    assert store.read_stream(session, stream) is None


def test_a_call_is_kept_while_it_is_renewed_and_its_stream_with_it(store: CacheStore, session: str) -> None:
    stream = store.open_stream(session, "post")
    hold = begin(store, session, stream)
    store.append(session, stream, [b"1"], hold=hold)
    names = (f"call:{hold.id}", f"stream:{stream}", f"events:{stream}")
    for name in names:
        raw(store).pexpire(key(store, session, name), MINUTE)
    store.renew_calls("one", [hold], lease_seconds=30)
    assert all(life(store, session, name) > CALL_LIFE - MINUTE for name in names)
    store.finish_call(hold, "succeeded")
    assert 14 * MINUTE < life(store, session, names[0]) <= 15 * MINUTE


def test_a_standalone_stream_is_kept_by_who_watches_it(store: CacheStore, session: str) -> None:
    stream = store.open_stream(session, "standalone")
    names = (f"stream:{stream}", "outlet")
    for name in names:
        raw(store).pexpire(key(store, session, name), MINUTE)
    assert store.glance(streams=[stream]).keys() == {stream}
    assert all(life(store, session, name) <= MINUTE for name in names)
    # A process that looks it up anew.
    assert make_log().glance(streams=[stream]).keys() == {stream}
    assert all(life(store, session, name) > POST_LIFE for name in names)


def test_arguments_go_with_the_end_of_their_call(store: CacheStore, session: str) -> None:
    hold = begin(store, session, payload="sealed arguments")
    with_payload = [name for name, (_, values) in contents(raw(store)).items() if b"sealed arguments" in values]
    assert with_payload == [key(store, session, f"call:{hold.id}").encode()]
    store.finish_call(hold, "failed")
    assert all(b"sealed arguments" not in values for _, values in contents(raw(store)).values())


def test_neither_names_nor_keys_are_kept_in_clear(store: CacheStore) -> None:
    store.claim("s", SCOPE, "the key itself", lease_seconds=30, lifetime_seconds=60)
    name = store.put_result("s", "", ALICE, "text/plain", b"")
    found = repr(contents(raw(store)))
    assert "the key itself" not in found
    assert name not in found


# Round trips


@pytest.fixture
def trips(store: CacheStore, monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], int]:
    """Return what counts the round trips of some work, once everything it needs is known."""
    sent = RedisLink._sent
    counted: list[int] = []

    def count(send: Callable[[], Any]) -> Any:
        counted.append(1)
        return sent(send)

    def trips_of(work: Callable[[], object]) -> int:
        work()
        counted.clear()
        work()
        return len(counted)

    monkeypatch.setattr(RedisLink, "_sent", staticmethod(count))
    return trips_of


def test_what_happens_often_costs_one_round_trip(
    store: CacheStore, session: str, trips: Callable[[Callable[[], object]], int]
) -> None:
    stream, standalone = (store.open_stream(session, kind) for kind in ("post", "standalone"))
    others = [store.open_stream(secrets.token_hex(32), "post") for _ in range(20)]
    hold = begin(store, session, stream)
    question = store.ask(session, lifetime_seconds=30)
    one_each: Mapping[str, Callable[[], object]] = {
        "append": lambda: store.append(session, stream, [b"1"], hold=hold, progress=1),
        "push": lambda: store.push(session, [b"1"]),
        "read": lambda: store.read_stream(session, stream),
        "cursor": lambda: store.change_cursor(session),
        "changes": lambda: store.changes_since("s", None),
        "body": lambda: store.begin_body(hold),
        "cancel": lambda: store.request_cancel(session, '"none"'),
        "take over": lambda: store.take_over_calls("s", "two", lease_seconds=30, interrupted=lambda _: b""),
        "questions": lambda: store.read_questions(session, [question]),
        "claim": lambda: store.claim("s", SCOPE, secrets.token_hex(8), lease_seconds=30, lifetime_seconds=30),
        "glance": lambda: store.glance(streams=[stream, standalone, *others], calls=[hold.id], questions=[question]),
    }
    assert {name: trips(work) for name, work in one_each.items()} == dict.fromkeys(one_each, 1)


def test_many_leases_are_renewed_by_two_round_trips(
    store: CacheStore, trips: Callable[[Callable[[], object]], int]
) -> None:
    holds = [begin(store, secrets.token_hex(32)) for _ in range(20)]
    assert trips(lambda: store.renew_calls("one", holds, lease_seconds=30)) == 2
    assert trips(lambda: begin(store, secrets.token_hex(32))) == 2


# Bounds


def test_a_principal_claims_so_many_keys_and_no_other_is_held_up_by_it(redis: services.Service) -> None:
    store = make_log(MAX_CLAIMS_PER_PRINCIPAL=3)
    terms: dict[str, Any] = {"lease_seconds": 30, "lifetime_seconds": 60}
    fences = [store.claim("s", SCOPE, name, **terms) for name in ("1", "2", "3")]
    with pytest.raises(Overloaded, match="Too many idempotency keys") as caught:
        store.claim("s", SCOPE, "4", **terms)
    assert caught.value.scope == "principal"
    assert store.claim("s", SCOPE, "3", **terms) == Running()
    assert isinstance(store.claim("s", "another", "4", **terms), Claimed)
    assert isinstance(fences[0], Claimed)
    assert store.release("s", SCOPE, "1", fences[0].fence)
    assert isinstance(store.claim("s", SCOPE, "4", **terms), Claimed)


def test_the_oldest_result_of_a_principal_makes_room_for_a_new_one(redis: services.Service) -> None:
    store = make_log(MAX_RESULTS_PER_PRINCIPAL=2)
    names = [store.put_result("s", "", ALICE, "text/plain", b"%d" % number) for number in range(3)]
    other = store.put_result("s", "", ANONYMOUS, "text/plain", b"other")
    found = [store.get_result(name, server="s", tenant="", principal=ALICE) for name in names]
    assert found == [None, ("text/plain", b"1"), ("text/plain", b"2")]
    assert store.get_result(other, server="s", tenant="", principal=ANONYMOUS) == ("text/plain", b"other")
    assert sum(b":result:" in name for name in contents(raw(store))) == 3


def test_old_notices_go_and_a_cursor_before_them_means_that_everything_changed(
    store: CacheStore,
) -> None:
    store.publish_change("s", "tools")
    start, _ = store.changes_since("s", None)
    store.publish_change("s", "tools")
    store.publish_change("s", "prompts")
    assert len(store.changes_since("s", start)[1]) == 2
    (changes,) = [name for name in contents(raw(store)) if name.endswith(b":changes")]
    aged = [(number, {**fields, b"t": b"0"}) for number, fields in raw(store).xrange(changes)]
    raw(store).delete(changes)
    for number, fields in aged:
        raw(store).xadd(changes, fields, id=number)
    store.publish_change("s", "resource", "file:///new")
    assert raw(store).xlen(changes) == 1
    cursor, found = store.changes_since("s", start)
    assert found == list(EVERYTHING)
    assert store.changes_since("s", cursor) == (cursor, [])
    assert store.changes_since("s", cursor - 1) == (cursor, [("resource", "file:///new")])


def test_so_many_notices_are_kept_at_most(store: CacheStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("django_mcp.sessions.stores.cache_changes.MAX_CHANGES", 3)
    start, _ = store.changes_since("s", None)
    for number in range(5):
        store.publish_change("s", "resource", f"file:///{number}")
    cursor, found = store.changes_since("s", start)
    assert found == list(EVERYTHING)
    assert store.changes_since("s", cursor - 3)[1] == [("resource", f"file:///{number}") for number in (2, 3, 4)]


def test_what_a_crash_left_in_a_scope_is_given_back_when_there_is_no_room(
    store: CacheStore, session: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("django_mcp.sessions.stores.cache_calls.MAX_CALLS_PER_SCOPE", 2)
    lost, alive = (begin(store, session, lease_seconds=0) for _ in range(2))
    raw(store).delete(key(store, session, f"call:{lost.id}"))
    store.renew_calls("one", [alive], lease_seconds=30)
    begin(store, session)
    with pytest.raises(Overloaded):
        begin(store, session)
    assert store.find_call(alive.id) is not None


# Hints


def test_a_hint_at_a_call_that_goes_on_is_put_right(store: CacheStore, session: str) -> None:
    hold = begin(store, session)
    due = store.link.key(due_tag("s"), "due")
    (text,) = raw(store).zrange(due, 0, -1)
    raw(store).zadd(due, {text: 1})
    assert store.take_over_calls("s", "two", lease_seconds=30, interrupted=lambda _: b"") == []
    record = store.find_call(hold.id)
    assert record is not None
    assert raw(store).zscore(due, text) == record.lease_until.timestamp() * 1_000


def test_a_call_that_comes_after_its_hint_was_followed_does_not_come(
    store: CacheStore, session: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    announce = CacheStore._announce

    def announce_and_wait(self: CacheStore, *terms: Any) -> None:
        announce(self, *terms)
        assert self.take_over_calls("s", "two", lease_seconds=30, interrupted=lambda _: b"") == []

    monkeypatch.setattr(CacheStore, "_announce", announce_and_wait)
    with pytest.raises(StoreUnavailable, match="begun too late"):
        begin(store, session, lease_seconds=0)
    assert store.find_running_call(session, "1") is None
    begin(store, session)


def test_a_call_that_is_begun_twice_is_there_once(store: CacheStore, session: str) -> None:
    chosen = secrets.token_hex(16)
    hold = begin(store, session, id=chosen)
    with pytest.raises(StoreUnavailable, match="begun twice"):
        begin(store, session, id=chosen)
    assert store.finish_call(hold, "succeeded")


def test_a_call_that_nobody_takes_over_ends_in_a_day_and_its_stream_with_it(store: CacheStore, session: str) -> None:
    stream = store.open_stream(session, "post")
    hold, alive = begin(store, session, stream, lease_seconds=0), begin(store, session)
    assert store.sweep() == 0
    past = int(raw(store).hget(key(store, session, f"call:{hold.id}"), "lease")) - ABANDONED
    raw(store).hset(key(store, session, f"call:{hold.id}"), "lease", past)
    text = Place(tag=f"s:{session}", id=hold.id, stream=stream, server="s", scope="scope").text()
    assert raw(store).zadd(store.link.key(due_tag("s"), "due"), {text: past}, xx=True, ch=True) == 1
    assert store.sweep() == 1
    found = [store.find_call(one.id) for one in (hold, alive)]
    assert [record and record.state for record in found] == ["interrupted", "running"]
    page = store.read_stream(session, stream)
    assert page is not None
    assert (page.is_closed, page.events) == (True, ())
    assert store.sweep() == 0


def test_what_begins_takes_away_what_is_over_now_and_then(
    store: CacheStore, session: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    swept: list[int] = []
    monkeypatch.setattr(store, "sweep", lambda: swept.append(1))
    begin(store, session)
    assert swept == []
    monkeypatch.setattr(store, "_sweeps_at", 0)
    begin(store, session)
    begin(store, session)
    assert swept == [1]


def test_calls_that_were_taken_before_an_outage_are_returned(
    store: CacheStore, session: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(2):
        begin(store, session, lease_seconds=0)
    take = CacheStore._take_call
    taken: list[str] = []

    def take_one(self: CacheStore, place: Place, *terms: Any, **more: Any) -> Any:
        if taken:
            raise StoreUnavailable
        taken.append(place.id)
        return take(self, place, *terms, **more)

    monkeypatch.setattr(CacheStore, "_take_call", take_one)

    def take_over() -> list[str]:
        found = store.take_over_calls("s", "one", lease_seconds=30, interrupted=lambda record: b"")
        return [record.id for record in found]

    assert take_over() == taken
    with pytest.raises(StoreUnavailable):
        take_over()


# Configuration


def test_an_unknown_option_is_refused_by_name() -> None:
    with pytest.raises(ConfigurationError, match=r"OPTIONS'\] has the unknown keys \['CASH'\]"):
        make_log(CASH="default")


@pytest.mark.parametrize(
    ("cache", "problem"),
    [("nowhere", "is not in CACHES"), ("default", "is LocMemCache, not django-redis's cache")],
)
def test_a_cache_that_is_not_redis_is_an_error_of_the_check(cache: str, problem: str) -> None:
    (message,) = make_log(CACHE=cache).check()
    assert message.id == "django_mcp.E012"
    assert problem in message.msg
    assert "'django_redis.cache.RedisCache'" in message.msg


def test_a_cache_on_redis_is_no_error_of_the_check(store: CacheStore) -> None:
    assert list(store.check()) == []

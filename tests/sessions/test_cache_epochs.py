"""What a Redis that was killed, or emptied, may have forgotten is refused rather than served; what it has goes on."""

import secrets
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.core.cache import caches

from django_mcp.exceptions import FenceLost, StoreUnavailable, StreamClosed
from django_mcp.sessions.stores import (
    CallHold,
    Claimed,
    Done,
    Interrupted,
    LogStore,
    Mismatched,
    NewCall,
    Renewal,
    Running,
)
from django_mcp.sessions.stores.base import EVERYTHING
from django_mcp.sessions.stores.cache import CacheStore
from tests import services
from tests.redis_stores import cache_of, make_log
from tests.services.redis_server import connect

pytestmark = pytest.mark.services

SCOPE = "scope"


class Kept:
    """One of everything, as a store had it before its Redis went."""

    def __init__(self, store: LogStore) -> None:
        self.session = secrets.token_hex(32)
        self.server = f"server-{secrets.token_hex(4)}"
        self.stream = store.open_stream(self.session, "post")
        self.standalone = store.open_stream(self.session, "standalone")
        self.hold = self.begin(store, "1", is_repeatable=False)
        self.repeatable = self.begin(store, "2", is_repeatable=True)
        self.ended = self.begin(store, "3", is_repeatable=False)
        store.finish_call(self.ended, "succeeded")
        store.append(self.session, self.stream, [b"1", b"2"], hold=self.hold)
        store.push(self.session, [b"tools"])
        store.publish_change(self.server, "tools")
        self.cursor, _ = store.changes_since(self.server, None)
        store.feed_changes(self.session, after=None, upto=self.cursor, bodies=[])
        self.question = store.ask(self.session, lifetime_seconds=300, call=self.hold.id)
        self.answered = store.ask(self.session, lifetime_seconds=300)
        store.answer(self.session, self.answered, "yes")
        self.running = self.claim(store, "running")
        self.done = self.claim(store, "done")
        store.settle(self.server, SCOPE, "done", self.done, "outcome")

    def begin(self, store: LogStore, request_id: str, *, is_repeatable: bool) -> CallHold:
        (hold,) = store.begin_calls(
            self.server,
            SCOPE,
            [NewCall(request_id=request_id, payload="sealed", is_repeatable=is_repeatable)],
            owner="one",
            lease_seconds=0,
            session=self.session,
            stream=self.stream,
        )
        return hold

    def claim(self, store: LogStore, key: str, **terms: Any) -> int:
        claimed = store.claim(
            self.server, SCOPE, key, lease_seconds=300, lifetime_seconds=600, digest="a" * 64, **terms
        )
        assert isinstance(claimed, Claimed), claimed
        return claimed.fence

    def glance(self, store: LogStore) -> dict[str, Any]:
        return dict(
            store.glance(
                streams=[self.stream, self.standalone], calls=[self.hold.id], questions=[self.question, self.answered]
            )
        )


def restart(server: services.PrivateRedis) -> None:
    server.kill()
    caches.close_all()
    server.start()


def empty(server: services.PrivateRedis) -> None:
    with connect(server.service) as client:
        client.flushall()


def assert_nothing_is_served(store: LogStore, kept: Kept) -> None:
    session, hold = kept.session, kept.hold
    for stream in (kept.stream, kept.standalone):
        assert store.read_stream(session, stream) is None
        assert store.take_reader(session, stream) is None
        for terms in ({}, {"close": True}, {"hold": hold}):
            with pytest.raises(StreamClosed):
                store.append(session, stream, [b"3"], **terms)
    assert store.push(session, [b"4"]) is None
    assert not store.feed_changes(session, after=store.change_cursor(session), upto=kept.cursor + 1, bodies=[b"5"])
    assert not store.begin_body(hold)
    with pytest.raises(FenceLost):
        store.note_progress(hold, 1)
    assert not store.finish_call(hold, "succeeded", event=b"6")
    assert store.renew_calls("one", [hold], lease_seconds=30) == Renewal(lost=frozenset({hold}))
    assert store.find_running_call(session, "1") is None
    assert not store.request_cancel(session, "1")
    assert not store.answer(session, kept.question, "late")
    assert store.withdraw(session, [kept.question]) == 0
    assert store.read_questions(session, [kept.question, kept.answered]) == {}
    assert store.questions_of(hold.id) == []
    for key, fence in (("running", kept.running), ("done", kept.done)):
        assert not store.renew(kept.server, SCOPE, key, fence, lease_seconds=30)
        assert not store.settle(kept.server, SCOPE, key, fence, "late")
        assert not store.release(kept.server, SCOPE, key, fence)
    assert store.changes_since(kept.server, kept.cursor)[1] == list(EVERYTHING)


def assert_it_goes_on(store: LogStore, session: str, request_id: str = "1") -> None:
    """Begin anew in the same session."""
    stream = store.open_stream(session, "post")
    (hold,) = store.begin_calls(
        "server",
        SCOPE,
        [NewCall(request_id=request_id)],
        owner="one",
        lease_seconds=30,
        session=session,
        stream=stream,
    )
    found = store.find_running_call(session, request_id)
    assert found is not None
    assert found.hold == hold
    standalone = store.open_stream(session, "standalone")
    assert store.push(session, [b"1"]) == standalone
    cursor = store.change_cursor(session)
    assert store.feed_changes(session, after=cursor, upto=(cursor or 0) + 1, bodies=[b"2"])
    assert store.append(session, stream, [b"1"], hold=hold) == 1
    assert store.finish_call(hold, "succeeded", event=b"result")
    for name, bodies in ((stream, [b"1", b"result"]), (standalone, [b"1", b"2"])):
        page = store.read_stream(session, name)
        assert page is not None
        assert [event.body for event in page.events] == bodies


@pytest.fixture
def durable() -> Iterator[services.PrivateRedis]:
    with services.PrivateRedis(durable=True) as server, cache_of(server.service):
        yield server


@pytest.fixture(params=["rdb", "everysec"])
def lossy(request: pytest.FixtureRequest) -> Iterator[services.PrivateRedis]:
    """Run a server that still has all of it after a kill, by luck, and could have lost any part."""
    options: dict[str, Any] = {"appendonly": "yes", "appendfsync": "everysec"} if request.param == "everysec" else {}
    with services.PrivateRedis(**options) as server, cache_of(server.service):
        yield server


def save(server: services.PrivateRedis) -> None:
    with connect(server.service) as client:
        if server.options["appendonly"] == "no":
            client.save()
        else:
            services.wait_until(
                lambda: client.info("persistence")["aof_pending_bio_fsync"] == 0, seconds=10, what="the log of Redis"
            )


def test_a_durable_redis_that_is_killed_loses_nothing_and_all_goes_on(durable: services.PrivateRedis) -> None:
    store = make_log()
    kept = Kept(store)
    seen = kept.glance(store)
    restart(durable)
    for one in (store, make_log()):
        assert kept.glance(one) == seen
        page = one.read_stream(kept.session, kept.stream)
        assert page is not None
        assert [event.body for event in page.events] == [b"1", b"2"]
        assert one.change_cursor(kept.session) == kept.cursor
        assert one.changes_since(kept.server, kept.cursor) == (kept.cursor, [])
        found = one.find_call(kept.hold.id)
        assert found is not None
        assert (found.state, found.payload) == ("running", "sealed")
        assert [record.id for record in one.questions_of(kept.hold.id)] == [kept.question]
        digest = "a" * 64
        assert one.peek(kept.server, SCOPE, "running", digest=digest) == Running()
        assert one.peek(kept.server, SCOPE, "done", digest=digest) == Done(outcome="outcome")
    assert store.append(kept.session, kept.stream, [b"3"], hold=kept.hold) == 3
    assert store.settle(kept.server, SCOPE, "running", kept.running, 1)
    assert store.answer(kept.session, kept.question, "yes")
    (first, second) = store.take_over_calls(kept.server, "two", lease_seconds=30, interrupted=lambda _: b"")
    assert {first.state, second.state} == {"running"}
    assert_it_goes_on(store, kept.session, '"another"')


def test_what_may_have_been_lost_is_refused(lossy: services.PrivateRedis) -> None:
    store = make_log()
    kept = Kept(store)
    seen = kept.glance(store)
    save(lossy)
    assert store.append(kept.session, kept.stream, [b"seen by the client"]) == 3
    restart(lossy)
    with connect(lossy.service) as client:
        last = client.hget(store.link.key(f"s:{kept.session}", f"stream:{kept.stream}"), "last")
        assert last == b"2" or (last == b"3" and lossy.options["appendonly"] == "yes")
    for one in (store, make_log()):
        found = kept.glance(one)
        assert found.keys() == {kept.hold.id}
        assert found[kept.hold.id] != seen[kept.hold.id]
        assert_nothing_is_served(one, kept)
        for hold in (kept.hold, kept.ended):
            record = one.find_call(hold.id)
            assert record is not None
            assert (record.state, record.payload) == ("interrupted", "")
            assert record.ended_at is not None
        for key in ("running", "done"):
            assert one.peek(kept.server, SCOPE, key, digest="a" * 64) == Interrupted()
            assert one.peek(kept.server, SCOPE, key, digest="b" * 64) == Mismatched()
            terms: dict[str, Any] = {"lease_seconds": 30.0, "lifetime_seconds": 60.0}
            assert one.claim(kept.server, SCOPE, key, digest="a" * 64, **terms) == Interrupted()
            assert one.claim(kept.server, SCOPE, key, digest="b" * 64, **terms) == Mismatched()
    assert_it_goes_on(store, kept.session)


def test_an_abandoned_call_that_is_in_doubt_runs_again_only_if_it_may_be_repeated(
    lossy: services.PrivateRedis,
) -> None:
    store = make_log()
    kept = Kept(store)
    save(lossy)
    restart(lossy)

    def worker_lost(record: object) -> bytes:
        raise AssertionError("there is no stream to say it on")

    taken = store.take_over_calls(kept.server, "two", lease_seconds=30, interrupted=worker_lost)
    assert {record.id: record.state for record in taken} == {
        kept.hold.id: "interrupted",
        kept.repeatable.id: "running",
    }
    (again,) = [record for record in taken if record.state == "running"]
    assert again == store.find_call(again.id)
    # The fence that follows may have been given to somebody, and forgotten.
    assert not store.begin_body(CallHold(id=again.id, fence=kept.repeatable.fence + 1))
    assert store.begin_body(again.hold)
    assert store.finish_call(again.hold, "succeeded", event=b"result")
    with connect(lossy.service) as client:
        assert client.xlen(store.link.key(f"s:{kept.session}", f"events:{kept.stream}")) == 2
    assert store.take_over_calls(kept.server, "two", lease_seconds=30, interrupted=worker_lost) == []


def test_a_claim_that_is_in_doubt_is_taken_over_under_a_fence_that_nobody_had(lossy: services.PrivateRedis) -> None:
    store = make_log()
    kept = Kept(store)
    save(lossy)
    restart(lossy)
    for key, fence in (("running", kept.running), ("done", kept.done)):
        again = kept.claim(store, key, takeover=True)
        assert again > fence + 1
        assert not store.settle(kept.server, SCOPE, key, fence + 1, "late")
        assert store.settle(kept.server, SCOPE, key, again, "second")
        assert store.peek(kept.server, SCOPE, key) == Done(outcome="second")


@pytest.mark.parametrize("how", ["killed", "emptied"])
def test_a_redis_that_has_forgotten_everything_is_begun_anew(how: str) -> None:
    with services.PrivateRedis() as server, cache_of(server.service):
        store = make_log()
        kept = Kept(store)
        restart(server) if how == "killed" else empty(server)
        for one in (store, make_log()):
            assert kept.glance(one) == {}
            assert_nothing_is_served(one, kept)
            assert one.find_call(kept.hold.id) is None
            assert one.take_over_calls(kept.server, "two", lease_seconds=30, interrupted=lambda _: b"") == []
        assert_it_goes_on(store, kept.session)
        # Both kinds of process are of one mind about what is written from now on, or from the next beat.
        services.wait_until(
            lambda: make_log().read_stream(kept.session, store.open_stream(kept.session, "post")) is not None,
            seconds=20,
            what="one epoch for all",
        )
        stream = store.open_stream(kept.session, "post")
        assert make_log().append(kept.session, stream, [b"1"]) == 1
        assert store.append(kept.session, stream, [b"2"]) == 2


# Steps whose answer is lost


class Cut:
    """A proxy that cuts the connection when an answer to what contains `mark` comes, as often as `count` says."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.mark = b""
        self.count = 0
        self.cuts = 0
        self._sockets: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        for one in (self._listener, *self._sockets):
            one.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self._target))
            self._sockets += [client, server]
            sent = threading.Event()
            threading.Thread(target=self._ask, args=(client, server, sent), daemon=True).start()
            threading.Thread(target=self._answer, args=(client, server, sent), daemon=True).start()

    def _ask(self, client: socket.socket, server: socket.socket, sent: threading.Event) -> None:
        try:
            while data := client.recv(65_536):
                if self.mark and self.mark in data:
                    sent.set()
                server.sendall(data)
        except OSError:
            pass
        server.close()

    def _answer(self, client: socket.socket, server: socket.socket, sent: threading.Event) -> None:
        try:
            while data := server.recv(65_536):
                # What was not known yet comes again by another command.
                if sent.is_set() and self.cuts < self.count and not data.startswith(b"-NOSCRIPT"):
                    self.cuts += 1
                    client.shutdown(socket.SHUT_RDWR)
                    client.close()
                    server.close()
                    return
                sent.clear()
                client.sendall(data)
        except OSError:
            pass


@contextmanager
def cut(server: services.PrivateRedis) -> Iterator[Cut]:
    proxy = Cut(server.port)
    service = services.Service(scheme="redis", host="127.0.0.1", port=proxy.port, database="0")
    with cache_of(service):
        try:
            yield proxy
        finally:
            proxy.close()


@pytest.fixture(scope="module")
def server() -> Iterator[services.PrivateRedis]:
    with services.PrivateRedis() as one:
        yield one


@pytest.fixture
def proxied(server: services.PrivateRedis) -> Iterator[tuple[CacheStore, Cut]]:
    with cut(server) as proxy:
        yield make_log(), proxy


@pytest.mark.parametrize("cuts", [1, 2])
def test_a_step_whose_answer_was_lost_is_done_once(proxied: tuple[CacheStore, Cut], cuts: int) -> None:
    store, proxy = proxied
    session = secrets.token_hex(32)
    stream, standalone = store.open_stream(session, "post"), store.open_stream(session, "standalone")
    terms: dict[str, Any] = {"owner": "one", "lease_seconds": 0, "session": session, "stream": stream}
    server = secrets.token_hex(8)
    (hold,) = store.begin_calls(server, SCOPE, [NewCall(request_id="1")], **terms)
    question = store.ask(session, lifetime_seconds=300)

    def cut_at(mark: bytes, work: Callable[[], object]) -> object:
        proxy.mark, proxy.count, proxy.cuts = mark, cuts, 0
        try:
            return work()
        finally:
            assert proxy.cuts == cuts, mark
            proxy.mark = b""

    for number in range(1, 4):
        mark = b"event %d" % number
        assert cut_at(mark, lambda mark=mark: store.append(session, stream, [mark])) == number  # type: ignore[misc]
    assert cut_at(b"pushed", lambda: store.push(session, [b"pushed"])) == standalone
    assert cut_at(b"answered", lambda: store.answer(session, question, "yes")) is True
    fence = cut_at(b"d" * 64, lambda: claim_of(store, server))
    assert isinstance(fence, Claimed)
    assert cut_at(b"settled", lambda: store.settle(server, SCOPE, "key", fence.fence, "settled")) is True
    taken: Any = cut_at(
        b"owner two", lambda: store.take_over_calls(server, "owner two", lease_seconds=30, interrupted=lambda _: b"")
    )
    assert [record.fence for record in taken] == [hold.fence + 1]
    assert cut_at(b"result", lambda: store.finish_call(taken[0].hold, "succeeded", event=b"result")) is True
    for name, bodies in (
        (stream, [b"event 1", b"event 2", b"event 3", b"result"]),
        (standalone, [b"pushed"]),
    ):
        page = store.read_stream(session, name)
        assert page is not None
        assert [(event.sequence, event.body) for event in page.events] == list(enumerate(bodies, 1))


def claim_of(store: LogStore, server: str) -> object:
    return store.claim(server, SCOPE, "key", lease_seconds=30, lifetime_seconds=60, digest="d" * 64)


# Outages


def test_an_outage_is_never_taken_for_an_empty_log() -> None:
    with services.PrivateRedis(durable=True) as server, cache_of(server.service):
        store = make_log()
        kept = Kept(store)
        session, stream, hold = kept.session, kept.stream, kept.hold
        begun = [NewCall(request_id="9")]
        server.stop()
        for ask in (
            lambda: store.open_stream(session, "post"),
            lambda: store.append(session, stream, [b"1"]),
            lambda: store.read_stream(session, stream),
            lambda: store.take_reader(session, stream),
            lambda: store.push(session, [b"1"]),
            lambda: store.change_cursor(session),
            lambda: store.feed_changes(session, after=None, upto=1, bodies=[]),
            lambda: store.begin_calls("s", SCOPE, begun, owner="one", lease_seconds=30, session=session),
            lambda: store.renew_calls("one", [hold], lease_seconds=30),
            lambda: store.begin_body(hold),
            lambda: store.note_progress(hold, 1),
            lambda: store.finish_call(hold, "succeeded"),
            lambda: store.find_call(hold.id),
            lambda: make_log().find_call(hold.id),
            lambda: store.find_running_call(session, "1"),
            lambda: store.request_cancel(session, "1"),
            lambda: store.take_over_calls(kept.server, "two", lease_seconds=30, interrupted=lambda _: b""),
            lambda: store.ask(session, lifetime_seconds=30),
            lambda: store.answer(session, kept.question, 1),
            lambda: store.withdraw(session, [kept.question]),
            lambda: store.read_questions(session, [kept.question]),
            lambda: store.questions_of(hold.id),
            lambda: store.glance(streams=[stream]),
            lambda: store.claim("s", SCOPE, "key", lease_seconds=30, lifetime_seconds=60),
            lambda: store.peek("s", SCOPE, "key"),
            lambda: store.settle("s", SCOPE, "key", 1, 1),
            lambda: store.publish_change("s", "tools"),
            lambda: store.changes_since("s", None),
            lambda: store.forget_session(session),
            store.sweep,
        ):
            with pytest.raises(StoreUnavailable, match="Redis"):
                ask()
        caches.close_all()
        server.start()
        assert store.append(session, stream, [b"3"], hold=hold) == 3

"""Races on a real Redis, and proof that each of these tests bites: those of the database, and what only Redis settles.

A broken store runs a step on what it read of its keys before the threads met: as if a read and then a write stood in
the place of the script.
"""

import secrets
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from django_mcp.exceptions import OutputLimit, Overloaded, StreamClosed
from django_mcp.sessions.stores import CallHold, LogStore, NewCall
from django_mcp.sessions.stores.cache import CacheStore
from django_mcp.sessions.stores.questions import MAX_QUESTIONS_PER_SESSION
from tests import services
from tests.databases import together
from tests.redis_stores import cache_of, make_log
from tests.sessions import test_claim_races as claims
from tests.sessions import test_log_races as log
from tests.sessions.test_log_races import ROUNDS, THREADS, Meeting, begin
from tests.sessions.torn_steps import break_step

pytestmark = pytest.mark.services

Race = Callable[[LogStore], list[object]]


@pytest.fixture
def store() -> Iterator[CacheStore]:
    with services.redis() as service, cache_of(service):
        yield make_log()


# Races that count. Each returns what went wrong.


def calls_of_a_session(store: LogStore) -> list[object]:
    session = secrets.token_hex(32)
    return capped(together(THREADS, lambda _: begin(store, session)))


def calls_of_a_scope(store: LogStore) -> list[object]:
    sessions, server = [secrets.token_hex(32) for _ in range(THREADS)], secrets.token_hex(8)

    def work(number: int) -> CallHold:
        (hold,) = store.begin_calls(
            server, "scope", [NewCall(request_id="1")], owner="one", lease_seconds=30, session=sessions[number]
        )
        return hold

    return capped(together(THREADS, work))


def capped(outcomes: Sequence[object]) -> list[object]:
    kept = sum(isinstance(outcome, CallHold) for outcome in outcomes)
    refused = sum(isinstance(outcome, Overloaded) for outcome in outcomes)
    return [] if (kept, refused) == (4, THREADS - 4) else list(outcomes)


def request_id(store: LogStore) -> list[object]:
    session = secrets.token_hex(32)
    holds = together(3, lambda _: begin(store, session))
    first = store.find_running_call(session, "1")
    if first is None or first.hold not in holds:
        return [first, holds]
    store.finish_call(first.hold, "succeeded")
    again = store.find_running_call(session, "1")
    return [] if again is None else [again]


def questions_of_a_session(store: LogStore) -> list[object]:
    session = secrets.token_hex(32)
    for _ in range(MAX_QUESTIONS_PER_SESSION - 4):
        store.ask(session, lifetime_seconds=300)
    outcomes = together(THREADS, lambda _: store.ask(session, lifetime_seconds=300))
    kept = sum(isinstance(outcome, str) for outcome in outcomes)
    return [] if kept == 4 else list(outcomes)


def changes(store: LogStore) -> list[object]:
    server = secrets.token_hex(8)
    start, _ = store.changes_since(server, None)
    together(THREADS, lambda number: store.publish_change(server, "resource", f"file:///{number}"))
    seen = [uri for _, uri in store.changes_since(server, start)[1]]
    return [] if sorted(seen) == sorted(f"file:///{number}" for number in range(THREADS)) else list(seen)


LOG_RACES = [*log.RACES, request_id, questions_of_a_session, changes]
CAPPED = [calls_of_a_session, calls_of_a_scope]
BROKEN: list[tuple[Race, str, int]] = [
    (log.sequence, "append", THREADS),
    (log.take_over, "take_call", THREADS),
    (log.interruption, "end_call", THREADS),
    (log.end, "end_call", THREADS),
    (log.first_answer, "settle_questions", THREADS),
    (log.newest_reader, "take_reader", THREADS),
    (log.feed, "feed_changes", THREADS),
    (log.open_bytes, "append", THREADS),
    (log.newest, "open_stream", THREADS // 2),
    (questions_of_a_session, "ask", THREADS),
    (changes, "publish_change", THREADS),
    (calls_of_a_session, "begin_calls", THREADS),
    (calls_of_a_scope, "reserve_calls", THREADS),
    (claims.single_use, "claim", THREADS),
    (claims.idempotency_key, "claim", THREADS),
    (claims.released_key, "claim", THREADS),
    (claims.lost_owner, "claim", THREADS),
    (claims.one_outcome, "change_claim", THREADS),
]


def cap(monkeypatch: pytest.MonkeyPatch, race: Race) -> None:
    name = "MAX_CALLS_PER_SESSION" if race is calls_of_a_session else "MAX_CALLS_PER_SCOPE"
    if race in CAPPED:
        monkeypatch.setattr(f"django_mcp.sessions.stores.cache_calls.{name}", 4)


@pytest.mark.parametrize("race", [*LOG_RACES, *CAPPED, *claims.RACES], ids=lambda race: race.__name__)
def test_a_race_is_settled(race: Race, store: CacheStore, monkeypatch: pytest.MonkeyPatch) -> None:
    cap(monkeypatch, race)
    for _ in range(ROUNDS):
        assert race(store) == []


@pytest.mark.parametrize(
    ("race", "step", "count"), BROKEN, ids=[f"{race.__name__}-{step}" for race, step, _ in BROKEN]
)
def test_a_read_and_then_a_write_is_caught(
    race: Race, step: str, count: int, store: CacheStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    cap(monkeypatch, race)
    break_step(monkeypatch, step, Meeting(count).wait)
    assert race(store) != []


def test_an_owner_that_looks_at_its_fence_and_then_writes_is_caught(
    store: CacheStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked, taken = threading.Event(), threading.Event()

    def wait() -> None:
        looked.set()
        taken.wait(timeout=10)

    break_step(monkeypatch, "append", wait)
    assert log.late_owner(store, before=looked, after=taken) != []


# Races of which one of the parts only reads


def test_a_reader_among_writers_sees_every_event_once_and_in_order(store: CacheStore) -> None:
    session = secrets.token_hex(32)
    stream = store.open_stream(session, "post")
    writers, each = 8, 20
    finished: list[int] = []

    def work(number: int) -> list[int]:
        if number < writers:
            for step in range(each):
                store.append(session, stream, [b"%d" % step])
            finished.append(number)
            if len(finished) == writers:
                store.append(session, stream, [], close=True)
            return []
        seen: list[int] = []
        while True:
            page = store.read_stream(session, stream, seen[-1] if seen else 0, limit=7)
            assert page is not None
            seen += [event.sequence for event in page.events]
            if page.is_closed and (seen[-1] if seen else 0) == page.last:
                return seen

    outcomes = together(writers + 2, work)
    expected = list(range(1, writers * each + 1))
    assert outcomes[writers:] == [expected, expected]
    assert outcomes[:writers] == [[]] * writers


def test_an_append_and_the_end_of_its_session_leave_nothing_behind(store: CacheStore) -> None:
    client: Any = store.link.client
    for _ in range(ROUNDS):
        session = secrets.token_hex(32)
        stream = store.open_stream(session, "post")

        def work(number: int, session: str = session, stream: str = stream) -> str:
            if number == 0:
                store.forget_session(session)
                return "forgotten"
            try:
                while True:
                    store.append(session, stream, [b"event"])
            except (StreamClosed, OutputLimit):
                return "closed"

        assert together(6, work) == ["forgotten"] + ["closed"] * 5
        left = [key for key in client.scan_iter(f"*{session}*") if b":once:" not in key]
        assert left == []


def test_what_is_begun_while_its_session_is_forgotten_is_whole_or_not_there(store: CacheStore) -> None:
    for _ in range(ROUNDS):
        session = secrets.token_hex(32)

        def work(number: int, session: str = session) -> str:
            if number == 0:
                store.forget_session(session)
                return ""
            return store.open_stream(session, "post")

        names = [name for name in together(6, work) if name]
        assert all(isinstance(name, str) for name in names), names
        for name in names:
            assert isinstance(name, str)
            if store.read_stream(session, name) is not None:
                assert store.append(session, name, [b"event"], close=True) == 1

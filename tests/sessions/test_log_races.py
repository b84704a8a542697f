"""Races of streams, calls and questions on real databases, and proof that each of these tests bites.

Every race is a function that returns what went wrong. It is run on the store as it is, where nothing may, and on the
store with one conditional update replaced by a read and then a write, where something must. Between that read and that
write the threads wait for each other, so a broken store never gets away by luck.
"""

import secrets
import threading
from collections import Counter
from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest

from django_mcp.exceptions import FenceLost, OutputLimit, Overloaded, StreamClosed
from django_mcp.models import Call, Event, Stream
from django_mcp.models.call import CallQuerySet, CallState
from django_mcp.models.outlet import OutletQuerySet
from django_mcp.models.question import QuestionQuerySet, QuestionState
from django_mcp.models.stream import StreamQuerySet
from django_mcp.sessions.stores import CallHold, CallRecord, LogStore, NewCall
from django_mcp.sessions.stores.appending import POST_BYTES
from django_mcp.sessions.stores.database import DatabaseStore
from tests.databases import together

THREADS = 16
ROUNDS = 4


def make(alias: str) -> DatabaseStore:
    return DatabaseStore("default", {"OPTIONS": {"USING": alias}})


class Meeting:
    """Where the threads of a race wait for each other, once: who comes after all have met goes on."""

    def __init__(self, count: int = THREADS) -> None:
        self._barrier = threading.Barrier(count)
        self._places = iter(range(count))

    def wait(self) -> None:
        is_in_the_race = threading.current_thread() is not threading.main_thread()
        if is_in_the_race and next(self._places, None) is not None:
            self._barrier.wait(timeout=60)


def begin(store: LogStore, session: str, stream: str = "") -> CallHold:
    """Begin a call whose lease is over, on a server that is called like the session."""
    (hold,) = store.begin_calls(
        session, "scope", [NewCall(request_id="1")], owner="one", lease_seconds=0, session=session, stream=stream
    )
    return hold


def take(store: LogStore, session: str, owner: str) -> list[CallRecord]:
    return store.take_over_calls(session, owner, lease_seconds=30, interrupted=lambda _: b"worker_lost")


# The races. Each returns what went wrong.


def sequence(store: LogStore) -> list[object]:
    session = secrets.token_hex(32)
    stream = store.open_stream(session, "post")
    each = 5

    def work(number: int) -> list[int]:
        lasts = []
        for step in range(each):
            bodies = [f"{number}.{step}.{part}".encode() for part in range(2)]
            lasts.append(store.append(session, stream, bodies))
        return lasts

    outcomes = together(THREADS, work)
    page = store.read_stream(session, stream, limit=10_000)
    wrong: list[object] = [outcome for outcome in outcomes if not isinstance(outcome, list)]
    if page is None:
        return [*wrong, "what was appended cannot be read"]
    numbers = [event.sequence for event in page.events]
    if numbers != list(range(1, 2 * THREADS * each + 1)) or page.last != numbers[-1]:
        wrong.append(("numbers", numbers, page.last))
    bodies = [event.body.decode() for event in page.events]
    if len(set(bodies)) != 2 * THREADS * each:
        wrong.append(("bodies", bodies))
    for body, following in zip(bodies[::2], bodies[1::2], strict=False):
        if body[:-1] != following[:-1]:
            wrong.append(("torn", body, following))
    return wrong


def take_over(store: LogStore) -> list[object]:
    session = secrets.token_hex(32)
    stream = store.open_stream(session, "post")
    hold = begin(store, session, stream)

    def work(number: int) -> list[CallRecord]:
        taken = take(store, session, f"owner {number}")
        for refused in (store.append(session, stream, [b"%d" % number], hold=record.hold) for record in taken):
            assert refused
        return taken

    outcomes = together(THREADS, work)
    wrong: list[object] = [outcome for outcome in outcomes if not isinstance(outcome, list)]
    winners = [record for outcome in outcomes if isinstance(outcome, list) for record in outcome]
    if len(winners) != 1:
        wrong.append(("winners", winners))
    with pytest.raises(FenceLost):
        store.append(session, stream, [b"late"], hold=hold)
    return wrong


def interruption(store: LogStore) -> list[object]:
    session = secrets.token_hex(32)
    stream = store.open_stream(session, "post")
    wrong: list[object] = []
    for name in ("", stream):
        store.begin_body(begin(store, session, name))
        outcomes = together(THREADS, lambda number: take(store, session, f"owner {number}"))
        wrong += [outcome for outcome in outcomes if not isinstance(outcome, list)]
        learned = [record.state for outcome in outcomes if isinstance(outcome, list) for record in outcome]
        if learned != ["interrupted"]:
            wrong.append(learned)
    page = store.read_stream(session, stream)
    assert page is not None
    if [event.body for event in page.events] != [b"worker_lost"] or not page.is_closed:
        wrong.append(page)
    return wrong


def late_owner(
    store: LogStore, *, before: threading.Event | None = None, after: threading.Event | None = None
) -> list[object]:
    """An owner appends while its call is taken over: from then on it writes nothing.

    The call is taken once `before` is set, and `after` is set then.
    """
    session = secrets.token_hex(32)
    stream = store.open_stream(session, "post")
    hold = begin(store, session, stream)

    def work(number: int) -> int:
        if number == 0:
            if before is not None:
                before.wait(timeout=10)
            (taken,) = take(store, session, "two")
            page = store.read_stream(session, stream)
            assert page is not None
            if after is not None:
                after.set()
            store.append(session, stream, [b"successor"], hold=taken.hold)
            return page.last
        try:
            for _ in range(10):
                store.append(session, stream, [b"owner"], hold=hold)
        except FenceLost:
            return 0
        return -1

    outcomes = together(4, work)
    page = store.read_stream(session, stream, limit=10_000)
    if page is None:
        return [outcomes, "what was appended cannot be read"]
    bodies = [event.body for event in page.events]
    wrong: list[object] = [outcome for outcome in outcomes if not isinstance(outcome, int)]
    if bodies.count(b"owner") != outcomes[0] or bodies[-1] != b"successor":
        wrong.append((outcomes, bodies))
    return wrong


def end(store: LogStore) -> list[object]:
    session = secrets.token_hex(32)
    stream = store.open_stream(session, "post")
    wrong: list[object] = []
    won: list[bytes] = []
    for name in ("", stream):
        hold = begin(store, session, name)
        outcomes = together(THREADS, lambda number: store.finish_call(hold, "succeeded", event=b"%d" % number))  # noqa: B023 - it is run at once
        wrong += [outcome for outcome in outcomes if not isinstance(outcome, bool)]
        won = [b"%d" % number for number, outcome in enumerate(outcomes) if outcome is True]
        if len(won) != 1:
            wrong.append(won)
    page = store.read_stream(session, stream)
    assert page is not None
    if [event.body for event in page.events] != won or not page.is_closed:
        wrong.append((won, page))
    return wrong


def first_answer(store: LogStore) -> list[object]:
    session = secrets.token_hex(32)
    question = store.ask(session, lifetime_seconds=300)
    outcomes = together(THREADS, lambda number: store.answer(session, question, number))
    wrong: list[object] = [outcome for outcome in outcomes if not isinstance(outcome, bool)]
    won = [number for number, outcome in enumerate(outcomes) if outcome is True]
    if won != [store.read_questions(session, [question])[question].answer]:
        wrong.append(("won", won))
    return wrong


def newest_reader(store: LogStore) -> list[object]:
    session = secrets.token_hex(32)
    stream = store.open_stream(session, "post")
    outcomes = together(THREADS, lambda _: store.take_reader(session, stream))
    page = store.read_stream(session, stream)
    assert page is not None
    if Counter(outcomes) != Counter(range(1, THREADS + 1)) or page.reader != THREADS:
        return [outcomes, page.reader]
    return []


def feed(store: LogStore) -> list[object]:
    session = secrets.token_hex(32)
    stream = store.open_stream(session, "standalone")
    store.feed_changes(session, after=None, upto=0, bodies=[])
    changes = [b"change %d" % number for number in range(1, ROUNDS + 1)]

    def work(_: int) -> int:
        fed = 0
        for number, change in enumerate(changes):
            fed += store.feed_changes(session, after=number, upto=number + 1, bodies=[change])
        return fed

    outcomes = together(THREADS, work)
    page = store.read_stream(session, stream, limit=10_000)
    assert page is not None
    wrong: list[object] = [outcome for outcome in outcomes if not isinstance(outcome, int)]
    # A slow feeder may find the cursor not there yet, or past it; what one fed, no other did.
    fed = [event.body for event in page.events]
    if fed != changes[: len(fed)] or sum(outcome for outcome in outcomes if isinstance(outcome, int)) != len(fed):
        wrong.append((fed, outcomes))
    if store.change_cursor(session) != len(fed) or not fed:
        wrong.append(("cursor", store.change_cursor(session), fed))
    return wrong


def open_bytes(store: LogStore) -> list[object]:
    session = secrets.token_hex(32)
    streams = [store.open_stream(session, "post") for _ in range(THREADS)]
    part = POST_BYTES // 10
    outcomes = together(THREADS, lambda number: store.append(session, streams[number], [b"x" * part]))
    if outcomes.count(1) != 10 or sum(isinstance(outcome, OutputLimit) for outcome in outcomes) != THREADS - 10:
        return list(outcomes)
    return []


def newest(store: LogStore) -> list[object]:
    """Streams are opened while messages are pushed: each goes to one, and one is the newest in the end."""
    session = secrets.token_hex(32)
    first = store.open_stream(session, "standalone")

    def work(number: int) -> str | None:
        if number % 2:
            return store.push(session, [b"%d" % number])
        return store.open_stream(session, "standalone")

    outcomes = together(THREADS, work)
    wrong: list[object] = [outcome for outcome in outcomes if not isinstance(outcome, str)]
    opened = [first, *(outcome for outcome in outcomes[::2] if isinstance(outcome, str))]
    pages = {name: store.read_stream(session, name) for name in opened}
    is_open = [name for name, page in pages.items() if page is not None and not page.is_closed]
    if is_open != [store.push(session, [b"last"])]:
        wrong.append(is_open)
    pushed = {event.body: name for name, page in pages.items() if page is not None for event in page.events}
    if pushed != {b"%d" % number: outcomes[number] for number in range(1, THREADS, 2)}:
        wrong.append(pushed)
    return wrong


# The store, broken in one place at a time: a read, then a write that does not ask again.


def number_after_a_read(meeting: Meeting) -> Callable[..., bool]:
    def take_numbers(rows: StreamQuerySet, count: int, size: int, **changes: Any) -> bool:
        found = rows.filter(is_open=True).first()
        meeting.wait()
        return found is not None and rows.update(last=found.last + count, size=found.size + size, **changes) == 1

    return take_numbers


def reader_after_a_read(meeting: Meeting) -> Callable[..., int | None]:
    def take_reader(rows: StreamQuerySet) -> int | None:
        found = rows.get()
        meeting.wait()
        rows.update(reader=found.reader + 1)
        return found.reader + 1

    return take_reader


def owner_after_a_read(meeting: Meeting) -> Callable[..., bool]:
    def take_call(rows: CallQuerySet, owner: str, lease_until: datetime) -> bool:
        found = rows.first()
        meeting.wait()
        if found is None:
            return False
        mine = Call.objects.using(rows.db).filter(pk=found.pk)
        return mine.update(owner=owner, fence=found.fence + 1, lease_until=lease_until) == 1

    return take_call


def end_after_a_read(meeting: Meeting) -> Callable[..., bool]:
    def end_call(rows: CallQuerySet, state: CallState, now: datetime) -> bool:
        found = rows.first()
        meeting.wait()
        if found is None:
            return False
        return Call.objects.using(rows.db).filter(pk=found.pk).update(state=state, ended_at=now) == 1

    return end_call


def answer_after_a_read(meeting: Meeting) -> Callable[..., bool]:
    def settle(rows: QuestionQuerySet, answer: str, now: datetime) -> bool:
        waits = rows.waiting(now).exists()
        meeting.wait()
        return waits and rows.update(state=QuestionState.ANSWERED, answer=answer) == 1

    return settle


def cursor_after_a_read(meeting: Meeting) -> Callable[..., bool]:
    def move_cursor(rows: OutletQuerySet, session: str, after: int | None, upto: int) -> bool:
        found = rows.of(session).get()
        meeting.wait()
        return found.cursor == after and rows.of(session).update(cursor=upto) == 1

    return move_cursor


def bytes_after_a_read(meeting: Meeting) -> Callable[..., bool]:
    def add_bytes(rows: OutletQuerySet, session: str, count: int, limit: int | None = None) -> bool:
        found = rows.of(session).get()
        meeting.wait()
        fits = limit is None or found.open_bytes <= limit - count
        return fits and rows.of(session).update(open_bytes=found.open_bytes + count) == 1

    return add_bytes


RACES = [sequence, take_over, interruption, late_owner, end, first_answer, newest_reader, feed, open_bytes, newest]
BROKEN = [
    (sequence, StreamQuerySet, "take_numbers", number_after_a_read),
    (take_over, CallQuerySet, "take", owner_after_a_read),
    (interruption, CallQuerySet, "end", end_after_a_read),
    (end, CallQuerySet, "end", end_after_a_read),
    (first_answer, QuestionQuerySet, "settle", answer_after_a_read),
    (newest_reader, StreamQuerySet, "take_reader", reader_after_a_read),
    (feed, OutletQuerySet, "move_cursor", cursor_after_a_read),
    (open_bytes, OutletQuerySet, "add_bytes", bytes_after_a_read),
]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("race", RACES)
def test_a_race_is_settled_on_sqlite(race: Callable[[DatabaseStore], list[object]]) -> None:
    assert race(make("default")) == []


@pytest.mark.parametrize("race", RACES)
def test_a_race_is_settled_on_a_server(
    race: Callable[[DatabaseStore], list[object]], concurrent_database: str
) -> None:
    for _ in range(ROUNDS):
        assert race(make(concurrent_database)) == []


@pytest.mark.parametrize(
    ("race", "rows", "name", "broken"), BROKEN, ids=[f"{race.__name__}-{name}" for race, _, name, _ in BROKEN]
)
def test_a_read_and_then_a_write_is_caught(
    race: Callable[[DatabaseStore], list[object]],
    rows: type,
    name: str,
    broken: Callable[[Meeting], Any],
    concurrent_database: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rows, name, broken(Meeting()))
    assert race(make(concurrent_database)) != []


def test_an_owner_that_looks_at_its_fence_and_then_writes_is_caught(
    concurrent_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked, taken = threading.Event(), threading.Event()

    def look(rows: CallQuerySet) -> bool:
        found = rows.exists()
        looked.set()
        taken.wait(timeout=10)
        return found

    monkeypatch.setattr(CallQuerySet, "keep", look)
    assert late_owner(make(concurrent_database), before=looked, after=taken) != []


# Races of which one of the parts only reads


def test_a_reader_among_writers_sees_every_event_once_and_in_order(concurrent_database: str) -> None:
    store = make(concurrent_database)
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


def test_a_request_id_that_many_send_at_once_names_one_call(concurrent_database: str) -> None:
    store = make(concurrent_database)
    session = secrets.token_hex(32)
    together(THREADS, lambda _: begin(store, session))
    calls = Call.objects.using(concurrent_database).filter(session_id=session)
    assert calls.count() == THREADS
    assert calls.filter(is_first=True).count() == 1


def test_a_cap_of_calls_is_exact_among_many_at_once(concurrent_database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("django_mcp.sessions.stores.database_calls.MAX_CALLS_PER_SESSION", 4)
    store = make(concurrent_database)
    session = secrets.token_hex(32)
    outcomes = together(THREADS, lambda _: begin(store, session))
    assert sum(isinstance(outcome, CallHold) for outcome in outcomes) == 4, outcomes
    assert sum(isinstance(outcome, Overloaded) for outcome in outcomes) == THREADS - 4, outcomes


def test_an_append_and_the_end_of_its_session_leave_nothing_behind(concurrent_database: str) -> None:
    store = make(concurrent_database)
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
        assert not Stream.objects.using(concurrent_database).exists()
        assert not Event.objects.using(concurrent_database).exists()

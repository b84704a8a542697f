"""Streams, calls and questions in the database: what they cost, what time and the end of a session do, outages."""

import secrets
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import InterfaceError, OperationalError, connections
from django.utils import timezone as clock
from pytest_django import DjangoAssertNumQueries

from django_mcp.core.principal import Principal
from django_mcp.exceptions import StoreUnavailable, StreamClosed
from django_mcp.models import Call, Event, MCPSession, Outlet, Question, Stream
from django_mcp.models.session import TOMBSTONE_DAYS
from django_mcp.models.transactions import Pace
from django_mcp.sessions.stores import CallHold, NewCall
from django_mcp.sessions.stores.database import DatabaseStore
from django_mcp.sessions.stores.database_streams import ABANDONED_SECONDS, SWEEP_STREAMS
from django_mcp.sessions.stores.streams import KEPT_SECONDS, MAX_EVENTS, MAX_STREAM_BYTES, first_to_keep

NOW = datetime(2026, 1, 1, tzinfo=UTC)
TABLES = ("stream", "event", "call", "question", "outlet")


def make(alias: str = "default") -> DatabaseStore:
    return DatabaseStore("default", {"OPTIONS": {"USING": alias}})


def begin_session(user: User | None = None) -> str:
    session, _ = MCPSession.objects.begin(
        server="s",
        principal=Principal(kind="user", id=str(user.pk) if user else "1"),
        user=user,
        protocol_version="2025-11-25",
        client_info={},
        capabilities={},
    )
    return session.pk


def begin_call(store: DatabaseStore, session: str, stream: str = "", request_id: str = "1") -> CallHold:
    (hold,) = store.begin_calls(
        "s", "scope", [NewCall(request_id=request_id)], owner="one", lease_seconds=30, session=session, stream=stream
    )
    return hold


def fill(store: DatabaseStore, session: str) -> None:
    """Keep one of everything in a session."""
    stream = store.open_stream(session, "post")
    store.append(session, stream, [b"event"])
    store.open_stream(session, "standalone")
    store.push(session, [b"event"])
    hold = begin_call(store, session, stream)
    store.ask(session, lifetime_seconds=30, call=hold.id)


def left() -> list[int]:
    return [model._default_manager.count() for model in (Stream, Event, Outlet, Call, Question)]


# Costs


def verbs(captured: Any) -> list[str]:
    return [query["sql"].split()[0] for query in captured.captured_queries]


@pytest.mark.django_db
def test_an_append_costs_four_statements_whatever_is_there_and_one_more_for_its_call(
    django_assert_num_queries: DjangoAssertNumQueries,
) -> None:
    store = make()
    session = secrets.token_hex(32)
    stream = store.open_stream(session, "post")
    hold = begin_call(store, session, stream)
    for bodies in ([b"1"], [b"2"] * 100):
        with django_assert_num_queries(6) as captured:  # the savepoint of the test is around
            store.append(session, stream, bodies)
        assert verbs(captured)[1:-1] == ["UPDATE", "SELECT", "UPDATE", "INSERT"]
    with django_assert_num_queries(7) as captured:
        store.append(session, stream, [b"3"], hold=hold)
    assert verbs(captured)[1:-1] == ["UPDATE", "UPDATE", "SELECT", "UPDATE", "INSERT"]
    with django_assert_num_queries(1):
        store.read_stream(session, stream)
    with django_assert_num_queries(1):
        store.change_cursor(session)
    with django_assert_num_queries(3):
        store.feed_changes(session, after=1, upto=2, bodies=[b"tools"])


@pytest.mark.django_db
def test_many_leases_are_renewed_by_two_queries(django_assert_num_queries: DjangoAssertNumQueries) -> None:
    store = make()
    session = secrets.token_hex(32)
    holds = [begin_call(store, session) for _ in range(20)]
    with django_assert_num_queries(4):
        store.renew_calls("one", holds, lease_seconds=30)
    with django_assert_num_queries(1):
        assert store.take_over_calls("s", "two", lease_seconds=30, interrupted=lambda _: b"") == []
    questions = [store.ask(session, lifetime_seconds=30) for _ in range(5)]
    with django_assert_num_queries(1):
        store.read_questions(session, questions)


@pytest.mark.django_db
def test_many_events_are_inserted_by_few_statements(django_assert_num_queries: DjangoAssertNumQueries) -> None:
    store = make()
    session = secrets.token_hex(32)
    stream = store.open_stream(session, "post")
    with django_assert_num_queries(5 + 6):  # 150 rows each
        store.append(session, stream, [b"x"] * 900)
    other = store.open_stream(session, "post")
    with django_assert_num_queries(5 + 4):  # 1 MiB each
        store.append(session, other, [b"x" * 250_000] * 15)


# What a standalone stream keeps


def old(*sizes: int, seconds: int = 0) -> list[tuple[int, int, datetime]]:
    return [(number, size, NOW - timedelta(seconds=seconds)) for number, size in enumerate(sizes, 1)]


@pytest.mark.parametrize(
    ("kept", "new", "first"),
    [
        (old(1, 1, 1), [1], 1),
        (old(1, 1, 1, seconds=60), [1], 4),
        ([*old(1, seconds=60), (2, 1, NOW), (3, 1, NOW - timedelta(seconds=60))], [1], 2),
        (old(*[1] * MAX_EVENTS), [1, 1], 3),
        (old(MAX_STREAM_BYTES, 1), [1], 2),
        (old(MAX_STREAM_BYTES - 2, 1), [1], 1),
        (old(5), [MAX_STREAM_BYTES + 1], 2),
        (old(5), [1, MAX_STREAM_BYTES + 1, MAX_STREAM_BYTES + 1], 4),
        ([], [1], 1),
    ],
    ids=["room", "old", "old in the middle", "count", "bytes", "bytes that fit", "one", "the newest", "empty"],
)
def test_a_standalone_stream_keeps_its_end(kept: list[tuple[int, int, datetime]], new: list[int], first: int) -> None:
    oldest = NOW - timedelta(seconds=30)
    assert first_to_keep(kept, new, following=len(kept) + 1, oldest=oldest) == first


@pytest.mark.django_db
def test_what_a_standalone_stream_shed_is_not_in_the_database() -> None:
    store = make()
    session = secrets.token_hex(32)
    stream = store.open_stream(session, "standalone")
    store.push(session, [b"x"] * (MAX_EVENTS + 500))
    assert Event.objects.count() == MAX_EVENTS
    store.push(session, [b"y" * 10])
    row = Stream.objects.get()
    assert (row.name, row.first, row.last, row.size) == (stream, 502, 1_501, MAX_EVENTS - 1 + 10)
    assert Event.objects.count() == MAX_EVENTS


@pytest.mark.django_db
def test_the_bytes_of_open_post_streams_are_counted_exactly() -> None:
    store = make()
    session = secrets.token_hex(32)
    first, second = (store.open_stream(session, "post") for _ in range(2))
    store.open_stream(session, "standalone")
    store.push(session, [b"not counted"])
    calls = [begin_call(store, session, first, str(number)) for number in range(2)]
    store.append(session, first, [b"12345"])
    store.append(session, second, [b"123"])
    assert Outlet.objects.get().open_bytes == 8
    store.finish_call(calls[0], "succeeded", event=b"12")
    assert Outlet.objects.get().open_bytes == 10
    store.finish_call(calls[1], "succeeded", event=b"12")
    assert Outlet.objects.get().open_bytes == 3
    store.append(session, second, [b"ordinary", b"terminal"], close=True)
    assert Outlet.objects.get().open_bytes == 0


# Time


@pytest.mark.django_db
def test_a_post_stream_is_kept_for_a_quarter_of_an_hour_after_it_closed() -> None:
    store = make()
    session = begin_session()
    stream = store.open_stream(session, "post")
    store.append(session, stream, [b"1"], close=True)
    expires_at = Stream.objects.get().expires_at
    assert expires_at is not None
    assert abs(expires_at - clock.now() - timedelta(minutes=15)) < timedelta(seconds=30)
    assert store.sweep() == 0
    Stream.objects.update(expires_at=clock.now())
    assert store.read_stream(session, stream) is None
    assert store.sweep() == 1
    assert left()[:2] == [0, 0]


@pytest.mark.django_db
def test_the_events_of_a_standalone_stream_are_kept_for_a_quarter_of_an_hour() -> None:
    store = make()
    session = begin_session()
    stream = store.open_stream(session, "standalone")
    store.push(session, [b"1", b"2"])
    Event.objects.filter(sequence=1).update(created_at=clock.now() - timedelta(minutes=16))
    store.push(session, [b"3"])
    page = store.read_stream(session, stream)
    assert page is not None
    assert (page.first, [event.body for event in page.events]) == (2, [b"2", b"3"])


@pytest.mark.django_db
def test_a_sweep_takes_a_bounded_number_of_streams_and_the_next_one_more() -> None:
    store = make()
    session = begin_session()
    for _ in range(SWEEP_STREAMS + 3):
        store.append(session, store.open_stream(session, "post", kept_seconds=0), [b"1"], close=True)
    assert [store.sweep() for _ in range(3)] == [SWEEP_STREAMS, 3, 0]


@pytest.mark.django_db
def test_calls_and_questions_go_some_time_after_their_end() -> None:
    store = make()
    session = begin_session()
    ended, running = begin_call(store, session), begin_call(store, session)
    store.finish_call(ended, "succeeded")
    for call in ("", ended.id, running.id):
        store.ask(session, lifetime_seconds=0, call=call)
    assert store.sweep() == 0
    past = clock.now() - timedelta(seconds=KEPT_SECONDS)
    Call.objects.filter(pk=ended.id).update(ended_at=past)
    Question.objects.update(expires_at=past)
    assert store.sweep() == 3
    assert store.find_call(ended.id) is None
    assert store.find_call(running.id) is not None
    assert [question.call for question in Question.objects.all()] == [running.id]


@pytest.mark.django_db
def test_a_call_that_nobody_takes_over_ends_in_a_day_and_its_stream_with_it() -> None:
    store = make()
    session = begin_session()
    stream = store.open_stream(session, "post")
    hold, alive = begin_call(store, session, stream), begin_call(store, session)
    Call.objects.filter(pk=hold.id).update(lease_until=clock.now() - timedelta(days=1))
    assert store.sweep() == 1
    assert [(call.pk, call.state) for call in Call.objects.exclude(pk=alive.id)] == [(hold.id, "interrupted")]
    page = store.read_stream(session, stream)
    assert page is not None
    assert (page.is_closed, page.events) == (True, ())
    assert store.sweep() == 0


@pytest.mark.django_db
def test_a_post_stream_that_was_abandoned_is_closed_and_its_bytes_are_free_again() -> None:
    store = make()
    session = begin_session()
    abandoned, running, written = (store.open_stream(session, "post") for _ in range(3))
    store.open_stream(session, "standalone")
    begin_call(store, session, running)
    for stream in (abandoned, running, written):
        store.append(session, stream, [b"1"])
    past = clock.now() - timedelta(seconds=ABANDONED_SECONDS)
    Stream.objects.update(opened_at=past)
    Stream.objects.exclude(name=written).update(written_at=past)
    assert store.sweep() == 1
    assert [row.name for row in Stream.objects.filter(is_open=False)] == [abandoned]
    assert Outlet.objects.get().open_bytes == 2


@pytest.mark.django_db
@pytest.mark.parametrize("how", ["ended", "missing"])
def test_the_streams_of_a_session_that_is_over_are_swept(how: str) -> None:
    store = make()
    over, alive = begin_session(), begin_session()
    for session in (over, alive):
        store.open_stream(session, "standalone")
        store.push(session, [b"1"])
    if how == "ended":
        MCPSession.objects.get(pk=over).terminate()
    else:
        MCPSession.objects.filter(pk=over)._raw_delete("default")
    past = clock.now() - timedelta(seconds=KEPT_SECONDS)
    MCPSession.objects.filter(ended_at__isnull=False).update(ended_at=past)
    assert store.sweep() == 0
    Stream.objects.update(opened_at=past)
    assert store.sweep() == 1
    assert Stream.objects.get().session_id == alive


def test_a_store_in_another_database_than_the_sessions_sweeps_by_time_alone(concurrent_database: str) -> None:
    store = make(concurrent_database)
    session = secrets.token_hex(32)
    stream = store.open_stream(session, "standalone")
    Stream.objects.using(concurrent_database).update(opened_at=clock.now() - timedelta(days=1))
    assert store.sweep() == 0
    assert store.read_stream(session, stream) is not None


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("what", ["stream", "call"])
def test_what_begins_takes_away_what_is_over_now_and_then(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store = make()
    session = begin_session()
    store.append(session, store.open_stream(session, "post", kept_seconds=0), [], close=True)

    def begin() -> None:
        if what == "stream":
            store.open_stream(session, "post")
        else:
            begin_call(store, session)

    begin()
    assert Stream.objects.filter(is_open=False).exists()
    monkeypatch.setattr(store, "_sweeps", Pace(0))
    begin()
    assert not Stream.objects.filter(is_open=False).exists()


# The end of a session


@pytest.mark.django_db
@pytest.mark.parametrize("by", ["session", "sweep", "user"])
def test_a_deleted_session_takes_everything_along(by: str) -> None:
    store = make()
    user, other = User.objects.create_user("alice"), User.objects.create_user("bob")
    session, kept = begin_session(user), begin_session(other)
    for key in (session, kept):
        fill(store, key)
    before = left()
    if by == "session":
        MCPSession.objects.get(pk=session).delete()
    elif by == "user":
        user.delete()
    else:
        MCPSession.objects.get(pk=session).terminate()
        MCPSession.objects.filter(pk=session).update(ended_at=clock.now() - timedelta(days=TOMBSTONE_DAYS))
        MCPSession.objects.sweep()
    assert left() == [count // 2 for count in before]
    assert {row.session_id for row in Stream.objects.all()} == {kept}


@pytest.mark.django_db
def test_arguments_go_with_the_end_of_their_call() -> None:
    store = make()
    call = NewCall(request_id="1", payload="sealed arguments")
    (hold,) = store.begin_calls("s", "scope", [call], owner="one", lease_seconds=30)
    assert Call.objects.get().payload == "sealed arguments"
    store.finish_call(hold, "failed")
    assert Call.objects.get().payload == ""


# Outages


@pytest.mark.django_db
@pytest.mark.parametrize("error", [OperationalError, InterfaceError])
def test_an_outage_is_never_taken_for_an_empty_log(error: type[Exception]) -> None:
    def down(*args: object) -> None:
        raise error("the server is gone")

    store = make()
    session = begin_session()
    stream = store.open_stream(session, "post")
    hold = begin_call(store, session, stream)
    question = store.ask(session, lifetime_seconds=30)
    with connections["default"].execute_wrapper(down):
        for ask in (
            lambda: store.open_stream(session, "post"),
            lambda: store.append(session, stream, [b"1"]),
            lambda: store.read_stream(session, stream),
            lambda: store.take_reader(session, stream),
            lambda: store.push(session, [b"1"]),
            lambda: store.change_cursor(session),
            lambda: store.feed_changes(session, after=None, upto=1, bodies=[]),
            lambda: begin_call(store, session),
            lambda: store.renew_calls("one", [hold], lease_seconds=30),
            lambda: store.begin_body(hold),
            lambda: store.note_progress(hold, 1),
            lambda: store.finish_call(hold, "succeeded"),
            lambda: store.find_call(hold.id),
            lambda: store.find_running_call(session, "1"),
            lambda: store.request_cancel(session, "1"),
            lambda: store.take_over_calls("s", "two", lease_seconds=30, interrupted=lambda _: b""),
            lambda: store.ask(session, lifetime_seconds=30),
            lambda: store.answer(session, question, 1),
            lambda: store.withdraw(session, [question]),
            lambda: store.read_questions(session, [question]),
            lambda: store.questions_of(hold.id),
            lambda: store.forget_session(session),
            store.sweep,
        ):
            with pytest.raises(StoreUnavailable, match="The store is unavailable"):
                ask()
    assert store.append(session, stream, [b"1"], hold=hold) == 1


@pytest.mark.django_db
def test_what_fails_half_way_leaves_nothing() -> None:
    store = make()
    session = secrets.token_hex(32)
    stream = store.open_stream(session, "post")

    def fail_at_the_events(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        if sql.startswith("INSERT"):
            raise OperationalError("the server is gone")
        return execute(sql, params, many, context)

    with connections["default"].execute_wrapper(fail_at_the_events), pytest.raises(StoreUnavailable):
        store.append(session, stream, [b"lost"], close=True)
    page = store.read_stream(session, stream)
    assert page is not None
    assert (page.last, page.is_closed) == (0, False)
    assert Outlet.objects.get().open_bytes == 0
    with pytest.raises(StreamClosed):
        store.append(session, f"{stream}0", [b"1"])


# The migration


def test_the_migration_is_reversible(concurrent_database: str) -> None:
    def tables() -> set[str]:
        return set(connections[concurrent_database].introspection.table_names())

    ours = {f"django_mcp_{name}" for name in TABLES}
    assert ours <= tables()
    try:
        call_command("migrate", "django_mcp", "0002", database=concurrent_database, verbosity=0)
        assert not ours & tables()
    finally:
        call_command("migrate", "django_mcp", database=concurrent_database, verbosity=0)
    assert ours <= tables()


@pytest.mark.django_db
def test_calls_that_were_taken_before_an_outage_are_returned(monkeypatch: pytest.MonkeyPatch) -> None:
    store, session = make(), begin_session()
    for number in range(2):
        calls = [NewCall(request_id=str(number))]
        store.begin_calls("s", "scope", calls, owner="dead", lease_seconds=number - 2, session=session)
    take = store._take_call
    taken: list[str] = []

    def take_one(call: Call, *args: Any, **terms: Any) -> Any:
        if taken:
            raise StoreUnavailable
        taken.append(call.pk)
        return take(call, *args, **terms)

    monkeypatch.setattr(store, "_take_call", take_one)

    def take_over() -> list[str]:
        found = store.take_over_calls("s", "one", lease_seconds=30, interrupted=lambda record: b"")
        return [record.id for record in found]

    assert take_over() == taken
    with pytest.raises(StoreUnavailable):
        take_over()


@pytest.mark.django_db
def test_what_does_not_run_is_cancelled_without_a_write(django_assert_num_queries: DjangoAssertNumQueries) -> None:
    store, session = make(), begin_session()
    with django_assert_num_queries(1) as seen:
        assert not store.request_cancel(session, "1")
    assert seen[0]["sql"].startswith("SELECT")

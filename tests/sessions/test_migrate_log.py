"""Moving a log between real stores: everything that can be read is equal, there and back, and however often."""

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.core.management import call_command

from django_mcp.core.principal import Principal, scope_digest
from django_mcp.exceptions import ConfigurationError, FenceLost, OutputLimit, StoreUnavailable, StreamClosed
from django_mcp.sessions.migration.log import LogMoved, migrate_log
from django_mcp.sessions.stores import (
    CallHold,
    CallRecord,
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
from django_mcp.sessions.stores.database import DatabaseStore
from django_mcp.sessions.stores.kept import Kept
from tests import services
from tests.redis_stores import cache_of, make_log
from tests.sessions.log_content import fill, pushes, reads

SESSION = "5e" * 32
SCOPE = scope_digest("", Principal(kind="user", id="1"))
NAME = ("server", SCOPE, "key")


def lost(record: CallRecord) -> bytes:
    return b"worker_lost " + record.request_id.encode()


def move(source: LogStore, target: LogStore, **terms: Any) -> LogMoved:
    return migrate_log(source, target, interrupted=lost, **terms)


def begin(store: LogStore, *, lease_seconds: float = 0, stream: str = "", **terms: Any) -> CallHold:
    session = SESSION if stream else None
    (hold,) = store.begin_calls(
        "server",
        "scope",
        [NewCall(request_id="1", payload="sealed", **terms)],
        owner="one",
        lease_seconds=lease_seconds,
        session=session,
        stream=stream,
    )
    return hold


def bodies(store: LogStore, stream: str) -> tuple[list[bytes], bool]:
    page = store.read_stream(SESSION, stream, limit=10_000)
    assert page is not None
    assert [event.sequence for event in page.events] == list(range(page.first, page.last + 1))
    return [event.body for event in page.events], page.is_closed


def take_over(store: LogStore) -> list[CallRecord]:
    return store.take_over_calls("server", "new", lease_seconds=30, interrupted=lost)


class MoveContract:
    """Needs the fixtures `source` and `target`, two stores without anything, and `empty`, which makes one so again."""

    @pytest.mark.parametrize("seed", range(4))
    def test_all_that_is_read_is_equal_there_and_back(
        self, source: LogStore, target: LogStore, empty: Callable[[LogStore], None], seed: int
    ) -> None:
        made = fill(source, seed)
        before = reads(source, made)
        moved = move(source, target)
        assert moved.is_complete
        assert moved.read == moved.changed
        assert reads(source, made) == reads(target, made) == before
        empty(source)
        assert all(page is None for page in reads_streams(source, made))
        move(target, source)
        assert reads(source, made) == before
        assert pushes(source, made) == pushes(target, made)

    def test_a_second_move_changes_nothing(self, source: LogStore, target: LogStore) -> None:
        made = fill(source, 11)
        first = move(source, target)
        seen = reads(target, made)
        again = move(source, target)
        assert again.read == first.read
        assert sum(again.changed.values()) == 0
        assert reads(target, made) == seen

    @pytest.mark.parametrize("count", [1, 3, 7, 15])
    def test_a_move_that_was_cut_short_is_finished_by_the_next(
        self, source: LogStore, target: LogStore, monkeypatch: pytest.MonkeyPatch, count: int
    ) -> None:
        made = fill(source, 12)
        restore, calls = target.restore, itertools.count()

        def dies(record: Kept) -> bool:
            if next(calls) == count:
                raise StoreUnavailable
            return restore(record)

        with monkeypatch.context() as patched:
            patched.setattr(target, "restore", dies)
            with pytest.raises(StoreUnavailable):
                move(source, target)
        move(source, target)
        assert reads(target, made) == reads(source, made)

    def test_progress_is_told_up_to_the_number_of_records(self, source: LogStore, target: LogStore) -> None:
        fill(source, 13)
        told: list[tuple[int, int | None]] = []
        moved = move(source, target, tell=lambda done, total: told.append((done, total)))
        count = sum(moved.read.values())
        assert told[-1] == (count, count)
        assert {total for _, total in told[:-1]} <= {None, source.count_records()}

    def test_a_store_that_did_not_keep_what_it_was_given_is_told_of(
        self, source: LogStore, target: LogStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        stream = source.open_stream(SESSION, "post")
        source.append(SESSION, stream, [b"1"])
        asked = iter([True, False])
        monkeypatch.setattr(target, "restore", lambda record: next(asked))
        with pytest.raises(StoreUnavailable, match="did not keep what it was given: streams"):
            move(source, target)

    # Streams

    def test_a_stream_that_grew_gets_what_is_behind_its_last_event(self, source: LogStore, target: LogStore) -> None:
        stream = source.open_stream(SESSION, "post")
        source.append(SESSION, stream, [b"1", b"2"])
        move(source, target)
        assert bodies(target, stream) == ([b"1", b"2"], False)
        source.append(SESSION, stream, [b"3"])
        source.append(SESSION, stream, [b"4"], close=True)
        move(source, target)
        assert bodies(target, stream) == ([b"1", b"2", b"3", b"4"], True)
        with pytest.raises(StreamClosed):
            target.append(SESSION, stream, [b"late"])

    def test_a_stream_that_went_on_in_the_new_store_stays(self, source: LogStore, target: LogStore) -> None:
        stream = source.open_stream(SESSION, "post")
        source.append(SESSION, stream, [b"1"])
        move(source, target)
        target.append(SESSION, stream, [b"new"])
        source.append(SESSION, stream, [b"2", b"old"], close=True)
        move(source, target)
        assert bodies(target, stream) == ([b"1", b"new"], False)
        target.append(SESSION, stream, [], close=True)
        move(source, target)
        assert bodies(target, stream) == ([b"1", b"new"], True)

    def test_what_is_pushed_goes_to_the_stream_that_was_the_newest(self, source: LogStore, target: LogStore) -> None:
        former = source.open_stream(SESSION, "standalone")
        source.push(SESSION, [b"1"])
        move(source, target)
        newest = source.open_stream(SESSION, "standalone")
        move(source, target)
        assert target.push(SESSION, [b"2"]) == newest
        assert bodies(target, former) == ([b"1"], True)
        own = target.open_stream(SESSION, "standalone")
        another = source.open_stream(SESSION, "standalone")
        move(source, target)
        assert target.push(SESSION, [b"3"]) == own
        assert bodies(target, another) == ([], True)

    def test_the_bytes_of_open_streams_count_in_the_new_store(self, source: LogStore, target: LogStore) -> None:
        streams = [source.open_stream(SESSION, "post") for _ in range(4)]
        for stream in streams[:3]:
            source.append(SESSION, stream, [b"x" * 3_000_000])
        move(source, target)
        source.append(SESSION, streams[3], [b"x" * 3_000_000])
        move(source, target)
        for store in (source, target):
            with pytest.raises(OutputLimit):
                store.append(SESSION, streams[3], [b"x" * 600_000])
        target.append(SESSION, streams[0], [], close=True)
        assert target.append(SESSION, streams[3], [b"x" * 600_000]) == 2

    # Calls

    def test_a_call_whose_owner_lives_stays_where_it_runs(self, source: LogStore, target: LogStore) -> None:
        stream = source.open_stream(SESSION, "post")
        hold = begin(source, lease_seconds=600, stream=stream)
        source.append(SESSION, stream, [b"1"], hold=hold)
        moved = move(source, target)
        assert (moved.left, moved.is_complete) == (1, False)
        assert target.find_call(hold.id) is None
        assert source.finish_call(hold, "succeeded", event=b"result")
        assert move(source, target).is_complete
        assert bodies(target, stream) == ([b"1", b"result"], True)
        record = target.find_call(hold.id)
        assert record is not None
        assert record.state == "succeeded"

    def test_a_call_that_may_have_had_effects_has_ended_and_says_so(self, source: LogStore, target: LogStore) -> None:
        stream = source.open_stream(SESSION, "post")
        hold = begin(source, stream=stream, body_began=True)
        moved = move(source, target)
        assert (moved.interrupted, moved.continued, moved.left) == (1, 0, 0)
        for store in (source, target):
            assert bodies(store, stream) == ([b"worker_lost 1"], True)
            assert take_over(store) == []
        assert not source.finish_call(hold, "succeeded", event=b"late")

    @pytest.mark.parametrize("terms", [{}, {"is_repeatable": True, "body_began": True}])
    def test_a_call_that_may_run_goes_on_in_the_new_store_alone(
        self, source: LogStore, target: LogStore, terms: dict[str, Any]
    ) -> None:
        stream = source.open_stream(SESSION, "post")
        hold = begin(source, stream=stream, **terms)
        question = source.ask(SESSION, lifetime_seconds=600, call=hold.id, key="colour")
        source.append(SESSION, stream, [b"1"], hold=hold, progress=3)
        moved = move(source, target)
        assert (moved.interrupted, moved.continued, moved.left) == (0, 1, 0)
        assert source.find_call(hold.id) is None
        assert take_over(source) == []
        assert not source.begin_body(hold)
        with pytest.raises(FenceLost):
            source.append(SESSION, stream, [b"late"], hold=hold)
        assert source.renew_calls("one", [hold], lease_seconds=30) == Renewal(lost=frozenset({hold}))
        found = target.find_running_call(SESSION, "1")
        assert found is not None
        assert found.id == hold.id
        (taken,) = take_over(target)
        assert (taken.state, taken.payload, taken.progress) == ("running", "sealed", 3)
        assert taken.body_began == bool(terms)
        assert taken.fence > hold.fence
        assert target.answer(SESSION, question, "green")
        assert [asked.answer for asked in target.questions_of(taken.id)] == ["green"]
        # What runs in the new store is not disturbed by another move.
        move(source, target)
        assert bodies(target, stream) == ([b"1"], False)
        assert target.finish_call(taken.hold, "succeeded", event=b"result")
        move(source, target)
        assert bodies(target, stream) == ([b"1", b"result"], True)

    @pytest.mark.parametrize("step", ["restore", "forget_call"])
    def test_a_call_runs_once_though_the_move_died_on_its_way(
        self, source: LogStore, target: LogStore, monkeypatch: pytest.MonkeyPatch, step: str
    ) -> None:
        stream = source.open_stream(SESSION, "post")
        hold = begin(source, stream=stream)
        store, real = (target, target.restore) if step == "restore" else (source, source.forget_call)

        def dies(record: Any) -> bool:
            if isinstance(record, CallRecord | CallHold):
                raise StoreUnavailable
            return bool(real(record))

        with monkeypatch.context() as patched:
            patched.setattr(store, step, dies)
            patched.setattr("django_mcp.sessions.migration.log.HOLD_SECONDS", 0)
            with pytest.raises(StoreUnavailable):
                move(source, target)
        (old,) = take_over(source)
        assert old.state == "interrupted"
        runs = [record for record in take_over(target) if record.state == "running"]
        assert len(runs) == (0 if step == "restore" else 1)
        move(source, target)
        if runs:
            assert bodies(target, stream) == ([], False)
            assert target.finish_call(runs[0].hold, "succeeded", event=b"result")
            assert bodies(target, stream) == ([b"result"], True)
        else:
            assert bodies(target, stream) == ([b"worker_lost 1"], True)
        assert hold.id not in {record.id for record in take_over(source)}

    # Questions

    def test_an_answer_that_came_between_two_moves_is_there_after_the_second(
        self, source: LogStore, target: LogStore
    ) -> None:
        first, second = (source.ask(SESSION, lifetime_seconds=600) for _ in range(2))
        move(source, target)
        source.answer(SESSION, first, "old")
        source.answer(SESSION, second, "old")
        target.answer(SESSION, second, "new")
        move(source, target)
        found = target.read_questions(SESSION, [first, second])
        assert [found[name].answer for name in (first, second)] == ["old", "new"]

    # Claims

    def test_a_key_that_is_at_work_is_not_free_in_the_new_store(self, source: LogStore, target: LogStore) -> None:
        claimed = source.claim(*NAME, lease_seconds=600, lifetime_seconds=900, digest="d")
        assert isinstance(claimed, Claimed)
        move(source, target)
        assert target.peek(*NAME) == Running()
        assert target.claim(*NAME, lease_seconds=600, lifetime_seconds=900, digest="other") == Mismatched()
        assert source.settle(*NAME, claimed.fence, "outcome")
        move(source, target)
        assert target.claim(*NAME, lease_seconds=600, lifetime_seconds=900, digest="d") == Done(outcome="outcome")

    def test_a_key_whose_owner_is_gone_is_not_run_again(self, source: LogStore, target: LogStore) -> None:
        source.claim(*NAME, lease_seconds=0, lifetime_seconds=900)
        move(source, target)
        assert target.claim(*NAME, lease_seconds=600, lifetime_seconds=900) == Interrupted()
        taken = target.claim(*NAME, lease_seconds=600, lifetime_seconds=900, takeover=True)
        assert isinstance(taken, Claimed)
        move(source, target)
        assert target.settle(*NAME, taken.fence, "outcome")
        move(source, target)
        assert target.peek(*NAME) == Done(outcome="outcome")

    def test_an_owner_can_settle_in_the_new_store_under_its_fence(self, source: LogStore, target: LogStore) -> None:
        claimed = source.claim(*NAME, lease_seconds=600, lifetime_seconds=900)
        assert isinstance(claimed, Claimed)
        move(source, target)
        assert not target.settle(*NAME, claimed.fence + 1, "foreign")
        assert target.settle(*NAME, claimed.fence, "outcome")

    # Changes

    def test_who_heard_of_changes_before_hears_of_those_that_follow(self, source: LogStore, target: LogStore) -> None:
        source.publish_change("server", "tools")
        cursor, _ = source.changes_since("server", None)
        source.publish_change("server", "prompts")
        move(source, target)
        target.publish_change("server", "resource", "file:///a")
        assert target.changes_since("server", cursor)[1] == [("prompts", ""), ("resource", "file:///a")]

    def test_where_both_numbered_changes_everything_has_changed(self, source: LogStore, target: LogStore) -> None:
        for store in (source, target):
            for _ in range(2):
                store.publish_change("server", "tools")
        cursors = [store.changes_since("server", None)[0] for store in (source, target)]
        move(source, target)
        assert target.changes_since("server", cursors[0])[1] == list(EVERYTHING)
        last, changes = target.changes_since("server", cursors[1])
        assert changes in ([], list(EVERYTHING))
        assert sum(move(source, target).changed.values()) == 0
        target.publish_change("server", "prompts")
        assert target.changes_since("server", last)[1] == [("prompts", "")]

    def test_changes_that_came_between_two_moves_follow_with_the_second(
        self, source: LogStore, target: LogStore
    ) -> None:
        source.publish_change("server", "tools")
        cursor, _ = source.changes_since("server", None)
        move(source, target)
        source.publish_change("server", "prompts")
        move(source, target)
        assert target.changes_since("server", cursor)[1] == [("prompts", "")]


def reads_streams(store: LogStore, made: Any) -> list[Any]:
    return [store.read_stream(session, name) for session, name in made.streams]


def database(alias: str) -> DatabaseStore:
    return DatabaseStore("default", {"OPTIONS": {"USING": alias}})


@pytest.fixture
def redis() -> Iterator[services.Service]:
    with services.redis() as service, cache_of(service):
        yield service


def _empty(store: LogStore) -> None:
    if isinstance(store, DatabaseStore):
        call_command("flush", database=store.write_alias, verbosity=0, interactive=False)
        return
    assert isinstance(store, CacheStore)
    client: Any = store.link.client
    start = store.link.key("").removesuffix("}").encode()
    found = [key for key in client.scan_iter(count=1_000) if key.startswith(start)]
    client.delete(*found)
    store.places._known.clear()
    store.newest._names.clear()
    store.link._epochs.clear()


@pytest.fixture
def empty() -> Callable[[LogStore], None]:
    return _empty


@pytest.mark.services
@pytest.mark.django_db(transaction=True)
class TestFromSqliteToRedis(MoveContract):
    @pytest.fixture
    def source(self) -> LogStore:
        return database("default")

    @pytest.fixture
    def target(self, redis: services.Service) -> LogStore:
        return make_log("new")


@pytest.mark.services
@pytest.mark.django_db(transaction=True)
class TestFromRedisToSqlite(MoveContract):
    @pytest.fixture
    def source(self, redis: services.Service) -> LogStore:
        return make_log("old")

    @pytest.fixture
    def target(self) -> LogStore:
        return database("default")


class TestFromARealDatabaseToRedis(MoveContract):
    @pytest.fixture
    def source(self, concurrent_database: str) -> LogStore:
        return database(concurrent_database)

    @pytest.fixture
    def target(self, redis: services.Service) -> LogStore:
        return make_log("new")


class TestFromRedisToARealDatabase(MoveContract):
    @pytest.fixture
    def source(self, redis: services.Service) -> LogStore:
        return make_log("old")

    @pytest.fixture
    def target(self, concurrent_database: str) -> LogStore:
        return database(concurrent_database)


@pytest.mark.services
class TestFromOneAliasOnRedisToAnother(MoveContract):
    @pytest.fixture
    def source(self, redis: services.Service) -> LogStore:
        return make_log("old*")

    @pytest.fixture
    def target(self, redis: services.Service) -> LogStore:
        return make_log("old")


@pytest.mark.django_db(transaction=True)
def test_two_aliases_of_one_database_are_refused_and_nothing_is_lost() -> None:
    store, same = database("default"), DatabaseStore("other", {"OPTIONS": {}})
    stream = store.open_stream(SESSION, "post")
    hold = begin(store, stream=stream)
    with pytest.raises(ConfigurationError, match="'default' and 'other' keep streams and calls in the same place"):
        move(store, same)
    assert store.find_call(hold.id) is not None

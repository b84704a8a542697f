"""What every store holds to about being moved, as tests; part of `LogStoreContract`."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import TypeVar

from django.utils import timezone

from django_mcp.core.principal import ANONYMOUS
from django_mcp.sessions.stores import CallHold, CallRecord, LogStore, NewCall, QuestionRecord
from django_mcp.sessions.stores.kept import Kept, KeptChanges, KeptClaim, KeptCursor, KeptResult, KeptStream

K = TypeVar("K")


class KeptLogContract:
    """Needs the fixtures `store`, `server` and `session`."""

    def kept(self, store: LogStore, kind: type[K], where: Callable[[K], bool]) -> list[K]:
        return [record for record in store.records() if isinstance(record, kind) and where(record)]

    def running(self, store: LogStore, server: str, session: str, stream: str) -> CallHold:
        (hold,) = store.begin_calls(
            server, "scope", [NewCall(request_id="1")], owner="one", lease_seconds=30, session=session, stream=stream
        )
        return hold

    def test_a_stream_is_restored_as_it_was(self, store: LogStore, session: str) -> None:
        streams = [store.open_stream(session, kind) for kind in ("post", "standalone", "post", "standalone")]
        for stream in (*streams[:1], *streams[2:]):
            store.append(session, stream, [b"1", b"", b"3"])
        store.append(session, streams[2], [b"4"], close=True)
        store.take_reader(session, streams[3])
        before = [store.read_stream(session, stream) for stream in streams]
        records = self.kept(store, KeptStream, lambda one: one.session == session)
        assert {record.name for record in records} == set(streams)
        assert records[-1].is_open
        store.forget_session(session)
        assert [store.restore(record) for record in records] == [True] * 4
        assert [store.restore(record) for record in records] == [False] * 4
        assert [store.read_stream(session, stream) for stream in streams] == before
        assert store.push(session, [b"4"]) == streams[3]

    def test_a_stream_on_which_a_call_runs_is_left_to_it(self, store: LogStore, server: str, session: str) -> None:
        stream = store.open_stream(session, "post")
        store.append(session, stream, [b"1"])
        (record,) = self.kept(store, KeptStream, lambda one: one.name == stream)
        hold = self.running(store, server, session, stream)
        goes = timezone.now() + timedelta(seconds=900)
        assert not store.restore(replace(record, is_open=False, expires_at=goes))
        assert store.finish_call(hold, "succeeded", event=b"2")

    def test_a_stream_that_is_over_is_not_restored(self, store: LogStore, session: str) -> None:
        stream = store.open_stream(session, "post")
        (record,) = self.kept(store, KeptStream, lambda one: one.name == stream)
        store.forget_session(session)
        assert not store.restore(replace(record, is_open=False, expires_at=timezone.now()))
        assert store.read_stream(session, stream) is None

    def test_calls_questions_and_the_cursor_of_a_session_are_restored(
        self, store: LogStore, server: str, session: str
    ) -> None:
        stream = store.open_stream(session, "standalone")
        hold = self.running(store, server, session, stream)
        question = store.ask(session, lifetime_seconds=300, call=hold.id, key="colour")
        store.answer(session, question, {"colour": "green"})
        store.feed_changes(session, after=None, upto=7, bodies=[])
        call, asked = store.find_call(hold.id), store.read_questions(session, [question])
        records: list[Kept] = [
            *self.kept(store, KeptCursor, lambda one: one.session == session),
            *self.kept(store, QuestionRecord, lambda one: one.session == session),
            *self.kept(store, CallRecord, lambda one: one.session == session),
        ]
        assert len(records) == 3
        assert server in store.call_servers()
        store.forget_session(session)
        assert [store.restore(record) for record in records] == [True] * 3
        assert [store.restore(record) for record in records] == [False] * 3
        assert store.find_call(hold.id) == store.find_running_call(session, "1") == call
        assert store.read_questions(session, [question]) == asked
        assert [one.id for one in store.questions_of(hold.id)] == [question]
        assert store.change_cursor(session) == 7

    def test_a_call_that_is_forgotten_leaves_its_stream_open(self, store: LogStore, server: str, session: str) -> None:
        stream = store.open_stream(session, "post")
        hold = self.running(store, server, session, stream)
        assert not store.forget_call(CallHold(id=hold.id, fence=hold.fence + 1))
        assert store.forget_call(hold)
        assert not store.forget_call(hold)
        assert store.find_call(hold.id) is None
        assert store.find_running_call(session, "1") is None
        page = store.read_stream(session, stream)
        assert page is not None
        assert not page.is_closed
        assert store.finish_call(self.running(store, server, session, stream), "succeeded", event=b"1")
        page = store.read_stream(session, stream)
        assert page is not None
        assert page.is_closed

    def test_what_a_store_has_is_not_restored_again(self, store: LogStore, server: str) -> None:
        store.claim(server, "scope", "running", lease_seconds=30, lifetime_seconds=60)
        store.put_result(server, "", ANONYMOUS, "text/plain", b"body", lifetime_seconds=60)
        store.publish_change(server, "tools")
        records: list[Kept] = [
            *self.kept(store, KeptClaim, lambda one: one.server == server),
            *self.kept(store, KeptResult, lambda one: one.server == server),
            *self.kept(store, KeptChanges, lambda one: one.server == server),
        ]
        assert [type(record) for record in records] == [KeptClaim, KeptResult, KeptChanges]
        assert [store.restore(record) for record in records] == [False] * 3

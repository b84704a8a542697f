"""What every store holds to about streams, as tests; part of `LogStoreContract`."""

import re
import secrets

import pytest

from django_mcp.exceptions import FenceLost, OutputLimit, StreamClosed
from django_mcp.sessions.stores import LogStore, NewCall, StreamEvent, StreamKind
from django_mcp.sessions.stores.streams import (
    EVENT_BYTES,
    MAX_EVENTS,
    MAX_OPEN_BYTES,
    MAX_STREAM_BYTES,
)

ALL = 10_000


class StreamLogContract:
    """Needs the fixtures `store`, `server` and `session`."""

    def bodies(self, store: LogStore, session: str, stream: str, after: int = 0) -> list[bytes]:
        page = store.read_stream(session, stream, after, limit=ALL)
        assert page is not None
        assert [event.sequence for event in page.events] == list(range(max(after + 1, page.first), page.last + 1))
        return [event.body for event in page.events]

    # Streams

    @pytest.mark.parametrize(("kind", "letter"), [("post", "p"), ("standalone", "g")])
    def test_a_stream_has_a_random_name_that_begins_with_its_kind(
        self, store: LogStore, session: str, kind: StreamKind, letter: str
    ) -> None:
        names = {store.open_stream(session, kind) for _ in range(5)}
        assert len(names) == 5
        assert all(re.fullmatch(f"{letter}[0-9a-f]{{16}}", name) for name in names)

    def test_a_new_stream_is_open_and_empty(self, store: LogStore, session: str) -> None:
        page = store.read_stream(session, store.open_stream(session, "post"))
        assert page is not None
        assert (page.first, page.last, page.is_closed, page.reader, page.events) == (1, 0, False, 0, ())

    def test_what_is_appended_is_numbered_from_one_and_read_as_it_was(self, store: LogStore, session: str) -> None:
        stream = store.open_stream(session, "post")
        bodies = [bytes(range(256)), b"", "né \u0000 🙂".encode()]
        assert store.append(session, stream, bodies[:2]) == 2
        assert store.append(session, stream, bodies[2:]) == 3
        assert self.bodies(store, session, stream) == bodies
        assert self.bodies(store, session, stream, after=2) == bodies[2:]
        assert self.bodies(store, session, stream, after=3) == []

    def test_a_page_is_bounded_and_the_next_one_follows_it(self, store: LogStore, session: str) -> None:
        stream = store.open_stream(session, "post")
        store.append(session, stream, [b"%d" % number for number in range(1, 6)])
        pages = [store.read_stream(session, stream, after, limit=2) for after in (0, 2, 4)]
        assert [page.events if page else None for page in pages] == [
            (StreamEvent(sequence=1, body=b"1"), StreamEvent(sequence=2, body=b"2")),
            (StreamEvent(sequence=3, body=b"3"), StreamEvent(sequence=4, body=b"4")),
            (StreamEvent(sequence=5, body=b"5"),),
        ]
        assert {page.last for page in pages if page} == {5}

    def test_events_of_several_megabytes_are_kept_whole(self, store: LogStore, session: str) -> None:
        stream = store.open_stream(session, "post")
        bodies = [bytes([number]) * EVENT_BYTES for number in range(15)]
        store.append(session, stream, bodies)
        assert self.bodies(store, session, stream) == bodies

    def test_nothing_is_added_to_a_closed_stream(self, store: LogStore, session: str) -> None:
        stream = store.open_stream(session, "post")
        assert store.append(session, stream, [b"1", b"2"], close=True) == 2
        page = store.read_stream(session, stream)
        assert page is not None
        assert page.is_closed
        for close in (False, True):
            with pytest.raises(StreamClosed):
                store.append(session, stream, [b"late"], close=close)
        assert self.bodies(store, session, stream) == [b"1", b"2"]

    def test_a_stream_closes_without_a_last_event(self, store: LogStore, session: str) -> None:
        stream = store.open_stream(session, "post")
        store.append(session, stream, [b"1"])
        assert store.append(session, stream, [], close=True) == 1
        page = store.read_stream(session, stream)
        assert page is not None
        assert (page.last, page.is_closed) == (1, True)

    def test_there_is_no_stream_of_another_session_and_none_of_an_unknown_name(
        self, store: LogStore, session: str
    ) -> None:
        stream = store.open_stream(session, "post")
        other = secrets.token_hex(32)
        for asked, name in ((other, stream), (session, "p0123456789abcdef"), (session, ""), (session, stream.upper())):
            assert store.read_stream(asked, name) is None
            assert store.take_reader(asked, name) is None
            with pytest.raises(StreamClosed):
                store.append(asked, name, [b"foreign"])
        assert self.bodies(store, session, stream) == []

    def test_a_closed_stream_is_kept_for_its_time_and_an_open_one_longer(self, store: LogStore, session: str) -> None:
        kept, gone, open_ = (store.open_stream(session, "post", kept_seconds=seconds) for seconds in (900, 0, 0))
        for stream in (kept, gone):
            store.append(session, stream, [b"1"], close=True)
        store.append(session, open_, [b"1"])
        for _ in range(2):
            assert store.read_stream(session, gone) is None
            assert store.take_reader(session, gone) is None
            assert self.bodies(store, session, kept) == self.bodies(store, session, open_) == [b"1"]
            store.sweep()

    # Bounds

    def test_a_post_stream_keeps_room_for_one_event_more_than_it_takes(self, store: LogStore, session: str) -> None:
        stream = store.open_stream(session, "post")
        assert store.append(session, stream, [b"x"] * (MAX_EVENTS - 2)) == MAX_EVENTS - 2
        with pytest.raises(OutputLimit):
            store.append(session, stream, [b"one", b"too many"])
        assert store.append(session, stream, [b"x"]) == MAX_EVENTS - 1
        with pytest.raises(OutputLimit):
            store.append(session, stream, [b"x"])
        with pytest.raises(OutputLimit):
            store.append(session, stream, [b"x", b"terminal"], close=True)
        assert store.append(session, stream, [b"terminal"], close=True) == MAX_EVENTS
        assert self.bodies(store, session, stream)[-2:] == [b"x", b"terminal"]

    def test_a_post_stream_keeps_the_bytes_of_its_terminal_event_free(self, store: LogStore, session: str) -> None:
        stream = store.open_stream(session, "post")
        store.append(session, stream, [b"x" * (MAX_STREAM_BYTES - EVENT_BYTES)])
        with pytest.raises(OutputLimit):
            store.append(session, stream, [b"x"])
        store.append(session, stream, [b"y" * EVENT_BYTES], close=True)
        assert sum(map(len, self.bodies(store, session, stream))) == MAX_STREAM_BYTES

    def test_what_the_open_streams_of_a_session_hold_is_bounded(self, store: LogStore, session: str) -> None:
        most = MAX_STREAM_BYTES - EVENT_BYTES
        room = MAX_OPEN_BYTES - MAX_STREAM_BYTES
        streams = [store.open_stream(session, "post") for _ in range(room // most + 1)]
        for stream in streams[:-1]:
            store.append(session, stream, [b"x" * most])
        last = streams[-1]
        store.append(session, last, [b"x" * (room % most)])
        with pytest.raises(OutputLimit):
            store.append(session, last, [b"x"])
        store.append(session, store.open_stream(session, "post"), [b"terminal"], close=True)
        with pytest.raises(OutputLimit):
            store.append(session, last, [b"x"])
        other = secrets.token_hex(32)
        assert store.append(other, store.open_stream(other, "post"), [b"x"]) == 1
        store.append(session, streams[0], [b"terminal"], close=True)
        assert store.append(session, last, [b"x"]) == 2

    # Standalone streams

    def test_a_standalone_stream_sheds_its_oldest_events_and_nothing_else(self, store: LogStore, session: str) -> None:
        stream = store.open_stream(session, "standalone")
        store.append(session, stream, [b"%d" % number for number in range(1, MAX_EVENTS + 1)])
        assert store.push(session, [b"a", b"b"]) == stream
        page = store.read_stream(session, stream, limit=1)
        assert page is not None
        assert (page.first, page.last, page.events[0].sequence) == (3, MAX_EVENTS + 2, 3)
        assert self.bodies(store, session, stream, after=MAX_EVENTS - 1) == [b"%d" % MAX_EVENTS, b"a", b"b"]

    def test_a_standalone_stream_sheds_by_its_bytes_but_never_the_newest(self, store: LogStore, session: str) -> None:
        stream = store.open_stream(session, "standalone")
        third = MAX_STREAM_BYTES // 3
        for letter in (b"1", b"2", b"3"):
            store.append(session, stream, [letter * third])
        assert len(self.bodies(store, session, stream)) == 3
        store.append(session, stream, [b"45"])
        assert [body[:1] for body in self.bodies(store, session, stream)] == [b"2", b"3", b"4"]
        store.append(session, stream, [b"x" * MAX_STREAM_BYTES, b"newest"])
        assert self.bodies(store, session, stream) == [b"newest"]

    def test_a_standalone_stream_sheds_what_is_old_first(self, store: LogStore, session: str) -> None:
        stream = store.open_stream(session, "standalone", kept_seconds=0)
        store.append(session, stream, [b"1", b"2"])
        assert self.bodies(store, session, stream) == [b"1", b"2"]
        store.append(session, stream, [b"3", b"4"])
        assert self.bodies(store, session, stream) == [b"3", b"4"]
        page = store.read_stream(session, stream)
        assert page is not None
        assert (page.first, page.last) == (3, 4)

    def test_what_is_pushed_goes_to_the_newest_standalone_stream_alone(self, store: LogStore, session: str) -> None:
        assert store.push(session, [b"nobody"]) is None
        post = store.open_stream(session, "post")
        assert store.push(session, [b"nobody"]) is None
        first = store.open_stream(session, "standalone")
        assert store.push(session, [b"1"]) == first
        second = store.open_stream(session, "standalone")
        assert store.push(session, [b"2"]) == second
        assert store.push(secrets.token_hex(32), [b"foreign"]) is None
        found = [self.bodies(store, session, stream) for stream in (post, first, second)]
        assert found == [[], [b"1"], [b"2"]]

    def test_a_newer_standalone_stream_closes_the_former_and_ends_its_reader(
        self, store: LogStore, session: str
    ) -> None:
        former = store.open_stream(session, "standalone")
        reader = store.take_reader(session, former)
        store.open_stream(session, "standalone")
        page = store.read_stream(session, former)
        assert page is not None
        assert page.is_closed
        assert page.reader != reader
        with pytest.raises(StreamClosed):
            store.append(session, former, [b"late"])

    def test_a_standalone_stream_that_is_read_again_is_the_newest_again(self, store: LogStore, session: str) -> None:
        former = store.open_stream(session, "standalone")
        store.push(session, [b"1"])
        newer = store.open_stream(session, "standalone")
        assert store.take_reader(session, former) is not None
        assert store.push(session, [b"2"]) == former
        assert self.bodies(store, session, former) == [b"1", b"2"]
        page = store.read_stream(session, newer)
        assert page is not None
        assert page.is_closed

    def test_a_standalone_stream_that_was_closed_carries_nothing(self, store: LogStore, session: str) -> None:
        stream = store.open_stream(session, "standalone")
        store.append(session, stream, [], close=True)
        assert store.push(session, [b"late"]) is None
        assert not store.feed_changes(session, after=None, upto=1, bodies=[b"late"])

    # Readers

    def test_each_reader_has_a_higher_number_and_the_newest_is_the_one(self, store: LogStore, session: str) -> None:
        kinds: tuple[StreamKind, ...] = ("post", "standalone")
        for kind in kinds:
            stream = store.open_stream(session, kind)
            readers = [store.take_reader(session, stream) or 0 for _ in range(3)]
            assert readers == sorted(set(readers))
            page = store.read_stream(session, stream)
            assert page is not None
            assert page.reader == readers[-1]

    def test_a_closed_stream_can_be_read_by_one_more(self, store: LogStore, session: str) -> None:
        stream = store.open_stream(session, "post")
        store.append(session, stream, [b"1"], close=True)
        assert store.take_reader(session, stream)
        assert self.bodies(store, session, stream) == [b"1"]

    # Changes that a session is told

    def test_changes_are_fed_once_whoever_read_them(self, store: LogStore, session: str) -> None:
        stream = store.open_stream(session, "standalone")
        assert store.change_cursor(session) is None
        assert store.feed_changes(session, after=None, upto=4, bodies=[])
        assert store.change_cursor(session) == 4
        assert store.feed_changes(session, after=4, upto=6, bodies=[b"tools", b"prompts"])
        assert not store.feed_changes(session, after=4, upto=6, bodies=[b"tools", b"prompts"])
        assert not store.feed_changes(session, after=None, upto=9, bodies=[b"again"])
        assert store.change_cursor(session) == 6
        assert self.bodies(store, session, stream) == [b"tools", b"prompts"]

    def test_changes_wait_for_a_stream_that_can_carry_them(self, store: LogStore, session: str) -> None:
        assert not store.feed_changes(session, after=None, upto=1, bodies=[b"lost"])
        store.open_stream(session, "post")
        assert not store.feed_changes(session, after=None, upto=1, bodies=[b"lost"])
        assert store.change_cursor(session) is None

    def test_the_cursor_of_a_session_outlives_its_streams(self, store: LogStore, session: str) -> None:
        store.open_stream(session, "standalone")
        store.feed_changes(session, after=None, upto=3, bodies=[])
        newest = store.open_stream(session, "standalone")
        assert store.change_cursor(session) == 3
        assert store.feed_changes(session, after=3, upto=4, bodies=[b"tools"])
        assert self.bodies(store, session, newest) == [b"tools"]
        assert store.change_cursor(secrets.token_hex(32)) is None

    # With a call

    def test_who_holds_the_call_appends_and_who_lost_it_does_not(
        self, store: LogStore, server: str, session: str
    ) -> None:
        stream = store.open_stream(session, "post")
        (hold,) = store.begin_calls(
            server, "scope", [NewCall(request_id="1")], owner="one", lease_seconds=0, session=session, stream=stream
        )
        assert store.append(session, stream, [b"1"], hold=hold) == 1
        (taken,) = store.take_over_calls(server, "two", lease_seconds=30, interrupted=lambda _: b"")
        with pytest.raises(FenceLost):
            store.append(session, stream, [b"late"], hold=hold)
        with pytest.raises(FenceLost):
            store.append(session, stream, [b"late"], hold=hold, close=True)
        assert store.append(session, stream, [b"2"], hold=taken.hold) == 2
        assert self.bodies(store, session, stream) == [b"1", b"2"]

    def test_progress_is_noted_with_its_event(self, store: LogStore, server: str, session: str) -> None:
        stream = store.open_stream(session, "post")
        (hold,) = store.begin_calls(
            server, "scope", [NewCall(request_id="1")], owner="one", lease_seconds=30, session=session, stream=stream
        )
        for progress in (0.5, 2.0, 1.0):
            store.append(session, stream, [b"%f" % progress], hold=hold, progress=progress)
        record = store.find_call(hold.id)
        assert record is not None
        assert record.progress == 2.0
        assert len(self.bodies(store, session, stream)) == 3

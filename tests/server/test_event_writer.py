"""A call's messages on their way to the store: in order, coalesced, and once whatever fails on the way."""

import asyncio
import secrets
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar, TypeVar

import pytest
from pytest_django import Settings

from django_mcp.exceptions import FenceLost, OutputLimit, StoreUnavailable, StreamClosed
from django_mcp.models import Event
from django_mcp.server.event_writer import LAG, Entry, EventWriter
from django_mcp.server.log import Log
from django_mcp.server.threads import HandlerThreads
from django_mcp.sessions.stores import CallHold, NewCall
from django_mcp.sessions.stores.database import DatabaseStore
from django_mcp.sessions.stores.streams import EVENT_BYTES, MAX_EVENTS

pytestmark = pytest.mark.django_db(transaction=True)

BOUND_SECONDS = 20

T = TypeVar("T")


class UnsteadyStore(DatabaseStore):
    """A store that loses its connection when it is told to: before it wrote, or after."""

    before: ClassVar[int] = 0
    after: ClassVar[int] = 0

    def append(self, *args: Any, **kwargs: Any) -> int:
        return self._unsteadily(lambda: super(UnsteadyStore, self).append(*args, **kwargs))

    def finish_call(self, *args: Any, **kwargs: Any) -> bool:
        return self._unsteadily(lambda: super(UnsteadyStore, self).finish_call(*args, **kwargs))

    @staticmethod
    def _unsteadily(write: Callable[[], T]) -> T:
        if UnsteadyStore.before:
            UnsteadyStore.before -= 1
            raise StoreUnavailable
        result = write()
        if UnsteadyStore.after:
            UnsteadyStore.after -= 1
            raise StoreUnavailable
        return result


@pytest.fixture(autouse=True)
def unsteady(settings: Settings) -> Iterator[None]:
    settings.DJANGO_MCP = {
        "STORES": {"default": {"BACKEND": "tests.server.test_event_writer.UnsteadyStore"}},
        "POLL_SECONDS": 0.05,
    }
    yield
    UnsteadyStore.before = UnsteadyStore.after = 0


class Author:
    def __init__(self, hold: CallHold | None = None) -> None:
        self.hold = hold
        self.is_lost = False

    def lose(self) -> None:
        self.is_lost = True


class Written:
    """A stream, a call of it, and what writes there."""

    def __init__(self, log: Log) -> None:
        self.log = log
        self.session = secrets.token_hex(32)
        self.stream = log.store.open_stream(self.session, "post")
        calls = [NewCall(request_id="1")]
        (hold,) = log.store.begin_calls(
            "server", "scope", calls, owner="one", lease_seconds=30, session=self.session, stream=self.stream
        )
        self.author = Author(hold)
        self.writer = EventWriter(log, self.session)

    def begin(self) -> None:
        self.writer.begin(self.stream, last=0)

    def put(self, *texts: str, kind: str | None = None) -> list[Entry]:
        entries = [Entry(author=self.author, body=text.encode(), kind=kind) for text in texts]
        for entry in entries:
            self.writer.put(entry)
        return entries

    def progress(self, values: Sequence[float]) -> None:
        for value in values:
            body = f"{value:g}".encode()
            self.writer.put(Entry(author=self.author, body=body, kind="progress", progress=value))

    async def finish(self, text: str) -> None:
        async with asyncio.timeout(BOUND_SECONDS):
            await self.writer.finish(self.author, "succeeded", text.encode())

    async def bodies(self) -> list[str]:
        rows = Event.objects.filter(stream_id=self.stream).order_by("sequence")
        found = [(row.sequence, bytes(row.body).decode()) async for row in rows]
        assert [sequence for sequence, _ in found] == list(range(1, len(found) + 1))
        return [body for _, body in found]


@pytest.fixture
async def written() -> Written:
    log = Log.of("default", HandlerThreads(size=1, queue=0))
    return await log.threads.run(Written, log)


async def test_messages_wait_for_their_stream_and_come_in_order_before_the_end(written: Written) -> None:
    written.put("a", "b")
    assert await written.bodies() == []
    written.begin()
    written.put("c")
    await written.finish("end")
    assert await written.bodies() == ["a", "b", "c", "end"]


@pytest.mark.parametrize("where", ["before", "after"])
async def test_a_write_whose_answer_was_lost_is_made_once(written: Written, where: str) -> None:
    written.begin()
    setattr(UnsteadyStore, where, 2)
    (entry,) = written.put("a")
    async with asyncio.timeout(BOUND_SECONDS):
        await entry.written
    written.put("b", "c")
    await written.finish("end")
    assert await written.bodies() == ["a", "b", "c", "end"]


@pytest.mark.parametrize("where", ["before", "after"])
async def test_the_end_of_a_call_whose_answer_was_lost_is_written_once(written: Written, where: str) -> None:
    written.begin()
    written.put("a")
    await written.writer.drain(written.author)
    setattr(UnsteadyStore, where, 2)
    await written.finish("end")
    assert await written.bodies() == ["a", "end"]


async def test_progress_that_is_not_too_fast_comes_whole(written: Written) -> None:
    written.begin()
    values = [float(value) for value in range(1, 91)]
    written.progress(values)
    await written.finish("end")
    assert await written.bodies() == [f"{value:g}" for value in values] + ["end"]


async def test_progress_that_is_too_fast_is_coalesced_to_the_latest(written: Written) -> None:
    written.begin()
    written.progress([float(value) for value in range(1, 5_001)])
    await written.finish("end")
    *progress, end = await written.bodies()
    assert end == "end"
    assert progress[-1] == "5000"
    assert len(progress) <= LAG + 1
    assert [int(value) for value in progress] == sorted({int(value) for value in progress})


async def test_what_was_held_back_comes_when_there_is_room_again(written: Written) -> None:
    written.begin()
    written.progress([float(value) for value in range(1, 200)])
    async with asyncio.timeout(BOUND_SECONDS):
        while (await written.bodies())[-1:] != ["199"]:  # noqa: ASYNC110 - a timer writes it
            await asyncio.sleep(0.02)


async def test_what_must_not_be_left_out_is_written_behind_what_was_said_before(written: Written) -> None:
    written.begin()
    written.progress([float(value) for value in range(1, 500)])
    written.put("question")
    await written.finish("end")
    bodies = await written.bodies()
    assert bodies[-3:] == ["499", "question", "end"]


async def test_messages_of_a_kind_never_fill_a_stream(written: Written) -> None:
    written.begin()
    async with asyncio.timeout(BOUND_SECONDS):
        for number in range(MAX_EVENTS // 2):
            (entry,) = written.put(str(number))
            if number % 100 == 99:
                await entry.written
        for number in range(50):
            written.progress([float(100 * number + value) for value in range(100)])
            await asyncio.sleep(0.01)
    await written.finish("end")
    bodies = await written.bodies()
    assert bodies[-1] == "end"
    assert MAX_EVENTS // 2 < len(bodies) < MAX_EVENTS * 0.7


async def test_over_the_bounds_who_must_be_heard_is_told(written: Written) -> None:
    written.begin()
    entries = written.put(*[str(number) for number in range(MAX_EVENTS + 10)])
    async with asyncio.timeout(BOUND_SECONDS):
        await asyncio.wait([entry.written for entry in entries])
    refused = [entry for entry in entries if isinstance(entry.written.exception(), OutputLimit)]
    assert refused == entries[MAX_EVENTS - 1 :]
    await written.finish("end")
    assert (await written.bodies())[-1] == "end"


async def test_one_message_that_is_too_large_is_refused_at_once(written: Written) -> None:
    (entry,) = written.put("x" * (EVENT_BYTES + 1), kind="log")
    assert isinstance(entry.written.exception(), OutputLimit)


async def test_a_call_that_another_process_has_writes_nothing_more(written: Written) -> None:
    written.begin()
    store = written.log.store
    assert written.author.hold is not None
    await written.log.do(store.finish_call, written.author.hold, "interrupted", event=b"worker_lost")
    (entry,) = written.put("late")
    async with asyncio.timeout(BOUND_SECONDS):
        with pytest.raises((FenceLost, StreamClosed)):
            await entry.written
    assert written.author.is_lost
    await written.finish("late")
    assert await written.bodies() == ["worker_lost"]


async def test_a_stream_whose_session_is_gone_takes_nothing_and_holds_nobody(written: Written) -> None:
    written.begin()
    await written.log.do(written.log.store.forget_session, written.session)
    UnsteadyStore.after = 1
    (entry,) = written.put("late")
    async with asyncio.timeout(BOUND_SECONDS):
        with pytest.raises(StreamClosed):
            await entry.written
    assert written.author.is_lost


async def test_without_a_stream_nobody_waits_for_one(written: Written) -> None:
    (before,) = written.put("before")
    written.writer.discard()
    (after,) = written.put("after")
    async with asyncio.timeout(BOUND_SECONDS):
        await asyncio.gather(before.written, after.written)
    assert await written.bodies() == []

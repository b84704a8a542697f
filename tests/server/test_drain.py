"""The drain of a process: what it waits for, what it ends, and whom it lets go on."""

import asyncio
import logging
import signal
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import pytest
from pytest_django import Settings

from django_mcp.exceptions import Overloaded
from django_mcp.server import drain as drain_module
from django_mcp.server.drain import Drain

BOUND_SECONDS = 10
WAITERS = 1_000


@pytest.fixture
def drain(settings: Settings) -> Drain:
    settings.DJANGO_MCP = {"DRAIN_SECONDS": BOUND_SECONDS}
    return Drain()


@pytest.fixture
def signals() -> Iterator[list[int]]:
    """What the handlers of a server, which are in place now, were called with."""
    received: list[int] = []

    def received_by_the_server(number: int, frame: Any) -> None:
        received.append(number)

    former = {number: signal.signal(number, received_by_the_server) for number in (signal.SIGTERM, signal.SIGINT)}
    yield received
    for number, handler in former.items():
        signal.signal(number, handler)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(BOUND_SECONDS):
        while not condition():  # noqa: ASYNC110 - a condition of the drain's, which has no event
            await asyncio.sleep(0.001)


@contextmanager
def other_loop() -> Iterator[asyncio.AbstractEventLoop]:
    """A loop that runs in a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield loop
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(BOUND_SECONDS)
        loop.close()


@asynccontextmanager
async def drained(drain: Drain) -> AsyncIterator[list[str]]:
    """Drain meanwhile; at the end what happened is known."""
    went_on: list[str] = []
    running = asyncio.create_task(drain.run(lambda: went_on.append("went on")))
    await until(lambda: drain.is_draining)
    yield went_on
    async with asyncio.timeout(BOUND_SECONDS):
        await running
    assert went_on == ["went on"]


async def test_a_process_without_work_goes_at_once(drain: Drain) -> None:
    assert not drain.is_draining
    async with drained(drain):
        pass
    assert drain.is_draining


async def test_what_runs_is_waited_for_and_what_comes_is_served(drain: Drain) -> None:
    with drain.exchange():
        assert drain.running == 1
        went_on: list[int] = []
        draining = asyncio.create_task(drain.run(lambda: went_on.append(drain.running)))
        await until(lambda: drain.is_draining)
        with drain.exchange():
            assert drain.running == 2
        assert not went_on
    async with asyncio.timeout(BOUND_SECONDS):
        await draining
    assert went_on == [0]


async def test_an_exchange_of_another_loop_is_waited_for(drain: Drain) -> None:
    entered, let_go = threading.Event(), threading.Event()

    async def serve() -> None:
        with drain.exchange():
            entered.set()
            await asyncio.to_thread(let_go.wait, BOUND_SECONDS)

    with other_loop() as loop:
        serving: Future[None] = asyncio.run_coroutine_threadsafe(serve(), loop)
        await asyncio.to_thread(entered.wait, BOUND_SECONDS)
        async with drained(drain) as went_on:
            assert not went_on
            let_go.set()
        serving.result(BOUND_SECONDS)


async def test_what_takes_longer_is_ended_on_its_loop(
    drain: Drain, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    settings.DJANGO_MCP = {"DRAIN_SECONDS": 0}
    ended = asyncio.Event()
    with drain.exchange(ended.set):
        went_on: list[bool] = []
        draining = asyncio.create_task(drain.run(lambda: went_on.append(ended.is_set())))
        async with asyncio.timeout(BOUND_SECONDS):
            await ended.wait()
    await draining
    assert went_on == [True]
    assert "1 requests are ended" in caplog.text


async def test_what_does_not_end_holds_nobody(
    drain: Drain, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.DJANGO_MCP = {"DRAIN_SECONDS": 0}
    monkeypatch.setattr(drain_module, "END_SECONDS", 0.01)
    with drain.exchange():
        async with drained(drain):
            pass


async def test_streams_are_refused_while_it_drains_and_everything_afterwards(drain: Drain) -> None:
    drain.admit_stream()
    async with drained(drain):
        with pytest.raises(Overloaded, match="The server process ends; try again") as refused:
            drain.admit_stream()
        assert refused.value.retry_after_seconds == 5
    with pytest.raises(Overloaded), drain.exchange():
        pass
    with drain.exchange(is_new=False):
        assert drain.running == 1


async def test_a_thousand_waiters_learn_that_it_begins(drain: Drain) -> None:
    waiters = [asyncio.create_task(drain.begun()) for _ in range(WAITERS)]
    with other_loop() as loop:
        elsewhere = asyncio.run_coroutine_threadsafe(drain.begun(), loop)
        await until(lambda: len(drain._loops) == 2)
        assert not any(waiter.done() for waiter in waiters)
        async with drained(drain):
            pass
        async with asyncio.timeout(BOUND_SECONDS):
            await asyncio.gather(*waiters)
        elsewhere.result(BOUND_SECONDS)
    await drain.begun()


async def test_a_callback_is_called_when_it_begins_or_at_once(drain: Drain) -> None:
    called: list[str] = []
    with drain.on_begin(lambda: called.append("gone")):
        pass
    with drain.on_begin(lambda: called.append("there")):
        assert not called
        async with drained(drain):
            pass
    assert called == ["there"]
    with drain.on_begin(lambda: called.append("late")):
        assert called == ["there", "late"]


async def test_what_runs_on_is_handed_over_on_its_loop_before_the_server_goes_on(
    drain: Drain, caplog: pytest.LogCaptureFixture
) -> None:
    happened: list[Any] = []

    async def give_up() -> None:
        await asyncio.sleep(0)
        happened.append(asyncio.get_running_loop())

    async def fail() -> None:
        raise ValueError("no")

    async def register() -> None:
        drain.hand_over(give_up)

    drain.hand_over(fail)
    drain.hand_over(give_up)
    drain.hand_over(give_up)()
    with other_loop() as loop:
        asyncio.run_coroutine_threadsafe(register(), loop).result(BOUND_SECONDS)
        await drain.run(lambda: happened.append("went on"))
    assert happened[-1] == "went on"
    assert set(happened[:-1]) == {loop, asyncio.get_running_loop()}
    assert len(happened) == 3
    assert "what runs here could not be handed over" in caplog.text


async def test_handing_over_has_a_bound(
    drain: Drain, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(drain_module, "HAND_OVER_SECONDS", 0.01)

    async def hang() -> None:
        await asyncio.Event().wait()

    drain.hand_over(hang)
    async with drained(drain):
        pass
    assert "could not be handed over in time" in caplog.text


class Connection(asyncio.WriteTransport):
    def __init__(self, unsent: int) -> None:
        super().__init__()
        self.unsent = unsent
        self.aborted = False

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def abort(self) -> None:
        self.aborted = True


async def test_connections_that_are_not_read_are_cut_when_the_server_went_on(
    drain: Drain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drain_module, "FLUSH_SECONDS", 0.01)
    unread, read, slow = Connection(7), Connection(0), Connection(7)
    for connection in (unread, read, slow):
        drain.leave_unread(connection)
    slow.unsent = 0
    async with drained(drain):
        pass
    await until(lambda: unread.aborted)
    assert not read.aborted
    assert not slow.aborted


# Signals


async def test_the_signal_is_kept_back_until_the_work_is_done(drain: Drain, signals: list[int]) -> None:
    with drain.exchange():
        signal.raise_signal(signal.SIGTERM)
        await until(lambda: drain.is_draining)
        assert signals == []
    await until(lambda: signals == [signal.SIGTERM])


async def test_a_second_signal_goes_through_at_once(drain: Drain, signals: list[int]) -> None:
    ended = asyncio.Event()
    with drain.exchange(ended.set):
        signal.raise_signal(signal.SIGTERM)
        await until(lambda: drain.is_draining)
        signal.raise_signal(signal.SIGTERM)
        assert signals == [signal.SIGTERM]
        async with asyncio.timeout(BOUND_SECONDS):
            await ended.wait()
    assert drain._task is not None
    await drain._task
    assert signals == [signal.SIGTERM]


async def test_an_interrupt_begins_the_drain_and_goes_through_at_once(drain: Drain, signals: list[int]) -> None:
    with drain.exchange():
        signal.raise_signal(signal.SIGINT)
        assert signals == [signal.SIGINT]
        await until(lambda: drain.is_draining)
    assert drain._task is not None
    await drain._task
    assert signals == [signal.SIGINT]


async def test_where_no_server_has_handlers_nothing_is_changed(drain: Drain) -> None:
    former = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    assert not callable(former[signal.SIGTERM])
    with drain.exchange():
        assert {number: signal.getsignal(number) for number in former} == former


async def test_a_loop_in_another_thread_changes_nothing(drain: Drain, signals: list[int]) -> None:
    async def attend() -> None:
        drain.attend()

    former = signal.getsignal(signal.SIGTERM)
    with other_loop() as loop:
        asyncio.run_coroutine_threadsafe(attend(), loop).result(BOUND_SECONDS)
    assert signal.getsignal(signal.SIGTERM) is former
    assert signals == []


def test_a_signal_after_the_loop_has_stopped_goes_through(drain: Drain, signals: list[int]) -> None:
    async def attend() -> None:
        drain.attend()

    loop = asyncio.new_event_loop()
    loop.run_until_complete(attend())
    assert signal.getsignal(signal.SIGTERM) == drain._on_signal
    signal.raise_signal(signal.SIGTERM)
    assert signals == [signal.SIGTERM]
    loop.close()
    signal.raise_signal(signal.SIGTERM)
    assert signals == [signal.SIGTERM] * 2
    assert not drain.is_draining


async def test_a_handler_is_chained_once_however_many_requests_come(
    drain: Drain, signals: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "django_mcp.drain")
    for _ in range(3):
        with drain.exchange():
            pass
    signal.raise_signal(signal.SIGTERM)
    await until(lambda: signals == [signal.SIGTERM])
    assert caplog.text.count("draining: 0 requests are running") == 1

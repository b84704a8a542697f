"""The end of a process: told by SIGTERM to go, it lets what runs come to its end, and then lets its server go on.

Daphne cancels every open response at SIGTERM, uvicorn closes its port and then waits for streams without limit. So the
signal is kept back for `DRAIN_SECONDS` at most: streams without an end are ended, new ones are refused, calls may
finish. What was installed for the signal before is called afterwards, whoever installed it; a second signal goes to it
at once.

Four things stand on it, on any event loop of the process:

* What serves a request counts itself: `with process_drain().exchange(end): ...`. `end()` is called on the loop of the
  exchange when the time is over.
* A stream without an end asks `admit_stream()` before it begins, and ends by itself when the drain begins: it waits
  for `begun()`, or has a callback called by `on_begin()`, which costs no task. A stream that its client opens again
  ends with `retry:` DRAIN_RETRY_MILLISECONDS, so that the client comes back when another process is there.
* What keeps calls running beyond their response registers `hand_over(function)`: an async function that gives up what
  another process may take over. It runs when no exchange is left or the time is over, before the server goes on.
* What writes by the way registers `last(function)`, which is called on a thread after that, when nothing is served.
"""

from __future__ import annotations

import asyncio
import enum
import logging
import signal
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from types import FrameType, TracebackType
from typing import Any, Final
from weakref import WeakKeyDictionary, ref

from django_mcp.conf import mcp_settings
from django_mcp.exceptions import Overloaded

logger = logging.getLogger("django_mcp.drain")

DRAIN_RETRY_MILLISECONDS: Final = 5_000
RETRY_AFTER_SECONDS: Final = 5
HAND_OVER_SECONDS: Final = 2.0
LAST_THINGS_SECONDS: Final = 2.0
END_SECONDS: Final = 1.0
"""How long exchanges whose time is over may take to say so."""
FLUSH_SECONDS: Final = 2.0
"""How long a client may take to read what it was sent."""
LAST_SECONDS: Final = 5.0
"""How long a server may take to go on where a client that does not read may hold it."""

_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)

Callback = Callable[[], None]
HandOver = Callable[[], Awaitable[None]]
SignalHandler = Callable[[int, FrameType | None], Any]


class Phase(enum.Enum):
    """SERVING, DRAINING from the signal on, OVER from the moment on when nothing new is begun."""

    SERVING = enum.auto()
    DRAINING = enum.auto()
    OVER = enum.auto()


class Drain:
    """Whether this process is going, what still runs in it, and what is to be done before it goes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._phase = Phase.SERVING
        self._running: set[_Exchange] = set()
        self._loops: WeakKeyDictionary[asyncio.AbstractEventLoop, _Loop] = WeakKeyDictionary()
        self._unsent: list[asyncio.WriteTransport] = []
        self._may_be_held = False
        self._seen: ref[asyncio.AbstractEventLoop] | None = None
        self._attending: ref[asyncio.AbstractEventLoop] | None = None
        self._previous: dict[int, SignalHandler] = {}
        self._told = False
        self._hurried = False
        self._went_on = False
        self._task: asyncio.Task[None] | None = None
        self._last: list[Callable[[], object]] = []
        self._changed: tuple[asyncio.AbstractEventLoop, asyncio.Event] | None = None

    @property
    def is_draining(self) -> bool:
        """Whether the process was told to go."""
        return self._phase is not Phase.SERVING

    @property
    def running(self) -> int:
        """How many exchanges are being served."""
        return len(self._running)

    # For what is served

    def exchange(self, end: Callback | None = None, *, is_new: bool = True) -> _Exchange:
        """Return a context in which an exchange counts as running, on any loop. The first one attends to signals.

        Args:
            end: called on the running loop when the exchange has to end now; None for what has no response.
            is_new: entering raises Overloaded when the process is about to go and begins nothing more.
        """
        self.attend()
        return _Exchange(self, asyncio.get_running_loop(), end, is_new)

    def admit_stream(self) -> None:
        """Let a stream without an end begin. Raises Overloaded while the process drains."""
        if self.is_draining:
            raise self.refusal()

    def refusal(self) -> Overloaded:
        """Return the error of a request that this process does not begin, or not finish, because it goes."""
        return Overloaded(RETRY_AFTER_SECONDS, message="The server process ends; try again")

    async def begun(self) -> None:
        """Wait until the process is told to go."""
        await self._here().begun.wait()

    @contextmanager
    def on_begin(self, callback: Callback) -> Iterator[None]:
        """Have `callback` called on the running loop when the drain begins; at once if it has begun."""
        here = self._here()
        if here.begun.is_set():
            callback()
            yield
            return
        handle = object()
        here.callbacks[handle] = callback
        try:
            yield
        finally:
            here.callbacks.pop(handle, None)

    def hand_over(self, function: HandOver) -> Callback:
        """Have `function` awaited on the running loop before the process goes; return what takes it back.

        It has HAND_OVER_SECONDS, together with all others; what it raises is logged.
        """
        functions = self._here().hand_overs
        handle = object()
        functions[handle] = function

        def take_back() -> None:
            functions.pop(handle, None)

        return take_back

    def last(self, function: Callable[[], object]) -> None:
        """Have `function` called on a thread, once, when nothing is served any more. It has LAST_THINGS_SECONDS."""
        self._last.append(function)

    def leave_unread(self, transport: asyncio.WriteTransport | None) -> None:
        """Note the connection of a response that ended while the process drains; None where nobody knows it.

        A client that does not read would hold uvicorn for ever, which waits for each connection to close.
        """
        if transport is None:
            self._may_be_held = True
        elif transport.get_write_buffer_size():
            self._unsent.append(transport)

    # Signals

    def attend(self) -> None:
        """Stand before the server's handlers of signals, where the running loop is the main thread's.

        Where no server has handlers (tests, stdio, a loop in another thread) nothing is changed.
        """
        loop = asyncio.get_running_loop()
        if self._seen is not None and self._seen() is loop:
            return
        self._seen = ref(loop)
        if threading.current_thread() is not threading.main_thread():
            return
        if not callable(signal.getsignal(signal.SIGTERM)):
            # An interrupt may have a handler all the same: the event loop's own.
            return
        self._attending = self._seen
        for number in _SIGNALS:
            handler = signal.getsignal(number)
            if callable(handler) and handler not in (self._on_signal, signal.default_int_handler):
                self._previous[number] = handler
                signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        """Begin the drain. Runs between any two instructions of the main thread, so it takes no lock."""
        loop = self._attending() if self._attending is not None else None
        is_first, self._told = not self._told, True
        waits = is_first and number == signal.SIGTERM and not self._went_on
        try:
            if loop is None or not loop.is_running():
                waits = False
            elif is_first:
                loop.call_soon_threadsafe(self._start, number)
            else:
                loop.call_soon_threadsafe(self._hurry)
        except RuntimeError:  # The loop was closed meanwhile.
            waits = False
        if not waits:
            self._went_on = True
            self._previous[number](number, frame)

    def _start(self, number: int) -> None:
        self._task = asyncio.get_running_loop().create_task(self.run(lambda: self._go_on(number)), name="mcp-drain")

    def _hurry(self) -> None:
        self._hurried = True
        self._tell_changed()

    def _go_on(self, number: int) -> None:
        if not self._went_on:
            self._went_on = True
            self._previous[number](number, None)

    # The drain

    async def run(self, go_on: Callback) -> None:
        """Drain the process, then call `go_on`, whatever happens on the way."""
        loop = asyncio.get_running_loop()
        changed = asyncio.Event()
        self._changed = loop, changed
        try:
            self._begin()
            await self._until_quiet(changed, mcp_settings.DRAIN_SECONDS, hurries=True)
            self._phase = Phase.OVER
            if self._running:
                logger.warning("%d requests are ended: the time to drain is over", self.running)
            await self._hand_over()
            for exchange in list(self._running):
                exchange.end()
            await self._until_quiet(changed, END_SECONDS, hurries=False)
            await self._do_last()
        finally:
            self._phase = Phase.OVER
            go_on()
        loop.call_later(FLUSH_SECONDS, self._cut)
        if self._previous and (self._may_be_held or any(exchange.holds_server for exchange in self._running)):
            loop.call_later(LAST_SECONDS, self._insist)

    def _begin(self) -> None:
        with self._lock:
            self._phase = Phase.DRAINING
            loops = list(self._loops.items())
        logger.info("draining: %d requests are running", self.running)
        for loop, here in loops:
            _tell(loop, here.begin)

    async def _until_quiet(self, changed: asyncio.Event, seconds: float, *, hurries: bool) -> None:
        """Wait until nothing runs, `seconds` at most; a second signal ends the wait too, if it `hurries`."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self._running and not (hurries and self._hurried):
                    changed.clear()
                    await changed.wait()

    async def _hand_over(self) -> None:
        waiting = []
        for loop, here in list(self._loops.items()):
            if here.hand_overs and loop.is_running():
                waiting.append(asyncio.wrap_future(asyncio.run_coroutine_threadsafe(here.hand_over(), loop)))
        if waiting:
            _, late = await asyncio.wait(waiting, timeout=HAND_OVER_SECONDS)
            for future in late:
                logger.warning("what runs here could not be handed over in time")
                future.cancel()

    async def _do_last(self) -> None:
        functions, self._last = self._last, []
        if functions:
            doing = [asyncio.ensure_future(asyncio.to_thread(_do, function)) for function in functions]
            await asyncio.wait(doing, timeout=LAST_THINGS_SECONDS)

    def _cut(self) -> None:
        """Close the connections of clients that have not read to the end."""
        for transport in self._unsent:
            if transport.get_write_buffer_size():
                logger.warning("the connection of a client that does not read is cut")
                transport.abort()
        self._unsent.clear()

    def _insist(self) -> None:
        """End the process as the signal would have done by default; its server was asked and is still here."""
        logger.warning("the server still waits for a response that was ended; the process ends now")
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.raise_signal(signal.SIGTERM)

    # What is counted

    def _enter(self, exchange: _Exchange, *, is_new: bool) -> None:
        with self._lock:
            if not is_new or self._phase is not Phase.OVER:
                self._running.add(exchange)
                return
        raise self.refusal()

    def _leave(self, exchange: _Exchange) -> None:
        with self._lock:
            self._running.discard(exchange)
        if self._phase is not Phase.SERVING:
            self._tell_changed()

    def _tell_changed(self) -> None:
        if self._changed is not None:
            loop, changed = self._changed
            _tell(loop, changed.set)

    def _here(self) -> _Loop:
        loop = asyncio.get_running_loop()
        with self._lock:
            here = self._loops.get(loop)
            if here is None:
                here = self._loops[loop] = _Loop()
                if self._phase is not Phase.SERVING:
                    here.begun.set()
        return here


class _Exchange:
    """One request that is being served, while it is entered."""

    __slots__ = ("_drain", "_end", "_is_new", "_loop")

    def __init__(self, drain: Drain, loop: asyncio.AbstractEventLoop, end: Callback | None, is_new: bool) -> None:
        self._drain = drain
        self._loop = loop
        self._end = end
        self._is_new = is_new

    def __enter__(self) -> None:
        self._drain._enter(self, is_new=self._is_new)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._drain._leave(self)

    @property
    def holds_server(self) -> bool:
        """Whether it is a response that the server may wait for."""
        return self._end is not None

    def end(self) -> None:
        if self._end is not None:
            _tell(self._loop, self._end)


class _Loop:
    """What waits on one event loop."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.callbacks: dict[object, Callback] = {}
        self.hand_overs: dict[object, HandOver] = {}

    def begin(self) -> None:
        self.begun.set()
        callbacks = list(self.callbacks.values())
        self.callbacks.clear()
        for callback in callbacks:
            callback()

    async def hand_over(self) -> None:
        await asyncio.gather(*map(_run, self.hand_overs.values()))


async def _run(function: HandOver) -> None:
    try:
        await function()
    except Exception:
        logger.exception("what runs here could not be handed over")


def _do(function: Callable[[], object]) -> None:
    try:
        function()
    except Exception:
        logger.exception("what was to be done last failed")


def _tell(loop: asyncio.AbstractEventLoop, callback: Callback) -> None:
    # A closed loop raises: nothing waits there any more.
    with suppress(RuntimeError):
        loop.call_soon_threadsafe(callback)


@cache
def process_drain() -> Drain:
    """Return the drain of this process."""
    return Drain()

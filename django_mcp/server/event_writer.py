"""Writing a call's messages onto its stream in the store: in order, many at once, some of them coalesced before.

Whoever has a message puts it here and goes on; one task writes. A write whose answer was lost is looked for before it
is made again, since nobody else writes to the stream while this process holds its calls.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from django_mcp.conf import mcp_settings
from django_mcp.core.coalescing import Allowance
from django_mcp.exceptions import FenceLost, OutputLimit, StoreUnavailable, StreamClosed
from django_mcp.server.background import in_background
from django_mcp.server.log import Log, outlasting
from django_mcp.server.wake import wake_bus
from django_mcp.server.watch import watch_of
from django_mcp.sessions.stores import CallHold, CallState
from django_mcp.sessions.stores.streams import EVENT_BYTES, EVENTS_AT_ONCE, MAX_EVENTS, MAX_STREAM_BYTES

logger = logging.getLogger("django_mcp.streams")

LAG: Final = 100
"""Messages that wait to be written, over which those that say the latest of something replace each other."""

_END: Final = 2**53


class Author(Protocol):
    """The call whose messages are written."""

    hold: CallHold | None

    def lose(self) -> None:
        """Learn that the call is not this process's any more."""
        ...


@dataclass(eq=False, slots=True, kw_only=True)
class Entry:
    """A message on its way. `kind` names what it says the latest of; without one it is never left out."""

    author: Author
    body: bytes
    kind: str | None = None
    progress: float | None = None
    written: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class EventWriter:
    """Writes to one post stream of a session. Before `begin()` messages wait."""

    def __init__(self, log: Log, session: str) -> None:
        self._log = log
        self._session = session
        self._stream: str | None = None
        self._queue: deque[Entry] = deque()
        self._held: dict[tuple[Author, str], Entry] = {}
        self._allowances: dict[tuple[Author, str], Allowance] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._writing = asyncio.Lock()
        self._last: int | None = None
        self._bytes = 0
        self._discards = False

    @property
    def has_written(self) -> bool:
        """Whether an event has gone out, as far as is known here."""
        return bool(self._last)

    def begin(self, stream: str, *, last: int | None) -> None:
        """Write to this stream from now on. `last` is its last number, None where that is not known."""
        self._stream, self._last = stream, last
        self._start()

    def put(self, entry: Entry) -> None:
        """Write a message some time soon, or another of its kind instead where they come too fast."""
        if self._discards or len(entry.body) > EVENT_BYTES:
            _settle([entry], None if self._discards else OutputLimit())
            return
        if entry.kind is None:
            self._release(entry.author)
        elif not self._may_go(entry.author, entry.kind):
            self._hold_back(entry)
            return
        self._queue.append(entry)
        self._start()

    async def drain(self, author: Author) -> None:
        """Wait until all that an author has put was written, or was found not to be wanted."""
        self._release(author)
        mine: list[asyncio.Future[None]] = [entry.written for entry in self._queue if entry.author is author]
        if self._task is not None:
            mine.append(self._task)
        if mine:
            await asyncio.wait(mine)

    async def finish(self, author: Author, state: CallState, body: bytes | None) -> None:
        """End a call that is held, with its terminal event, behind all that it has put."""
        hold = author.hold
        if hold is None:
            raise ValueError("The call is not held.")
        await self.drain(author)
        store = self._log.store
        async with self._writing:
            await outlasting(lambda: self._log.do(store.finish_call, hold, state, event=body))
            self._last = None
        self._announce()

    def discard(self) -> None:
        """Write nothing from now on: there will be no stream, and nobody waits for it."""
        self._discards = True
        entries = [*self._queue, *self._held.values()]
        self._queue.clear()
        self._held.clear()
        _settle(entries, None)

    async def end_reader(self) -> None:
        """End whoever reads the stream, at whatever process; what was put is there for the next."""
        while self._queue and self._task is not None:
            await asyncio.wait([self._task])
        if self._stream is not None:
            await self._log.do(self._log.store.take_reader, self._session, self._stream)
            self._announce()

    # Coalescing

    @property
    def _used(self) -> float:
        waiting = len(self._queue)
        return max(((self._last or 0) + waiting) / MAX_EVENTS, self._bytes / MAX_STREAM_BYTES)

    def _may_go(self, author: Author, kind: str) -> bool:
        now, used = asyncio.get_running_loop().time(), self._used
        allowance = self._allowances.get((author, kind)) or Allowance.fresh(used, now)
        left = allowance.take(used, now) if len(self._queue) < LAG else None
        self._allowances[author, kind] = left or allowance
        return left is not None

    def _hold_back(self, entry: Entry) -> None:
        key = (entry.author, entry.kind or "")
        replaced = self._held.pop(key, None)
        if replaced is not None and not replaced.written.done():
            replaced.written.set_result(None)
        self._held[key] = entry
        if self._timer is None:
            self._wait_for_allowance()

    def _wait_for_allowance(self) -> None:
        loop = asyncio.get_running_loop()
        used, now = self._used, loop.time()
        waits = [self._allowances[key].wait_seconds(used, now) for key in self._held]
        known = [seconds for seconds in waits if seconds is not None]
        self._timer = loop.call_later(max(min(known), 0.005), self._let_go) if known else None

    def _let_go(self) -> None:
        self._timer = None
        for key, entry in list(self._held.items()):
            if self._may_go(*key):
                del self._held[key]
                self._queue.append(entry)
        self._start()
        if self._held:
            self._wait_for_allowance()

    def _release(self, author: Author) -> None:
        """Let what is held back of an author go before what follows, while there is room for it."""
        for key in [key for key in self._held if key[0] is author]:
            entry = self._held.pop(key)
            if self._used < 1 - LAG / MAX_EVENTS:
                self._queue.append(entry)
            elif not entry.written.done():
                entry.written.set_result(None)
        self._start()

    # Writing

    def _start(self) -> None:
        if self._stream is not None and self._queue and self._task is None:
            self._task = in_background(self._write_all(), "mcp-write")

    async def _write_all(self) -> None:
        try:
            while self._queue:
                author = self._queue[0].author
                batch: list[Entry] = []
                while self._queue and self._queue[0].author is author and len(batch) < EVENTS_AT_ONCE:
                    batch.append(self._queue.popleft())
                async with self._writing:
                    await self._write(author, batch)
                self._announce()
        finally:
            self._task = None

    async def _write(self, author: Author, batch: list[Entry]) -> None:
        progress = max((entry.progress for entry in batch if entry.progress is not None), default=None)
        try:
            await self._append([entry.body for entry in batch], author, progress)
        except OutputLimit as error:
            if len(batch) > 1:
                for entry in batch:
                    await self._write(author, [entry])
                return
            _settle(batch, None if batch[0].kind is not None else error)
        except (FenceLost, StreamClosed) as error:
            _settle(batch, error)
            author.lose()
        except Exception as error:
            logger.exception("messages could not be written")
            _settle(batch, error)
            author.lose()
        else:
            _settle(batch, None)

    async def _append(self, bodies: Sequence[bytes], author: Author, progress: float | None) -> None:
        stream = self._stream or ""
        store = self._log.store
        if self._last is None:
            self._last = await outlasting(self._find_last)
        while True:
            try:
                self._last = await self._log.do(
                    store.append, self._session, stream, bodies, hold=author.hold, progress=progress
                )
            except StoreUnavailable:
                await asyncio.sleep(mcp_settings.POLL_SECONDS)
                last = await outlasting(self._find_last)
                if last < self._last + len(bodies):
                    continue
                self._last = last
            self._bytes += sum(map(len, bodies))
            return

    async def _find_last(self) -> int:
        stream = self._stream or ""
        page = await self._log.do(self._log.store.read_stream, self._session, stream, _END, limit=1)
        if page is None:
            raise StreamClosed
        return page.last

    def _announce(self) -> None:
        if self._stream is not None:
            watch_of(self._log).touch("streams", self._stream)
        wake_bus().wake_others()


def _settle(entries: Sequence[Entry], error: Exception | None) -> None:
    for entry in entries:
        if entry.written.done():
            continue
        if error is None:
            entry.written.set_result(None)
        else:
            entry.written.set_exception(error)
            # Most who put a message do not wait for it.
            entry.written.exception()

"""Reading a stream of a session from the store, as a client gets it: from any place on, at any process, to its end.

MCP 2025-03-26, 2025-06-18 and 2025-11-25, transports; SEP-1699.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import ExitStack
from typing import Final

from mcp_types.version import is_version_at_least

from django_mcp.conf import mcp_settings
from django_mcp.core import sse
from django_mcp.core.event_id import EventId
from django_mcp.exceptions import StoreUnavailable
from django_mcp.models import MCPSession
from django_mcp.server.drain import DRAIN_RETRY_MILLISECONDS, process_drain
from django_mcp.server.event_stream import MAX_RESPONSE_BYTES
from django_mcp.server.log import Log
from django_mcp.server.watch import watch_of
from django_mcp.sessions.sealing import derived_keys
from django_mcp.sessions.stores import StreamPage

PRIMING_SINCE: Final = "2025-11-25"
"""First version whose streams begin with an event that carries nothing but an id (SEP-1699)."""

_EVENT_KEYS: Final = "django_mcp.server.event_id"


def primes(session: MCPSession) -> bool:
    """Whether the session's streams begin with an event that carries nothing but an id."""
    return is_version_at_least(session.protocol_version, PRIMING_SINCE)


def place_of(text: str, session: MCPSession) -> EventId | None:
    """Return the place that a `Last-Event-ID` names; None where it names none of this session."""
    return EventId.open(text, derived_keys(_EVENT_KEYS), session.key)


class EventReader:
    """One reader of one stream. A newer one, at whatever process, ends it.

    Args:
        number: which reader of the stream it is.
        after: the place behind which it begins.
        stays: read on while the process drains, since what is read may come to its end here.
        resumes: whether the door has a GET by which the client could come back; without one, events have no ids.
    """

    def __init__(
        self,
        log: Log,
        session: MCPSession,
        stream: str,
        *,
        number: int,
        after: int = 0,
        stays: bool = False,
        resumes: bool = True,
    ) -> None:
        self._log = log
        self._session = session
        self._stream = stream
        self._number = number
        self._place = after
        self._key = derived_keys(_EVENT_KEYS)[0]
        self._changed = asyncio.Event()
        self._sent = 0
        self._stays = stays
        self._resumes = resumes
        self._drain = process_drain()
        self._gone = asyncio.Event()

    async def frames(self) -> AsyncGenerator[bytes, None]:
        """Yield the stream, encoded; end with `retry` where the connection ends before the stream does."""
        watch = watch_of(self._log)
        retry = sse.retry(mcp_settings.RETRY_MILLISECONDS)
        yield self._first()
        with ExitStack() as stack:
            stack.enter_context(watch.on("streams", self._stream, self._changed.set))
            stack.enter_context(watch.on_session(self._session.key, self._changed.set, reads=True))
            stack.enter_context(self._drain.on_begin(self._changed.set))
            stack.callback(self._drain.hand_over(self._go))
            stack.callback(self._gone.set)
            while True:
                self._changed.clear()
                page = await self._read()
                if page is None or watch.has_ended(self._session.key):
                    return
                if page.reader != self._number:
                    yield retry
                    return
                for event in page.events:
                    frame = sse.event(event.body, event_id=self._event_id(event.sequence))
                    self._place = event.sequence
                    self._sent += len(frame)
                    yield frame
                is_behind = bool(page.events) and self._place < page.last
                if page.is_closed and not is_behind:
                    return
                if self._resumes and self._sent >= MAX_RESPONSE_BYTES:
                    yield retry
                    return
                if is_behind:
                    continue
                if self._drain.is_draining and not self._stays:
                    yield sse.retry(DRAIN_RETRY_MILLISECONDS)
                    return
                while not await self._more():
                    yield sse.comment()

    def _first(self) -> bytes:
        if not (self._resumes and primes(self._session)):
            return sse.comment()
        return sse.event(b"", event_id=self._event_id(self._place), retry_ms=mcp_settings.RETRY_MILLISECONDS)

    def _event_id(self, sequence: int) -> str | None:
        if not self._resumes:
            return None
        return EventId(stream=self._stream, sequence=sequence).seal(self._key, self._session.key)

    async def _read(self) -> StreamPage | None:
        """Return what is behind the place; None where the stream is gone, with its session or by the clock."""
        while True:
            try:
                return await self._log.do(self._log.store.read_stream, self._session.key, self._stream, self._place)
            except StoreUnavailable:
                await asyncio.sleep(mcp_settings.POLL_SECONDS)

    async def _go(self) -> None:
        """End now: the process goes."""
        self._stays = False
        self._changed.set()
        await self._gone.wait()

    async def _more(self) -> bool:
        """Wait for a change; False after a silence in which a comment is due."""
        try:
            async with asyncio.timeout(mcp_settings.KEEPALIVE_SECONDS):
                await self._changed.wait()
        except TimeoutError:
            return False
        return True

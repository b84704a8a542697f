"""What one POST of a session is answered with: JSON, or a stream in the store from the first message or a silence on.

Once it is a stream, its calls are recorded, whoever reads it and whoever runs them. Nothing is written before.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Final

from django_mcp.conf import mcp_settings
from django_mcp.core.principal import scope_digest
from django_mcp.exceptions import CallCancelled, FenceLost, OutputLimit, Overloaded, StoreUnavailable, StreamClosed
from django_mcp.models import MCPSession
from django_mcp.server.background import in_background
from django_mcp.server.caller import Caller
from django_mcp.server.drain import process_drain
from django_mcp.server.event_reader import primes
from django_mcp.server.event_writer import Entry, EventWriter
from django_mcp.server.log import Log, outlasting
from django_mcp.server.wire import OUTPUT_LIMIT, Answer
from django_mcp.sessions.stores import CallHold, CallState, NewCall
from django_mcp.sessions.stores.streams import EVENT_BYTES, MAX_EVENTS, MAX_STREAM_BYTES

if TYPE_CHECKING:
    from django_mcp.server.keeper import CallKeeper
    from django_mcp.server.run import Run

logger = logging.getLogger("django_mcp.calls")

_AT_ONCE: Final = 2 * MAX_EVENTS


class Reply:
    """The response to one POST, or what another process is to bring to its end.

    Args:
        streams: whether the door can answer with `text/event-stream`.
        resumes: whether it has a GET, by which a client comes back for the rest of one.
        stream: the stream in the store that it is already.
    """

    def __init__(
        self,
        log: Log,
        session: MCPSession,
        keeper: CallKeeper,
        *,
        streams: bool,
        resumes: bool = True,
        stream: str | None = None,
    ) -> None:
        self.log = log
        self.streams = streams
        self.resumes = resumes
        self.stream = stream
        self.recording = asyncio.Lock()
        self.finals: list[Answer] = []
        self._session = session
        self._keeper = keeper
        self._name: str | None = None
        self._runs: Sequence[Run] = ()
        self._left = 0
        self._writer = EventWriter(log, session.key)
        self._opening: asyncio.Task[None] | None = None
        self._parting: asyncio.Task[None] | None = None
        self._tried = asyncio.Event()
        self._settled = asyncio.Event()
        if stream is not None:
            self._writer.begin(stream, last=None)
            self._tried.set()

    def begin(self, runs: Sequence[Run]) -> None:
        """Run what is to be answered."""
        self._runs, self._left = runs, len(runs)
        for run in runs:
            self._keeper.begin(run)

    async def settled(self) -> str | None:
        """Wait until it is known how to answer; return the name of the stream, or None for JSON."""
        await asyncio.sleep(0)  # What waits for nothing is done by now.
        timer = asyncio.get_running_loop().call_later(mcp_settings.STREAM_AFTER_SECONDS, self.open)
        try:
            # What is a stream when the process goes can be brought to its end by another.
            with process_drain().on_begin(self.open):
                await self._settled.wait()
        finally:
            timer.cancel()
        return self.stream

    def say(self, entry: Entry) -> None:
        """Put a message onto the stream, which it becomes by this."""
        self._writer.put(entry)
        self.open()

    async def written(self, entry: Entry) -> None:
        """Wait until a message is in the store.

        Raises:
            MCPError: it does not fit.
            CallCancelled: the call is not this process's any more.
        """
        try:
            await entry.written
        except OutputLimit:
            raise OUTPUT_LIMIT.error() from None
        except (FenceLost, StreamClosed):
            raise CallCancelled from None

    def open(self) -> None:
        """Become a stream, if it can and is not one."""
        if self.streams and self._opening is None and not self._tried.is_set() and self._left:
            self._opening = in_background(self._open(), "mcp-open-stream")

    @property
    def is_opening(self) -> bool:
        """Whether it is a stream, or may be one in a moment."""
        return self._opening is not None or self.stream is not None

    async def opened(self) -> None:
        """Become a stream, and wait until it is one.

        Raises:
            StoreUnavailable: it will never be.
        """
        self.open()
        await self._tried.wait()
        if self.stream is None:
            raise StoreUnavailable

    def disconnect(self) -> None:
        """End the connection that reads the stream, as soon as can be. Its client comes back for the rest."""
        # Without an id in its hands the client could not come back.
        if self.resumes and (primes(self._session) or self._writer.has_written):
            # Who asks for it may hold the thread on which it is done.
            self._parting = in_background(self._part(), "mcp-part")

    async def _part(self) -> None:
        try:
            await self.opened()
            await self._writer.end_reader()
        except StoreUnavailable as error:
            logger.warning("a stream was not closed: %s", error)

    async def holds(self, text: str) -> bool:
        """Say whether any message on the stream has `text` in it."""
        log, stream = self.log, self.stream or ""
        page = await outlasting(lambda: log.do(log.store.read_stream, self._session.key, stream, limit=_AT_ONCE))
        return page is not None and any(text.encode() in event.body for event in page.events)

    async def end(self, run: Run, state: CallState) -> None:
        """Take what a run has come to."""
        if self._opening is not None:
            await self._tried.wait()
        try:
            if run.hold is not None and not run.is_lost:
                await self._writer.finish(run, *_last_event(run, state))
        finally:
            self._keeper.end(run)
            if run.final is not None:
                self.finals.append(run.final)
            self._left -= 1
            if not self._left:
                self._settled.set()

    def drop(self, run: Run) -> None:
        """Let go of a run that comes to no end here."""
        self._keeper.end(run)

    async def _open(self) -> None:
        """Become a stream, however long the store is down; not any more when there is an answer without."""
        try:
            while not await self._could_record():
                if all(run.is_over for run in self._runs):
                    break
                await asyncio.sleep(mcp_settings.POLL_SECONDS)
        except Exception:
            logger.exception("an answer cannot become a stream")
        if self.stream is None:
            self._writer.discard()
        else:
            self._settled.set()
        self._tried.set()

    async def _could_record(self) -> bool:
        async with self.recording:
            try:
                self.stream = await self._record()
            except (StoreUnavailable, Overloaded) as error:
                logger.warning("an answer cannot become a stream yet: %s", error)
                return False
        return True

    async def _record(self) -> str:
        """Record the stream and the calls, those too that have ended by now: it is how they get their last event."""
        log = self.log
        if self._name is None:
            self._name = await log.do(log.store.open_stream, self._session.key, "post")
        for run, hold in zip(self._runs, await self._begin_calls(self._runs, self._name), strict=True):
            run.hold = hold
            self._keeper.keep(run)
            run.follow()
        self._writer.begin(self._name, last=0)
        return self._name

    def _scope(self, caller: Caller) -> str:
        """Return whose calls are counted together: of callers without credentials those of one address."""
        place = f"\n{self._session.address}" if caller.principal.is_anonymous else ""
        return scope_digest(f"{caller.tenant}{place}", caller.principal)

    async def _begin_calls(self, runs: Sequence[Run], stream: str) -> list[CallHold]:
        log, caller = self.log, runs[0].call.caller
        calls = [run.described() for run in runs]
        try:
            return await log.do(
                log.store.begin_calls,
                runs[0].kernel.server.key,
                self._scope(caller),
                calls,
                owner=self._keeper.owner,
                lease_seconds=mcp_settings.LEASE_SECONDS,
                session=self._session.key,
                stream=stream,
            )
        except StoreUnavailable:
            return await self._find_calls(calls)

    async def _find_calls(self, calls: Sequence[NewCall]) -> list[CallHold]:
        """Return the holds on calls that were recorded, all or none, though the answer to that was lost.

        Raises StoreUnavailable where they were not.
        """
        log = self.log
        found = [await outlasting(partial(log.do, log.store.find_call, call.id)) for call in calls]
        if not all(found):
            raise StoreUnavailable
        return [record.hold for record in found if record is not None]


def _last_event(run: Run, state: CallState) -> tuple[CallState, bytes | None]:
    """Return how a call ends on its stream. An event that no store takes would be written again and again."""
    if run.final is None:
        return state, None
    if len(run.final.body) > max(MAX_STREAM_BYTES, mcp_settings.MAX_RESULT_BYTES + EVENT_BYTES):
        return "failed", OUTPUT_LIMIT.encode(run.message["id"])
    return state, run.final.body

"""The GET of a session: its standalone stream, or the rest of one that was cut; and its end by DELETE.

A standalone stream is told of changes by whoever reads it: each change moves the session's place in the list of
changes in the transaction that puts it onto the newest stream, so two readers at two processes tell it once.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Final

from mcp_types import INVALID_PARAMS

from django_mcp.conf import mcp_settings
from django_mcp.core import sse
from django_mcp.core.event_id import EventId
from django_mcp.exceptions import StoreUnavailable
from django_mcp.models import MCPSession
from django_mcp.server.background import in_background
from django_mcp.server.caller import Arrival
from django_mcp.server.changes import Change, change_feed
from django_mcp.server.event_reader import EventReader, place_of
from django_mcp.server.event_stream import EventStream
from django_mcp.server.keeper import keeper_of
from django_mcp.server.kernel import Kernel
from django_mcp.server.log import Log
from django_mcp.server.session_lookup import find_session
from django_mcp.server.wake import wake_bus
from django_mcp.server.watch import watch_of
from django_mcp.server.wire import Answer, Failure, encode_notification, failure_of, method_not_allowed
from django_mcp.sessions.stores.base import EVERYTHING, ChangeKind

logger = logging.getLogger("django_mcp.streams")

LAST_EVENT_HEADER: Final = "last-event-id"

_STANDALONE: Final = "g"
_FEEDERS: Final = 10
"""How many others may be faster, one after the other, until this one is not the newest for sure."""
_BAD_EVENT_ID: Final = Failure(
    code=INVALID_PARAMS, message="Unusable Last-Event-ID", data={"reason": "bad_event_id"}, status=400
)
_EVENT_EXPIRED: Final = Failure(
    code=INVALID_PARAMS, message="The events are no longer kept", data={"reason": "event_expired"}, status=400
)


async def open_stream(kernel: Kernel, arrival: Arrival) -> Answer | EventStream:
    """Serve a GET: the session's standalone stream, or the rest of one that was cut (`Last-Event-ID`)."""
    try:
        session = await find_session(kernel, arrival, used=False)
        keeper_of(kernel, arrival.threads)
        last_event_id = arrival.headers.get(LAST_EVENT_HEADER)
        place = None if last_event_id is None else place_of(last_event_id, session)
        if last_event_id is not None and place is None:
            return _BAD_EVENT_ID.answer()
        log = Log.of(kernel.server.store_alias, arrival.threads)
        if place is None or place.stream.startswith(_STANDALONE):
            # While the store is down it is said with a status, which nothing can be any more once a stream begins.
            await log.do(log.store.change_cursor, session.key)
            return EventStream(frames=_Standalone(kernel, arrival, session, place).frames())
        rest = await _rest(log, session, place)
        if rest is None:
            # A session that ended meanwhile has taken its streams along.
            await find_session(kernel, arrival, used=False)
        return rest or _EVENT_EXPIRED.answer()
    except Exception as error:
        return failure_of(error, modern=False).answer()


async def read_again(log: Log, session: MCPSession, stream: str, after: int = 0) -> EventStream | None:
    """Return a stream of the session from a place on, read here from now on; None where there is none."""
    number = await log.do(log.store.take_reader, session.key, stream)
    if number is None:
        return None
    wake_bus().wake_others()
    watch_of(log).touch("streams", stream)
    return EventStream(frames=EventReader(log, session, stream, number=number, after=after).frames())


async def terminate(kernel: Kernel, arrival: Arrival) -> Answer:
    """Serve a DELETE: end the session, at once and for every process."""
    try:
        session = await find_session(kernel, arrival, used=False)
        await arrival.threads.door.run(session.terminate)
        log = Log.of(kernel.server.store_alias, arrival.threads)
        await log.do(log.store.forget_session, session.key)
    except Exception as error:
        return failure_of(error, modern=False).answer()
    keeper_of(kernel, arrival.threads).end_session(session.key)
    watch_of(log).look()
    wake_bus().wake_others()
    return Answer(status=200)


async def _rest(log: Log, session: MCPSession, place: EventId) -> Answer | EventStream | None:
    """Return what is left of a post stream behind a place; None where it is not kept."""
    page = await log.do(log.store.read_stream, session.key, place.stream, place.sequence, limit=1)
    if page is None:
        return None
    if page.is_closed and place.sequence >= page.last:
        # All of it was delivered; the TypeScript client would come back for ever on a 200.
        return method_not_allowed(b"POST, DELETE, OPTIONS")
    return await read_again(log, session, place.stream, place.sequence)


class _Standalone:
    """The session's standalone stream, a new one or from a place on, fed as long as it is read.

    Nothing is begun before the first frame is asked for, since what never began is never ended.
    """

    def __init__(self, kernel: Kernel, arrival: Arrival, session: MCPSession, place: EventId | None) -> None:
        self._kernel = kernel
        self._arrival = arrival
        self._session = session
        self._place = place
        self._log = Log.of(kernel.server.store_alias, arrival.threads)
        self._feed = change_feed(kernel.server.key, kernel.server.store_alias)
        self._cursor: int | None = None
        self._seen = 0

    async def frames(self) -> AsyncGenerator[bytes, None]:
        try:
            reader, missed = await self._open()
            # Before the client hears anything, so that it hears of all that happens from then on.
            await self._take_place(missed)
        except StoreUnavailable as error:
            logger.warning("a stream of session %s could not be opened: %s", self._session.fingerprint, error)
            yield sse.retry(mcp_settings.RETRY_MILLISECONDS)
            return
        feeding = in_background(self._feed_always(), "mcp-standalone")
        try:
            async with aclosing(reader.frames()) as frames:
                async for frame in frames:
                    yield frame
        finally:
            feeding.cancel()

    async def _open(self) -> tuple[EventReader, bool]:
        """Return the reader, and whether something that its client never saw is not kept any more."""
        log, key, place = self._log, self._session.key, self._place
        if place is not None:
            page = await log.do(log.store.read_stream, key, place.stream, place.sequence, limit=1)
            if page is not None and page.first <= place.sequence + 1:
                number = await log.do(log.store.take_reader, key, place.stream)
                if number is not None:
                    self._announce()
                    after = place.sequence
                    return EventReader(log, self._session, place.stream, number=number, after=after), False
        stream = await log.do(log.store.open_stream, key, "standalone")
        self._announce()
        return EventReader(log, self._session, stream, number=0), place is not None

    async def _feed_always(self) -> None:
        """Put the changes that concern the session onto its newest stream, until it is not read here any more."""
        while True:
            try:
                await self._feed_while_it_can()
                return
            except Exception as error:
                logger.warning("the stream of session %s will be fed again: %s", self._session.fingerprint, error)
                await asyncio.sleep(mcp_settings.POLL_SECONDS)

    async def _feed_while_it_can(self) -> None:
        subscription = await self._feed.subscribe(self._log.threads)
        try:
            while True:
                while await self._catch_up():
                    pass
                # What it says is read from the session's own place.
                await subscription.next()
        finally:
            self._feed.unsubscribe(subscription)

    async def _take_place(self, missed: bool) -> None:
        """Find the session's place in the list of changes, or take one; where it `missed`, all may have changed."""
        log, key = self._log, self._session.key
        for _ in range(_FEEDERS):
            self._cursor = await log.do(log.store.change_cursor, key)
            if self._cursor is not None and not missed:
                break
            upto, _ = await log.do(log.store.changes_since, self._kernel.server.key, None)
            bodies = await self._bodies(EVERYTHING) if missed else []
            if await self._tell(upto, bodies):
                break
        self._seen = self._cursor or 0

    async def _catch_up(self) -> bool:
        """Tell what there is to tell at once; say whether there may be more."""
        if self._cursor is None:
            return False
        log = self._log
        upto, changes = await log.do(log.store.changes_since, self._kernel.server.key, self._seen)
        bodies = await self._bodies(changes)
        if bodies and not await self._tell(upto, bodies):
            # Somebody else was faster, or reads the session's newest stream now.
            cursor = await log.do(log.store.change_cursor, self._session.key)
            if cursor == self._cursor or cursor is None:
                return False
            self._cursor = cursor
            self._seen = max(self._seen, cursor)
            return True
        self._seen = upto
        return bool(changes)

    async def _tell(self, upto: int, bodies: Sequence[bytes]) -> bool:
        log, key = self._log, self._session.key
        if not await log.do(log.store.feed_changes, key, after=self._cursor, upto=upto, bodies=bodies):
            return False
        self._cursor = upto
        if bodies:
            watch_of(log).look()
            wake_bus().wake_others()
        return True

    async def _bodies(self, changes: Sequence[Change]) -> list[bytes]:
        """Return the notifications of those changes that concern the session, each once."""
        wanted = await self._subscriptions() if any(kind == "resource" for kind, _ in changes) else ()
        bodies: list[bytes] = []
        for kind, uri in changes:
            if kind != "resource":
                bodies.append(_list_changed(kind))
            else:
                bodies += [_resource_updated(one) for one in wanted if uri in (one, "")]
        return list(dict.fromkeys(bodies))

    async def _subscriptions(self) -> tuple[str, ...]:
        return await self._log.threads.run(_subscriptions, self._session.pk)

    def _announce(self) -> None:
        """Let the former reader learn that it is not the newest any more."""
        watch_of(self._log).look()
        wake_bus().wake_others()


def _list_changed(kind: ChangeKind) -> bytes:
    return encode_notification(f"notifications/{kind}/list_changed", None)


def _resource_updated(uri: str) -> bytes:
    return encode_notification("notifications/resources/updated", {"uri": uri})


def _subscriptions(key: str) -> tuple[str, ...]:
    session = MCPSession.objects.current().filter(pk=key).first()
    return session.subscription_uris if session is not None else ()

"""Streams of the handshake era as a client reads them: encoded with event ids, resumed, fed with changes.

MCP 2025-03-26, 2025-06-18 and 2025-11-25, transports; SEP-1699.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, suppress
from typing import Final

from mcp_types import INVALID_PARAMS
from mcp_types.version import is_version_at_least

from django_mcp.conf import mcp_settings
from django_mcp.core import sse
from django_mcp.core.event_id import EventId
from django_mcp.models import MCPSession
from django_mcp.server.caller import Arrival
from django_mcp.server.changes import Change, change_feed
from django_mcp.server.event_stream import EventStream
from django_mcp.server.kernel import Kernel
from django_mcp.server.local_session import STANDALONE, forget_if_empty, local_session
from django_mcp.server.session_lookup import find_session
from django_mcp.server.stream import Stream
from django_mcp.server.wire import Answer, Failure, encode_notification, failure_of, method_not_allowed
from django_mcp.sessions.sealing import derived_keys
from django_mcp.sessions.stores.base import LISTS, ChangeKind

logger = logging.getLogger("django_mcp.sessions")

LAST_EVENT_HEADER: Final = "last-event-id"
PRIMING_SINCE: Final = "2025-11-25"
"""First version whose streams begin with an event that carries nothing but an id (SEP-1699)."""

_BAD_EVENT_ID: Final = Failure(
    code=INVALID_PARAMS, message="Unusable Last-Event-ID", data={"reason": "bad_event_id"}, status=400
)
_EVENT_EXPIRED: Final = Failure(
    code=INVALID_PARAMS, message="The events are no longer kept", data={"reason": "event_expired"}, status=400
)
_EVENT_KEYS: Final = "django_mcp.server.event_id"


def primes(session: MCPSession) -> bool:
    """Whether the session's streams begin with an event that carries nothing but an id."""
    return is_version_at_least(session.protocol_version, PRIMING_SINCE)


async def open_stream(kernel: Kernel, arrival: Arrival) -> Answer | EventStream:
    """Serve a GET: the session's standalone stream, or the rest of one that was cut (`Last-Event-ID`)."""
    try:
        session = await find_session(kernel, arrival, used=False)
    except Exception as error:
        return failure_of(error, modern=False).answer()
    last_event_id = arrival.headers.get(LAST_EVENT_HEADER)
    place = None
    if last_event_id is not None:
        place = EventId.open(last_event_id, derived_keys(_EVENT_KEYS), session.key)
        if place is None:
            return _BAD_EVENT_ID.answer()
    if place is None or place.stream.startswith(STANDALONE):
        return EventStream(frames=_standalone_frames(kernel, arrival, session, place))
    stream = local_session(session.key).streams.get(place.stream)
    if stream is None:
        return _EVENT_EXPIRED.answer()
    if stream.closed and place.sequence >= stream.last:
        # All of it was delivered; the TypeScript client would come back for ever on a 200.
        return method_not_allowed(b"POST, DELETE, OPTIONS")
    return EventStream(frames=frames(session, stream, place.sequence))


async def _standalone_frames(
    kernel: Kernel, arrival: Arrival, session: MCPSession, place: EventId | None
) -> AsyncGenerator[bytes, None]:
    """Encode the session's standalone stream, a new one or from a place on, and feed it as long as it is read.

    What happened while nobody read it is not known here, so a stream that is resumed begins by saying that everything
    may have changed. Nothing is begun before the first frame is asked for, since what never began is never ended.
    """
    local = local_session(session.key)
    stream = local.open_standalone(place.stream if place is not None else None)
    after = place.sequence if place is not None and place.stream == stream.name else 0
    feed = _feed(kernel, arrival, session, stream, resumed=place is not None)
    feeding = asyncio.get_running_loop().create_task(feed, name="mcp-standalone")
    local.feed(feeding)
    try:
        async with aclosing(frames(session, stream, after)) as encoded:
            async for frame in encoded:
                yield frame
    finally:
        feeding.cancel()


async def terminate(kernel: Kernel, arrival: Arrival) -> Answer:
    """Serve a DELETE: end the session, at once and for every process."""
    try:
        session = await find_session(kernel, arrival, used=False)
        await arrival.threads.run(session.terminate)
    except Exception as error:
        return failure_of(error, modern=False).answer()
    local_session(session.key).end()
    forget_if_empty(session.key)
    return Answer(status=200)


async def frames(
    session: MCPSession,
    stream: Stream,
    after: int,
    *,
    parted: asyncio.Event | None = None,
) -> AsyncGenerator[bytes, None]:
    """Encode a stream from one place on; end with `retry` when the connection ends before the stream does."""
    key = derived_keys(_EVENT_KEYS)[0]
    retry_ms = mcp_settings.RETRY_MILLISECONDS
    if primes(session):
        first = EventId(stream=stream.name, sequence=after).seal(key, session.key)
        yield sse.event(b"", event_id=first, retry_ms=retry_ms)
    else:
        yield sse.comment()
    if parted is not None and parted.is_set() and not stream.closed:
        return
    async for message in stream.read(after, silence=mcp_settings.KEEPALIVE_SECONDS):
        if message is None:
            yield sse.comment()
            continue
        event_id = EventId(stream=stream.name, sequence=message.sequence).seal(key, session.key)
        yield sse.event(message.data, event_id=event_id)
    if not stream.closed:
        yield sse.retry(retry_ms)


async def _feed(kernel: Kernel, arrival: Arrival, session: MCPSession, stream: Stream, *, resumed: bool) -> None:
    """Put the changes that concern the session onto its standalone stream, until the session ends.

    After an outage, or more changes than are kept, what was missed is not known, and everything may have changed.
    """
    missed = resumed
    while not stream.closed:
        try:
            await _feed_while_known(kernel, arrival, session, stream, missed=missed)
        except Exception as error:
            logger.warning("the standalone stream of session %s will be fed again: %s", session.fingerprint, error)
            await asyncio.sleep(mcp_settings.POLL_SECONDS)
        missed = True


async def _feed_while_known(
    kernel: Kernel, arrival: Arrival, session: MCPSession, stream: Stream, *, missed: bool
) -> None:
    feed = change_feed(kernel.server.key, kernel.server.store_alias)
    subscription = await feed.subscribe(arrival.threads)
    try:
        if missed:
            for kind in LISTS:
                stream.append(_list_changed(kind))
            for uri in await arrival.threads.run(_subscriptions, session.pk):
                stream.append(_resource_updated(uri))
        loop = asyncio.get_running_loop()
        used_at = loop.time()
        while not stream.closed and not subscription.lost:
            changes: Sequence[Change] = ()
            with suppress(TimeoutError):
                async with asyncio.timeout_at(used_at + mcp_settings.KEEPALIVE_SECONDS):
                    changes = await subscription.next()
            if loop.time() - used_at >= mcp_settings.KEEPALIVE_SECONDS:
                # An open stream is use, and a session that has ended has no streams.
                used_at = loop.time()
                if not await arrival.threads.run(MCPSession.objects.keep_alive, session.pk):
                    stream.close()
                    return
            await _append(arrival, session, stream, changes)
    finally:
        feed.unsubscribe(subscription)


async def _append(arrival: Arrival, session: MCPSession, stream: Stream, changes: Sequence[Change]) -> None:
    updates = any(kind == "resource" for kind, _ in changes)
    subscribed = await arrival.threads.run(_subscriptions, session.pk) if updates else ()
    for kind, uri in changes:
        if kind != "resource":
            stream.append(_list_changed(kind))
        elif uri in subscribed:
            stream.append(_resource_updated(uri))


def _list_changed(kind: ChangeKind) -> bytes:
    return encode_notification(f"notifications/{kind}/list_changed", None)


def _resource_updated(uri: str) -> bytes:
    return encode_notification("notifications/resources/updated", {"uri": uri})


def _subscriptions(key: str) -> tuple[str, ...]:
    session = MCPSession.objects.active().filter(pk=key).first()
    return session.subscription_uris if session is not None else ()

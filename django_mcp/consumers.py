"""The full door: a Channels consumer that speaks Streamable HTTP with server-sent events.

It reads `receive` in one place, runs the exchange beside it, and lets nothing escape once a response has begun: under
Daphne that would hang every other stream of the process. Each request counts for the drain of the process, which ends
what takes too long.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from functools import partial
from io import BytesIO
from typing import Any, Final

from channels.consumer import AsyncConsumer
from django.conf import settings
from django.contrib.auth.models import AnonymousUser
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest

from django_mcp.door import admit
from django_mcp.exceptions import Overloaded
from django_mcp.registry.server import DEFAULT
from django_mcp.security import INTERNAL_ERROR, Body, Head, HeaderPairs, Refusal, cors_headers, examine, refusal
from django_mcp.server.drain import process_drain
from django_mcp.server.event_stream import EventStream
from django_mcp.server.exchange import Exchange
from django_mcp.server.threads import process_threads
from django_mcp.server.wire import Answer, failure_of

logger = logging.getLogger("django_mcp.consumers")

_WATCH_AFTER_SECONDS: Final = 0.05
"""A client that leaves sooner is not noticed; watching for it would cost more than most calls."""

_LAST_WORDS_SECONDS: Final = 0.5
"""How long the end of a response that the drain ended may take; a client that does not read never takes it."""

_CLOSE: Final = (b"connection", b"close")


class MCPConsumer(AsyncConsumer):  # type: ignore[misc]
    """Serves one HTTP request to the server called `server`."""

    server: str = DEFAULT

    def __init__(self, server: str = DEFAULT, match: Any = None) -> None:
        self.server = server
        self.match = match
        self._began = False
        self._left = False
        self._streamed = False
        self._ended = False
        self._task: asyncio.Task[Any] | None = None
        self._watcher: asyncio.Task[None] | None = None
        self._drain = process_drain()
        self._cors: HeaderPairs = ()
        self._exchanging: Exchange | None = None

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        self.scope = scope
        self.receive = receive
        self.base_send = send
        self._task = asyncio.current_task()
        try:
            with self._drain.exchange(self._end):
                await self._serve_until_ended()
        except asyncio.CancelledError:
            raise
        except Overloaded as error:
            await self._reply(failure_of(error, modern=False).answer())
        except Exception:
            logger.exception("a request failed in the door")
            await self._give_up()

    async def _serve_until_ended(self) -> None:
        """Serve the request; if the drain ends it, say so where something can still be said."""
        try:
            await self._serve()
        except asyncio.CancelledError:
            if not self._ended or self._task is None:
                raise
            self._task.uncancel()
            if not self._began:
                with suppress(TimeoutError):
                    async with asyncio.timeout(_LAST_WORDS_SECONDS):
                        await self._reply(self._last_words())
        finally:
            # What holds itself in a circle would wait for the garbage collector.
            self._task = self._exchanging = None
            if self._drain.is_draining:
                transport = _transport_of(self.base_send)
                if self._streamed or transport is not None:
                    self._drain.leave_unread(transport)

    def _end(self) -> None:
        """Stop now, as if the client had left: the process goes down."""
        if self._task is not None:
            self._ended = True
            self._task.cancel()

    async def _serve(self) -> None:
        scope = self.scope
        head = examine(
            scope["method"],
            scope["headers"],
            scheme=scope.get("scheme", "http"),
            client=(scope.get("client") or ("",))[0] or "",
        )
        if not isinstance(head, Head):
            await self._send(head.status, head.all_headers, head.body)
            return
        self._cors = cors_headers(head.origin)
        body = await self._body(head)
        if body is None:
            return
        arrival = await admit(
            head,
            body,
            partial(self._django_request, body),
            threads=process_threads(),
            streams=True,
            listens=True,
        )
        if isinstance(arrival, Refusal):
            await self._send(arrival.status, arrival.all_headers, arrival.body)
            return
        if arrival.method == "GET":
            self._drain.admit_stream()
        self._exchanging = Exchange(self.server, arrival)
        await self._exchange(self._exchanging)

    async def _body(self, head: Head) -> bytes | None:
        """Return the whole body; None when the client left, or sent too much and was told."""
        body = Body(head)
        while True:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                return None
            if (too_large := body.feed(message.get("body", b""))) is not None:
                await self._send(too_large.status, too_large.all_headers, too_large.body)
                return None
            if not message.get("more_body"):
                return body.value()

    async def _exchange(self, exchange: Exchange) -> None:
        timer = asyncio.get_running_loop().call_later(_WATCH_AFTER_SECONDS, self._begin_to_watch, exchange)
        try:
            answer = await exchange.answer()
            if answer is None:
                return
            if isinstance(answer, EventStream):
                timer.cancel()
                await self._stream(answer, self._begin_to_watch(exchange))
            else:
                await self._reply(answer)
        finally:
            timer.cancel()
            if self._watcher is not None:
                self._watcher.cancel()
            # Whatever ended the response: a call that nobody waits for any more learns it.
            exchange.abandon()

    def _begin_to_watch(self, exchange: Exchange) -> asyncio.Task[None]:
        if self._watcher is None:
            self._watcher = asyncio.get_running_loop().create_task(self._watch(exchange))
        return self._watcher

    async def _watch(self, exchange: Exchange) -> None:
        """Wait for the client to leave; only `receive` tells."""
        while (await self.receive())["type"] != "http.disconnect":
            pass
        self._began = self._left = True
        exchange.abandon()

    async def _reply(self, answer: Answer) -> None:
        headers = [*answer.headers, *self._cors, (b"cache-control", b"no-store")]
        if answer.body:
            headers.append((b"content-type", b"application/json"))
        headers.append((b"content-length", str(len(answer.body)).encode("ascii")))
        await self._send(answer.status, tuple(headers), answer.body)

    async def _stream(self, answer: EventStream, watcher: asyncio.Task[None]) -> None:
        """Send a stream until it ends or the client leaves, which a stream that says nothing would never notice."""
        self._streamed = True
        await self._start(200, (*answer.headers, *self._cors))
        sending = asyncio.get_running_loop().create_task(self._send_frames(answer))
        try:
            await asyncio.wait({sending, watcher}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            sending.cancel()
            await asyncio.wait({sending})
        if not sending.cancelled():
            sending.result()

    async def _send_frames(self, answer: EventStream) -> None:
        try:
            async for frame in answer.frames:
                await self.base_send({"type": "http.response.body", "body": frame, "more_body": True})
        finally:
            await answer.frames.aclose()
            if not self._left:
                with suppress(TimeoutError):
                    async with asyncio.timeout(_LAST_WORDS_SECONDS if self._ended else None):
                        await self.base_send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _start(self, status: int, headers: HeaderPairs) -> None:
        self._began = True
        if self._drain.is_draining and self.scope.get("http_version") in {"1.0", "1.1"}:
            # The connection would be of no use for another request.
            headers = (*headers, _CLOSE)
        await self.base_send({"type": "http.response.start", "status": status, "headers": list(headers)})

    async def _send(self, status: int, headers: HeaderPairs, body: bytes) -> None:
        await self._start(status, headers)
        await self.base_send({"type": "http.response.body", "body": body})

    async def _give_up(self) -> None:
        """Answer a failure of ours, if an answer can still be given."""
        if not self._began:
            failed = refusal(500, "Internal error", code=INTERNAL_ERROR)
            await self._send(failed.status, failed.all_headers, failed.body)

    def _last_words(self) -> Answer:
        """Return the answer to a request that the drain ended: what was not begun may be sent again."""
        if self._exchanging is not None:
            return self._exchanging.lost()
        return failure_of(self._drain.refusal(), modern=False).answer()

    def _django_request(self, body: bytes) -> HttpRequest:
        # `root_path` can be set by a header of the client under Daphne, so it is not believed.
        scope = {**self.scope, "root_path": settings.FORCE_SCRIPT_NAME or ""}
        request = ASGIRequest(scope, BytesIO(body))
        request.user = AnonymousUser()
        request.resolver_match = self.match
        return request


def _transport_of(send: Any) -> asyncio.WriteTransport | None:
    """Return the connection under uvicorn's `send`; None under other servers, and where something wraps it."""
    transport = getattr(getattr(send, "__self__", None), "transport", None)
    return transport if hasattr(transport, "get_write_buffer_size") and hasattr(transport, "abort") else None

"""The plain door: a Django view, for any Django, that serves POST.

Under ASGI a response may stream for the length of its call; under WSGI it is one JSON body. GET, long streams and
subscriptions need the consumer.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from typing import Any, Final, TypeVar

from django.contrib.auth.decorators import login_not_required
from django.contrib.auth.models import AnonymousUser
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.views.decorators.csrf import csrf_exempt

from django_mcp.door import admit
from django_mcp.exceptions import Overloaded
from django_mcp.registry.server import DEFAULT
from django_mcp.security import (
    POST_METHODS,
    Body,
    Head,
    Refusal,
    cors_headers,
    examine,
    raw_headers,
)
from django_mcp.server.drain import process_drain
from django_mcp.server.event_stream import EventStream
from django_mcp.server.exchange import Exchange
from django_mcp.server.threads import IN_VIEW
from django_mcp.server.wire import Answer, failure_of

_Response = TypeVar("_Response", bound=HttpResponseBase)
_CHUNK_BYTES: Final = 65_536


class _EveryDatabase:
    """Says of every database alias that the view opens its own transactions, as `non_atomic_requests` does of one."""

    def __contains__(self, alias: object) -> bool:
        return True


@csrf_exempt
@login_not_required
async def endpoint(request: HttpRequest, server: str = DEFAULT, **kwargs: Any) -> HttpResponseBase:
    """Serve one POST to the server called `server`."""
    head = examine(
        request.method or "",
        raw_headers(request),
        scheme=request.scheme or "http",
        client=request.META.get("REMOTE_ADDR", ""),
        methods=POST_METHODS,
    )
    if not isinstance(head, Head):
        return _response(head.status, head.all_headers, head.body)
    body = Body(head)
    while chunk := request.read(_CHUNK_BYTES):
        if (too_large := body.feed(chunk)) is not None:
            return _response(too_large.status, too_large.all_headers, too_large.body)

    def same_request() -> HttpRequest:
        request.user = AnonymousUser()
        return request

    streams = isinstance(request, ASGIRequest)
    arrival = await admit(head, body.value(), same_request, threads=IN_VIEW, streams=streams, listens=False)
    if isinstance(arrival, Refusal):
        return _response(arrival.status, arrival.all_headers, arrival.body)
    exchange = Exchange(server, arrival)
    cors = cors_headers(head.origin)
    answer: Answer | EventStream | None
    try:
        with process_drain().exchange(exchange.abandon):
            answer = await exchange.answer()
    except Overloaded as error:
        answer = failure_of(error, modern=False).answer()
    except BaseException:
        exchange.abandon()
        raise
    if isinstance(answer, EventStream):
        response = StreamingHttpResponse(_frames(answer, exchange))
        return _with_headers(response, [*answer.headers, *cors])
    if answer is None:
        answer = exchange.lost()
    headers = [*answer.headers, *cors, (b"cache-control", b"no-store")]
    if answer.body:
        headers.append((b"content-type", b"application/json"))
    return _response(answer.status, headers, answer.body)


endpoint.mcp_endpoint = True  # type: ignore[attr-defined]
endpoint._non_atomic_requests = _EveryDatabase()  # type: ignore[attr-defined]


async def _frames(answer: EventStream, exchange: Exchange) -> AsyncIterator[bytes]:
    finished = False
    try:
        with process_drain().exchange(exchange.abandon, is_new=False):
            async for frame in answer.frames:
                yield frame
        finished = True
    finally:
        if not finished:
            exchange.abandon()
        await answer.frames.aclose()


def _response(status: int, headers: Iterable[tuple[bytes, bytes]], body: bytes) -> HttpResponse:
    return _with_headers(HttpResponse(body, status=status), headers)


def _with_headers(response: _Response, headers: Iterable[tuple[bytes, bytes]]) -> _Response:
    del response.headers["Content-Type"]
    for name, value in headers:
        response.headers[name.decode("latin-1").title()] = value.decode("latin-1")
    # A body that says how it is encoded is left alone by GZipMiddleware.
    response.headers["Content-Encoding"] = "identity"
    return response

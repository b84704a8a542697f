"""A door inside the process: requests that a test makes, served where the test runs.

No HTTP and no authentication: who calls is given. Synchronous handlers come back to the thread that waits for the
client, so they share its database connections and its transaction.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from io import BytesIO
from typing import Any

from django.contrib.auth.models import AnonymousUser
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest
from django.urls import Resolver404, resolve

from django_mcp.authentication import principal_of
from django_mcp.conf import mcp_settings
from django_mcp.core import sse, strict_json
from django_mcp.core.principal import ANONYMOUS
from django_mcp.door import tenant_of
from django_mcp.server.caller import Arrival, Caller
from django_mcp.server.event_stream import EventStream
from django_mcp.server.exchange import Exchange
from django_mcp.server.threads import AMBIENT, Threads

HOST = "testserver"
ADDRESS = "127.0.0.1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """One HTTP response: `events` yields its JSON-RPC messages, be it a stream or one JSON body."""

    status: int
    headers: Mapping[str, str]
    events: AsyncIterator[sse.Event]


class InProcessDoor:
    """Sends requests of one caller to one server."""

    def __init__(
        self,
        server: str,
        *,
        user: Any = None,
        tenant: str | None = None,
        headers: Mapping[str, str],
        path: str,
        threads: Threads = AMBIENT,
    ) -> None:
        self.server = server
        self._user = user if user is not None else AnonymousUser()
        self._principal = principal_of(user) if user is not None and user.is_authenticated else ANONYMOUS
        self._tenant = tenant
        self._headers = {name.lower(): value for name, value in headers.items()}
        self._path = path
        self._threads = threads

    async def send(self, method: str, headers: Mapping[str, str], message: Any = None) -> Response:
        """Serve one request and return its response; the stream of one is read as it grows."""
        sent = {"host": HOST, **{name.lower(): value for name, value in headers.items()}, **self._headers}
        body = b"" if message is None else strict_json.encode(message)
        arrival = Arrival(
            method=method,
            headers=sent,
            caller=Caller(principal=self._principal, user=self._user, tenant=self._tenant or "", address=ADDRESS),
            threads=self._threads,
            make_request=lambda: self._request(method, sent, body),
            body=body,
        )
        if self._tenant is None and mcp_settings.TENANT is not None:
            tenant = await self._threads.run(lambda: tenant_of(arrival.request))
            arrival.caller = Caller(principal=self._principal, user=self._user, tenant=tenant, address=ADDRESS)
        exchange = Exchange(self.server, arrival)
        answer = await exchange.answer()
        if answer is None:
            raise ConnectionError("the server ended the response without an answer")
        if isinstance(answer, EventStream):
            return Response(status=200, headers=_decoded(answer.headers), events=_read(answer))
        return Response(status=answer.status, headers=_decoded(answer.headers), events=_single(answer.body))

    def _request(self, method: str, headers: Mapping[str, str], body: bytes) -> HttpRequest:
        scope = {
            "type": "http",
            "method": method,
            "path": self._path,
            "query_string": b"",
            "scheme": "http",
            "server": (HOST, 80),
            "client": (ADDRESS, 0),
            "headers": [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()],
        }
        request = ASGIRequest(scope, BytesIO(body))
        request.user = self._user
        try:
            request.resolver_match = resolve(self._path)
        except Resolver404:
            request.resolver_match = None
        return request


async def _read(answer: EventStream) -> AsyncIterator[sse.Event]:
    decoder = sse.Decoder()
    async with aclosing(answer.frames) as frames:
        async for frame in frames:
            for event in decoder.feed(frame):
                yield event


async def _single(body: bytes) -> AsyncIterator[sse.Event]:
    if body:
        yield sse.Event(data=body.decode("utf-8"))


def _decoded(headers: Any) -> dict[str, str]:
    return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in headers}

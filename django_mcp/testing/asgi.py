"""A client of an ASGI application that does not buffer: what the application sends is read as it is sent.

Usual test clients collect the whole response, and so never see a stream that lasts, a client that leaves in the middle
of one, or one that reads slowly.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

Application = Any
END_SECONDS: Final = 10.0
"""How long an application may take to end after its client left."""


class StreamedResponse:
    """A response that is being sent. Iterate over it for the chunks of its body.

    Attributes:
        violations: what the application did that ASGI forbids, one line each.
    """

    def __init__(self, body: bytes, *, buffer: int, send_fails: bool) -> None:
        self.violations: list[str] = []
        self._start: dict[str, Any] | None = None
        self._started = asyncio.Event()
        self._left = asyncio.Event()
        self._chunks: asyncio.Queue[bytes] = asyncio.Queue(buffer)
        self._complete = asyncio.Event()
        self._request: list[dict[str, Any]] = [{"type": "http.request", "body": body, "more_body": False}]
        self._send_fails = send_fails
        self._task: asyncio.Task[None] | None = None

    @property
    def status(self) -> int:
        return int(self._begun["status"])

    @property
    def headers(self) -> dict[str, str]:
        """By lower-case name."""
        pairs = self._begun.get("headers", ())
        return {bytes(name).decode("latin-1").lower(): bytes(value).decode("latin-1") for name, value in pairs}

    async def started(self) -> int:
        """Wait until the response begins; return its status.

        Raises:
            ConnectionError: the application ended without a response.
        """
        await self._either(self._started)
        return self.status

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while True:
            if self._chunks.empty() and (self._complete.is_set() or self.is_over):
                return
            chunk = asyncio.ensure_future(self._chunks.get())
            complete = asyncio.ensure_future(self._either(self._complete))
            try:
                await asyncio.wait({chunk, complete}, return_when=asyncio.FIRST_COMPLETED)
                if chunk.done():
                    yield chunk.result()
            finally:
                chunk.cancel()
                complete.cancel()

    async def read(self) -> bytes:
        """Return the rest of the body."""
        return b"".join([chunk async for chunk in self])

    def disconnect(self) -> None:
        """Leave. The application learns it from `receive`, or when it sends."""
        self._left.set()
        while not self._chunks.empty():
            self._chunks.get_nowait()

    @property
    def is_over(self) -> bool:
        """Whether the application has returned."""
        return self._task is not None and self._task.done()

    async def over(self) -> None:
        """Wait until the application returns, and raise what it raised."""
        if self._task is None:
            raise LookupError("the application was not started")
        await asyncio.wait_for(asyncio.shield(self._task), END_SECONDS)

    @property
    def _begun(self) -> dict[str, Any]:
        if self._start is None:
            raise ConnectionError("the application has sent no response")
        return self._start

    async def _either(self, event: asyncio.Event) -> None:
        """Wait for `event` or for the end of the application."""
        waiting = asyncio.ensure_future(event.wait())
        try:
            await asyncio.wait({waiting, *([self._task] if self._task else [])}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()

    async def _receive(self) -> dict[str, Any]:
        if self._request:
            return self._request.pop(0)
        await self._left.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: dict[str, Any]) -> None:
        kind = message["type"]
        if self._complete.is_set():
            self.violations.append(f"{kind} after the end of the response")
        elif kind == "http.response.start":
            if self._start is not None:
                self.violations.append("a second http.response.start")
            self._start = message
            self._started.set()
        elif kind == "http.response.body":
            if self._start is None:
                self.violations.append("http.response.body before http.response.start")
            await self._take(message)
        else:
            self.violations.append(f"{kind} is unknown")

    async def _take(self, message: dict[str, Any]) -> None:
        if self._left.is_set():
            if self._send_fails:
                raise OSError("the client has left")
            return
        if message.get("body"):
            # Full as long as nobody reads, as a socket is; a client that leaves makes room.
            putting = asyncio.ensure_future(self._chunks.put(message["body"]))
            leaving = asyncio.ensure_future(self._left.wait())
            try:
                await asyncio.wait({putting, leaving}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                putting.cancel()
                leaving.cancel()
        if not message.get("more_body"):
            self._complete.set()


@asynccontextmanager
async def stream(
    application: Application,
    method: str,
    path: str,
    *,
    headers: Mapping[str, str] | None = None,
    body: bytes = b"",
    buffer: int = 1,
    send_fails: bool = False,
) -> AsyncIterator[StreamedResponse]:
    """Send a request to an ASGI application and yield the response at once, before it has begun.

    At the end of the block the client leaves, and the application must end too.

    Args:
        buffer: how many chunks may be unread before `send` waits.
        send_fails: whether sending to a client that left raises OSError, as some servers do, or does nothing.

    Raises:
        AssertionError: the application goes on without a client, or did what ASGI forbids.
    """
    sent = {
        "host": "testserver",
        "content-length": str(len(body)),
        **{k.lower(): v for k, v in (headers or {}).items()},
    }
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": [(name.encode("latin-1"), value.encode("latin-1")) for name, value in sent.items()],
        "client": ("127.0.0.1", 50000),
        "server": ("testserver", 80),
    }
    response = StreamedResponse(body, buffer=buffer, send_fails=send_fails)
    response._task = asyncio.ensure_future(application(scope, response._receive, response._send))
    try:
        yield response
    finally:
        response.disconnect()
        ended, _ = await asyncio.wait([response._task], timeout=END_SECONDS)
        if not ended:
            response._task.cancel()
    if not ended:
        raise AssertionError(f"the application went on for {END_SECONDS} seconds after its client left")
    response._task.result()
    if response.violations:
        raise AssertionError(f"the application broke the rules of ASGI: {'; '.join(response.violations)}")

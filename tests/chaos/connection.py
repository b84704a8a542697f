"""HTTP/1.1 on one connection per request, and server-sent events: so little that every way to fail is told apart.

Knows nothing of MCP, nor of who listens.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

from tests.services import HOST

HEAD_SECONDS: Final = 60.0
"""How long a request waits for the head of its response."""
PIECE_BYTES: Final = 65_536


class Unreached(Exception):
    """Nothing was sent: nobody listens there."""


class NoAnswer(Exception):
    """The request was sent, and the connection ended, or stayed silent, before a response began."""


class Cut(Exception):
    """The connection ended, or stayed silent, in the middle of a response."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One server-sent event; None for what it does not have."""

    id: str | None = None
    data: str = ""
    retry: int | None = None


class Response:
    """A response as it comes. Leaving the context closes the connection, whatever is still to come."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.status = 0
        self.headers: dict[str, str] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *details: object) -> None:
        self.abort()

    @property
    def is_stream(self) -> bool:
        return self.headers.get("content-type", "").startswith("text/event-stream")

    def abort(self) -> None:
        """Close the connection at once, as a client does that goes away."""
        self._writer.transport.abort()

    async def read(self, *, silence: float = HEAD_SECONDS) -> bytes:
        """Return the whole body; raise Cut where it does not come."""
        return b"".join([piece async for piece in self._pieces(silence)])

    async def message(self) -> Any:
        """Return the JSON of the body, None where there is none; raise Cut where it does not come."""
        body = await self.read()
        try:
            return json.loads(body) if body else None
        except ValueError:
            return {"not JSON": body.decode(errors="replace")[:200]}

    async def events(self, *, silence: float) -> AsyncIterator[Event]:
        """Give the events until the response ends in good order; raise Cut where it ends otherwise.

        Args:
            silence: seconds without a byte, not even of a comment, after which the connection counts as dead.
        """
        rest = b""
        async for piece in self._pieces(silence):
            *blocks, rest = (rest + piece).split(b"\n\n")
            for block in blocks:
                event = _event(block.decode())
                if event is not None:
                    yield event

    async def head(self) -> None:
        lines = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        self.status = int(lines[0].split(" ")[1])
        for line in lines[1:]:
            name, _, value = line.partition(":")
            if name:
                self.headers[name.lower()] = value.strip()

    async def _pieces(self, silence: float) -> AsyncIterator[bytes]:
        try:
            if self.headers.get("transfer-encoding", "").lower() == "chunked":
                while size := int(await self._line(silence), 16):
                    yield await self._exactly(size, silence)
                    await self._line(silence)
                await self._line(silence)
            elif "content-length" in self.headers:
                if length := int(self.headers["content-length"]):
                    yield await self._exactly(length, silence)
            else:
                while piece := await self._some(silence):
                    yield piece
        except (OSError, EOFError, ValueError, TimeoutError) as error:
            raise Cut(f"{type(error).__name__}: {error}") from error

    async def _line(self, silence: float) -> bytes:
        async with asyncio.timeout(silence):
            line = await self._reader.readline()
        if not line.endswith(b"\n"):
            raise EOFError("the connection ended")
        return line.strip()

    async def _exactly(self, size: int, silence: float) -> bytes:
        async with asyncio.timeout(silence):
            return await self._reader.readexactly(size)

    async def _some(self, silence: float) -> bytes:
        async with asyncio.timeout(silence):
            return await self._reader.read(PIECE_BYTES)


async def send(port: int, method: str, path: str, headers: Mapping[str, str], body: bytes = b"") -> Response:
    """Send one request on a connection of its own, and return the response once its head is there.

    Raises Unreached, NoAnswer.
    """
    try:
        reader, writer = await asyncio.open_connection(HOST, port)
    except OSError as error:
        raise Unreached(str(error)) from error
    response = Response(reader, writer)
    try:
        lines = [f"{method} {path} HTTP/1.1", f"Host: {HOST}:{port}", "Connection: close"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        if body or method == "POST":
            lines.append(f"Content-Length: {len(body)}")
        writer.write("\r\n".join([*lines, "", ""]).encode("latin-1") + body)
        async with asyncio.timeout(HEAD_SECONDS):
            await writer.drain()
            await response.head()
    except BaseException as error:
        response.abort()
        if isinstance(error, OSError | EOFError | ValueError | IndexError | TimeoutError):
            raise NoAnswer(f"{type(error).__name__}: {error}") from error
        raise
    return response


def _event(block: str) -> Event | None:
    fields: dict[str, str] = {}
    for line in block.split("\n"):
        name, _, value = line.partition(":")
        if name in {"id", "data", "retry"}:
            fields[name] = value.removeprefix(" ")
    if not fields:
        return None
    retry = None
    with contextlib.suppress(ValueError):
        retry = int(fields["retry"]) if "retry" in fields else None
    return Event(id=fields.get("id"), data=fields.get("data", ""), retry=retry)

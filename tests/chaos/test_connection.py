"""Every way in which a connection can fail is told apart from the others, and from a good end."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from tests.chaos.connection import Cut, Event, NoAnswer, Unreached, send
from tests.services import HOST, free_port

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


@contextlib.asynccontextmanager
async def serving(answer: bytes, *, holds: bool = False) -> AsyncIterator[int]:
    """Serve one answer, whatever is asked, and close the connection; or hold it until the client goes away."""
    has_ended = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)
            await writer.drain()
            if holds:
                await reader.read()
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        has_ended.set()

    server = await asyncio.start_server(serve, HOST, 0)
    try:
        yield server.sockets[0].getsockname()[1]
        await asyncio.wait_for(has_ended.wait(), 20)
    finally:
        server.close()
        await server.wait_closed()


async def events_of(answer: bytes) -> list[Event]:
    async with serving(answer) as port, await send(port, "POST", "/", {}, b"{}") as response:
        return [event async for event in response.events(silence=5)]


async def test_a_stream_that_ends_in_good_order_has_its_events() -> None:
    body = b"event: message\nid: s.1.m\ndata: {}\n\n: keep-alive\n\nretry: 300\n\nid: s.2.m\ndata:\n\n"
    pieces = b"".join(chunk(body[start : start + 7]) for start in range(0, len(body), 7))
    assert await events_of(HEAD + pieces + b"0\r\n\r\n") == [
        Event(id="s.1.m", data="{}"),
        Event(retry=300),
        Event(id="s.2.m"),
    ]


async def test_a_stream_without_its_end_was_cut() -> None:
    for rest in (b"", chunk(b"data: {}\n\n"), b"a\r\ndata"):
        with pytest.raises(Cut):
            await events_of(HEAD + rest)


async def test_a_body_that_is_too_short_was_cut() -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n{}"
    async with serving(answer) as port, await send(port, "GET", "/", {}) as response:
        with pytest.raises(Cut):
            await response.read()


async def test_a_whole_body_is_read() -> None:
    answer = b"HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\nX-Name: value \r\n\r\n{}"
    async with serving(answer) as port, await send(port, "GET", "/", {}) as response:
        assert (response.status, response.headers["x-name"], await response.read()) == (202, "value", b"{}")


async def test_a_connection_that_ends_before_the_response_has_no_answer() -> None:
    for answer in (b"", b"HTTP/1.1 200 OK\r\n"):
        async with serving(answer) as port:
            with pytest.raises(NoAnswer):
                await send(port, "POST", "/", {}, b"{}")


async def test_where_nobody_listens_nothing_was_sent() -> None:
    with pytest.raises(Unreached):
        await send(free_port(), "POST", "/", {}, b"{}")


async def test_silence_is_a_cut() -> None:
    async with serving(HEAD, holds=True) as port, await send(port, "GET", "/", {}) as response:
        with pytest.raises(Cut):
            [event async for event in response.events(silence=0.05)]

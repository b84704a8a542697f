"""A client of the modern era that does not read its response: the call waits for it, and not for ever."""

import asyncio

import pytest

from django_mcp.server import modern
from django_mcp.server.modern import ModernOutlet
from django_mcp.server.stream import MAX_WAITING, Stream

BOUND_SECONDS = 20


def full() -> Stream:
    stream = Stream()
    for _ in range(MAX_WAITING):
        stream.append(b"{}")
    return stream


async def test_a_client_that_reads_nothing_for_long_counts_as_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(modern, "UNREAD_SECONDS", 0.01)
    stream = full()
    async with asyncio.timeout(BOUND_SECONDS):
        await ModernOutlet(stream, stream.close).notify("notifications/progress", {})
    assert stream.closed


async def test_a_client_that_reads_slowly_is_waited_for() -> None:
    stream, gone = full(), asyncio.Event()
    outlet = ModernOutlet(stream, gone.set)
    sending = asyncio.create_task(outlet.notify("notifications/progress", {}))
    reading = stream.read(silence=BOUND_SECONDS)
    async with asyncio.timeout(BOUND_SECONDS):
        assert await anext(reading) == b"{}"
        await sending
    assert stream.size > MAX_WAITING * len(b"{}")
    assert not gone.is_set()
    await reading.aclose()  # type: ignore[attr-defined]

"""The streaming transport tells an application's mistakes."""

import asyncio
import re
from typing import Any

import pytest

from django_mcp.testing import asgi
from django_mcp.testing.asgi import stream

START = {"type": "http.response.start", "status": 200, "headers": [(b"X-A", b"b")]}
END = {"type": "http.response.body", "body": b"", "more_body": False}


def body(data: bytes) -> dict[str, Any]:
    return {"type": "http.response.body", "body": data, "more_body": True}


async def test_chunks_are_read_as_they_are_sent() -> None:
    sent: list[bytes] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        assert (await receive())["body"] == b"question"
        await send(START)
        for chunk in (b"1", b"2", b"3"):
            await send(body(chunk))
            sent.append(chunk)
        await send(END)

    async with stream(application, "POST", "/", body=b"question") as response:
        assert await response.started() == 200
        assert response.headers == {"x-a": "b"}
        for _ in range(10):
            await asyncio.sleep(0)
        assert sent == [b"1"]
        assert [chunk async for chunk in response] == [b"1", b"2", b"3"]


async def test_an_application_that_goes_on_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asgi, "END_SECONDS", 0.01)

    async def deaf(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.Event().wait()

    with pytest.raises(AssertionError, match=r"went on for 0\.01 seconds after its client left"):
        async with stream(deaf, "GET", "/"):
            pass


@pytest.mark.parametrize(
    ("messages", "rule"),
    [
        ([END], "http.response.body before http.response.start"),
        ([START, START, END], "a second http.response.start"),
        ([START, END, body(b"more")], "http.response.body after the end of the response"),
        ([{"type": "http.odd"}, START, END], "http.odd is unknown"),
    ],
)
async def test_broken_rules_are_told(messages: list[dict[str, Any]], rule: str) -> None:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        for message in messages:
            await send(message)

    with pytest.raises(AssertionError, match=re.escape(rule)):
        async with stream(application, "GET", "/") as response:
            await response.over()


async def test_what_the_application_raises_is_raised() -> None:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        raise LookupError("oops")

    with pytest.raises(LookupError, match="oops"):
        async with stream(application, "GET", "/"):
            pass


async def test_sending_to_a_client_that_left_may_fail() -> None:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        await receive()
        assert (await receive())["type"] == "http.disconnect"
        await send(body(b"too late"))

    async with stream(application, "GET", "/") as response:
        await response.started()
    with pytest.raises(OSError, match="the client has left"):
        async with stream(application, "GET", "/", send_fails=True) as response:
            await response.started()

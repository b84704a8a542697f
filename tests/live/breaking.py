"""Streams that break after they began: a seam for the servers of tests alone.

`X-Break-Frames: 2` lets the exchange raise in place of the third frame, `X-Break-Send: 2` the server underneath when
it is given that frame. `X-Break-With` names what is raised; a RuntimeError by default. `X-Break-Start` lets the
application raise before there is a response, which is for the server to answer.
"""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from typing import Any

from django_mcp import consumers
from django_mcp.server.event_stream import EventStream
from django_mcp.server.exchange import Exchange
from django_mcp.server.wire import Answer

START, FRAMES, SEND, WITH = "x-break-start", "x-break-frames", "x-break-send", "x-break-with"
ERRORS: Mapping[str, BaseException] = {
    "": RuntimeError("secret-of-the-server"),
    "os": OSError("secret-of-the-server"),
    "cancelled": asyncio.CancelledError(),
    "stop": StopAsyncIteration("secret-of-the-server"),
}


class BreakingExchange(Exchange):
    async def answer(self) -> Answer | EventStream | None:
        answer = await super().answer()
        headers = self._arrival.headers
        if isinstance(answer, EventStream) and FRAMES in headers:
            return EventStream(frames=_broken(answer.frames, int(headers[FRAMES]), ERRORS[headers.get(WITH, "")]))
        return answer


class Breaking:
    """An ASGI application whose streams break where a request says."""

    def __init__(self, application: Any) -> None:
        self._application = application
        consumers.__dict__["Exchange"] = BreakingExchange

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope.get("headers", ())}
        if START in headers:
            raise ERRORS[""]
        if SEND not in headers:
            await self._application(scope, receive, send)
            return
        left = int(headers[SEND])

        async def broken(message: Any) -> None:
            nonlocal left
            if message["type"] == "http.response.body" and message.get("more_body"):
                if not left:
                    raise ERRORS[headers.get(WITH, "")]
                left -= 1
            await send(message)

        await self._application(scope, receive, broken)


async def _broken(
    frames: AsyncGenerator[bytes, None], after: int, error: BaseException
) -> AsyncGenerator[bytes, None]:
    try:
        async for frame in frames:
            if not after:
                raise error
            after -= 1
            yield frame
    finally:
        await frames.aclose()

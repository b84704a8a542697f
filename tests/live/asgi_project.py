"""The application as a project may have it: a handler of SIGTERM of its own, and a middleware around everything.

Both servers have their handlers by the first request, so that is when the project puts its own before them.
"""

import functools
import os
import signal
from types import FrameType
from typing import Any

from tests.live.asgi import application as served

SAID = b"the project was told to go\n"


@functools.cache
def install() -> None:
    previous: Any = signal.getsignal(signal.SIGTERM)

    def told(number: int, frame: FrameType | None) -> None:
        os.write(2, SAID)
        previous(number, frame)

    signal.signal(signal.SIGTERM, told)


async def application(scope: dict[str, Any], receive: Any, send: Any) -> None:
    if scope["type"] == "http":
        install()

    async def wrapped(message: dict[str, Any]) -> None:
        await send(message)

    await served(scope, receive, wrapped)

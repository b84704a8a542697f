"""One SSE response of the modern era: written by a call, read by one connection, and forgotten as it is read.

Lives on the event loop of its process. The call waits where it is not read.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from typing import Final

MAX_WAITING: Final = 1_000
MAX_WAITING_BYTES: Final = 4_194_304


class Stream:
    """Messages in order, and the reader that waits for the next."""

    __slots__ = ("_bytes", "_changed", "_messages", "_room", "closed", "size")

    def __init__(self) -> None:
        self.closed = False
        self.size = 0
        """Bytes of all messages that there ever were."""
        self._messages: deque[bytes] = deque()
        self._bytes = 0
        self._changed = asyncio.Event()
        self._room = asyncio.Event()

    @property
    def _is_full(self) -> bool:
        return len(self._messages) >= MAX_WAITING or self._bytes >= MAX_WAITING_BYTES

    @property
    def _is_settled(self) -> bool:
        return bool(self._messages) or self.closed

    async def room(self, patience: float) -> None:
        """Wait until a message fits. Raises TimeoutError where nothing was read for `patience` seconds."""
        while self._is_full and not self.closed:
            self._room.clear()
            async with asyncio.timeout(patience):
                await self._room.wait()

    def append(self, data: bytes) -> None:
        """Add a message and wake the reader. Nothing is added to a closed stream."""
        if self.closed:
            return
        self._messages.append(data)
        self._bytes += len(data)
        self.size += len(data)
        self._changed.set()

    def close(self) -> None:
        """End the stream after what it holds."""
        self.closed = True
        self._changed.set()
        self._room.set()

    async def settled(self, timeout: float) -> bool:
        """Wait until there is something to read or the stream is closed; say whether that happened in `timeout` s."""
        if not self._is_settled:
            await asyncio.sleep(0)  # A writer that waits for nothing is done by now.
        if not self._is_settled:
            timer = asyncio.get_running_loop().call_later(timeout, self._changed.set)
            try:
                await self._changed.wait()
            finally:
                timer.cancel()
        return self._is_settled

    async def read(self, *, silence: float) -> AsyncIterator[bytes | None]:
        """Yield the messages as they come, and None after each `silence` seconds without one, to the end."""
        while True:
            self._changed.clear()
            while self._messages:
                message = self._messages.popleft()
                self._bytes -= len(message)
                self._room.set()
                yield message
            if self.closed:
                return
            if self._changed.is_set():
                continue
            try:
                async with asyncio.timeout(silence):
                    await self._changed.wait()
            except TimeoutError:
                yield None

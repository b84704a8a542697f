"""One SSE response as a sequence of messages: written by a call, read by one connection.

Lives on the event loop of its process. A *kept* stream remembers its messages, so that they can be read again from any
place; the others forget what was read. One reader at a time: a newer one ends the older.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Message:
    """A JSON-RPC message with its place in the stream, 1…n."""

    sequence: int
    data: bytes


class OutputLimit(Exception):
    """The stream holds as much as one stream may."""


class Stream:
    """Messages in order, and the reader that waits for the next.

    Args:
        name: names the stream in event ids.
        kept: remember what was read.
        sheds: when it is full, lose the oldest message instead of refusing the newest.
        max_events, max_bytes: what is kept at most.
    """

    __slots__ = (
        "_bytes",
        "_changed",
        "_max_bytes",
        "_max_events",
        "_messages",
        "_reader",
        "_room",
        "_sheds",
        "_touched",
        "closed",
        "kept",
        "last",
        "name",
    )

    def __init__(
        self,
        name: str = "",
        *,
        kept: bool = False,
        sheds: bool = False,
        max_events: int = 1_000,
        max_bytes: int = 4_194_304,
    ) -> None:
        self.name = name
        self.kept = kept
        self.closed = False
        self.last = 0
        self._messages: deque[Message] = deque()
        self._bytes = 0
        self._max_events = max_events
        self._max_bytes = max_bytes
        self._changed = asyncio.Event()
        self._room = asyncio.Event()
        self._reader: object = None
        self._sheds = sheds
        self._touched = False

    @property
    def is_full(self) -> bool:
        """Whether only the terminal message fits."""
        return len(self._messages) >= self._max_events - 1 or self._bytes >= self._max_bytes

    @property
    def _is_settled(self) -> bool:
        return bool(self._messages) or self.closed or self._touched

    async def room(self) -> None:
        """Wait until a message fits.

        Raises:
            OutputLimit: the stream is kept, so reading makes no room.
        """
        while self.is_full and not self.closed:
            if self.kept:
                raise OutputLimit
            self._room.clear()
            await self._room.wait()

    def append(self, data: bytes) -> None:
        """Add a message and wake the reader. Nothing is added to a closed stream."""
        if self.closed:
            return
        while self._sheds and self.is_full:
            self._bytes -= len(self._messages.popleft().data)
        self.last += 1
        self._messages.append(Message(self.last, data))
        self._bytes += len(data)
        self._changed.set()

    def close(self) -> None:
        """End the stream after what it holds."""
        self.closed = True
        self._changed.set()
        self._room.set()

    def touch(self) -> None:
        """Count as settled: there is something to say about the stream itself."""
        self._touched = True
        self._changed.set()

    def disconnect(self) -> None:
        """End the current reader, cleanly; the stream itself goes on."""
        self._reader = None
        self._changed.set()

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

    async def read(self, after: int = 0, *, silence: float) -> AsyncIterator[Message | None]:
        """Yield the messages behind place `after` as they come, and None after each `silence` seconds without one.

        Ends when the stream is closed and read, or when another reader begins.
        """
        me = self._reader = object()
        self._changed.set()
        place = after
        while True:
            self._changed.clear()
            while self._reader is me and (message := self._next(place)) is not None:
                yield message
                place = message.sequence
            if self._reader is not me:
                # What woke this reader may have been meant for its successor.
                self._changed.set()
                return
            if self.closed:
                return
            if self._changed.is_set():
                continue
            try:
                async with asyncio.timeout(silence):
                    await self._changed.wait()
            except TimeoutError:
                yield None

    def _next(self, place: int) -> Message | None:
        messages = self._messages
        if not messages:
            return None
        if self.kept:
            index = place - messages[0].sequence + 1
            return messages[index] if 0 <= index < len(messages) else (messages[0] if index < 0 else None)
        message = messages.popleft()
        self._bytes -= len(message.data)
        self._room.set()
        return message

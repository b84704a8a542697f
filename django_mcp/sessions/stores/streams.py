"""The contract for streams: what a client reads of a session as one response, kept so that it can be read again.

Events are opaque bytes, numbered 1…n without a gap. A *post* stream is kept whole until some time after it closed. A
*standalone* one sheds from its front, never from its middle; of a session's standalone streams one is the newest, and
what is pushed, rather than appended to a named stream, goes to that one alone. An event is visible with all before it.
"""

import re
import secrets
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import dropwhile
from typing import Final, Literal

from asgiref.sync import sync_to_async

from django_mcp.sessions.stores.calls import CallHold

StreamKind = Literal["post", "standalone"]

MAX_EVENTS: Final = 1_000
MAX_STREAM_BYTES: Final = 4_194_304
EVENT_BYTES: Final = 262_144
"""What the caller lets one event have: the room a post stream keeps for the one that ends it."""
MAX_OPEN_BYTES: Final = 16_777_216
"""All open streams of a session: its post streams, and MAX_STREAM_BYTES for its newest standalone one."""
KEPT_SECONDS: Final = 900.0
EVENTS_AT_ONCE: Final = 100

_LETTERS: Final[dict[StreamKind, str]] = {"post": "p", "standalone": "g"}
_NAME: Final = re.compile(r"[pg][0-9a-f]{16}")


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamEvent:
    sequence: int
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamPage:
    """Some events of a stream, and how the stream stood when they were read.

    `first` is the lowest number that is kept (one more than `last` where none is); a reader whose number is not
    `reader` any more has a successor and ends. Nothing is added to a stream that `is_closed`.
    """

    first: int
    last: int
    is_closed: bool
    reader: int
    events: tuple[StreamEvent, ...]


class StreamLog(ABC):
    """`session` is an `MCPSession.key` throughout. A stream of another session is as if there were none."""

    @abstractmethod
    def open_stream(self, session: str, kind: StreamKind, *, kept_seconds: float = KEPT_SECONDS) -> str:
        """Open a stream and return its name: a letter for its kind and 64 random bits in hexadecimal.

        A standalone stream is the session's newest from now on; the former is closed and loses its reader. A closed
        stream is kept for `kept_seconds`; events of a standalone one that are older are the first that it sheds.
        """

    @abstractmethod
    def append(
        self,
        session: str,
        stream: str,
        bodies: Sequence[bytes],
        *,
        close: bool = False,
        hold: CallHold | None = None,
        progress: float | None = None,
    ) -> int:
        """Append all of `bodies` or none, close the stream with them if asked to, and return its last number.

        With `hold`, only while that call runs under that fence; `progress` is noted of the call if it is the greatest.
        With `close`, the last body is the terminal event, for which there is always room.

        Raises:
            StreamClosed: the stream is closed, or there is none.
            FenceLost: the call has ended, or somebody else's fence is higher.
            OutputLimit: a post stream would be over MAX_EVENTS or MAX_STREAM_BYTES without room for its terminal
                event, or the session's open streams over MAX_OPEN_BYTES.
        """

    @abstractmethod
    def read_stream(
        self, session: str, stream: str, after: int = 0, *, limit: int = EVENTS_AT_ONCE
    ) -> StreamPage | None:
        """Return the first `limit` kept events behind a place; None where there is no such stream (any more)."""

    @abstractmethod
    def take_reader(self, session: str, stream: str) -> int | None:
        """Make the caller the stream's newest reader and return its number; None where there is no such stream.

        A standalone stream becomes the session's newest again, and is open again if a newer one had closed it.
        """

    @abstractmethod
    def push(self, session: str, bodies: Sequence[bytes]) -> str | None:
        """Append to the session's newest standalone stream and return its name; None where there is none open."""

    @abstractmethod
    def change_cursor(self, session: str) -> int | None:
        """Return up to which change (`LogStore.changes_since`) the session was told; None before the first time."""

    @abstractmethod
    def feed_changes(self, session: str, *, after: int | None, upto: int, bodies: Sequence[bytes]) -> bool:
        """Move the session's cursor from `after` to `upto` and push `bodies`, both or neither.

        False, and nothing is done, where the cursor is not at `after` (another feeder was faster) or no standalone
        stream is open to carry it.
        """

    async def aopen_stream(self, session: str, kind: StreamKind, *, kept_seconds: float = KEPT_SECONDS) -> str:
        return await sync_to_async(self.open_stream)(session, kind, kept_seconds=kept_seconds)

    async def aappend(
        self,
        session: str,
        stream: str,
        bodies: Sequence[bytes],
        *,
        close: bool = False,
        hold: CallHold | None = None,
        progress: float | None = None,
    ) -> int:
        return await sync_to_async(self.append)(session, stream, bodies, close=close, hold=hold, progress=progress)

    async def aread_stream(
        self, session: str, stream: str, after: int = 0, *, limit: int = EVENTS_AT_ONCE
    ) -> StreamPage | None:
        return await sync_to_async(self.read_stream)(session, stream, after, limit=limit)

    async def atake_reader(self, session: str, stream: str) -> int | None:
        return await sync_to_async(self.take_reader)(session, stream)

    async def apush(self, session: str, bodies: Sequence[bytes]) -> str | None:
        return await sync_to_async(self.push)(session, bodies)

    async def achange_cursor(self, session: str) -> int | None:
        return await sync_to_async(self.change_cursor)(session)

    async def afeed_changes(self, session: str, *, after: int | None, upto: int, bodies: Sequence[bytes]) -> bool:
        return await sync_to_async(self.feed_changes)(session, after=after, upto=upto, bodies=bodies)


def new_stream_name(kind: StreamKind) -> str:
    return f"{_LETTERS[kind]}{secrets.token_hex(8)}"


def is_stream_name(text: str) -> bool:
    """Say whether it can be the name of a stream. A database may take names for equal that are not."""
    return _NAME.fullmatch(text) is not None


def first_to_keep(
    old: Sequence[tuple[int, int, datetime]], new: Sequence[int], *, following: int, oldest: datetime
) -> int:
    """Return the lowest number that a standalone stream keeps, the newest event's at most.

    Args:
        old: number, size and time of each event that is kept so far, in order.
        new: sizes of what is appended, at least one.
        following: the number of the first of those.
        oldest: the time before which an event goes, whatever room there is.
    """
    kept = [(number, size) for number, size, _ in dropwhile(lambda event: event[2] < oldest, old)]
    kept += enumerate(new, following)
    count, size = len(kept), sum(size for _, size in kept)
    for number, taken in kept:
        if count == 1 or (count <= MAX_EVENTS and size <= MAX_STREAM_BYTES):
            return number
        count, size = count - 1, size - taken
    return following

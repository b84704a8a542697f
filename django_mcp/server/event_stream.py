"""An HTTP answer that goes on: server-sent events, produced as they are read."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Final

STREAM_HEADERS: Final = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache, no-transform"),
    (b"x-accel-buffering", b"no"),
    # Compression would hold events back; saying that there is none keeps GZipMiddleware away.
    (b"content-encoding", b"identity"),
)

MAX_RESPONSE_BYTES: Final = 8_388_608
"""What one response sends: a server that takes everything at once (Daphne) would hold it all for a slow client."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EventStream:
    """A response of the type `text/event-stream`. Whoever sends it reads `frames` to the end or closes it."""

    frames: AsyncGenerator[bytes, None]
    headers: tuple[tuple[bytes, bytes], ...] = STREAM_HEADERS

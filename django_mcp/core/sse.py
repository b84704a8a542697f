"""Server-sent events as bytes (WHATWG HTML, section 9.2; MCP 2025-11-25 and 2026-07-28, transports).

Pure encoding and decoding. Data that is sent is always one line: compact JSON holds no line break.
"""

from __future__ import annotations

import codecs
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """An event as it was read. One without data carries an id or a time to wait, and is nothing to act on."""

    data: str = ""
    name: str = "message"
    event_id: str | None = None
    retry_ms: int | None = None


def event(data: bytes, *, event_id: str | None = None, retry_ms: int | None = None) -> bytes:
    """Encode one `message` event.

    Args:
        data: one line of UTF-8; empty for an event that only carries an id.
        event_id: what the client sends back as `Last-Event-ID`.
        retry_ms: milliseconds the client waits before it reconnects.
    """
    head = b"event: message\n" if data else b""
    if event_id is not None:
        head += b"id: " + event_id.encode("ascii") + b"\n"
    if retry_ms is not None:
        head += b"retry: %d\n" % retry_ms
    return head + b"data: " + data + b"\n\n" if data else head + b"data:\n\n"


def comment(text: str = "keep-alive") -> bytes:
    """Encode a comment, which keeps proxies from closing a silent stream."""
    return b": " + text.encode("ascii") + b"\n\n"


def retry(milliseconds: int) -> bytes:
    """Encode a bare `retry` field: how long to wait before reconnecting, in milliseconds."""
    return b"retry: %d\n\n" % milliseconds


class Decoder:
    """Read events out of bytes that arrive in pieces of any size. Comments are skipped."""

    def __init__(self) -> None:
        self._text = codecs.getincrementaldecoder("utf-8")("replace")
        self._rest = ""

    def feed(self, chunk: bytes) -> list[Event]:
        """Return the events that `chunk` completes."""
        self._rest += self._text.decode(chunk)
        # A carriage return at the end may be the first half of a line break.
        held = "\r" if self._rest.endswith("\r") else ""
        text = self._rest.removesuffix(held).replace("\r\n", "\n").replace("\r", "\n")
        *blocks, rest = text.split("\n\n")
        self._rest = rest + held
        return [found for block in blocks if (found := _parse(block)) is not None]


def _parse(block: str) -> Event | None:
    fields: dict[str, str] = {}
    for line in block.split("\n"):
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            fields["data"] = f"{fields['data']}\n{value}" if "data" in fields else value
        elif name == "retry":
            if value.isascii() and value.isdecimal():
                fields["retry"] = value
        elif name in {"event", "id"}:
            fields[name] = value
    if not fields:
        return None
    return Event(
        data=fields.get("data", ""),
        name=fields.get("event") or "message",
        event_id=fields.get("id"),
        retry_ms=int(fields["retry"]) if "retry" in fields else None,
    )

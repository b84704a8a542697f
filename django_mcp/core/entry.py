"""Where the value of one key stands: in the manifest itself or in a blob; and the line that says so.

A line is the key as a JSON string, a tab, and the canonical JSON of the value or `@`, a name and a size. Canonical
JSON holds neither a tab nor a line break, and never begins with `@`.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final, TypeAlias

from .address import address
from .canonical import canonical

MAX_INLINE: Final = 8 * 1024
"""Bytes of the largest value that may stand inline, whatever the caller prefers; two lines always fit in a page."""


class CorruptManifest(ValueError):
    """The bytes are not a manifest, or not a page of one, that this version reads."""


class Change(Enum):
    """What a change does to a key when it does not give it an entry."""

    DELETED = "deleted"


DELETED: Final = Change.DELETED


@dataclass(frozen=True, slots=True)
class Inline:
    """A value that stands in the manifest: `data` are its canonical bytes (`value.to_bytes`), at most `MAX_INLINE`."""

    data: bytes

    def __post_init__(self) -> None:
        if len(self.data) > MAX_INLINE:
            raise ValueError(f"{len(self.data)} bytes do not stand inline; at most {MAX_INLINE} do")

    @property
    def size(self) -> int:
        """Bytes of the value."""
        return len(self.data)

    @property
    def text(self) -> bytes:
        """The entry as it stands in a line."""
        return self.data


@dataclass(frozen=True, slots=True)
class BlobRef:
    """A value that stands in a blob of its own, named by its content address; `size` in bytes."""

    digest: str
    size: int

    @property
    def text(self) -> bytes:
        """The entry as it stands in a line. No JSON value begins with `@`."""
        return b"@%s %d" % (pack_name(self.digest), self.size)


Entry: TypeAlias = Inline | BlobRef
Changes: TypeAlias = Mapping[str, Entry | Change]


def entry_of(data: bytes, *, inline_bytes: int) -> Entry:
    """Return the entry for a value with these canonical bytes: inline up to `inline_bytes`, else a reference.

    The blob of a reference is `data` itself, stored under `entry.digest`.
    """
    if len(data) <= min(inline_bytes, MAX_INLINE):
        return Inline(data)
    return BlobRef(address(data), len(data))


def write_line(key: str, entry: Entry) -> bytes:
    """Return the line of `key`, its line break included."""
    return b"%s\t%s\n" % (canonical(key), entry.text)


def join_lines(lines: Mapping[str, bytes]) -> bytes:
    """Return lines, given by key, one after the other in the order of the keys."""
    return b"".join([lines[key] for key in sorted(lines)])


def read_lines(body: bytes) -> dict[str, Entry]:
    """Return the entries of lines that follow each other, in their order.

    Raises:
        CorruptManifest: they are not such lines.
    """
    entries: dict[str, Entry] = {}
    try:
        for line in body.splitlines():
            name, tab, text = line.partition(b"\t")
            key = json.loads(name) if b"\\" in name else name[1:-1].decode("ascii")
            if text.startswith(b"@"):
                name, _, size = text[1:].partition(b" ")
                entries[key] = BlobRef(unpack_name(name), int(size))
            elif tab and text:
                entries[key] = Inline(text)
            else:
                raise ValueError("a line without a value")
    except ValueError as error:
        raise CorruptManifest(f"not the entries of a manifest: {error}") from error
    return entries


def pack_name(digest: str) -> bytes:
    """Return the 43 characters that stand for a content address in a manifest."""
    return base64.urlsafe_b64encode(bytes.fromhex(digest))[:43]


def unpack_name(name: bytes) -> str:
    """Return the content address that `pack_name` was given.

    Raises:
        ValueError: it is no such name.
    """
    digest = base64.urlsafe_b64decode(name + b"=").hex()
    if len(digest) != 64 or pack_name(digest) != name:
        raise ValueError("a name that is not a content address")
    return digest

"""What changed between two snapshots, for people and the command line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from .manifest import BlobRef, Entry, ManifestReader
from .merge import differing_entries

MAX_SHOWN: Final = 120
"""Characters of a value in the text of a difference."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One key that differs: what it had before and what it has after, None where it is absent."""

    key: str
    before: Entry | None
    after: Entry | None

    def __str__(self) -> str:
        """Return one printable line, such as `~ 'counter': 1 -> 2`, with long values cut."""
        return self.text(shown)

    def text(self, show: Callable[[Entry], str]) -> str:
        """Return the line with each entry as `show` gives it."""
        key = repr(self.key)
        if self.before is None:
            return f"+ {key}: {show(self.after)}" if self.after is not None else f"= {key}"
        if self.after is None:
            return f"- {key}: {show(self.before)}"
        return f"~ {key}: {show(self.before)} -> {show(self.after)}"


def diff(old: ManifestReader, new: ManifestReader) -> list[Difference]:
    """Return what differs from `old` to `new`, sorted by key. Pages that both have are not read."""
    before, after = differing_entries(old, new)
    return [
        Difference(key, before.get(key), after.get(key))
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key)
    ]


def shown(entry: Entry) -> str:
    """Return an entry as a short ASCII text: its JSON, or the size and the beginning of the name of its blob."""
    if isinstance(entry, BlobRef):
        return f"<{entry.size} bytes, {entry.digest[:12]}>"
    text = entry.data.decode("ascii")
    return text if len(text) <= MAX_SHOWN else f"{text[: MAX_SHOWN - 3]}..."

"""What changed between two snapshots, for people and the command line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from .manifest import BlobRef, Entry, ManifestReader, Page

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
    before, after = _differing_entries(old, new)
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


def _differing_entries(base: ManifestReader, head: ManifestReader) -> tuple[dict[str, Entry], dict[str, Entry]]:
    """Return the entries of each that do not stand in a page of both: all that differ, and some that do not."""
    if base.root == head.root:
        return {}, {}
    left, right = _named(base.listed), _named(head.listed)
    while True:
        for name in left.keys() & right.keys():
            del left[name], right[name]
        if not any(page.is_index for pages in (left, right) for page in pages.values()):
            break
        left, right = _opened(base, left), _opened(head, right)
    return _entries(base, left), _entries(head, right)


def _named(pages: list[Page]) -> dict[str, Page]:
    return {page.digest: page for page in pages}


def _opened(reader: ManifestReader, pages: dict[str, Page]) -> dict[str, Page]:
    opened: list[Page] = []
    for page in pages.values():
        opened.extend(reader.index(page) if page.is_index else [page])
    return _named(opened)


def _entries(reader: ManifestReader, pages: dict[str, Page]) -> dict[str, Entry]:
    entries = dict(reader.inline_entries)
    for page in pages.values():
        entries |= reader.leaf(page)
    return entries

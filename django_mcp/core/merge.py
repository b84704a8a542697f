"""The rule by which two changes of one state become one, or a conflict that names its keys.

Pure: the base is what a call read, the head is what stands now, and the answer follows from the two manifests and the
call's own changes.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from .manifest import Change, Changes, Entry, ManifestReader, Page


@dataclass(frozen=True, slots=True, kw_only=True)
class Merged:
    """What to do on the head: apply `changes`, and run the update functions of the keys in `reapply` on its values."""

    changes: dict[str, Entry | Change]
    reapply: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Conflict:
    """Both sides changed these keys, sorted. Nothing may be applied."""

    keys: tuple[str, ...]


def merge(
    base: ManifestReader, head: ManifestReader, mine: Changes, *, updates: Collection[str] = ()
) -> Merged | Conflict:
    """Return what of `mine`, made on `base`, is to be done on `head`.

    A key that only one side changed is that side's. One that both changed is a conflict, also where both ends are
    equal: two calls that read 1 and assigned 2 have counted once, and two that took the same thing have it twice. Only
    for a key in `updates` it is none: its function runs again on the head's value. Two pages at most are read of each
    manifest for each key.

    Args:
        updates: the keys of `mine` whose entries come from a function of the value that was there before.
    """
    changes: dict[str, Entry | Change] = {}
    reapply, conflicts = set(), []
    for key, change in mine.items():
        theirs = head.entry(key)
        if theirs == base.entry(key):
            changes[key] = change
        elif key in updates:
            reapply.add(key)
        else:
            conflicts.append(key)
    if conflicts:
        return Conflict(tuple(sorted(conflicts)))
    return Merged(changes=changes, reapply=frozenset(reapply))


def changed_keys(base: ManifestReader, head: ManifestReader) -> set[str]:
    """Return the keys that were added, removed or changed from `base` to `head`. Pages that both have are not read."""
    before, after = differing_entries(base, head)
    return {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)}


def differing_entries(base: ManifestReader, head: ManifestReader) -> tuple[dict[str, Entry], dict[str, Entry]]:
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

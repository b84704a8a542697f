"""The rule by which two changes of one state become one, or a conflict that names its keys.

Pure: the base is what a call read, the head is what stands now, and the answer follows from the two manifests and the
call's own changes.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from .manifest import Change, Changes, Entry, ManifestReader


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

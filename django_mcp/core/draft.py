"""What one call changed in a state, ready to be committed, whatever became of the state meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final

from .entry import MAX_INLINE, BlobRef, Changes, Entry, entry_of
from .value import MAX_DEPTH, StateBoundExceeded, to_bytes


class Absence(Enum):
    """Stands for the value of a key that a state does not have."""

    ABSENT = "absent"


ABSENT: Final = Absence.ABSENT

Update = Callable[[Any], Any]
"""Gives the new value of a key for its present one, or for `ABSENT`. It may run more than once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """How large a state may be: bytes of all keys and values, number of keys, levels of one value."""

    max_bytes: int
    max_keys: int
    max_depth: int = MAX_DEPTH
    inline_bytes: int = MAX_INLINE

    def pack(self, key: str, value: Any, bodies: dict[str, bytes]) -> Entry:
        """Return the entry of a value, and put the body of a large one into `bodies`.

        Raises:
            StateValueError: the value cannot be kept, or is over a bound.
        """
        data = to_bytes(value, path=place(key), max_depth=self.max_depth, max_bytes=self.max_bytes)
        entry = entry_of(data, inline_bytes=self.inline_bytes)
        if isinstance(entry, BlobRef):
            bodies[entry.digest] = data
        return entry

    def check(self, *, size: int, keys: int) -> None:
        """Check a whole state.

        Raises:
            StateBoundExceeded: it is over a bound.
        """
        if keys > self.max_keys:
            raise StateBoundExceeded("state", "keys", self.max_keys)
        if size > self.max_bytes:
            raise StateBoundExceeded("state", "bytes", self.max_bytes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """The changes of one call.

    Args:
        changes: by key, as merged.
        bodies: the large values among them, by their content address.
        updates: the functions of keys that `update()` alone changed, to be run again on a newer value.
    """

    changes: Changes
    bodies: Mapping[str, bytes] = field(default_factory=dict)
    updates: Mapping[str, Update] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.changes)


def place(key: str) -> str:
    """Return how a key is named in messages."""
    return f"state[{key!a}]"

"""Is there one order of what several callers did at once that explains every answer?

The search of Wing and Gong with remembered dead ends (Lowe): take any operation that began before anybody else had
finished, do it to a dict, and go on with the rest. Knows no store.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

Verb = Literal["read", "assign", "increment", "conflict"]
Cells: TypeAlias = dict[str, int]
"""A state: a number for each key that there is."""

INCREMENT: Final = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """What one caller did from `began` to `ended`, and what came of it.

    Args:
        saw: what it had read: all keys (read), or the one key, None if that was absent (assign, conflict).
        wrote: what it left, None if it deleted; of an increment the number that came of it.
    """

    verb: Verb
    began: int
    ended: int
    key: str = ""
    saw: Any = None
    wrote: int | None = None

    def apply(self, cells: Cells) -> Cells | None:
        """Return the state after it, None if it cannot have had this answer in this state."""
        present = cells.get(self.key)
        if self.verb == "read":
            return cells if self.saw == cells else None
        if self.verb == "increment":
            return _with(cells, self.key, self.wrote) if self.wrote == (present or 0) + INCREMENT else None
        # An assignment goes through on what its caller had read, and on nothing else.
        is_free = present == self.saw
        if self.verb == "conflict":
            return None if is_free else cells
        return _with(cells, self.key, self.wrote) if is_free else None


def linearize(history: Sequence[Operation], start: Cells | None = None) -> list[Operation] | None:
    """Return an order that explains the history and contradicts no clock, or None."""
    history = sorted(history, key=lambda operation: operation.began)
    dead: set[tuple[int, frozenset[tuple[str, int]]]] = set()
    order: list[Operation] = []

    def search(left: int, cells: Cells) -> bool:
        if not left:
            return True
        place = (left, frozenset(cells.items()))
        if place in dead:
            return False
        rest = [position for position in range(len(history)) if left >> position & 1]
        first_end = min(history[position].ended for position in rest)
        for position in rest:
            operation = history[position]
            if operation.began > first_end:
                break
            after = operation.apply(cells)
            if after is not None:
                order.append(operation)
                if search(left & ~(1 << position), after):
                    return True
                order.pop()
        dead.add(place)
        return False

    return order if search((1 << len(history)) - 1, start or {}) else None


def _with(cells: Cells, key: str, value: int | None) -> Cells:
    after = {name: number for name, number in cells.items() if name != key}
    if value is not None:
        after[key] = value
    return after

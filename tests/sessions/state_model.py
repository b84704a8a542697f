"""A model of conversations in plain dicts: what a call makes of a state, and what others meanwhile made of it.

It knows neither manifests nor blobs, and nothing of `core.merge` or of how a State keeps book.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final, TypeAlias

from hypothesis import strategies as st

from django_mcp.models.session import TOUCH_INTERVAL
from django_mcp.sessions.stores.state import ConversationRecord
from tests.core.values import same, values

HISTORY: Final = 4
TRIM_EVERY: Final = 3
DAY: Final = timedelta(days=1)
IDLE, OLDEST, TOKEN_LIFE = 7 * DAY, 30 * DAY, 7 * DAY

Values: TypeAlias = dict[str, Any]

# What a handler does

UPDATES: Final[dict[str, Callable[[Any], Any]]] = {
    "increment": lambda value: value + 1 if type(value) is int else 1,
    "extend": lambda value: [*value, "more"] if type(value) is list else ["first"],
    "enlarge": lambda value: "x" * 3_000 if type(value) is not str else value + "y",
    "leave": lambda value: value,
}
KEYS: Final = ("a", "b", "ключ", '"\\\t\n')
ROWS: Final = tuple(f"row {number}" for number in range(30))

keys = st.sampled_from(["a", "a", *KEYS])
# Few small ones, so that two calls often mean the same; everything that can be kept; and what stands in a blob.
given_values = (
    st.integers(0, 2)
    | st.sampled_from([[1], {"in": [2]}, "x" * 100, b"y" * 5_000, ["z" * 70]])
    | values.filter(lambda value: len(repr(value)) < 4_000)
)
operations = st.one_of(
    st.tuples(st.just("assign"), keys, given_values),
    st.tuples(st.just("delete"), keys | st.sampled_from(ROWS[:3]), st.none()),
    st.tuples(st.just("update"), keys, st.sampled_from(sorted(UPDATES))),
    st.tuples(st.just("change in place"), keys, st.integers(0, 2)),
    st.tuples(st.just("fill"), st.none(), st.integers(0, 2)),
    st.tuples(st.just("read"), keys, st.none()),
)
Operation: TypeAlias = tuple[str, Any, Any]


def operate(state: Any, operation: Operation) -> None:
    """Do to a State, or to the model's working copy, what a handler would."""
    verb, key, value = operation
    value = copy.deepcopy(value)
    if verb == "assign":
        state[key] = value
    elif verb == "delete":
        with suppress(KeyError):
            del state[key]
    elif verb == "update":
        state.update(key, UPDATES[value], None)
    elif verb == "change in place":
        there = state.get(key)
        if isinstance(there, list):
            there.append(value)
        elif isinstance(there, dict):
            there["in place"] = value
    elif verb == "fill":
        for row in ROWS:
            state[row] = f"{row} {value} of enough for a page"


class Absent:
    """Stands for the value of a key that is not there."""


ABSENT: Final = Absent()


@dataclass
class Working(dict[str, Any]):
    """The model of a working copy: the values, and how each key that was changed came to its own."""

    before: Values
    assigned: set[str] = field(default_factory=set)
    updates: dict[str, list[Callable[[Any], Any]]] = field(default_factory=dict)
    left: Values = field(default_factory=dict)

    def __post_init__(self) -> None:
        dict.update(self, copy.deepcopy(self.before))

    def __setitem__(self, key: str, value: Any) -> None:
        super().__setitem__(key, value)
        self._assign(key)

    def __delitem__(self, key: str) -> None:
        super().__delitem__(key)
        self._assign(key)

    def _assign(self, key: str) -> None:
        self.assigned.add(key)
        self.updates.pop(key, None)

    def update(self, key: str, change: Callable[[Any], Any], default: Any) -> None:  # type: ignore[override]
        if not same(self.get(key, ABSENT), self.left.get(key, self.before.get(key, ABSENT))):
            self._assign(key)
        value = change(copy.deepcopy(self.get(key, default)))
        super().__setitem__(key, value)
        self.updates.setdefault(key, []).append(change)
        self.left[key] = copy.deepcopy(value)

    def changes(self) -> dict[str, tuple[Any, list[Callable[[Any], Any]]]]:
        """Return the end of each key that changed, and the functions that lead to it if those alone do."""
        found = {}
        for key in self.before.keys() | self.keys():
            value = self.get(key, ABSENT)
            is_update = key in self.updates and key not in self.assigned and same(value, self.left[key])
            if is_update or not same(value, self.before.get(key, ABSENT)):
                found[key] = (value, self.updates[key] if is_update else [])
        return found

    def applied(self, head: Values | None) -> Values | tuple[str, ...]:
        """Return what the state becomes, or the keys of the conflict. `head` is None where nobody else changed it."""
        state, conflicts = dict(self.before if head is None else head), []
        for key, (end, updates) in self.changes().items():
            theirs = state.get(key, ABSENT)
            if same(theirs, self.before.get(key, ABSENT)):
                pass
            elif updates:
                end = None if theirs is ABSENT else theirs
                for update in updates:
                    end = update(copy.deepcopy(end))
            else:
                conflicts.append(key)
            if end is ABSENT:
                state.pop(key, None)
            else:
                state[key] = end
        return tuple(sorted(conflicts)) or copy.deepcopy(state)


@dataclass
class Modelled:
    """A conversation of the model. `states` has every generation ever; one that is None never kept anything."""

    record: ConversationRecord
    created: datetime
    used: datetime
    states: list[Values | None] = field(default_factory=lambda: [None])
    cut: int = 0
    revoked_up_to: int = -1
    revoked: set[str] = field(default_factory=set)
    is_over: bool = False
    trim_every: int = TRIM_EVERY

    @property
    def head(self) -> int:
        return len(self.states) - 1

    @property
    def kept(self) -> range:
        return range(max(0, self.head - HISTORY + 1), self.head + 1)

    def is_due(self, now: datetime) -> bool:
        return now - self.used >= IDLE or now - self.created >= OLDEST

    def push(self, state: Values | None, now: datetime) -> None:
        self.states.append(state)
        self.used = now
        if self.head % self.trim_every == 0:
            self.cut = max(self.cut, self.head - HISTORY)

    def find(self, now: datetime) -> bool:
        """Say whether a caller finds it now, and record the use."""
        if self.is_over or self.is_due(now):
            self.is_over = True
            return False
        if now - self.used >= TOUCH_INTERVAL:
            self.used = now
        return True

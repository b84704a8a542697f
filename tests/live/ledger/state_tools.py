"""Tools that keep state, and tell of the process they run in."""

import os
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from django_mcp import State, UserState, tool

TYPES: dict[str, Any] = {
    "datetime": datetime(2026, 2, 3, 4, 5, 6, 789, tzinfo=UTC),
    "naive": datetime(2026, 2, 3, 4, 5, 6),  # noqa: DTZ001 - kept as it is
    "in a zone": datetime(2026, 10, 25, 2, 30, tzinfo=ZoneInfo("Europe/Zurich"), fold=1),
    "at an offset": datetime(2026, 2, 3, tzinfo=timezone(timedelta(hours=-3, minutes=-30))),
    "date": date(1, 1, 1),
    "time": time(23, 59, 59, 999_999),
    "timedelta": timedelta(days=-3, microseconds=1),
    "decimal": Decimal("-1.50E+10"),
    "uuid": UUID(int=2**128 - 1),
    "bytes": bytes(range(256)) * 20,
    "nested": {"": {}, "$": {"v": True}, "list": [1, [2.5, {"deep": None}]]},
    "large int": 2**200,
    "float": 0.1 + 0.2,
    "empty": "",
    "long": "é" * 300_000,
    "nul": "a\x00b",
    "lone surrogate": "\ud800",
    "a pair apart": "\ud83d\ude00",
    "emoji": "\U0001f600",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    total: int
    process: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Value:
    value: Any
    process: int


@tool
def increment(state: State, by: int = 1) -> Counted:
    """Count on, whoever else counts."""
    total = state.update("total", lambda total: total + by, default=0)
    return Counted(total=total, process=os.getpid())


@tool
async def increment_async(state: State, by: int = 1) -> Counted:
    """Count on, from the event loop."""
    total = await state.aupdate("total", lambda total: total + by, default=0)
    return Counted(total=total, process=os.getpid())


@tool
def assign(state: State, key: str, value: int) -> Value:
    """Give a key a value, and return the one before."""
    before = state.get(key)
    state[key] = value
    return Value(value=before, process=os.getpid())


@tool(read_only=True)
def recall(state: State, key: str) -> Value:
    """Return the value of a key."""
    return Value(value=state.get(key), process=os.getpid())


@tool
def keep_document(state: State, size: int) -> int:
    """Keep a document of so many characters."""
    state["document"] = "d" * size
    return size


@tool
def keep_entries(state: State, number: int, size: int) -> int:
    """Keep so many entries of so many characters each."""
    state.update({f"entry {one}": "e" * size for one in range(number)})
    return number


@tool(read_only=True)
def measure_document(state: State) -> int:
    """Return the length of the document."""
    return len(state["document"])


@tool
def keep_types(state: State) -> int:
    """Keep a value of every type."""
    state.update(TYPES)
    return len(state)


@tool(read_only=True)
def differing_types(state: State) -> list[str]:
    """Name what did not come back with equal value and type."""
    return [
        key
        for key, value in TYPES.items()
        if state.get(key) != value or type(state.get(key)) is not type(value) or repr(state.get(key)) != repr(value)
    ]


@tool
def prefer(user: UserState, seat: str) -> str:
    """Keep what the user prefers."""
    user["seat"] = seat
    return seat


@tool(read_only=True)
async def preferred(user: UserState) -> Value:
    """Return what the user prefers."""
    return Value(value=await user.aget("seat"), process=os.getpid())

"""Calls on a state as tests make them: a base, a working copy, a commit; no server around them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from django.db import connections

from django_mcp.core.draft import Bounds
from django_mcp.core.manifest import ManifestReader
from django_mcp.core.principal import Principal
from django_mcp.core.value import from_bytes
from django_mcp.registry.state import State
from django_mcp.sessions.commit import Base, commit, read_base
from django_mcp.sessions.scope import Scope
from django_mcp.sessions.stores.database_state import DatabaseStateStore
from django_mcp.sessions.stores.state import ConversationRecord, Head, StateStore

T = TypeVar("T")

ALICE: Final = Scope(server="s", tenant="", principal=Principal(kind="user", id="1"))
BOB: Final = Scope(server="s", tenant="", principal=Principal(kind="user", id="2"))
BOUNDS: Final = Bounds(max_bytes=16_777_216, max_keys=1_000, inline_bytes=64)


def make(alias: str = "default") -> DatabaseStateStore:
    return DatabaseStateStore("default", {"OPTIONS": {"USING": alias}})


@dataclass(frozen=True, kw_only=True)
class Ground:
    """Where the working copy of a call reads."""

    base: Base
    bounds: Bounds = BOUNDS

    def read(self) -> ManifestReader:
        return self.base.reader

    async def run(self, function: Callable[..., T], /, *args: Any) -> T:
        return function(*args)


class Call:
    """One call on what `head` is: change `state`, then commit."""

    def __init__(self, store: StateStore, head: Head) -> None:
        self._store = store
        self.base = read_base(store, head)
        self.state = State(Ground(base=self.base))

    def commit(self, check: Callable[[ConversationRecord], None] | None = None) -> Head:
        return commit(self._store, self.base, self.state.draft(), bounds=BOUNDS, check=check)


def values_of(store: StateStore, head: Head) -> dict[str, Any]:
    """Return the whole state of a generation, read from the store."""
    reader = read_base(store, head).reader
    return {key: from_bytes(reader.body(entry)) for key, entry in reader.entries().items()}


class Crash(BaseException):
    """The process dies."""


@contextmanager
def crash_at(write: int, using: str = "default") -> Iterator[None]:
    """Die in place of the write statement of that number, counted from 0."""
    left = write

    def execute_or_die(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        nonlocal left
        if sql.startswith(("INSERT", "UPDATE", "DELETE")):
            if not left:
                raise Crash
            left -= 1
        return execute(sql, params, many, context)

    with connections[using].execute_wrapper(execute_or_die):
        yield

"""A state as a handler sees it: a dict that is still there at the next call.

One `State` belongs to one call. It reads through a `Source`, keeps what the handler touched, and says at the end what
changed (`draft()`); who commits that, and how, it does not know.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass, field
from functools import partial, reduce
from typing import Any, Final, Protocol, TypeVar, overload

from django_mcp.core.draft import ABSENT, Bounds, Draft, Update, place
from django_mcp.core.entry import DELETED, Change, Entry, Inline
from django_mcp.core.manifest import ManifestReader
from django_mcp.core.value import StateBoundExceeded, check_key, from_bytes, normalise
from django_mcp.exceptions import StateUnavailable

T = TypeVar("T")
D = TypeVar("D")

_CHANGEABLE: Final = (list, dict)


class Source(Protocol):
    """Where a state is read from."""

    @property
    def bounds(self) -> Bounds: ...
    def read(self) -> ManifestReader:
        """Return the manifest. This may block, and so may what fetches its pages and large values."""
        ...

    async def run(self, function: Callable[..., T], /, *args: Any) -> T:
        """Run a function where it may block."""
        ...


@dataclass(slots=True)
class _Item:
    """One key that was touched: where it stood, what it is now, and how it came to that.

    `left` is where it stood when somebody last looked; a value that was changed in place since has left it.
    """

    before: Entry | None
    value: Any
    left: Entry | None = None
    is_assigned: bool = False
    updates: list[Update] = field(default_factory=list)

    def assign(self, value: Any) -> None:
        self.value = value
        self.is_assigned = True
        self.updates.clear()

    def settle(self, value: Any, entry: Entry, update: Update) -> None:
        self.value = value
        self.left = entry
        self.updates.append(update)


class State(MutableMapping[str, Any]):
    """What a conversation keeps: JSON's types, datetime, date, time, timedelta, Decimal, UUID and bytes, nested.

    An assigned value is normalised at once: what is read back is what the next call will read. A list or mapping that
    was read may be changed in place. Everything is committed once, when the handler has returned normally.

    A large value is read when it is touched. In an async handler that takes `await state.aget(key)`; plain access to
    a value that was not read yet raises and says so.

    Annotate a parameter with this class to receive the conversation's state; the tool is stateful then.
    """

    __slots__ = ("_added", "_items", "_reader", "_source", "is_touched")

    def __init__(self, source: Source) -> None:
        self._source = source
        self._reader: ManifestReader | None = None
        self._items: dict[str, _Item] = {}
        self._added = 0
        self.is_touched = False

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {'not read yet' if self._reader is None else f'{self._length()} keys'}>"

    # A mapping

    def __getitem__(self, key: str) -> Any:
        value = self._item(key).value
        if value is ABSENT:
            raise KeyError(key)
        return value

    def __setitem__(self, key: str, value: Any) -> None:
        item = self._known(key)
        normal = self._normal(key, value)
        self._make_room(item)
        item.assign(normal)

    def __delitem__(self, key: str) -> None:
        if not self._remove(key):
            raise KeyError(key)

    def __contains__(self, key: object) -> bool:
        if not isinstance(key, str):
            return False
        item = self._items.get(key)
        if item is not None and item.value is not _UNREAD:
            return item.value is not ABSENT
        return self._entry(key) is not None

    def __iter__(self) -> Iterator[str]:
        return iter(self._keys())

    def __len__(self) -> int:
        self._open()
        return self._length()

    def setdefault(self, key: str, default: Any = None) -> Any:
        """Return the value of `key`, which is `default` from now on if there is none."""
        if key not in self:
            self[key] = default
        return self[key]

    def clear(self) -> None:
        for key in self._keys():
            self._remove(key)

    def popitem(self) -> tuple[str, Any]:
        """Remove a key and return it with its value, or raise KeyError."""
        for key in reversed(self._keys()):
            return key, self.pop(key)
        raise KeyError("the state is empty")

    @overload  # type: ignore[override]
    def update(self, key: str, change: Callable[[Any], Any], /, default: Any = None) -> Any: ...
    @overload
    def update(self, other: Mapping[str, Any] | Iterable[tuple[str, Any]] = (), /, **values: Any) -> None: ...
    def update(self, /, *args: Any, **values: Any) -> Any:
        """Set `key` to `change(present value)`, and return that; or take over another mapping, as a dict does.

        Where another call changes the key meanwhile, `change` runs again on the newer value, so no update is lost:
        it must follow from its argument alone and have no effects, and what is returned here may not be the last word.
        It is given a copy.

        Args:
            default: what `change` is given when there is no such key.
        """
        if len(args) < 2 or not callable(args[1]):
            MutableMapping.update(self, *args, **values)
            return None
        return self._update(*args, **values)

    # Async twins

    async def aload(self) -> None:
        """Read what plain access needs, all but large values."""
        await self._source.run(self.load)

    @overload
    async def aget(self, key: str) -> Any: ...
    @overload
    async def aget(self, key: str, default: D) -> Any | D: ...
    async def aget(self, key: str, default: Any = None) -> Any:
        """Return the value of `key`, or `default`, whatever its size."""
        await self._load(key)
        return self.get(key, default)

    async def aupdate(self, key: str, change: Callable[[Any], Any], /, default: Any = None) -> Any:
        """Set `key` to `change(present value)` whatever its size; see `update`."""
        await self._load(key)
        return self._update(key, change, default)

    async def akeys(self) -> list[str]:
        """Return all keys, sorted, of a state of any size."""
        self.is_touched = True
        return self._with_changes(await self._source.run(self._keys_as_read))

    # For whoever serves the call

    def load(self) -> None:
        """Read what plain access needs, without counting as a touch. May block."""
        if self._reader is None:
            self._open_here()

    def draft(self) -> Draft:
        """Return what changed.

        Raises:
            StateValueError: a value was changed in place to something that cannot be kept.
        """
        bounds, bodies = self._source.bounds, dict[str, bytes]()
        changes: dict[str, Entry | Change] = {}
        updates: dict[str, Update] = {}
        for key, item in self._items.items():
            if item.value is _UNREAD:
                continue
            is_read_only = not (item.is_assigned or item.updates)
            if is_read_only and not isinstance(item.value, _CHANGEABLE):
                continue
            if item.value is ABSENT:
                if item.before is not None:
                    changes[key] = DELETED
                continue
            kept: dict[str, bytes] = {}
            entry = bounds.pack(key, item.value, kept)
            if item.updates and not item.is_assigned and entry == item.left:
                updates[key] = partial(_reapply, tuple(item.updates))
            elif entry == item.before:
                continue
            changes[key] = entry
            bodies |= kept
        return Draft(changes=changes, bodies=bodies, updates=updates)

    @property
    def is_changed(self) -> bool:
        """Whether there is anything to commit."""
        return bool(self._items) and bool(self.draft())

    def forget(self) -> None:
        """Forget what was read and what was changed, so that the next touch reads again."""
        self._reader = None
        self._items.clear()
        self._added = 0

    # Inside

    def _update(self, key: str, change: Callable[[Any], Any], default: Any = None) -> Any:
        update = partial(_changed, change, self._normal(key, default), self._source.bounds.max_depth)
        item = self._item(key)
        if isinstance(item.value, _CHANGEABLE) and self._source.bounds.pack(key, item.value, {}) != item.left:
            # What was changed in place is an assignment: it does not follow from a newer value.
            item.is_assigned = True
        value = self._normal(key, update(item.value))
        self._make_room(item)
        item.settle(value, self._source.bounds.pack(key, value, {}), update)
        return value

    def _remove(self, key: str) -> bool:
        """Remove a key, unread; say whether it was there."""
        item = self._known(key)
        if item.value is ABSENT:
            return False
        self._added -= 1
        item.assign(ABSENT)
        return True

    def _make_room(self, item: _Item) -> None:
        """Count a key that is about to be added."""
        if item.value is not ABSENT:
            return
        max_keys = self._source.bounds.max_keys
        if self._length() >= max_keys:
            raise StateBoundExceeded("state", "keys", max_keys)
        self._added += 1

    def _normal(self, key: str, value: Any) -> Any:
        bounds = self._source.bounds
        return normalise(value, path=place(key), max_depth=bounds.max_depth, max_bytes=bounds.max_bytes)

    def _known(self, key: str) -> _Item:
        """Return the item of a key without reading its value, to be given another one."""
        item = self._items.get(key)
        if item is None:
            entry = self._entry(check_key(key))
            item = self._items[key] = _Item(entry, ABSENT if entry is None else _UNREAD, left=entry)
        return item

    def _item(self, key: str) -> _Item:
        """Return the item of a key with its value."""
        item = self._known(key)
        if item.value is _UNREAD and item.before is not None:
            if not isinstance(item.before, Inline) and _is_on_loop():
                raise StateUnavailable("a large value is read by `await state.aget(key)` in an async handler")
            item.value = from_bytes(self._open().body(item.before))
        return item

    def _entry(self, key: str) -> Entry | None:
        reader = self._open()
        if _is_on_loop() and reader.wanted([key]):
            raise StateUnavailable("a large state is read by `await state.aget(key)` in an async handler")
        return reader.entry(key)

    def _open(self) -> ManifestReader:
        self.is_touched = True
        if self._reader is None:
            if _is_on_loop():
                raise StateUnavailable(
                    "the state was not read yet: declare `@tool(stateful=True)` or a parameter `State`, or call "
                    "`await state.aload()` first"
                )
            return self._open_here()
        return self._reader

    def _open_here(self) -> ManifestReader:
        self._reader = self._source.read()
        return self._reader

    async def _load(self, key: str) -> None:
        """Read everything that plain access to `key` needs; what is assigned meanwhile stays as it is."""
        self.is_touched = True
        item = self._items.get(key)
        if item is not None and item.value is not _UNREAD:
            return
        entry, value = await self._source.run(self._as_read, check_key(key))
        item = self._items.get(key)
        if item is None:
            item = self._items[key] = _Item(entry, _UNREAD, left=entry)
        if item.value is _UNREAD:
            item.value = value

    def _as_read(self, key: str) -> tuple[Entry | None, Any]:
        reader = self._open()
        entry = reader.entry(key)
        return entry, ABSENT if entry is None else from_bytes(reader.body(entry))

    def _keys_as_read(self) -> list[str]:
        return self._open().keys()

    def _length(self) -> int:
        return self._added + (len(self._reader) if self._reader is not None else 0)

    def _keys(self) -> list[str]:
        reader = self._open()
        if _is_on_loop() and reader.wanted():
            raise StateUnavailable("the keys of a large state are read by `await state.akeys()` in an async handler")
        return self._with_changes(reader.keys())

    def _with_changes(self, read: Iterable[str]) -> list[str]:
        keys = set(read)
        for key, item in self._items.items():
            if item.value is ABSENT:
                keys.discard(key)
            else:
                keys.add(key)
        return sorted(keys)


class UserState(State):
    """What an authenticated user keeps across all conversations with a server; see `State`.

    Annotate a parameter with this class to receive it.
    """

    __slots__ = ()


class _Unread:
    """Stands for a value that was not read."""


_UNREAD: Final = _Unread()


def _changed(change: Callable[[Any], Any], default: Any, max_depth: int, value: Any) -> Any:
    present = default if value is ABSENT else value
    return change(normalise(present, max_depth=max_depth))


def _reapply(updates: tuple[Update, ...], value: Any) -> Any:
    return reduce(lambda present, update: update(present), updates, value)


def _is_on_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True

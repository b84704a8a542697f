"""The commit: what one call changed becomes the next generation, whoever else commits meanwhile.

The head moves by compare-and-set in the store. Who comes second merges with what the first made of it: keys that only
one side changed are merged, update functions run again on the newer value, anything else is a conflict that names its
keys. Nothing is overwritten that the call has not seen.
"""

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

from django.db import connections

from django_mcp.core.draft import ABSENT, Bounds, Draft
from django_mcp.core.entry import Change, Entry, Inline
from django_mcp.core.manifest import ManifestReader, Packed, edit
from django_mcp.core.merge import Conflict, merge
from django_mcp.core.value import from_bytes
from django_mcp.exceptions import HeadMoved, StateConflict, StateNotSaved
from django_mcp.sessions.stores.state import CallNote, ConversationRecord, Head, StateStore

COMMIT_SECONDS: Final = 30.0
"""How long a commit goes on trying while others keep coming first."""
PAUSE_SECONDS: Final = 0.004

_BUSY: Final = "too many other calls change the same conversation at once. Call again later."
_LANES: Final = tuple(threading.RLock() for _ in range(512))
"""The calls of this process commit to one conversation one after the other, and race with other processes alone.

A help that spares the store, never the truth.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """A conversation as a call read it: its head, and the manifest of that."""

    head: Head
    reader: ManifestReader


def read_base(store: StateStore, head: Head) -> Base:
    """Return what a call reads from; pages and large values are fetched when they are needed."""
    return Base(head=head, reader=ManifestReader(head.manifest, partial(store.blob, head.conversation)))


def empty_base(head: Head) -> Base:
    """Return generation 0 of a conversation that was just begun, where the caller saw an empty state."""
    return Base(head=replace(head, generation=0, snapshot="", manifest=b""), reader=ManifestReader(b""))


def commit(
    store: StateStore,
    base: Base,
    draft: Draft,
    *,
    bounds: Bounds,
    call: CallNote | None = None,
    check: Callable[[ConversationRecord], None] | None = None,
) -> Head:
    """Commit `draft`, made on `base`, and return the new head; the present one where nothing is left to change.

    Args:
        check: raises what forbids the commit, for the record as it is now; asked again before each further try.

    Raises:
        StateConflict: another call changed the same keys.
        StateNotSaved: others kept coming first.
        StateBoundExceeded: the whole state would be over a bound.
        ConversationNotFound: it has ended meanwhile.
        StoreUnavailable: nothing was kept.
    """
    give_up_at = time.monotonic() + COMMIT_SECONDS
    target = base
    with _lane(store, base.head.conversation.id):
        while True:
            try:
                return _attempt(store, base, target, draft, bounds, call)
            except HeadMoved as moved:
                head = moved.head
            if time.monotonic() >= give_up_at:
                raise StateNotSaved(_BUSY)
            if check is not None:
                check(head.conversation)
            if target is not base:
                time.sleep(random.uniform(0, PAUSE_SECONDS))  # noqa: S311 - only jitter
            target = read_base(store, head)


@contextmanager
def _lane(store: StateStore, conversation: str) -> Iterator[None]:
    """Wait for this process's turn. Whoever is in a transaction has locks already, and waits for no other."""
    if store.supports_transactions and connections[store.write_alias].in_atomic_block:
        yield
        return
    lane = _LANES[hash(conversation) % len(_LANES)]
    if not lane.acquire(timeout=COMMIT_SECONDS):
        raise StateNotSaved(_BUSY)
    try:
        yield
    finally:
        lane.release()


def _attempt(store: StateStore, base: Base, head: Base, draft: Draft, bounds: Bounds, call: CallNote | None) -> Head:
    """Put the changes on `head` by one compare-and-set. Raises HeadMoved where that is not the head any more."""
    changes, bodies = dict(draft.changes), dict(draft.bodies)
    if head is not base:
        merged = merge(base.reader, head.reader, draft.changes, updates=draft.updates)
        if isinstance(merged, Conflict):
            raise StateConflict(merged.keys)
        changes = merged.changes
        for key in merged.reapply:
            value = draft.updates[key](_value(head.reader.entry(key), head.reader))
            changes[key] = bounds.pack(key, value, bodies)
    changes = {key: change for key, change in changes.items() if _differs(head.reader.entry(key), change)}
    if not changes:
        return head.head
    packed: Packed = edit(head.reader, changes)
    bounds.check(size=packed.size, keys=packed.keys)
    needed = {change.digest for change in changes.values() if not isinstance(change, Inline | Change)}
    return store.commit(
        head.head.conversation,
        base_generation=head.head.generation,
        manifest=packed.root,
        snapshot=packed.address,
        blobs=packed.blobs | {digest: bodies[digest] for digest in needed},
        call=call,
    )


def _differs(present: Entry | None, change: Entry | Change) -> bool:
    return present != (None if isinstance(change, Change) else change)


def _value(entry: Entry | None, reader: ManifestReader) -> Any:
    return ABSENT if entry is None else from_bytes(reader.body(entry))

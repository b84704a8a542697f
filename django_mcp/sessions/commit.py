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

from django_mcp.core.draft import ABSENT, Bounds, Draft, place
from django_mcp.core.entry import Change, Entry, Inline
from django_mcp.core.manifest import ManifestReader, Packed, edit
from django_mcp.core.merge import Conflict, merge
from django_mcp.core.value import from_bytes
from django_mcp.exceptions import (
    CommitUnknown,
    HeadMoved,
    StateConflict,
    StateNotSaved,
    StoreUnavailable,
    ToolError,
)
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
        StoreUnavailable: nothing was kept, or (CommitUnknown) nobody knows.
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
    if _is_in_transaction(store):
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
            changes[key] = bounds.pack(key, _updated(key, draft, head.reader), bodies)
    changes = {key: change for key, change in changes.items() if _differs(head.reader.entry(key), change)}
    if not changes:
        return head.head
    packed: Packed = edit(head.reader, changes)
    bounds.check(size=packed.size, keys=packed.keys)
    needed = {change.digest for change in changes.values() if not isinstance(change, Inline | Change)}
    conversation, number = head.head.conversation, head.head.generation
    try:
        return store.commit(
            conversation,
            base_generation=number,
            manifest=packed.root,
            snapshot=packed.address,
            blobs=packed.blobs | {digest: bodies[digest] for digest in needed},
            call=call,
        )
    except StoreUnavailable as error:
        if call is None or not call.call or _is_in_transaction(store):
            raise
        if not _went_through(store, conversation, number + 1, call.call, error):
            raise
    return Head(conversation=conversation, generation=number + 1, snapshot=packed.address, manifest=packed.root)


def _went_through(
    store: StateStore, conversation: ConversationRecord, generation: int, call: str, error: StoreUnavailable
) -> bool:
    """Say whether a commit whose answer was lost is there. Raises CommitUnknown if that cannot be asked either."""
    try:
        kept = store.history(conversation)
    except StoreUnavailable:
        raise CommitUnknown from error
    return any(past.number == generation and past.call is not None and past.call.call == call for past in kept)


def _updated(key: str, draft: Draft, reader: ManifestReader) -> Any:
    """Return what the call's updates make of the present value of a key."""
    value = _value(reader.entry(key), reader)
    try:
        return draft.updates[key](value)
    except Exception as error:
        problem = str(error) if isinstance(error, ToolError) else "its update failed on what another call made of it."
        raise StateNotSaved(f"{place(key)}: {problem}") from error


def _is_in_transaction(store: StateStore) -> bool:
    return store.supports_transactions and connections[store.write_alias].in_atomic_block


def _differs(present: Entry | None, change: Entry | Change) -> bool:
    return present != (None if isinstance(change, Change) else change)


def _value(entry: Entry | None, reader: ManifestReader) -> Any:
    return ABSENT if entry is None else from_bytes(reader.body(entry))

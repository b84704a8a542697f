"""The commit: what one call changed becomes the next generation, whoever else commits meanwhile.

The head moves by compare-and-set in the store. Who comes second merges with what the first made of it: keys that only
one side changed are merged, update functions run again on the newer value, anything else is a conflict that names its
keys. Nothing is overwritten that the call has not seen.
"""

import random
import threading
import time
from collections.abc import Callable
from contextlib import nullcontext
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
FIRST_PAUSE_SECONDS: Final = 0.002
LAST_PAUSE_SECONDS: Final = 0.1

_LANES: Final = tuple(threading.Lock() for _ in range(1_024))
"""Once one call of this process has lost a race for a conversation, all go on one after the other, newcomers too:
otherwise those overtake whoever merges, again and again. A help, never the truth.
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
    lane, head = _lane(store, base.head.conversation.id), base
    if lane is None or not lane.locked():
        try:
            return _attempt(store, base, base, draft, bounds, call)
        except HeadMoved as moved:
            head = read_base(store, moved.head)
    pause = 0.0
    with lane or nullcontext():
        while time.monotonic() < give_up_at:
            if check is not None and head is not base:
                check(head.head.conversation)
            try:
                return _attempt(store, base, head, draft, bounds, call)
            except HeadMoved as moved:
                head = read_base(store, moved.head)
            # The first time it moved while this call waited its turn, and nobody is in the way now.
            time.sleep(random.uniform(0.5, 1.5) * pause)  # noqa: S311 - only jitter
            pause = min(max(2 * pause, FIRST_PAUSE_SECONDS), LAST_PAUSE_SECONDS)
    raise StateNotSaved("too many other calls change the same conversation at once. Call again later.")


def _lane(store: StateStore, conversation: str) -> "threading.Lock | None":
    """Return the lock to go on under. Whoever is in a transaction has locks already, and waits for no other."""
    if store.supports_transactions and connections[store.write_alias].in_atomic_block:
        return None
    return _LANES[hash(conversation) % len(_LANES)]


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

"""The changes that streams wait for: read from the store, by one poller per event loop and server.

The store has the truth in order; a wake only says that reading is worth while now. Without subscribers nothing polls.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from dataclasses import dataclass, field
from typing import Final
from weakref import WeakKeyDictionary

from django_mcp.conf import mcp_settings
from django_mcp.server.background import in_background
from django_mcp.server.threads import Threads
from django_mcp.server.wake import wake_bus
from django_mcp.sessions.stores import store
from django_mcp.sessions.stores.base import ChangeKind

logger = logging.getLogger("django_mcp.changes")

Change = tuple[ChangeKind, str]
MAX_BACKLOG: Final = 1_000
_PAUSE_SECONDS: Final = 1.0


@dataclass(eq=False)
class Subscription:
    """The changes that one stream has not sent yet. `lost` says that it fell behind by more than is kept."""

    pending: deque[Change] = field(default_factory=deque)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    lost: bool = False

    def put(self, change: Change) -> None:
        if len(self.pending) >= MAX_BACKLOG:
            self.lost = True
        elif change not in self.pending:
            self.pending.append(change)
        self.arrived.set()

    async def next(self) -> list[Change]:
        """Wait for changes and return all that there are, oldest first."""
        await self.arrived.wait()
        self.arrived.clear()
        changes = list(self.pending)
        self.pending.clear()
        return changes


class ChangeFeed:
    """The poller of one server's changes on one event loop."""

    def __init__(self, server: str, store_alias: str) -> None:
        self._server = server
        self._alias = store_alias
        self._subscriptions: set[Subscription] = set()
        self._cursor: int | None = None
        self._poller: asyncio.Task[None] | None = None

    async def subscribe(self, threads: Threads) -> Subscription:
        """Return a subscription that misses nothing published after this returns."""
        if self._cursor is None:
            cursor, _ = await threads.run(store(self._alias).changes_since, self._server, None)
            # Another subscriber may have been faster, and its place is then the earlier one.
            if self._cursor is None:
                self._cursor = cursor
        subscription = Subscription()
        self._subscriptions.add(subscription)
        if self._poller is None:
            self._poller = in_background(self._poll(threads), "mcp-changes")
        return subscription

    def unsubscribe(self, subscription: Subscription) -> None:
        """Forget a subscription. The last one stops the poller."""
        self._subscriptions.discard(subscription)
        if self._subscriptions:
            return
        self._cursor = None
        if self._poller is not None:
            self._poller.cancel()
            self._poller = None

    async def _poll(self, threads: Threads) -> None:
        bus = wake_bus()
        event = bus.subscribe()
        try:
            while True:
                try:
                    async with asyncio.timeout(mcp_settings.POLL_SECONDS):
                        await event.wait()
                except TimeoutError:
                    pass
                event.clear()
                try:
                    cursor, changes = await threads.run(store(self._alias).changes_since, self._server, self._cursor)
                except Exception as error:
                    logger.warning("changes of %r could not be read, trying again: %s", self._server, error)
                    await asyncio.sleep(_PAUSE_SECONDS)
                    event.set()
                    continue
                self._cursor = cursor
                for change in changes:
                    for subscription in self._subscriptions:
                        subscription.put(change)
        finally:
            bus.unsubscribe(event)


_feeds: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[tuple[str, str], ChangeFeed]] = WeakKeyDictionary()


def change_feed(server: str, store_alias: str) -> ChangeFeed:
    """Return the feed of a server's changes on the running event loop."""
    feeds = _feeds.setdefault(asyncio.get_running_loop(), {})
    return feeds.setdefault((server, store_alias), ChangeFeed(server, store_alias))

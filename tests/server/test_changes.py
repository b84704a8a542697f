"""The feed of changes: what happens to it when the store fails, a subscriber leaves, or the layer is replaced."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import pytest
from asgiref.sync import async_to_sync
from channels.layers import InMemoryChannelLayer, get_channel_layer
from pytest_django import Settings

from django_mcp.exceptions import StoreUnavailable
from django_mcp.server.changes import ChangeFeed, Subscription, change_feed
from django_mcp.server.threads import AMBIENT, HandlerThreads
from django_mcp.server.wake import wake_bus, wake_everywhere
from django_mcp.sessions.stores import store
from django_mcp.sessions.stores.base import ChangeKind
from django_mcp.sessions.stores.database import DatabaseStore

BOUND_SECONDS = 10
committed = pytest.mark.django_db(transaction=True)


class TroubledStore(DatabaseStore):
    """A store that fails, or takes its time, when it is told to."""

    failures: ClassVar[int] = 0
    cursor_failures: ClassVar[int] = 0
    before_reading: ClassVar[Callable[[], object] | None] = None

    def changes_since(self, server: str, cursor: int | None) -> tuple[int, list[tuple[ChangeKind, str]]]:
        if TroubledStore.failures:
            TroubledStore.failures -= 1
            raise StoreUnavailable
        if TroubledStore.before_reading is not None:
            TroubledStore.before_reading()
        return super().changes_since(server, cursor)

    def change_cursor(self, session: str) -> int | None:
        if TroubledStore.cursor_failures:
            TroubledStore.cursor_failures -= 1
            raise StoreUnavailable
        return super().change_cursor(session)


@pytest.fixture(autouse=True)
def troubled(settings: Settings) -> Iterator[None]:
    settings.DJANGO_MCP = {
        "STORES": {"default": {"BACKEND": "tests.server.test_changes.TroubledStore"}},
        "POLL_SECONDS": 0.05,
    }
    yield
    TroubledStore.failures, TroubledStore.cursor_failures, TroubledStore.before_reading = 0, 0, None


async def publish() -> None:
    await AMBIENT.run(store("default").publish_change, "tested", "tools", "")


async def arrives(feed: ChangeFeed, subscription: Subscription) -> bool:
    await publish()
    async with asyncio.timeout(BOUND_SECONDS):
        changes = await subscription.next()
    feed.unsubscribe(subscription)
    return changes == [("tools", "")]


@committed
async def test_a_feed_whose_first_read_failed_works_for_the_next_subscriber() -> None:
    feed = change_feed("tested", "default")
    TroubledStore.failures = 1
    with pytest.raises(StoreUnavailable):
        await feed.subscribe(AMBIENT)
    assert await arrives(feed, await feed.subscribe(AMBIENT))


@committed
async def test_a_feed_whose_first_subscriber_left_at_once_works_for_the_next() -> None:
    feed = change_feed("tested", "default")
    pool = HandlerThreads(size=1, queue=4)
    reading, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        reading.set()
        assert go_on.wait(BOUND_SECONDS)

    TroubledStore.before_reading = hold
    subscribing = asyncio.create_task(feed.subscribe(pool))
    assert await asyncio.to_thread(reading.wait, BOUND_SECONDS)
    subscribing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await subscribing
    go_on.set()
    TroubledStore.before_reading = None
    assert await arrives(feed, await feed.subscribe(AMBIENT))


@committed
async def test_a_second_subscriber_does_not_return_before_the_feed_has_its_place() -> None:
    feed = change_feed("tested", "default")
    pool = HandlerThreads(size=2, queue=4)
    first_waits, go_on = threading.Event(), threading.Event()

    def hold_the_first() -> None:
        if not first_waits.is_set():
            first_waits.set()
            assert go_on.wait(BOUND_SECONDS)

    TroubledStore.before_reading = hold_the_first
    first = asyncio.create_task(feed.subscribe(pool))
    assert await asyncio.to_thread(first_waits.wait, BOUND_SECONDS)
    second = await feed.subscribe(pool)
    await publish()
    go_on.set()
    async with asyncio.timeout(BOUND_SECONDS):
        assert await second.next() == [("tools", "")]
    feed.unsubscribe(await first)
    feed.unsubscribe(second)


class WatchedLayer(InMemoryChannelLayer):  # type: ignore[misc]
    """Says when somebody joined a group or left it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.joined, self.left = asyncio.Event(), asyncio.Event()

    async def group_add(self, group: str, channel: str) -> None:
        await super().group_add(group, channel)
        self.joined.set()

    async def group_discard(self, group: str, channel: str) -> None:
        await super().group_discard(group, channel)
        self.left.set()


async def test_a_bus_without_subscribers_leaves_its_group(settings: Settings) -> None:
    settings.CHANNEL_LAYERS = {"default": {"BACKEND": "tests.server.test_changes.WatchedLayer"}}
    layer = get_channel_layer()
    assert isinstance(layer, WatchedLayer)
    bus = wake_bus()
    event = bus.subscribe()
    async with asyncio.timeout(BOUND_SECONDS):
        await layer.joined.wait()
        bus.unsubscribe(event)
        await layer.left.wait()
    assert not layer.groups


class ImpatientLayer(InMemoryChannelLayer):  # type: ignore[misc]
    """Gives up waiting at once, as a client of Redis does after its socket's time-out."""

    async def receive(self, channel: str) -> dict[str, Any]:
        raise ConnectionError("nothing came")


async def test_who_listens_anew_looks_for_what_was_missed_meanwhile(settings: Settings) -> None:
    settings.CHANNEL_LAYERS = {"default": {"BACKEND": "tests.server.test_changes.ImpatientLayer"}}
    event = wake_bus().subscribe()
    try:
        async with asyncio.timeout(BOUND_SECONDS):
            for _ in range(3):
                await event.wait()
                event.clear()
    finally:
        wake_bus().unsubscribe(event)


def test_a_channel_layer_that_cannot_be_made_stops_no_wake(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    settings.CHANNEL_LAYERS = {"default": {"BACKEND": "no.such.Layer"}}

    async def subscribed() -> None:
        event = wake_bus().subscribe()
        await wake_everywhere()
        await asyncio.wait_for(event.wait(), BOUND_SECONDS)
        wake_bus().unsubscribe(event)

    async_to_sync(subscribed)()
    assert "the channel layer did not take a wake" in caplog.text

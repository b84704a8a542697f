"""Looking at the store for what others write: soon again after it failed, and however long a look took."""

import asyncio
from collections.abc import Collection
from typing import ClassVar

import pytest
from pytest_django import Settings

from django_mcp.exceptions import StoreUnavailable
from django_mcp.server import watch as watch_module
from django_mcp.server.log import Log
from django_mcp.server.threads import HandlerThreads
from django_mcp.server.watch import Watch
from django_mcp.sessions.stores.base import Mark
from django_mcp.sessions.stores.database import DatabaseStore

pytestmark = pytest.mark.django_db(transaction=True)

BOUND_SECONDS = 5.0
"""Half of the pause that a look of one second would be followed by."""


class GlancedStore(DatabaseStore):
    """A store that has changed at each look, or fails when it is told to."""

    failures: ClassVar[int] = 0
    looks: ClassVar[int] = 0

    def glance(
        self, *, streams: Collection[str] = (), calls: Collection[str] = (), questions: Collection[str] = ()
    ) -> dict[str, Mark]:
        GlancedStore.looks += 1
        if GlancedStore.failures:
            GlancedStore.failures -= 1
            raise StoreUnavailable
        return dict.fromkeys(streams, GlancedStore.looks)


@pytest.fixture
def watch(settings: Settings) -> Watch:
    settings.DJANGO_MCP = {
        "STORES": {"default": {"BACKEND": "tests.server.test_watch.GlancedStore"}},
        "POLL_SECONDS": 0.05,
    }
    GlancedStore.failures = GlancedStore.looks = 0
    return Watch(Log(alias="default", threads=HandlerThreads(size=1, queue=4)))


async def test_a_store_that_failed_is_looked_at_again_soon_after(watch: Watch) -> None:
    GlancedStore.failures = 1
    seen = asyncio.Event()
    with watch.on("streams", "stream", seen.set):
        async with asyncio.timeout(BOUND_SECONDS):
            await seen.wait()
    assert GlancedStore.looks == 2


async def test_no_look_is_so_long_that_the_next_one_is_put_off(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch_module, "_PAUSE_FACTOR", 1_000_000)
    seen = asyncio.Event()
    with watch.on("streams", "stream", seen.set):
        async with asyncio.timeout(BOUND_SECONDS):
            for _ in range(3):
                await seen.wait()
                seen.clear()

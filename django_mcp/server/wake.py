"""Wakes: hints that the store has something new.

A wake carries no data and may be lost: who waits polls the store as well. Within a process it is an event; between
processes it travels over the channel layer, where one task per event loop listens.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import Any, Final
from weakref import WeakKeyDictionary

from channels import DEFAULT_CHANNEL_LAYER
from channels.layers import get_channel_layer

from django_mcp.conf import mcp_settings

logger = logging.getLogger("django_mcp.wake")

_MESSAGE: Final = {"type": "mcp.wake"}
_PAUSE_SECONDS: Final = 1.0
_REJOIN_SECONDS: Final = 3_600.0
"""How often the group is joined again: a layer lets a membership lapse, after a day unless it is told otherwise."""


class WakeBus:
    """What waits for wakes on one event loop."""

    def __init__(self) -> None:
        self._waiting: set[asyncio.Event] = set()
        self._reader: asyncio.Task[None] | None = None

    def subscribe(self) -> asyncio.Event:
        """Return an event that is set by every wake. The first subscriber starts the reader of the channel layer."""
        event = asyncio.Event()
        self._waiting.add(event)
        if self._reader is None:
            self._reader = asyncio.get_running_loop().create_task(self._read(), name="mcp-wake")
        return event

    def unsubscribe(self, event: asyncio.Event) -> None:
        """Forget an event. The last one stops the reader."""
        self._waiting.discard(event)
        if not self._waiting and self._reader is not None:
            self._reader.cancel()
            self._reader = None

    def wake(self) -> None:
        """Wake everything that waits on this loop."""
        for event in self._waiting:
            event.set()

    async def _read(self) -> None:
        while True:
            try:
                layer = _layer()
                if layer is None:
                    return
                await self._read_from(layer)
            except Exception as error:
                # A restart of the layer's backend raises here; polling carries on meanwhile.
                logger.warning("the channel layer failed, polling alone: %s", error)
                await asyncio.sleep(_PAUSE_SECONDS)

    async def _read_from(self, layer: Any) -> None:
        channel = await layer.new_channel()
        try:
            while True:
                await layer.group_add(_group(), channel)
                with suppress(TimeoutError):
                    async with asyncio.timeout(_REJOIN_SECONDS):
                        while True:
                            await layer.receive(channel)
                            self.wake()
        finally:
            # A channel left behind would be sent to until the layer forgets it.
            with suppress(Exception):
                await layer.group_discard(_group(), channel)


_buses: WeakKeyDictionary[asyncio.AbstractEventLoop, WakeBus] = WeakKeyDictionary()


def wake_bus() -> WakeBus:
    """Return the bus of the running event loop."""
    loop = asyncio.get_running_loop()
    bus = _buses.get(loop)
    if bus is None:
        bus = _buses[loop] = WakeBus()
    return bus


def wake_local() -> None:
    """Wake what waits in this process, from any thread."""
    for loop, bus in list(_buses.items()):
        # A closed loop raises: nothing waits there any more.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(bus.wake)


async def wake_everywhere() -> None:
    """Wake what waits in any process that shares the channel layer. Never raises: a wake may be lost."""
    wake_local()
    try:
        layer = _layer()
        if layer is not None:
            await layer.group_send(_group(), _MESSAGE)
    except Exception as error:
        logger.warning("the channel layer did not take a wake: %s", error)


def _layer() -> Any:
    return get_channel_layer(mcp_settings.CHANNEL_LAYER or DEFAULT_CHANNEL_LAYER)


def _group() -> str:
    return f"{mcp_settings.KEY_PREFIX}.wake"

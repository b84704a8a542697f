"""Wakes: hints that the store has something new.

A wake carries no data, only who sent it, since its sender knows already; and it may be lost: who waits polls the store
as well. Within a process it is an event; between processes it travels over the channel layer, where one task per event
loop listens.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from contextlib import suppress
from typing import Any, Final
from weakref import WeakKeyDictionary

from channels import DEFAULT_CHANNEL_LAYER
from channels.layers import get_channel_layer

from django_mcp.conf import mcp_settings
from django_mcp.server.background import in_background

logger = logging.getLogger("django_mcp.wake")

_TYPE: Final = "mcp.wake"
_PAUSE_SECONDS: Final = 1.0
_REJOIN_SECONDS: Final = 3_600.0
"""How often the group is joined again: a layer lets a membership lapse, after a day unless it is told otherwise."""


class WakeBus:
    """What waits for wakes on one event loop."""

    def __init__(self) -> None:
        self._name = secrets.token_hex(8)
        self._waiting: set[asyncio.Event] = set()
        self._reader: asyncio.Task[None] | None = None
        self._sender: asyncio.Task[None] | None = None
        self._sends_again = False

    def subscribe(self) -> asyncio.Event:
        """Return an event that is set by every wake. The first subscriber starts the reader of the channel layer."""
        event = asyncio.Event()
        self._waiting.add(event)
        if self._reader is None:
            self._reader = in_background(self._read(), "mcp-wake")
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

    def wake_others(self) -> None:
        """Wake everything that waits on other loops and in other processes. What comes in plenty is sent as one."""
        _wake_loops(other_than=self)
        self._sends_again = True
        if self._sender is None:
            self._sender = in_background(self._send(), "mcp-wake-others")

    async def _send(self) -> None:
        try:
            while self._sends_again:
                self._sends_again = False
                await _send(self._name)
        finally:
            self._sender = None

    async def _read(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            try:
                layer = _layer()
                if layer is None:
                    return
                channel = await layer.new_channel()
                await layer.group_add(_group(), channel)
            except Exception as error:
                logger.warning("the channel layer failed, polling alone: %s", error)
            else:
                # What was sent before this process listened, or while the layer was away, is not sent again.
                self.wake()
                await self._listen(layer, channel)
            await asyncio.sleep(max(0.0, _PAUSE_SECONDS - (loop.time() - began)))

    async def _listen(self, layer: Any, channel: str) -> None:
        """Wake for each message, until the membership is as good as lapsed or the layer fails.

        It fails when its backend restarts, and for some clients of Redis whenever nothing came for a few seconds.
        """
        try:
            async with asyncio.timeout(_REJOIN_SECONDS):
                while True:
                    message = await layer.receive(channel)
                    if message.get("origin") != self._name:
                        self.wake()
        except Exception as error:
            logger.debug("listening to the channel layer anew: %r", error)
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
    _wake_loops()


async def wake_everywhere() -> None:
    """Wake what waits in any process that shares the channel layer. Never raises: a wake may be lost."""
    wake_local()
    await _send("")


def _wake_loops(*, other_than: WakeBus | None = None) -> None:
    for loop, bus in list(_buses.items()):
        if bus is not other_than:
            # A closed loop raises: nothing waits there any more.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(bus.wake)


async def _send(origin: str) -> None:
    try:
        layer = _layer()
        if layer is not None:
            await layer.group_send(_group(), {"type": _TYPE, "origin": origin})
    except Exception as error:
        logger.warning("the channel layer did not take a wake: %s", error)


def _layer() -> Any:
    return get_channel_layer(mcp_settings.CHANNEL_LAYER or DEFAULT_CHANNEL_LAYER)


def _group() -> str:
    return f"{mcp_settings.KEY_PREFIX}.wake"

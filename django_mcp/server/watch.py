"""Waiting for what another process writes: streams, calls, questions and sessions, looked at all together.

What waits on one event loop says what it waits for. One task looks at all of it with one look at the store: when a
wake says that there may be something, and now and then anyway. It holds no connection in between, whatever the number
of those who wait.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final, Literal
from weakref import WeakKeyDictionary

from django_mcp.conf import mcp_settings
from django_mcp.models import MCPSession
from django_mcp.models.session import SessionGlance
from django_mcp.server.background import in_background
from django_mcp.server.log import Log
from django_mcp.server.wake import wake_bus

logger = logging.getLogger("django_mcp.streams")

Kind = Literal["streams", "calls", "questions"]
Notify = Callable[[], object]

_UNKNOWN: Final = object()
_PAUSE_SECONDS: Final = 0.01
_RETRY_SECONDS: Final = 1.0
_PAUSE_FACTOR: Final = 10
"""A look is followed by a pause of so many times what it took, so that hints in plenty cost a tenth of a processor; by
none that is longer than the time between two looks without a hint."""


class Watch:
    """What is waited for on one event loop, of one store."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._waiting: dict[Kind, dict[str, set[Notify]]] = {"streams": {}, "calls": {}, "questions": {}}
        self._sessions: dict[str, set[Notify]] = {}
        self._read: dict[str, int] = {}
        self._marks: dict[str, Hashable] = {}
        self._task: asyncio.Task[None] | None = None
        self._hinted: asyncio.Event | None = None
        self._kept_alive_at = 0.0

    @contextmanager
    def on(self, kind: Kind, name: str, notify: Notify) -> Iterator[None]:
        """Call `notify` whenever something about the stream, call or question has changed, and once at the first look.

        Whoever reads the store after this was entered misses nothing.
        """
        with self._in(self._waiting[kind], name, notify):
            yield

    @contextmanager
    def on_session(self, key: str, notify: Notify, *, reads: bool = False) -> Iterator[None]:
        """Call `notify` whenever a session ended, or has another log level or other roots.

        Args:
            reads: a stream of the session is open meanwhile, which is use.
        """
        if reads:
            self._read[key] = self._read.get(key, 0) + 1
        try:
            with self._in(self._sessions, key, notify):
                yield
        finally:
            if reads:
                self._read[key] -= 1
                if not self._read[key]:
                    del self._read[key]

    def session(self, key: str) -> SessionGlance | None:
        """Return how a session that is waited for looked last; None where it has ended."""
        glance = self._marks.get(key)
        return glance if isinstance(glance, SessionGlance) else None

    def has_ended(self, key: str) -> bool:
        """Say whether a session that is waited for was found to have ended."""
        return self._marks.get(key, _UNKNOWN) is None

    def look(self) -> None:
        """Look at the store now: this process changed something there."""
        if self._hinted is not None:
            self._hinted.set()

    def touch(self, kind: Kind, name: str) -> None:
        """Say that this process changed something, so that nobody here has to look at the store to learn it."""
        for notify in tuple(self._waiting[kind].get(name, ())):
            notify()

    @contextmanager
    def _in(self, waiting: dict[str, set[Notify]], name: str, notify: Notify) -> Iterator[None]:
        waiting.setdefault(name, set()).add(notify)
        if self._task is None:
            self._task = in_background(self._look_again(), "mcp-watch")
        try:
            yield
        finally:
            waiting[name].discard(notify)
            if not waiting[name]:
                del waiting[name]
                self._marks.pop(name, None)
            if not self._sessions and not any(self._waiting.values()) and self._task is not None:
                self._task.cancel()
                self._task = None

    async def _look_again(self) -> None:
        loop = asyncio.get_running_loop()
        bus = wake_bus()
        hinted = self._hinted = bus.subscribe()
        try:
            while True:
                hinted.clear()
                began = loop.time()
                try:
                    await self._look()
                except Exception as error:
                    logger.warning("the store could not be looked at, trying again: %s", error)
                    hinted.set()
                    pause = _RETRY_SECONDS
                else:
                    # One that took long, since the store was busy or came back, is not made up for by a long silence.
                    pause = min(_PAUSE_FACTOR * (loop.time() - began), mcp_settings.POLL_SECONDS)
                await asyncio.sleep(max(_PAUSE_SECONDS, pause))
                try:
                    async with asyncio.timeout(mcp_settings.POLL_SECONDS):
                        await hinted.wait()
                except TimeoutError:
                    pass
        finally:
            bus.unsubscribe(hinted)

    async def _look(self) -> None:
        names = {kind: tuple(waiting) for kind, waiting in self._waiting.items()}
        sessions = tuple(self._sessions)
        now = asyncio.get_running_loop().time()
        if self._read and now - self._kept_alive_at >= mcp_settings.KEEPALIVE_SECONDS:
            self._kept_alive_at = now
            await self._log.threads.run(MCPSession.objects.keep_alive, tuple(self._read))
        marks = await self._log.do(self._log.store.glance, **names) if any(names.values()) else {}
        glances = await self._log.threads.run(MCPSession.objects.glance, sessions) if sessions else {}
        for kind, looked_at in names.items():
            self._compare(self._waiting[kind], looked_at, marks)
        self._compare(self._sessions, sessions, glances)

    def _compare(self, waiting: dict[str, set[Notify]], names: tuple[str, ...], marks: Mapping[str, Hashable]) -> None:
        for name in names:
            mark = marks.get(name)
            if name in waiting and self._marks.get(name, _UNKNOWN) != mark:
                self._marks[name] = mark
                for notify in tuple(waiting[name]):
                    notify()


_watches: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[Log, Watch]] = WeakKeyDictionary()


def watch_of(log: Log) -> Watch:
    """Return what watches a log on the running event loop."""
    watches = _watches.setdefault(asyncio.get_running_loop(), {})
    if log not in watches:
        watches[log] = Watch(log)
    return watches[log]

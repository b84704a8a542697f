"""The log store of one server as a request reaches it: the store, and the threads on which it is used."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import ParamSpec, TypeVar

from django_mcp.conf import mcp_settings
from django_mcp.exceptions import StoreUnavailable
from django_mcp.server.threads import Threads
from django_mcp.sessions.stores import LogStore, store

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """What reads and writes streams, calls and questions. Its threads are not those of handlers, which wait for it."""

    alias: str
    threads: Threads

    @classmethod
    def of(cls, store_alias: str, threads: Threads) -> Log:
        return cls(alias=store_alias, threads=threads.background)

    @property
    def store(self) -> LogStore:
        return store(self.alias)

    async def do(self, method: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a method of the store and return what it returns."""
        return await self.threads.run(method, *args, **kwargs)


async def outlasting(attempt: Callable[[], Awaitable[T]]) -> T:
    """Return what `attempt` returns, and make it again while the store is down."""
    while True:
        try:
            return await attempt()
        except StoreUnavailable:
            await asyncio.sleep(mcp_settings.POLL_SECONDS)

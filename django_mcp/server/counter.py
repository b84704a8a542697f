"""Calls counted against a rate, in the cache that LIMITS_CACHE names.

One number for each window, made by `add` and raised by `incr`. Where the backend counts at the server (Redis,
memcached) or under a lock (one process's memory), no call is missed. Where it reads and then writes (a table, files),
calls at the same moment may count as one: the rate is then a little more than what is written. A refused call counts
too.

A cache that fails refuses nobody: calls pass uncounted, and it is left alone for a moment, so that one that hangs
costs its time-out once in a while and not at each call.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import Any, Final

from django.core.cache import BaseCache, caches
from django.core.signals import setting_changed

from django_mcp.conf import mcp_settings
from django_mcp.core.canonical import digest
from django_mcp.core.rate import Rate
from django_mcp.setting import SETTING

logger = logging.getLogger("django_mcp.limits")

PAUSE_SECONDS: Final = 5.0
SPARE_SECONDS: Final = 60
"""A number outlives its window by so long: it does not go between two steps, nor where clocks differ a little."""


class Counter:
    """The numbers of one cache of `CACHES`. May block; usable from any thread."""

    def __init__(self, alias: str) -> None:
        self._alias = alias
        self._pause_until = 0.0
        # A thread keeps its client. `caches` would make one for each call, since each runs in a context of its own.
        self._local = threading.local()

    def take(self, rate: Rate, name: list[str]) -> int | None:
        """Count one call under `name`; return in how many seconds to come back where it is one too many."""
        if time.monotonic() < self._pause_until:
            return None
        now = time.time()
        left = rate.left(now)
        key = f"{mcp_settings.KEY_PREFIX}:rate:{digest([*name, rate.seconds, rate.window(now)])}"
        try:
            count = self._raise(key, left + SPARE_SECONDS)
        except Exception as error:
            logger.warning(
                "The cache %r fails, so calls are not counted for %d s: %s", self._alias, PAUSE_SECONDS, error
            )
            self._pause_until = time.monotonic() + PAUSE_SECONDS
            return None
        return None if count <= rate.count else left

    def _raise(self, key: str, seconds: int) -> int:
        cache = self._cache
        if type(cache).incr is BaseCache.incr:
            # It reads and then writes, with the life that is usual in this cache and not that of the window.
            count = int(cache.get(key, 0)) + 1
            cache.set(key, count, timeout=seconds)
            return count
        cache.add(key, 0, timeout=seconds)
        return int(cache.incr(key))

    @property
    def _cache(self) -> Any:
        if not hasattr(self._local, "cache"):
            self._local.cache = caches.create_connection(self._alias)
        return self._local.cache


_counters: dict[str, Counter] = {}


def counter() -> Counter:
    """Return the counter of this process for LIMITS_CACHE."""
    alias = mcp_settings.LIMITS_CACHE
    known = _counters.get(alias)
    return known if known is not None else _counters.setdefault(alias, Counter(alias))


def _forget(*, setting: str, **kwargs: object) -> None:
    if setting in {SETTING, "CACHES"}:
        _counters.clear()


setting_changed.connect(_forget, dispatch_uid="django_mcp.server.counter")

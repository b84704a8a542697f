"""Blobs in a cache of `CACHES`, any of Django's backends: bytes that are verified each time, and never the truth.

What is not there, not bytes, not what its name says, or not to be had is a miss, whatever the backend does about
errors. A cache that fails is left alone for a moment, so that one that hangs costs its time-out once in a while and
not at each call.
"""

import hashlib
import json
import logging
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from django.core.cache import BaseCache, caches

from django_mcp.conf import mcp_settings

logger = logging.getLogger("django_mcp.stores")

KEYS_AT_ONCE: Final = 100
PAUSE_SECONDS: Final = 5.0


class BlobCache:
    """The blobs that one store has in a cache.

    Args:
        store: the alias of the store, which shares nothing with another one.
        cache: the alias in `CACHES`.
        max_bytes: what is larger is not cached.
        seconds: how long the cache keeps a value.
    """

    def __init__(self, store: str, cache: str, *, max_bytes: int, seconds: float) -> None:
        self._store = store
        self._alias = cache
        self._max_bytes = max_bytes
        self._seconds = seconds
        self._pause_until = 0.0

    def get(self, family: str, digests: Iterable[str]) -> dict[str, bytes]:
        """Return what is there and is what its name says, by digest."""
        found: dict[str, bytes] = {}
        keys = {self._key(family, digest): digest for digest in digests}
        for chunk in _chunks(list(keys)):
            if self._is_away():
                break
            try:
                values = self._cache.get_many(chunk)
            except Exception as error:
                # One value that the backend cannot read fails like the backend itself: `put()` will tell.
                logger.warning("The cache %r cannot be read: %s", self._alias, error)
                continue
            for key, value in values.items():
                digest = keys.get(key, "")
                if isinstance(value, bytes) and hashlib.sha256(value).hexdigest() == digest:
                    found[digest] = value
        return found

    def put(self, family: str, bodies: Mapping[str, bytes]) -> None:
        """Keep bodies that were verified, by digest, as far as that can be done."""
        fitting = {self._key(family, digest): body for digest, body in bodies.items() if len(body) <= self._max_bytes}
        for chunk in _chunks(list(fitting)):
            if self._is_away():
                return
            try:
                self._cache.set_many({key: fitting[key] for key in chunk}, timeout=self._seconds)
            except Exception as error:
                logger.warning("The cache %r is left alone for %d s: %s", self._alias, PAUSE_SECONDS, error)
                self._pause_until = time.monotonic() + PAUSE_SECONDS

    def _key(self, family: str, digest: str) -> str:
        owner = hashlib.sha256(json.dumps([self._store, family]).encode()).hexdigest()[:32]
        return f"{mcp_settings.KEY_PREFIX}:blob:{owner}:{digest}"

    def _is_away(self) -> bool:
        return time.monotonic() < self._pause_until

    @property
    def _cache(self) -> BaseCache:
        found: BaseCache = caches[self._alias]
        return found


def _chunks(keys: Sequence[str]) -> Iterator[Sequence[str]]:
    return (keys[start : start + KEYS_AT_ONCE] for start in range(0, len(keys), KEYS_AT_ONCE))

"""Stores on a real Redis for tests: the project's default cache, or an alias that nobody else has."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.core.cache import caches
from django.test import override_settings
from redis import Redis

from django_mcp.sessions.stores.cache import CacheStore
from django_mcp.sessions.stores.cache_state import CacheStateStore
from django_mcp.sessions.stores.redis_link import RedisLink
from tests import services


@contextmanager
def cache_of(service: services.Service) -> Iterator[None]:
    """Make a Redis the default cache of the project."""
    cache = {
        "BACKEND": "django_redis.cache.RedisCache",
        "LOCATION": service.url,
        "OPTIONS": {"SOCKET_CONNECT_TIMEOUT": 3, "SOCKET_TIMEOUT": 30},
    }
    with override_settings(CACHES={"default": cache}):
        try:
            yield
        finally:
            caches.close_all()


def make_log(alias: str = "default", **options: Any) -> CacheStore:
    return CacheStore(alias, {"OPTIONS": options})


@contextmanager
def cache_on(service: services.Service) -> Iterator[str]:
    """Yield an alias of `CACHES` on a Redis."""
    alias = f"redis_{secrets.token_hex(4)}"
    entry = {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": service.url}
    with override_settings(
        CACHES={"default": {"BACKEND": "django.core.cache.backends.dummy.DummyCache"}, alias: entry}
    ):
        try:
            yield alias
        finally:
            RedisLink("redis", alias).client.close()
            del caches[alias]


def make_state(cache: str, using: str = "default", **options: Any) -> CacheStateStore:
    """Return a store of another process: it remembers nothing that others do."""
    return CacheStateStore("redis", {"OPTIONS": {"CACHE": cache, "USING": using, **options}})


def contents(client: Redis) -> dict[bytes, tuple[int, list[bytes]]]:
    """Return of each key for how many milliseconds it lives (-1: for ever) and what it holds."""
    return {key: (client.pttl(key), _values(client, key)) for key in client.scan_iter(count=1_000)}


def _values(client: Any, key: bytes) -> list[bytes]:
    match client.type(key):
        case b"string":
            return [client.get(key) or b""]
        case b"hash":
            return [value for pair in client.hgetall(key).items() for value in pair]
        case b"zset":
            return list(client.zrange(key, 0, -1))
        case b"list":
            return list(client.lrange(key, 0, -1))
        case b"stream":
            return [value for _, fields in client.xrange(key) for value in fields.values()]
    return []

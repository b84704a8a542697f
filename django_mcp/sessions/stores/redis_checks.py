"""What a deployment is told about the Redis of a store: how its alias in `CACHES` is set, and what Redis says itself.

W012 other uses of the alias that run code or hide an outage    W014 keys that Redis drops by itself
W013 replicas that the store does not read                      W015 writes that a crash of Redis takes along
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from django.conf import settings
from django.core.checks import CheckMessage, Warning  # noqa: A004 - Django's name
from redis.exceptions import RedisError

from django_mcp.exceptions import ConfigurationError
from django_mcp.sessions.stores.redis_link import RawClient, RedisLink

_PICKLE: Final = "django_redis.serializers.pickle.PickleSerializer"
_KEEPS_ALL: Final = "noeviction"


def check_redis(link: RedisLink) -> Iterator[CheckMessage]:
    """Report what the settings of the alias say, then what Redis does, if it answers."""
    yield from _settings(link)
    try:
        client = link.client
        yield from _memory(link, client)
        yield from _persistence(link, client)
    except (ConfigurationError, RedisError, OSError):
        # The store's own check tells the first; an outage is no matter of configuration.
        return


def _settings(link: RedisLink) -> Iterator[CheckMessage]:
    params: Mapping[str, Any] = settings.CACHES.get(link.cache, {})
    options: Mapping[str, Any] = params.get("OPTIONS", {})
    if options.get("IGNORE_EXCEPTIONS", getattr(settings, "DJANGO_REDIS_IGNORE_EXCEPTIONS", False)):
        yield Warning(
            f"The cache {link.cache!r}, which the store {link.alias!r} uses, ignores exceptions: while Redis is away "
            "the store answers 503 and everything else that uses the alias finds nothing.",
            hint=f"Give the store an alias of its own in CACHES, without IGNORE_EXCEPTIONS ({_option(link)}).",
            id="django_mcp.W012",
        )
    if options.get("SERIALIZER", _PICKLE) == _PICKLE:
        yield Warning(
            f"The cache {link.cache!r}, which the store {link.alias!r} uses, unpickles what it reads: whoever can "
            "write to that Redis can run code in this project. The store itself keeps JSON and bytes.",
            hint=f"Set CACHES[{link.cache!r}]['OPTIONS']['SERIALIZER'] to "
            "'django_redis.serializers.json.JSONSerializer'.",
            id="django_mcp.W012",
        )
    location = params.get("LOCATION", ())
    places = location.split(",") if isinstance(location, str) else list(location)
    if len(places) > 1 and "CLIENT_CLASS" not in options:
        yield Warning(
            f"The cache {link.cache!r}, which the store {link.alias!r} uses, has {len(places)} locations: the store "
            "reads and writes at the first alone, and follows no failover to another.",
            hint=f"Name one location, or follow failovers by Sentinel: CACHES[{link.cache!r}]['OPTIONS']"
            "['CLIENT_CLASS'] = 'django_redis.client.SentinelClient'.",
            id="django_mcp.W013",
        )


def _memory(link: RedisLink, client: RawClient) -> Iterator[CheckMessage]:
    memory: Any = client.info("memory")
    policy = str(memory.get("maxmemory_policy", _KEEPS_ALL))
    if memory.get("maxmemory") and policy != _KEEPS_ALL:
        yield Warning(
            f"The Redis of the store {link.alias!r} drops keys when its memory is full (maxmemory-policy {policy}): "
            "sessions lose their streams, and conversations end.",
            hint="Set `maxmemory-policy noeviction`; over the memory the store then answers 503.",
            id="django_mcp.W014",
        )


def _persistence(link: RedisLink, client: RawClient) -> Iterator[CheckMessage]:
    if link.loses_nothing(client):
        return
    persistence: Any = client.info("persistence")
    lost = "what was written in its last second or two" if persistence.get("aof_enabled") else "what it has not saved"
    yield Warning(
        f"The Redis of the store {link.alias!r} loses {lost} when it is killed; what may be older than somebody has "
        "seen is refused then.",
        hint="Set `appendonly yes` and `appendfsync always`, or silence this where conversations are throw-away. "
        f"Where Redis may not be asked for its settings, say so with {_option(link, 'DURABLE')}.",
        id="django_mcp.W015",
    )


def _option(link: RedisLink, name: str = "CACHE") -> str:
    return f"DJANGO_MCP['STORES'][{link.alias!r}]['OPTIONS'][{name!r}]"

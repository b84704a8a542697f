"""What `manage.py check` says about the cache that calls are counted in, where a rate is set.

E020 no such cache          W020 each process counts for itself (--deploy)
"""

from collections.abc import Iterator
from typing import Any

from django.conf import settings
from django.core.cache import InvalidCacheBackendError, caches
from django.core.cache.backends.dummy import DummyCache
from django.core.cache.backends.locmem import LocMemCache
from django.core.checks import CheckMessage, Error, Tags, Warning, register  # noqa: A004 - Django's name

from django_mcp.conf import mcp_settings, read_settings
from django_mcp.exceptions import ConfigurationError
from django_mcp.registry.definition import ToolDefinition
from django_mcp.registry.server import servers
from django_mcp.setting import SETTING


@register("django_mcp")
def check_cache(app_configs: object, **kwargs: Any) -> list[CheckMessage]:
    """Report a cache that cannot be made."""
    if not _is_used():
        return []
    try:
        caches[mcp_settings.LIMITS_CACHE]
    except (InvalidCacheBackendError, ImportError) as error:
        hint = f"Name one of CACHES in {SETTING}['LIMITS_CACHE']: {', '.join(sorted(settings.CACHES))}."
        message = f"Calls are counted in the cache {mcp_settings.LIMITS_CACHE!r}, which cannot be made: {error}"
        return [Error(message, hint=hint, id="django_mcp.E020")]
    return []


@register(Tags.compatibility, "django_mcp", deploy=True)
def check_counting(app_configs: object, **kwargs: Any) -> list[CheckMessage]:
    """Name a cache that other processes do not see."""
    if not _is_used() or check_cache(app_configs):
        return []
    cache = caches[mcp_settings.LIMITS_CACHE]
    if not isinstance(cache, LocMemCache | DummyCache):
        return []
    counts = "each process counts calls for itself" if isinstance(cache, LocMemCache) else "no call is counted"
    return [
        Warning(
            f"The cache {mcp_settings.LIMITS_CACHE!r} is a {type(cache).__name__}, so {counts}.",
            hint=f"Name a cache in Redis or memcached in {SETTING}['LIMITS_CACHE'], or silence this where one process "
            "serves all.",
            id="django_mcp.W020",
        )
    ]


def _is_used() -> bool:
    try:
        read_settings()
    except ConfigurationError:
        return False
    return mcp_settings.CALL_RATE is not None or any(tool.rate is not None for tool in _tools())


def _tools() -> Iterator[ToolDefinition[..., Any]]:
    for server in servers.values():
        yield from (one for one in server.definitions if isinstance(one, ToolDefinition))

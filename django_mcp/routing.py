"""The consumer beside Django: the URLconf says where the servers are, this sends their requests to the consumer."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from functools import cache, lru_cache
from typing import Any

from django.conf import settings
from django.core.signals import setting_changed
from django.urls import Resolver404, ResolverMatch, URLPattern, URLResolver, get_resolver, re_path

from django_mcp.consumers import MCPConsumer
from django_mcp.registry.server import DEFAULT


class MCPApplication:
    """An ASGI application: requests to an MCP server go to the consumer, everything else to `django`."""

    def __init__(self, django: Any) -> None:
        self._django = django

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            match = _match(scope["path"])
            if match is not None:
                server = match.kwargs.get("server", DEFAULT)
                await MCPConsumer(server=server, match=match)(scope, receive, send)
                return
        elif scope["type"] == "lifespan":
            await _lifespan(receive, send)
            return
        await self._django(scope, receive, send)


def mcp_application(django: Any) -> MCPApplication:
    """Return the ASGI application of a project: `application = mcp_application(get_asgi_application())`.

    Every URL at which the project includes `django_mcp.urls` is served by the consumer. What is loaded by now lives as
    long as the process, so the garbage collector is told not to walk it again.
    """
    _freeze()
    return MCPApplication(django)


def mcp_route(route: str = r"^mcp/?$", server: str = DEFAULT) -> URLPattern:
    """Return a route to the consumer, for projects that compose their own Channels `URLRouter`."""
    pattern: URLPattern = re_path(route, MCPConsumer.as_asgi(server=server))
    return pattern


@cache
def _freeze() -> None:
    """Take what is alive out of the collector's sight, once: walking all of Django costs as much as many calls."""
    gc.collect()
    gc.freeze()


async def _lifespan(receive: Any, send: Any) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return


def _match(path: str) -> ResolverMatch | None:
    script = (settings.FORCE_SCRIPT_NAME or "").rstrip("/")
    if script:
        path = path.removeprefix(script)
    prefixes = _prefixes(settings.ROOT_URLCONF)
    if not path.startswith(prefixes):
        return None
    return _resolve(settings.ROOT_URLCONF, path)


@lru_cache(maxsize=256)
def _resolve(urlconf: str, path: str) -> ResolverMatch | None:
    try:
        match = get_resolver(urlconf).resolve(path)
    except Resolver404:
        return None
    return match if getattr(match.func, "mcp_endpoint", False) else None


def served_routes(urlconf: str) -> list[tuple[str, str]]:
    """Return the fixed beginning of each route that serves an MCP server, with the server's name."""
    return list(_walk(get_resolver(urlconf), "/", {}))


@lru_cache(maxsize=8)
def _prefixes(urlconf: str) -> tuple[str, ...]:
    """Return what the path of every server begins with, so that other requests are passed on unresolved."""
    return tuple(prefix for prefix, _ in served_routes(urlconf))


def _walk(resolver: URLResolver, prefix: str, kwargs: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for pattern in resolver.url_patterns:
        if isinstance(pattern, URLResolver):
            yield from _walk(pattern, prefix + _static_part(pattern), {**kwargs, **pattern.default_kwargs})
        elif getattr(pattern.callback, "mcp_endpoint", False):
            yield prefix, {**kwargs, **pattern.default_args}.get("server", DEFAULT)


def _static_part(resolver: URLResolver) -> str:
    """Return the fixed text with which the route of an include begins."""
    route = str(resolver.pattern)
    fixed, dynamic, _ = route.partition("<")
    is_plain = fixed.replace("-", "").replace("_", "").replace("/", "").replace(".", "").isalnum()
    return fixed if is_plain and not dynamic else ""


def _forget(*, setting: str, **kwargs: object) -> None:
    if setting in {"ROOT_URLCONF", "FORCE_SCRIPT_NAME"}:
        _resolve.cache_clear()
        _prefixes.cache_clear()


setting_changed.connect(_forget, dispatch_uid="django_mcp.routing")

"""What `manage.py check --deploy` says about the channel layer that carries wakes.

W010 in memory          W011 a client that gives up while it waits
"""

import inspect
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import parse_qs, urlsplit

from channels import DEFAULT_CHANNEL_LAYER
from channels.layers import InMemoryChannelLayer, get_channel_layer
from django.conf import settings
from django.core.checks import CheckMessage, Tags, Warning, register  # noqa: A004 - Django's name

from django_mcp.conf import mcp_settings, read_settings
from django_mcp.exceptions import ConfigurationError


@register(Tags.compatibility, "django_mcp", deploy=True)
def check_layer(app_configs: object, **kwargs: Any) -> list[CheckMessage]:
    """Name a channel layer that reaches no other process, or that is interrupted again and again."""
    try:
        read_settings()
    except ConfigurationError:
        return []
    alias = mcp_settings.CHANNEL_LAYER or DEFAULT_CHANNEL_LAYER
    try:
        layer = get_channel_layer(alias)
    except Exception as error:
        return [
            Warning(
                f"The channel layer {alias!r} cannot be made: {error}.",
                hint=f"Correct CHANNEL_LAYERS[{alias!r}], or remove it: processes then find changes by polling.",
                id="django_mcp.W010",
            )
        ]
    if isinstance(layer, InMemoryChannelLayer):
        return [
            Warning(
                f"The channel layer {alias!r} is in the memory of one process: what happens at another one arrives "
                f"within POLL_SECONDS ({mcp_settings.POLL_SECONDS:g}), not at once.",
                hint="Use channels_redis, or silence this where one process serves all.",
                id="django_mcp.W010",
            )
        ]
    return list(_impatient(alias, layer))


def _impatient(alias: str, layer: Any) -> Iterator[CheckMessage]:
    """Report hosts of channels_redis whose client gives up before the layer's own wait is over."""
    waits = getattr(layer, "brpop_timeout", None)
    if waits is None:
        return
    for host in settings.CHANNEL_LAYERS[alias].get("CONFIG", {}).get("hosts", ()):
        seconds = _timeout(host)
        if seconds is not None and seconds <= waits:
            yield Warning(
                f"The channel layer {alias!r} waits at Redis for {waits:g} seconds at a time, and its client gives "
                f"up after {seconds:g}: each idle process connects anew every {seconds:g} seconds.",
                hint=f"Name the host in CHANNEL_LAYERS[{alias!r}]['CONFIG']['hosts'] as a dictionary with its "
                f"'address' and a 'socket_timeout' of {3 * waits:g}.",
                id="django_mcp.W011",
            )
            return


def _timeout(host: Any) -> float | None:
    """Return after how many seconds the client of a host gives up; None for never, or where that is not known."""
    from redis.asyncio.connection import AbstractConnection

    given = host if isinstance(host, Mapping) else {}
    if "socket_timeout" in given:
        return _number(given["socket_timeout"])
    address = given.get("address", host)
    in_url = parse_qs(urlsplit(address).query).get("socket_timeout") if isinstance(address, str) else None
    if in_url:
        return _number(in_url[0])
    return _number(inspect.signature(AbstractConnection).parameters["socket_timeout"].default)


def _number(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError):
        return None

"""Whether a call comes too soon: the rates of its tool and of CALL_RATE, and throttle classes of REST framework.

Asked when a call arrives, after its permission and before anything runs. Each round of the modern era's questions is
a call of its own here; a call that another process goes on with is none.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

from django.utils.module_loading import import_string

from django_mcp.conf import mcp_settings
from django_mcp.core.rate import Rate
from django_mcp.exceptions import Overloaded
from django_mcp.server.caller import Caller
from django_mcp.server.counter import counter

if TYPE_CHECKING:
    from django.http import HttpRequest

    from django_mcp.server.call import Call
    from django_mcp.server.tool import CompiledTool

_ADAPTER: Final = "django_mcp.contrib.rest_framework.guards.seconds_to_wait"
"""Named and not imported: a project without Django REST framework has nothing of it."""


async def throttle(tool: CompiledTool, call: Call) -> None:
    """Count a call of a tool.

    Raises:
        Overloaded: it came too soon, and nothing was run.
    """
    limits = tool.limits
    if call.is_takeover or not (limits.throttles or limits.rate or mcp_settings.CALL_RATE):
        return
    await call.arrival.threads.door.run(_count, tool, call)


def check_throttles(throttles: Sequence[Any], request: HttpRequest, address: str, scope: str) -> None:
    """Ask throttle classes, all of them, about a request. May read a cache.

    Args:
        address: of the client, as TRUSTED_PROXIES gives it.
        scope: what `ScopedRateThrottle` finds its rate by.

    Raises:
        Overloaded: one refuses.
    """
    if throttles:
        _refuse_for(import_string(_ADAPTER)(throttles, request, address, scope))


def _count(tool: CompiledTool, call: Call) -> None:
    check_throttles(tool.limits.throttles, call.arrival.request, call.caller.address, tool.name)
    waits = [counter().take(rate, name) for rate, name in _rates(tool, call)]
    _refuse_for(max((wait for wait in waits if wait is not None), default=None))


def _rates(tool: CompiledTool, call: Call) -> Iterator[tuple[Rate, list[str]]]:
    server, owner = call.server.key, _owner(call.caller)
    if tool.limits.rate is not None:
        yield tool.limits.rate, [server, owner, f"tool:{tool.name}"]
    if mcp_settings.CALL_RATE is not None:
        yield mcp_settings.CALL_RATE, [server, owner, "server"]


def _owner(caller: Caller) -> str:
    """Return whose calls are counted together: a principal's, or those of an address where nobody authenticated."""
    return f"{caller.key} {caller.address}" if caller.principal.is_anonymous else caller.key


def _refuse_for(seconds: float | None) -> None:
    if seconds is not None:
        whole = max(1, math.ceil(seconds))
        text = f"Too many calls; come back in {whole} second{'' if whole == 1 else 's'}"
        raise Overloaded(whole, "principal", message=text, has_begun=False)

"""MCP servers that survive real deployments, the Django way.

What is listed here is the public API of a handler module. Names that need the SDK are imported when first used, so
that importing the package is cheap and safe before Django is set up.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from django_mcp import notify
    from django_mcp.exceptions import NotFound, ToolError
    from django_mcp.registry.context import Context
    from django_mcp.registry.conversation_connection import conversation_connection
    from django_mcp.registry.definition import ParamHeader
    from django_mcp.registry.server import Server, completion, prompt, resource, tool
    from django_mcp.registry.state import State, UserState
    from django_mcp.server.questions import (
        AcceptedElicitation,
        Audio,
        CancelledElicitation,
        DeclinedElicitation,
        Elicit,
        ElicitationResult,
        Image,
        ListRoots,
        Resolve,
        Sample,
    )

__all__ = [
    "AcceptedElicitation",
    "Audio",
    "CancelledElicitation",
    "Context",
    "DeclinedElicitation",
    "Elicit",
    "ElicitationResult",
    "Image",
    "ListRoots",
    "NotFound",
    "ParamHeader",
    "Resolve",
    "Sample",
    "Server",
    "State",
    "ToolError",
    "UserState",
    "completion",
    "conversation_connection",
    "notify",
    "prompt",
    "resource",
    "tool",
]

_HOMES = {
    "django_mcp.exceptions": ("NotFound", "ToolError"),
    "django_mcp.registry.context": ("Context",),
    "django_mcp.registry.conversation_connection": ("conversation_connection",),
    "django_mcp.registry.definition": ("ParamHeader",),
    "django_mcp.registry.server": ("Server", "completion", "prompt", "resource", "tool"),
    "django_mcp.registry.state": ("State", "UserState"),
    "django_mcp.server.questions": (
        "AcceptedElicitation",
        "Audio",
        "CancelledElicitation",
        "DeclinedElicitation",
        "Elicit",
        "ElicitationResult",
        "Image",
        "ListRoots",
        "Resolve",
        "Sample",
    ),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name == "notify":
        return import_module("django_mcp.notify")
    if name in _HOME_OF:
        value = getattr(import_module(_HOME_OF[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'django_mcp' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])

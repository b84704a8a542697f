"""Django REST framework: its views as tools, its classes on the endpoint.

Needs the extra `rest`. Nothing of it is imported by a project that does not use it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from django_mcp.contrib.rest_framework.authentication import AccessTokenAuthentication
    from django_mcp.contrib.rest_framework.registration import register_router, register_view, register_viewset

__all__ = ["AccessTokenAuthentication", "register_router", "register_view", "register_viewset"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = "authentication" if name == "AccessTokenAuthentication" else "registration"
    return getattr(import_module(f"{__name__}.{home}"), name)

"""Plain Django views as tools. Needs nothing but Django.

`rest_framework` beside it stands on the same parts: how arguments become a request, and an answer a result.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from django_mcp.contrib.views.operation import FILE
    from django_mcp.contrib.views.registration import register_view

__all__ = ["FILE", "register_view"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{'operation' if name == 'FILE' else 'registration'}"), name)

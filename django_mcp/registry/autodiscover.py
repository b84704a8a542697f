"""Finding `mcp_tools.py` in the installed apps."""

from __future__ import annotations

from django.utils.module_loading import autodiscover_modules


def autodiscover() -> None:
    """Import the module `mcp_tools` of each installed app that has one."""
    autodiscover_modules("mcp_tools")

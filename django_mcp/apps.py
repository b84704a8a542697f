"""The application: autodiscovery and compilation when the apps are ready."""

from __future__ import annotations

import logging

from django.apps import AppConfig

logger = logging.getLogger("django_mcp")


class DjangoMCPConfig(AppConfig):
    """Finds every `mcp_tools.py` and compiles what the decorators recorded."""

    name = "django_mcp"
    label = "django_mcp"
    verbose_name = "MCP"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from django_mcp import checks, layer_checks, limit_checks  # noqa: F401 - registers them
        from django_mcp.registry.autodiscover import autodiscover
        from django_mcp.server.compile import compile_all
        from django_mcp.sessions import deletion  # noqa: F401 - listens

        autodiscover()
        # What cannot be served is left out, and the system checks report it again, with the remedy.
        for error in compile_all():
            logger.error("%s", error)

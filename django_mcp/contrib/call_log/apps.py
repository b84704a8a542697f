"""The application: it listens when the apps are ready."""

from __future__ import annotations

from django.apps import AppConfig


class CallLogConfig(AppConfig):
    """Keeps one row for each call of a tool."""

    name = "django_mcp.contrib.call_log"
    label = "mcp_call_log"
    verbose_name = "MCP call log"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from django_mcp.contrib.call_log.writer import listen

        listen()

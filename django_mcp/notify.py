"""Telling clients that something changed, from anywhere: a view, a signal handler, a command, a task worker.

The notice is written to the store when the surrounding transaction commits, and reaches the streams of every process.
"""

from __future__ import annotations

from asgiref.sync import async_to_sync
from django.db import transaction

from django_mcp.registry.server import DEFAULT, servers
from django_mcp.server.compile import compiled
from django_mcp.server.wake import wake_everywhere
from django_mcp.sessions.stores import store
from django_mcp.sessions.stores.base import ChangeKind


def tools_changed(server: str = DEFAULT) -> None:
    """Say that the list of tools is another one now."""
    _publish(server, "tools")


def prompts_changed(server: str = DEFAULT) -> None:
    """Say that the list of prompts is another one now."""
    _publish(server, "prompts")


def resources_changed(server: str = DEFAULT) -> None:
    """Say that the list of resources is another one now."""
    _publish(server, "resources")


def resource_updated(uri: str, server: str = DEFAULT) -> None:
    """Say that the contents of the resource at `uri` are others now; it reaches those who subscribed to it."""
    _publish(server, "resource", uri)


def _publish(server: str, kind: ChangeKind, uri: str = "") -> None:
    target = compiled(servers[server])

    def publish() -> None:
        store(target.store_alias).publish_change(target.key, kind, uri)
        async_to_sync(wake_everywhere)()

    transaction.on_commit(publish)

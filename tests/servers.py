"""Servers that tests define: made for one test, taken out again after it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django_mcp import Server
from django_mcp.registry.server import DEFAULT, servers


@contextmanager
def defined(name: str, **options: Any) -> Iterator[Server]:
    """Yield a new server called `name`."""
    server = Server(name, **options)
    try:
        yield server
    finally:
        del servers[name]


@contextmanager
def alone() -> Iterator[None]:
    """Take out the servers that modules of other tests have made."""
    others = {name: server for name, server in servers.items() if name != DEFAULT}
    for name in others:
        del servers[name]
    try:
        yield
    finally:
        servers.update(others)

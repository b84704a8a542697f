"""Servers that tests define: made for one test, taken out again after it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django_mcp import Server
from django_mcp.registry.server import servers


@contextmanager
def defined(name: str, **options: Any) -> Iterator[Server]:
    """Yield a new server called `name`."""
    server = Server(name, **options)
    try:
        yield server
    finally:
        del servers[name]

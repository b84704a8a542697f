"""Tasks that belong to no request, though one begins them.

A task begins with a copy of the context of whoever makes it: a request's language, what `AROUND_CALL` has entered, and
asgiref's notes about threads. What serves many requests, or outlives one, must know nothing of that.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextvars import Context
from typing import Any, TypeVar

T = TypeVar("T")


def in_background(coroutine: Coroutine[Any, Any, T], name: str) -> asyncio.Task[T]:
    """Run a coroutine as a task in a context of its own. Whoever calls this keeps the task."""
    return asyncio.get_running_loop().create_task(coroutine, name=name, context=Context())

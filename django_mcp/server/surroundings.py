"""What is entered around every handler: the request's language and the project's `AROUND_CALL`.

No Django middleware runs in a consumer, so this is where a project switches its tenant's schema, time zone or audit
on.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import AbstractContextManager, ExitStack, asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.utils import translation

from django_mcp.conf import mcp_settings

if TYPE_CHECKING:
    from django_mcp.server.call import Call


def language_of(call: Call) -> str | None:
    """Return the language that the request asks for; None when it asks for none or the project has one only."""
    if not settings.USE_I18N or "accept-language" not in call.arrival.headers:
        return None
    return translation.get_language_from_request(call.http_request)


@contextmanager
def in_language(call: Call) -> Iterator[None]:
    """Enter the request's language, for texts that are rendered outside of a handler."""
    language = language_of(call)
    if language is None:
        yield
        return
    with translation.override(language):
        yield


@contextmanager
def surroundings(call: Call, name: str) -> Iterator[None]:
    """Enter the request's language and the project's context managers around the handler called `name`."""
    with in_language(call), _around(call, name):
        yield


@asynccontextmanager
async def asurroundings(call: Call, name: str) -> AsyncIterator[None]:
    """Enter the same around a handler that runs on the loop. A language alone takes no thread."""
    with in_language(call):
        if not mcp_settings.AROUND_CALL:
            yield
            return
        async with _on_thread(call, _around(call, name)):
            yield


def has_surroundings(call: Call) -> bool:
    """Whether anything would be entered, so that the common case enters nothing."""
    return bool(mcp_settings.AROUND_CALL) or "accept-language" in call.arrival.headers


@contextmanager
def _around(call: Call, name: str) -> Iterator[None]:
    with ExitStack() as stack:
        for factory in mcp_settings.imported("AROUND_CALL"):
            stack.enter_context(factory(call.http_request, name))
        yield


@asynccontextmanager
async def _on_thread(call: Call, manager: AbstractContextManager[None]) -> AsyncIterator[None]:
    """Enter and leave `manager` on the call's own thread, which is not given back in between.

    What it does to the connection holds for the async ORM, and what it activates holds for the body. Entering and
    leaving are never cut off half-way: the thread goes on to other calls afterwards. Both happen in one `Context`, or
    a context variable could not be reset.
    """
    context = contextvars.copy_context()
    call.keeps_thread = True
    try:
        is_interrupted = await _to_the_end(call.lease.run(context.run, manager.__enter__))
        _carry(context)
        try:
            if is_interrupted:
                raise asyncio.CancelledError
            yield
        except BaseException as error:
            await _leave(call, manager, context, error)
            raise
        if await _leave(call, manager, context, None):
            raise asyncio.CancelledError
    finally:
        call.keeps_thread = False


async def _leave(
    call: Call, manager: AbstractContextManager[None], context: contextvars.Context, error: BaseException | None
) -> bool:
    context.run(_carry, contextvars.copy_context())
    raised = (type(error), error, error.__traceback__) if error is not None else (None, None, None)
    is_interrupted = await _to_the_end(call.lease.run(context.run, manager.__exit__, *raised))
    _carry(context)
    return is_interrupted


async def _to_the_end(work: Coroutine[Any, Any, Any]) -> bool:
    """Wait for `work` whatever cancels the waiting; say whether that happened."""
    task = asyncio.ensure_future(work)
    is_interrupted = False
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError:
            is_interrupted = True
    task.result()
    return is_interrupted


def _carry(source: contextvars.Context) -> None:
    """Give the variables of the current context the values that they have in `source`."""
    for variable, value in source.items():
        if variable.get(_carry) is not value:
            variable.set(value)

"""What a conversation needs and no store can keep: a client, a connection. Made anew in each call, closed at its end.

The conversation keeps the configuration; a decorated generator turns it into the thing itself:

    @conversation_connection
    def warehouse(state: State) -> Iterator[Warehouse]:
        with Warehouse(state["warehouse_url"]) as client:
            yield client

A sync handler says `warehouse(ctx)`, an async one `await warehouse(ctx)` of an async generator. It is opened when it
is first asked for, once in a call, and closed when the handler has ended, before its state is committed.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

from django_mcp.exceptions import RegistryError

if TYPE_CHECKING:
    from django_mcp.registry.context import Context
    from django_mcp.registry.state import State

T = TypeVar("T")


class Connections:
    """What was opened in one run of a handler; `stack` closes it."""

    __slots__ = ("_opened", "_stack")

    def __init__(self, stack: ExitStack | AsyncExitStack) -> None:
        self._stack = stack
        self._opened: dict[object, Any] = {}

    def open(self, connection: ConversationConnection[T], state: State) -> T:
        if connection not in self._opened:
            self._opened[connection] = self._stack.enter_context(connection.manager(state))
        opened: T = self._opened[connection]
        return opened

    async def aopen(self, connection: AsyncConversationConnection[T], state: State) -> T:
        if not isinstance(self._stack, AsyncExitStack):
            raise TypeError(f"{connection} is opened by an async handler")
        if connection not in self._opened:
            self._opened[connection] = await self._stack.enter_async_context(connection.manager(state))
        opened: T = self._opened[connection]
        return opened


class ConversationConnection(Generic[T]):
    """Call it with the context of a handler to get the thing itself."""

    def __init__(self, function: Callable[[State], Iterator[T]]) -> None:
        self.function = function
        self.manager = contextmanager(function)

    def __call__(self, ctx: Context) -> T:
        return ctx.connections.open(self, ctx.state)

    def __str__(self) -> str:
        return f"conversation connection {getattr(self.function, '__name__', self.function)!r}"


class AsyncConversationConnection(Generic[T]):
    """Await it with the context of an async handler to get the thing itself."""

    def __init__(self, function: Callable[[State], AsyncIterator[T]]) -> None:
        self.function = function
        self.manager = asynccontextmanager(function)

    async def __call__(self, ctx: Context) -> T:
        return await ctx.connections.aopen(self, ctx.state)

    def __str__(self) -> str:
        return f"conversation connection {getattr(self.function, '__name__', self.function)!r}"


@overload
def conversation_connection(function: Callable[[State], AsyncIterator[T]], /) -> AsyncConversationConnection[T]: ...
@overload
def conversation_connection(function: Callable[[State], Iterator[T]], /) -> ConversationConnection[T]: ...
def conversation_connection(function: Any, /) -> Any:
    """Declare what is rebuilt for each call from what the conversation keeps.

    Args:
        function: a generator, or an async one, that takes the conversation's `State` and yields one thing; what stands
            after the `yield` closes it.

    Raises:
        RegistryError: it is neither.
    """
    if inspect.isasyncgenfunction(function):
        return AsyncConversationConnection(function)
    if inspect.isgeneratorfunction(function):
        return ConversationConnection(function)
    raise RegistryError(
        f"{getattr(function, '__name__', function)!r} is no conversation connection;",
        remedy="write a generator function that yields the connection once.",
    )

"""What a handler is given: the request it serves and the way back to the client.

One class for sync and async handlers. A blocking method is for sync handlers; its `a` twin is awaited by async ones.
The context knows nothing of transports: it talks to a `Channel`, which `server/` implements.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

from django.core.exceptions import SynchronousOnlyOperation

from django_mcp.exceptions import StateUnavailable

if TYPE_CHECKING:
    from django.http import HttpRequest

    from django_mcp.registry.conversation_connection import Connections
    from django_mcp.registry.past_call import PastCall
    from django_mcp.registry.state import State

T = TypeVar("T")
Level = Literal["debug", "info", "notice", "warning", "error", "critical", "alert", "emergency"]


class Channel(Protocol):
    """What a context needs of the exchange under it."""

    @property
    def loop(self) -> asyncio.AbstractEventLoop: ...
    @property
    def http_request(self) -> HttpRequest: ...
    @property
    def tenant(self) -> str: ...
    @property
    def cancelled(self) -> bool: ...
    @property
    def is_timed_out(self) -> bool: ...
    @property
    def roots_changed(self) -> bool: ...
    @property
    def protocol_version(self) -> str: ...
    @property
    def client_capabilities(self) -> Any: ...
    @property
    def client_info(self) -> Any: ...
    @property
    def input_responses(self) -> Mapping[str, Any] | None: ...
    @property
    def request_state(self) -> str | None: ...
    @property
    def sdk_context(self) -> Any: ...
    @property
    def state(self) -> State: ...
    @property
    def user_state(self) -> State: ...
    def past_calls(self) -> list[PastCall]: ...
    async def on_thread(self, function: Callable[[], T]) -> T: ...
    async def send_progress(self, progress: float, total: float | None, message: str | None) -> None: ...
    async def send_log(self, level: Level, data: Any, logger: str | None) -> None: ...
    async def ask_user(self, message: str, schema: type[Any]) -> Any: ...
    async def ask_model(self, request: Any) -> Any: ...
    async def ask_roots(self) -> Any: ...
    async def close_stream(self) -> None: ...


class Context:
    """The call a handler serves.

    Annotate a parameter with this class to receive it; it never appears in the schema.
    """

    __slots__ = ("_channel", "_connections")

    def __init__(self, channel: Channel, connections: Connections | None = None) -> None:
        self._channel = channel
        self._connections = connections

    @property
    def connections(self) -> Connections:
        """What was opened for this handler by `conversation_connection`."""
        if self._connections is None:
            raise StateUnavailable("conversation connections belong to handlers and resolvers")
        return self._connections

    @property
    def request(self) -> HttpRequest:
        """Django's request: headers, `user`, URL keyword arguments (`resolver_match.kwargs`), language."""
        return self._channel.http_request

    @property
    def user(self) -> Any:
        """The user that the endpoint authenticated, or `AnonymousUser`."""
        return self._channel.http_request.user

    @property
    def tenant(self) -> str:
        """What the `TENANT` callable gave for the request; `""` by default."""
        return self._channel.tenant

    @property
    def state(self) -> State:
        """What this conversation keeps from call to call; see `State`.

        Raises, at the first touch:
            StateUnavailable: the handler is not stateful, and the request names no conversation.
        """
        return self._channel.state

    @property
    def user_state(self) -> State:
        """What the authenticated user keeps across conversations with this server; see `State`.

        An async handler reads it by `await ctx.user_state.aload()`, or takes it as a parameter annotated `UserState`.
        """
        return self._channel.user_state

    @property
    def calls(self) -> list[PastCall]:
        """What was called in this conversation, newest first, as far as it is kept: see the setting CALL_NOTES.

        Raises:
            StateUnavailable: as `state`.
        """
        return self._channel.past_calls()

    async def acalls(self) -> list[PastCall]:
        """Return what `calls` has, in an async handler."""
        return await self._channel.on_thread(self._channel.past_calls)

    @property
    def cancelled(self) -> bool:
        """Whether nobody waits for the result any more. A sync handler that runs long reads it now and then."""
        return self._channel.cancelled or self._channel.is_timed_out

    @property
    def roots_changed(self) -> bool:
        """Whether the client said since this call began that its roots are others; `alist_roots()` has them."""
        return self._channel.roots_changed

    @property
    def protocol_version(self) -> str:
        """The protocol version that this request speaks, such as `2026-07-28`."""
        return self._channel.protocol_version

    @property
    def client_capabilities(self) -> Any:
        """What the client declared it can do (`mcp_types.ClientCapabilities`), or None."""
        return self._channel.client_capabilities

    @property
    def client_info(self) -> Any:
        """What the client calls itself (`mcp_types.Implementation`), or None. A claim, never an identity."""
        return self._channel.client_info

    @property
    def input_responses(self) -> Mapping[str, Any] | None:
        """The answers to the input requests of an `InputRequiredResult` that this handler returned last round."""
        return self._channel.input_responses

    @property
    def request_state(self) -> str | None:
        """The state that this handler put into its last `InputRequiredResult`, unsealed and verified."""
        return self._channel.request_state

    @property
    def sdk(self) -> Any:
        """The official SDK's own request context (`ServerRequestContext`)."""
        return self._channel.sdk_context

    def progress(self, progress: float, total: float | None = None, message: str | None = None) -> None:
        """Report progress: so much of `total` is done. `progress` must grow. Nothing is sent if nobody asked.

        Raises:
            CallCancelled: the client has gone or cancelled; stop working.
        """
        self._block(self.aprogress(progress, total, message))

    async def aprogress(self, progress: float, total: float | None = None, message: str | None = None) -> None:
        """Report progress; see `progress`."""
        await self._channel.send_progress(progress, total, message)

    def log(self, level: Level, data: Any, *, logger: str | None = None) -> None:
        """Send a log message of JSON `data` to the client, if it asked for that level."""
        self._block(self.alog(level, data, logger=logger))

    async def alog(self, level: Level, data: Any, *, logger: str | None = None) -> None:
        """Send a log message; see `log`."""
        await self._channel.send_log(level, data, logger)

    def debug(self, data: Any) -> None:
        self.log("debug", data)

    def info(self, data: Any) -> None:
        self.log("info", data)

    def warning(self, data: Any) -> None:
        self.log("warning", data)

    def error(self, data: Any) -> None:
        self.log("error", data)

    async def adebug(self, data: Any) -> None:
        await self.alog("debug", data)

    async def ainfo(self, data: Any) -> None:
        await self.alog("info", data)

    async def awarning(self, data: Any) -> None:
        await self.alog("warning", data)

    async def aerror(self, data: Any) -> None:
        await self.alog("error", data)

    async def aelicit(self, message: str, schema: type[T]) -> Any:
        """Ask the user in the middle of an async handler; handshake era only.

        Args:
            message: what the user reads.
            schema: a flat pydantic model of what is asked.

        Returns:
            `AcceptedElicitation` (its `data` is a `schema`), `DeclinedElicitation` or `CancelledElicitation`.

        Raises:
            QuestionUnavailable: the modern era has no questions inside a body; the message names `Resolve`.
        """
        return await self._channel.ask_user(message, schema)

    async def asample(self, request: Any) -> Any:
        """Ask the client's model in the middle of an async handler; handshake era only.

        Args:
            request: a `Sample`, as a resolver would return it.

        Raises:
            QuestionUnavailable: see `aelicit`.
        """
        return await self._channel.ask_model(request)

    async def alist_roots(self) -> Any:
        """Ask for the client's roots in the middle of an async handler; handshake era only.

        Raises:
            QuestionUnavailable: see `aelicit`.
        """
        return await self._channel.ask_roots()

    def close_stream(self) -> None:
        """End this response's connection now; the client comes back for the rest (SEP-1699, handshake era)."""
        self._block(self.aclose_stream())

    async def aclose_stream(self) -> None:
        """End this response's connection; see `close_stream`."""
        await self._channel.close_stream()

    def _block(self, sending: Coroutine[Any, Any, None]) -> None:
        loop = self._channel.loop
        try:
            running = asyncio.get_running_loop()
        except RuntimeError:
            running = None
        if running is loop:
            name = getattr(sending, "__name__", "method")
            sending.close()
            raise SynchronousOnlyOperation(f"an async handler awaits it: use `await ctx.{name}(…)`")
        asyncio.run_coroutine_threadsafe(sending, loop).result()

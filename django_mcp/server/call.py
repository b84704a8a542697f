"""One running request: the SDK's dispatch context and our handlers' channel in one object.

The kernel asks it for the way back to the client, the `Context` of a handler for everything else. Where messages go
is decided by its `outlet`, so that the modern era, the handshake era and a door that cannot stream differ in nothing
here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol, TypeVar, get_args

import anyio
from mcp.server.connection import Connection
from mcp.server.context import ServerRequestContext
from mcp.server.elicitation import elicit_with_validation
from mcp.server.mcpserver.resolve import Sample
from mcp.shared.dispatcher import CallOptions
from mcp.shared.exceptions import NoBackChannelError
from mcp.shared.message import ServerMessageMetadata
from mcp.shared.transport_context import TransportContext
from mcp_types import (
    LOG_LEVEL_META_KEY,
    CreateMessageRequest,
    CreateMessageResult,
    CreateMessageResultWithTools,
    ListRootsRequest,
    ListRootsResult,
    LoggingLevel,
    ProgressToken,
    RequestId,
)

from django_mcp.exceptions import CallCancelled, QuestionUnavailable
from django_mcp.server.call_state import CallState
from django_mcp.server.caller import Arrival, Caller
from django_mcp.server.keeping import NOTHING, Keeping
from django_mcp.server.places import ANYWHERE
from django_mcp.server.threads import Lease
from django_mcp.server.time_limit import TimeLimit

if TYPE_CHECKING:
    from django.http import HttpRequest

    from django_mcp.models import MCPSession
    from django_mcp.registry.context import Level
    from django_mcp.registry.past_call import PastCall
    from django_mcp.registry.state import State
    from django_mcp.server.carriers import Issued

T = TypeVar("T")
ResultKind = Literal["ok", "failed", "input_required"]

COALESCED: Final = frozenset({"notifications/progress", "notifications/message"})
"""What says the latest of something, so that a later one may take its place where they come too fast."""

QUESTION_META_KEY: Final = "org.django-mcp/question"
_LEVELS: Final[tuple[str, ...]] = get_args(LoggingLevel)
_TRANSPORT: Final = {flag: TransportContext(kind="streamable-http", can_send_request=flag) for flag in (False, True)}
_ASK_IN_PARAMETERS: Final = (
    "a question in the body of a handler works in the handshake era only; ask it by a parameter "
    "`Annotated[T, Resolve(asking)]`, which works in both eras"
)


class Outlet(Protocol):
    """Where a call's messages to the client go."""

    can_ask: bool

    @property
    def used(self) -> float:
        """Which part of what the response may hold is taken, 0…1."""
        ...

    async def notify(self, method: str, params: Mapping[str, Any] | None) -> None:
        """Send a notification on the response of the call."""
        ...

    async def ask(self, method: str, params: Mapping[str, Any] | None, timeout: float | None) -> dict[str, Any]:
        """Send a request to the client and return its result."""
        ...

    async def disconnect(self) -> None:
        """End the response's connection, not the call."""
        ...


class ServerIdentity(Protocol):
    """What a call says of the server it belongs to, to the stores."""

    @property
    def key(self) -> str: ...
    @property
    def store_alias(self) -> str: ...


class NoOutlet:
    """The outlet of a door that answers with one JSON body: notifications are dropped, questions refused."""

    can_ask = False
    used = 0.0

    async def notify(self, method: str, params: Mapping[str, Any] | None) -> None:
        pass

    async def ask(self, method: str, params: Mapping[str, Any] | None, timeout: float | None) -> dict[str, Any]:
        raise NoBackChannelError(method)

    async def disconnect(self) -> None:
        pass


async def _nothing() -> None:
    pass


class Call:
    """One request from its arrival to its end."""

    def __init__(
        self,
        server: ServerIdentity,
        arrival: Arrival,
        *,
        connection: Connection,
        outlet: Outlet,
        request_id: RequestId | None,
        params: Mapping[str, Any] | None = None,
        session: MCPSession | None = None,
        log_level: str | None = None,
    ) -> None:
        self.server = server
        self.arrival = arrival
        self.connection = connection
        self.outlet = outlet
        self.request_id = request_id
        self._session = session
        self.log_level = log_level
        self.loop = asyncio.get_running_loop()
        self.cancelled = False
        self.uninterruptible = False
        self.body_began = False
        self.time_limit: TimeLimit | None = None
        self.place: AbstractContextManager[None] = ANYWHERE
        self.came_to: ResultKind = "ok"
        self.is_repeat = False
        self.is_takeover = False
        self.is_elsewhere = False
        self.keeps_thread = False
        self.task: asyncio.Task[Any] | None = None
        self.context: ServerRequestContext[Any, Any] | None = None
        self.input_params: Any = None
        self.question: str | None = None
        self._lease: Lease | None = None
        self._progress: float | None = None
        self._finished = False
        self.on_begin: Callable[[], Awaitable[None]] = _nothing
        self.roots_changed = False
        self.sealed_state: str | None = params.get("requestState") if params else None
        meta = params.get("_meta") if params else None
        self.meta: Mapping[str, Any] = meta if isinstance(meta, Mapping) else {}
        self.keeping: Keeping = NOTHING
        self.handle: str | None = None
        self.issued: Issued | None = None
        self.was_asked = False
        self.record: Callable[[Any], None] | None = None
        self._state: CallState | None = None

    # What the SDK's kernel reads (mcp.shared.dispatcher.DispatchContext).

    @property
    def transport(self) -> TransportContext:
        return _TRANSPORT[self.outlet.can_ask]

    @property
    def can_send_request(self) -> bool:
        return self.outlet.can_ask

    @property
    def message_metadata(self) -> ServerMessageMetadata:
        return ServerMessageMetadata(request_context=self, close_sse_stream=self.outlet.disconnect)

    @cached_property
    def cancel_requested(self) -> anyio.Event:
        return anyio.Event()

    async def send_raw_request(
        self, method: str, params: Mapping[str, Any] | None, opts: CallOptions | None = None
    ) -> dict[str, Any]:
        # While the client is asked, no thread and no connection of this call is held, unless something of the call
        # is entered on it.
        self.was_asked = True
        if not self.keeps_thread:
            self.lease.release()
        if self.question is not None:
            # The modern era names its questions; here the name lets a program answer without reading the text.
            meta = (params or {}).get("_meta") or {}
            params = {**(params or {}), "_meta": {**meta, QUESTION_META_KEY: self.question}}
        with self.time_limit.paused() if self.time_limit is not None else nullcontext():
            return await self.outlet.ask(method, params, opts.get("timeout") if opts else None)

    async def notify(self, method: str, params: Mapping[str, Any] | None, opts: CallOptions | None = None) -> None:
        await self.outlet.notify(method, params)

    async def progress(self, progress: float, total: float | None = None, message: str | None = None) -> None:
        await self.send_progress(progress, total, message)

    # What a handler's Context reads (django_mcp.registry.context.Channel).

    @property
    def caller(self) -> Caller:
        return self.arrival.caller

    @property
    def session(self) -> MCPSession:
        """The session's record; only the handshake era has one."""
        if self._session is None:
            raise LookupError("this request belongs to no session")
        return self._session

    @property
    def session_key(self) -> str | None:
        """What names the session in the store, if the request belongs to one."""
        return self._session.key if self._session is not None else None

    @property
    def is_over(self) -> bool:
        """Whether its time is over, or it was cancelled and nothing demands that it goes on."""
        return self.is_timed_out or (self.cancelled and not self.uninterruptible)

    @property
    def is_timed_out(self) -> bool:
        """Whether the time of its body is over, so that nothing of it is kept; its result says so."""
        return self.time_limit is not None and self.time_limit.is_over

    @property
    def is_final(self) -> bool:
        """Whether what its body came to stands for good: it ran, and was not stopped by its client."""
        return self.body_began and (self.is_timed_out or not self.is_over)

    def begin_body(self) -> None:
        """Say that the body runs from now on, on any thread."""
        self.body_began = True
        if self.time_limit is not None:
            self.time_limit.begin()

    def ends_in_time(self) -> bool:
        """Say that the body has ended, on any thread; return whether anything of it may be kept."""
        return (self.time_limit is None or self.time_limit.ends_in_time()) and not self.is_over

    @property
    def has_state(self) -> bool:
        """Whether anybody asked for the state of this call yet."""
        return self._state is not None

    @property
    def call_state(self) -> CallState:
        """The states that this call reads and writes."""
        if self._state is None:
            self._state = CallState(self)
        return self._state

    @property
    def state(self) -> State:
        return self.call_state.conversation

    @property
    def user_state(self) -> State:
        return self.call_state.user

    def past_calls(self) -> list[PastCall]:
        return self.call_state.calls()

    async def on_thread(self, function: Callable[[], T]) -> T:
        return await self.lease.run(function)

    @property
    def tenant(self) -> str:
        return self.arrival.caller.tenant

    @property
    def http_request(self) -> HttpRequest:
        return self.arrival.request

    @property
    def protocol_version(self) -> str:
        return self.connection.protocol_version

    @property
    def client_capabilities(self) -> Any:
        return self.connection.client_capabilities

    @property
    def client_info(self) -> Any:
        params = self.connection.client_params
        return params.client_info if params is not None else None

    @property
    def input_responses(self) -> Mapping[str, Any] | None:
        return self.input_params.input_responses if self.input_params is not None else None

    @property
    def request_state(self) -> str | None:
        return self.input_params.request_state if self.input_params is not None else None

    @property
    def sdk_context(self) -> ServerRequestContext[Any, Any]:
        if self.context is None:
            raise LookupError("no request of the SDK is being served here")
        return self.context

    @property
    def lease(self) -> Lease:
        """The thread of this call, borrowed when it is first needed."""
        if self._lease is None:
            self._lease = self.arrival.threads.lease()
        return self._lease

    async def send_progress(self, progress: float, total: float | None, message: str | None) -> None:
        if self.is_over:
            raise CallCancelled
        token = self._progress_token
        # The value must increase with each notification (MCP 2025-11-25 and 2026-07-28, basic/utilities/progress).
        if token is None or self._finished or (self._progress is not None and progress <= self._progress):
            return
        self._progress = progress
        params: dict[str, Any] = {"progressToken": token, "progress": progress}
        if total is not None:
            params["total"] = total
        if message is not None:
            params["message"] = message
        await self.outlet.notify("notifications/progress", params)

    async def send_log(self, level: Level, data: Any, logger: str | None) -> None:
        # A session has its own level; there the modern era's key means nothing (MCP 2025-11-25, basic, _meta).
        threshold = self.log_level if self._session is not None else self.meta.get(LOG_LEVEL_META_KEY)
        if self._finished or threshold not in _LEVELS or _LEVELS.index(level) < _LEVELS.index(threshold):
            return
        params: dict[str, Any] = {"level": level, "data": data}
        if logger is not None:
            params["logger"] = logger
        await self.outlet.notify("notifications/message", params)

    async def ask_user(self, message: str, schema: type[Any]) -> Any:
        return await elicit_with_validation(
            self._asking().session, message, schema, related_request_id=self.request_id
        )

    async def ask_model(self, request: Sample) -> CreateMessageResult | CreateMessageResultWithTools:
        with_tools = request.params.tools is not None or request.params.tool_choice is not None
        return await self._asking().session.send_request(
            CreateMessageRequest(params=request.params),
            CreateMessageResultWithTools if with_tools else CreateMessageResult,
            metadata=ServerMessageMetadata(related_request_id=self.request_id),
        )

    async def ask_roots(self) -> ListRootsResult:
        return await self._asking().session.send_request(
            ListRootsRequest(), ListRootsResult, metadata=ServerMessageMetadata(related_request_id=self.request_id)
        )

    async def close_stream(self) -> None:
        await self.outlet.disconnect()

    # What begins and ends it.

    async def begin(self) -> None:
        """Say that the body of a tool is run now. Before, another process could run it in the place of this one.

        Raises:
            CallCancelled: another process does.
        """
        await self.on_begin()

    def resume_progress(self, progress: float | None) -> None:
        """Send only progress above what another process has sent of this call."""
        self._progress = progress

    def cancel(self) -> None:
        """Stop the work as soon as possible. A body that must not be interrupted learns it by `ctx.cancelled`.

        Once is enough: a second time would interrupt what ends the work.
        """
        if self.cancelled:
            return
        self.cancelled = True
        if "cancel_requested" in self.__dict__:
            self.cancel_requested.set()
        if self.task is not None and not self.uninterruptible:
            self.task.cancel()

    def finish(self) -> None:
        """Give back what the call holds, and let go of what holds the call, so that its memory is free at once.

        Nothing is sent for it from here on but its response.
        """
        self._finished = True
        if self._lease is not None:
            self._lease.close()
        self.context = self.task = None
        if not self.cancelled and not self.is_timed_out:
            # Of a call that was given up a sync body may still be running, with its state.
            self._state = self.record = None

    @property
    def _progress_token(self) -> ProgressToken | None:
        token = self.meta.get("progressToken")
        return token if isinstance(token, str | int) and not isinstance(token, bool) else None

    def _asking(self) -> ServerRequestContext[Any, Any]:
        if not self.outlet.can_ask:
            raise QuestionUnavailable(_ASK_IN_PARAMETERS)
        return self.sdk_context

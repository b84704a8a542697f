"""One exchange of the modern era: a self-contained POST, one request, one response (MCP 2026-07-28, transports)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Any, Final

from mcp.shared.exceptions import NoBackChannelError
from mcp.shared.inbound import (
    MCP_NAME_HEADER,
    MCP_PROTOCOL_VERSION_HEADER,
    InboundLadderRejection,
    classify_inbound_request,
    unsupported_protocol_version_rejection,
)
from mcp_types import RequestId

from django_mcp.conf import mcp_settings
from django_mcp.core import sse
from django_mcp.core.coalescing import Allowance
from django_mcp.server.call import COALESCED, Call, NoOutlet, Outlet
from django_mcp.server.caller import Arrival
from django_mcp.server.connection import connection_of
from django_mcp.server.event_stream import MAX_RESPONSE_BYTES, EventStream
from django_mcp.server.headers import invalid
from django_mcp.server.idempotency import has_key
from django_mcp.server.kernel import Kernel
from django_mcp.server.permission import may_use
from django_mcp.server.stream import Stream
from django_mcp.server.wire import OUTPUT_LIMIT, Answer, Failure, Refusal, encode_notification, failure_of

ACCEPTED: Final = Answer(status=202)

UNREAD_SECONDS: Final = 60.0
"""A client that reads nothing for so long, while as much as is kept for it waits, counts as gone."""

_running: set[asyncio.Task[None]] = set()
"""Keeps calls alive that go on after their client went away."""


class ModernOutlet:
    """Notifications onto the response; no questions, which the modern era puts into results.

    A server that takes everything at once (Daphne) would hold all of it for a client that does not read. So the
    response has a bound, near which those that say the latest of something become rare.
    """

    can_ask = False

    def __init__(self, stream: Stream, abandon: Callable[[], None]) -> None:
        self._stream = stream
        self._abandon = abandon
        self._allowances: dict[str, Allowance] = {}

    @property
    def used(self) -> float:
        return self._stream.size / MAX_RESPONSE_BYTES

    async def notify(self, method: str, params: Mapping[str, Any] | None) -> None:
        try:
            await self._stream.room(UNREAD_SECONDS)
        except TimeoutError:
            # It holds a handler's thread, of which there are few.
            self._abandon()
        if method in COALESCED and self.used > 0.5 and not self._may_go(method):
            # Who says nothing else lets others have their turn.
            await asyncio.sleep(0)
            return
        message = encode_notification(method, params)
        if self.used + len(message) / MAX_RESPONSE_BYTES > 1:
            raise OUTPUT_LIMIT.error()
        self._stream.append(message)

    def _may_go(self, method: str) -> bool:
        now, used = asyncio.get_running_loop().time(), self.used
        left = (self._allowances.get(method) or Allowance.fresh(used, now)).take(used, now)
        if left is not None:
            self._allowances[method] = left
        return left is not None

    async def ask(self, method: str, params: Mapping[str, Any] | None, timeout: float | None) -> dict[str, Any]:
        raise NoBackChannelError(method)

    async def disconnect(self) -> None:
        """Do nothing: closing this stream would cancel the call."""


class ModernExchange:
    """One POST of the modern era."""

    def __init__(self, kernel: Kernel, arrival: Arrival, message: Mapping[str, Any]) -> None:
        self._kernel = kernel
        self._arrival = arrival
        self._message = message
        self._call: Call | None = None
        self._task: asyncio.Task[None] | None = None
        self._stream = Stream()
        self._final: Answer | None = None
        self._abandoned = False

    async def answer(self) -> Answer | EventStream | None:
        """Serve the request; None when the client left and nothing is to be said."""
        if "id" not in self._message:
            return self._acknowledge()
        # The task makes all that the request needs, so that little waits here meanwhile: what is alive in a garbage
        # collection costs more than most calls.
        task = self._task = asyncio.get_running_loop().create_task(self._serve())
        _running.add(task)
        task.add_done_callback(_running.discard)
        if not self._arrival.streams:
            await asyncio.wait([task])
            return self._outcome
        settled = await self._stream.settled(mcp_settings.KEEPALIVE_SECONDS)
        if settled and self._stream.closed and not self._stream.size:
            return self._outcome
        return EventStream(frames=self._frames(begin_with_comment=not settled))

    def abandon(self) -> None:
        """The client closed the response: stop the work as soon as it can be stopped."""
        self._abandoned = True
        if self._call is not None:
            self._call.cancel()
        elif self._task is not None:
            self._task.cancel()
        self._stream.close()

    @property
    def may_have_had_effects(self) -> bool:
        """Whether it could do harm to send the request again."""
        call = self._call
        began = call is not None and call.body_began and not call.keeping.is_repeatable
        return began and not has_key(self._message)

    @property
    def _outcome(self) -> Answer | None:
        """What there is to answer; nothing is sent for a cancelled request, whatever became of it (transports)."""
        return None if self._abandoned else self._final

    async def _serve(self) -> None:
        request_id: RequestId = self._message["id"]
        try:
            self._final = await self._result(request_id)
        except Exception as error:
            self._final = failure_of(error, modern=True).answer(request_id)
        finally:
            if self._call is not None:
                self._call.finish()
            self._stream.close()

    async def _result(self, request_id: RequestId) -> Answer:
        message, headers = self._message, self._arrival.headers
        verdict = classify_inbound_request(message, headers=headers)
        if isinstance(verdict, InboundLadderRejection):
            raise _refusal(verdict)
        if (rejection := invalid("Mcp-Name", headers.get(MCP_NAME_HEADER, ""))) is not None:
            raise _refusal(rejection)
        method, params = message["method"], message["params"]
        if method == "tools/call" and (rejection := await self._check_mirrored(params)) is not None:
            raise _refusal(rejection)
        call = self._call = Call(
            self._kernel.server,
            self._arrival,
            connection=connection_of(verdict.protocol_version, verdict.client_info, verdict.client_capabilities),
            outlet=self._outlet(),
            request_id=request_id,
            params=params,
        )
        call.task = self._task
        return await self._kernel.answer(call, method, request_id, params)

    async def _frames(self, *, begin_with_comment: bool) -> AsyncGenerator[bytes, None]:
        if begin_with_comment:
            yield sse.comment()
        async for message in self._stream.read(silence=mcp_settings.KEEPALIVE_SECONDS):
            yield sse.comment() if message is None else sse.event(message)
        if (outcome := self._outcome) is not None:
            yield sse.event(outcome.body)

    async def _check_mirrored(self, params: Mapping[str, Any]) -> InboundLadderRejection | None:
        tool = self._kernel.server.tools.get(str(params.get("name")))
        if tool is None or not tool.mirrors_headers or not await may_use(tool.definition, self._arrival):
            return None
        return tool.check_headers(params.get("arguments"), self._arrival.headers)

    def _acknowledge(self) -> Answer:
        # No notification from client to server is defined here, but clients in the field still post them.
        version = self._arrival.headers.get(MCP_PROTOCOL_VERSION_HEADER, "")
        unsupported = unsupported_protocol_version_rejection(version)
        return ACCEPTED if unsupported is None else _refusal(unsupported).failure.answer()

    def _outlet(self) -> Outlet:
        return ModernOutlet(self._stream, self.abandon) if self._arrival.streams else NoOutlet()


def _refusal(rejection: InboundLadderRejection) -> Refusal:
    return Refusal(Failure(code=rejection.code, message=rejection.message, data=rejection.data, status=400))

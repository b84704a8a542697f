"""Exchanges of the handshake era: sessions, event ids, replay (MCP 2025-03-26, 2025-06-18, 2025-11-25, transports).

The record of the session is read from the database for each request, so any process serves it. What runs here is in
`local_session`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final

from mcp.server.connection import Connection
from mcp.server.runner import ServerRunner
from mcp.shared.exceptions import MCPError
from mcp_types import INTERNAL_ERROR, INVALID_PARAMS, INVALID_REQUEST, RequestId

from django_mcp.conf import mcp_settings
from django_mcp.exceptions import SessionNotFound
from django_mcp.models import MCPSession
from django_mcp.server.call import Call, NoOutlet, Outlet
from django_mcp.server.caller import Arrival
from django_mcp.server.capabilities import require_declared_for
from django_mcp.server.connection import connection_of
from django_mcp.server.event_stream import EventStream
from django_mcp.server.kernel import Kernel
from django_mcp.server.local_session import (
    LocalSession,
    StandaloneOutbound,
    forget_if_empty,
    local_session,
)
from django_mcp.server.response import response
from django_mcp.server.session_lookup import SESSION_HEADER, check_version, find_session
from django_mcp.server.session_stream import frames, primes
from django_mcp.server.stream import OutputLimit, Stream
from django_mcp.server.wire import Answer, Failure, Refusal, encode_notification, encode_result, failure_of

ACCEPTED: Final = Answer(status=202)
BATCHING_VERSION: Final = "2025-03-26"
MAX_BATCH: Final = 20
DEFAULT_LOG_LEVEL: Final = "info"

_BAD_BATCH: Final = Failure(code=INVALID_REQUEST, message="A batch is not allowed here", status=400)
_COALESCED: Final = frozenset({"notifications/progress", "notifications/message"})
_running: set[asyncio.Task[None]] = set()


class HandshakeOutlet:
    """Notifications and questions onto the response stream of the POST, in its order."""

    can_ask = True

    def __init__(self, session: MCPSession, local: LocalSession, stream: Stream) -> None:
        self._session = session
        self._local = local
        self._stream = stream
        self.parted = asyncio.Event()

    async def notify(self, method: str, params: Mapping[str, Any] | None) -> None:
        try:
            await self._stream.room()
        except OutputLimit:
            if method in _COALESCED:
                return
            raise MCPError(INTERNAL_ERROR, "too much output for one stream", {"reason": "output_limit"}) from None
        self._stream.append(encode_notification(method, params))

    async def ask(self, method: str, params: Mapping[str, Any] | None, timeout: float | None) -> dict[str, Any]:
        require_declared_for(method, params, self._session.capabilities_data)
        return await self._local.ask(self._stream, method, params, timeout)

    async def disconnect(self) -> None:
        # Without an id in its hands the client could not come back.
        if primes(self._session) or self._stream.last:
            self.parted.set()
            self._stream.touch()
            self._stream.disconnect()


class HandshakeExchange:
    """One POST of the handshake era."""

    def __init__(self, kernel: Kernel, arrival: Arrival, message: Any) -> None:
        self._kernel = kernel
        self._arrival = arrival
        self._message = message
        self._finals: list[Answer] = []
        self._begun = False

    async def answer(self) -> Answer | EventStream | None:
        """Serve the message, or the batch of messages."""
        try:
            check_version(self._arrival)
            if (
                isinstance(self._message, dict)
                and self._message.get("method") == "initialize"
                and "id" in self._message
            ):
                return await self._initialize(self._message)
            return await self._serve()
        except Exception as error:
            return failure_of(error, modern=False).answer(_id_of(self._message))

    def abandon(self) -> None:
        """The client closed the connection; its calls go on and can be resumed."""

    async def _initialize(self, message: Mapping[str, Any]) -> Answer:
        arrival, request_id = self._arrival, message["id"]
        outlet = NoOutlet()
        connection = Connection.for_loop(_Nowhere())
        call = Call(self._kernel.server, arrival, connection=connection, outlet=outlet, request_id=request_id)
        runner: ServerRunner[Any] = ServerRunner(
            self._kernel.lowlevel, connection, {}, init_options=self._kernel.initialization
        )
        result = await runner.on_request(call, "initialize", message.get("params"))
        client = connection.client_params
        if client is None:
            raise MCPError(INVALID_PARAMS, "Invalid initialize parameters")
        dumped = client.model_dump(mode="json", by_alias=True, exclude_none=True)
        caller = arrival.caller
        _, session_id = await arrival.threads.run(
            MCPSession.objects.begin,
            server=self._kernel.server.key,
            principal=caller.principal,
            tenant=caller.tenant,
            user=caller.user,
            address=caller.address,
            protocol_version=connection.protocol_version,
            client_info=dumped.get("clientInfo", {}),
            capabilities=dumped.get("capabilities", {}),
        )
        return Answer(
            status=200,
            body=encode_result(request_id, result),
            headers=((SESSION_HEADER.encode(), session_id.encode("ascii")),),
        )

    async def _serve(self) -> Answer | EventStream:
        messages = self._message if isinstance(self._message, list) else [self._message]
        lasting = any(message.get("method") != "notifications/initialized" for message in messages)
        session = await find_session(self._kernel, self._arrival, used=lasting)
        if isinstance(self._message, list):
            self._check_batch(session, messages)
        local = local_session(session.key)
        requests = []
        for message in messages:
            if "method" not in message:
                local.take_answer(message)
            elif "id" in message:
                requests.append(message)
            else:
                await self._take_notification(session, local, message)
        if not requests:
            forget_if_empty(session.key)
            return ACCEPTED
        return await self._run_all(session, local, requests)

    def _check_batch(self, session: MCPSession, messages: Sequence[Mapping[str, Any]]) -> None:
        allowed = session.protocol_version == BATCHING_VERSION and 0 < len(messages) <= MAX_BATCH
        if not allowed or any(message.get("method") == "initialize" for message in messages):
            raise Refusal(_BAD_BATCH)

    async def _take_notification(self, session: MCPSession, local: LocalSession, message: Mapping[str, Any]) -> None:
        params = message.get("params")
        if message["method"] == "notifications/cancelled" and isinstance(params, dict):
            request_id = params.get("requestId")
            # True is no id, though a dictionary takes it for 1.
            if isinstance(request_id, str | int) and not isinstance(request_id, bool):
                call = local.calls.get(request_id)
                if call is not None:
                    call.cancel()
            return
        call = self._call(session, local, NoOutlet(), None, params)
        runner: ServerRunner[Any] = ServerRunner(self._kernel.lowlevel, call.connection, {})
        await runner.on_notify(call, message["method"], params)

    async def _run_all(
        self, session: MCPSession, local: LocalSession, requests: Sequence[Mapping[str, Any]]
    ) -> Answer | EventStream:
        stream = local.open_stream()
        shared = HandshakeOutlet(session, local, stream) if self._arrival.streams else None
        tasks = []
        for message in requests:
            params = message.get("params")
            call = self._call(session, local, shared or NoOutlet(), message["id"], params)
            # A repeated id is an independent call; only the first can be cancelled by it.
            local.calls.setdefault(message["id"], call)
            task = call.task = asyncio.get_running_loop().create_task(self._run(call, message, local, stream))
            _running.add(task)
            task.add_done_callback(_running.discard)
            tasks.append(task)
        closer = asyncio.get_running_loop().create_task(self._close(tasks, local, stream))
        _running.add(closer)
        closer.add_done_callback(_running.discard)
        try:
            if shared is None:
                await asyncio.shield(closer)
            else:
                await stream.settled(mcp_settings.KEEPALIVE_SECONDS)
        except asyncio.CancelledError:
            # The door was ended. The calls go on, and their stream is forgotten in its time.
            self._keep(local, stream)
            raise
        if stream.closed and not stream.last and not (shared is not None and shared.parted.is_set()):
            local.drop(stream)
            forget_if_empty(session.key)
            return self._json()
        self._keep(local, stream)
        return EventStream(frames=frames(session, stream, 0, parted=shared.parted if shared else None))

    async def _run(self, call: Call, message: Mapping[str, Any], local: LocalSession, stream: Stream) -> None:
        request_id: RequestId = message["id"]
        final: Answer | None = None
        try:
            method = message["method"]
            final = await response(
                call, method, request_id, await self._kernel.run(call, method, message.get("params"))
            )
        except Exception as error:
            final = failure_of(error, modern=False).answer(request_id)
        finally:
            call.finish()
            if local.calls.get(request_id) is call:
                del local.calls[request_id]
            # A cancelled request gets no response (basic/utilities/cancellation).
            if final is not None and not call.cancelled:
                self._finals.append(final)
                if self._begun or stream.last:
                    self._begin(stream)

    def _begin(self, stream: Stream) -> None:
        """Answer by events from here on: what has ended so far goes onto the stream."""
        self._begun = True
        for final in self._finals:
            stream.append(final.body)
        self._finals.clear()

    def _keep(self, local: LocalSession, stream: Stream) -> None:
        """Answer by events, and forget them some time after the last."""
        self._begin(stream)
        if stream.closed:
            local.retire(stream)

    async def _close(self, tasks: Sequence[asyncio.Task[None]], local: LocalSession, stream: Stream) -> None:
        await asyncio.wait(tasks)
        stream.close()
        if self._begun:
            local.retire(stream)

    def _json(self) -> Answer:
        """Return the results as one JSON body; without a body when all were cancelled."""
        finals = self._finals
        if isinstance(self._message, list):
            return Answer(status=200, body=b"[" + b",".join(final.body for final in finals) + b"]")
        return finals[0] if finals else ACCEPTED

    def _call(
        self,
        session: MCPSession,
        local: LocalSession,
        outlet: Outlet,
        request_id: RequestId | None,
        params: Any,
    ) -> Call:
        connection = connection_of(
            session.protocol_version,
            session.client_info_data,
            session.capabilities_data,
            outbound=StandaloneOutbound(session, local),
        )
        return Call(
            self._kernel.server,
            self._arrival,
            connection=connection,
            outlet=outlet,
            request_id=request_id,
            params=params if isinstance(params, dict) else None,
            session=session,
            log_level=session.log_level or DEFAULT_LOG_LEVEL,
        )


def _id_of(message: Any) -> RequestId | None:
    return message.get("id") if isinstance(message, dict) else None


class _Nowhere:
    """The connection of a session that does not exist yet: nothing can be sent on it."""

    async def notify(self, method: str, params: Mapping[str, Any] | None, opts: Any = None) -> None:
        return None

    async def send_raw_request(
        self, method: str, params: Mapping[str, Any] | None, opts: Any = None
    ) -> dict[str, Any]:
        raise SessionNotFound

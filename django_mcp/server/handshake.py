"""Exchanges of the handshake era: one POST of a session (MCP 2025-03-26, 2025-06-18, 2025-11-25, transports).

Any process serves any of them: the session is read from the database for each request, and what becomes a stream is
in the store.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from mcp.server.connection import Connection
from mcp.server.runner import ServerRunner
from mcp.shared.exceptions import MCPError
from mcp_types import INVALID_PARAMS, INVALID_REQUEST, RequestId

from django_mcp.exceptions import SessionNotFound
from django_mcp.models import MCPSession
from django_mcp.server.call import Call, NoOutlet
from django_mcp.server.caller import Arrival
from django_mcp.server.connection import connection_of
from django_mcp.server.event_reader import EventReader
from django_mcp.server.event_stream import EventStream
from django_mcp.server.keeper import CallKeeper, keeper_of
from django_mcp.server.kernel import Kernel
from django_mcp.server.log import Log
from django_mcp.server.questioning import take_answer
from django_mcp.server.reply import Reply
from django_mcp.server.run import DEFAULT_LOG_LEVEL, Run, request_digest, request_id_text
from django_mcp.server.run_outlet import SessionOutbound
from django_mcp.server.session_lookup import SESSION_HEADER, check_version, find_session
from django_mcp.server.standalone import read_again
from django_mcp.server.wire import Answer, Failure, Refusal, encode_result, failure_of

ACCEPTED: Final = Answer(status=202)
BATCHING_VERSION: Final = "2025-03-26"
MAX_BATCH: Final = 20

_BAD_BATCH: Final = Failure(code=INVALID_REQUEST, message="A batch is not allowed here", status=400)


class HandshakeExchange:
    """One POST of the handshake era."""

    def __init__(self, kernel: Kernel, arrival: Arrival, message: Any) -> None:
        self._kernel = kernel
        self._arrival = arrival
        self._message = message
        self._log = Log.of(kernel.server.store_alias, arrival.threads)
        self._runs: Sequence[Run] = ()

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

    @property
    def may_have_had_effects(self) -> bool:
        """Whether it could do harm to send the message again."""
        return any(run.may_have_had_effects for run in self._runs)

    def abandon(self) -> None:
        """The client closed the connection; its calls go on and can be resumed."""

    @property
    def _keeper(self) -> CallKeeper:
        # Under WSGI each request has an event loop of its own.
        return keeper_of(self._kernel, self._arrival.threads, lasts=self._arrival.streams)

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
        _, session_id = await arrival.threads.door.run(
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
        requests = []
        for message in messages:
            if "method" not in message:
                await take_answer(self._log, session.key, message)
            elif "id" in message:
                requests.append(message)
            else:
                await self._take_notification(session, message)
        if not requests:
            return ACCEPTED
        return await self._attached(session) or await self._run_all(session, requests)

    def _check_batch(self, session: MCPSession, messages: Sequence[Mapping[str, Any]]) -> None:
        allowed = session.protocol_version == BATCHING_VERSION and 0 < len(messages) <= MAX_BATCH
        if not allowed or any(message.get("method") == "initialize" for message in messages):
            raise Refusal(_BAD_BATCH)

    async def _take_notification(self, session: MCPSession, message: Mapping[str, Any]) -> None:
        params, method = message.get("params"), message["method"]
        if method == "notifications/cancelled" and isinstance(params, dict):
            request_id = params.get("requestId")
            if isinstance(request_id, str | int) and not isinstance(request_id, bool):
                await self._keeper.cancel(session.key, request_id_text(request_id))
            return
        if method == "notifications/roots/list_changed":
            await self._arrival.threads.door.run(session.note_roots_changed)
        call = Call(
            self._kernel.server,
            self._arrival,
            connection=connection_of(
                session.protocol_version,
                session.client_info_data,
                session.capabilities_data,
                outbound=SessionOutbound(self._log, session),
            ),
            outlet=NoOutlet(),
            request_id=None,
            params=params if isinstance(params, dict) else None,
            session=session,
            log_level=session.log_level or DEFAULT_LOG_LEVEL,
        )
        runner: ServerRunner[Any] = ServerRunner(self._kernel.lowlevel, call.connection, {})
        await runner.on_notify(call, method, params)

    async def _attached(self, session: MCPSession) -> EventStream | None:
        """Return the stream of the call that runs under the id of the message, if it is the same call sent again."""
        message = self._message
        if not self._arrival.listens or not isinstance(message, dict) or message.get("method") != "tools/call":
            return None
        log = self._log
        record = await log.do(log.store.find_running_call, session.key, request_id_text(message["id"]))
        if record is None or record.digest != request_digest(message):
            return None
        return await read_again(log, session, record.stream)

    async def _run_all(self, session: MCPSession, requests: Sequence[Mapping[str, Any]]) -> Answer | EventStream:
        arrival = self._arrival
        reply = Reply(self._log, session, self._keeper, streams=arrival.streams, resumes=arrival.listens)
        self._runs = [Run(self._kernel, arrival, session, message, reply) for message in requests]
        reply.begin(self._runs)
        try:
            stream = await reply.settled()
        except BaseException:
            # The door was ended. What has begun goes on, and its stream can be read; nothing else is begun any more.
            if any(run.may_go_on for run in self._runs):
                reply.open()
            else:
                for run in self._runs:
                    run.lose()
            raise
        if stream is None:
            return self._json(reply.finals)
        reader = EventReader(self._log, session, stream, number=0, stays=True, resumes=arrival.listens)
        return EventStream(frames=reader.frames())

    def _json(self, finals: Sequence[Answer]) -> Answer:
        """Return the results as one JSON body; without a body when all were cancelled."""
        if not finals:
            return ACCEPTED
        if isinstance(self._message, list):
            return Answer(status=200, body=b"[" + b",".join(final.body for final in finals) + b"]")
        return finals[0]


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

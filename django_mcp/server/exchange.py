"""One HTTP request served: which era it belongs to, and who answers it.

The era is told by the `_meta` envelope and the `MCP-Protocol-Version` header, never by the name of the method.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, cast

from mcp.shared.inbound import MCP_PROTOCOL_VERSION_HEADER
from mcp_types import INTERNAL_ERROR, INVALID_REQUEST, PARSE_ERROR, PROTOCOL_VERSION_META_KEY, RequestId
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from django_mcp.conf import mcp_settings
from django_mcp.core import strict_json
from django_mcp.registry.server import servers
from django_mcp.server import standalone
from django_mcp.server.caller import Arrival
from django_mcp.server.compile import compiled
from django_mcp.server.drain import process_drain
from django_mcp.server.event_stream import EventStream
from django_mcp.server.handshake import HandshakeExchange
from django_mcp.server.kernel import kernel_of
from django_mcp.server.modern import ModernExchange
from django_mcp.server.wire import Answer, Failure, failure_of, method_not_allowed

_NOT_A_MESSAGE: Final = Failure(
    code=INVALID_REQUEST, message="The body must be one JSON-RPC message object", status=400
)
_LOST: Final = Failure(
    code=INTERNAL_ERROR,
    message="worker_lost: the server process ended, and the call may have had effects",
    data={"reason": "worker_lost"},
)
_POST_ONLY: Final = method_not_allowed(b"POST, OPTIONS")


class Exchange:
    """One HTTP request to one server."""

    def __init__(self, server: str, arrival: Arrival) -> None:
        self._arrival = arrival
        self._kernel = kernel_of(compiled(servers[server]), arrival.listens)
        self._inner: ModernExchange | HandshakeExchange | None = None
        self._message: Any = None

    async def answer(self) -> Answer | EventStream | None:
        """Return what to send: JSON, a stream of events, or None when the client left and nothing is to be said."""
        arrival = self._arrival
        if arrival.method == "POST":
            try:
                message = strict_json.decode(arrival.body, max_depth=mcp_settings.MAX_JSON_DEPTH)
            except strict_json.InvalidJSON as error:
                return Failure(code=PARSE_ERROR, message=f"Parse error: {error}", status=400).answer()
            return await self._post(message)
        if not arrival.listens or arrival.headers.get(MCP_PROTOCOL_VERSION_HEADER) in MODERN_PROTOCOL_VERSIONS:
            return _POST_ONLY
        if arrival.method == "GET":
            return await standalone.open_stream(self._kernel, arrival)
        return await standalone.terminate(self._kernel, arrival)

    def abandon(self) -> None:
        """The client is gone."""
        if self._inner is not None:
            self._inner.abandon()

    def lost(self) -> Answer:
        """Return the answer to a request that was abandoned because the process ends.

        Where it may have had effects, no status invites a proxy or a client to send it again: nobody knows them.
        """
        request_id = _readable_id(self._message)
        if self._inner is not None and self._inner.may_have_had_effects:
            return _LOST.answer(request_id)
        return failure_of(process_drain().refusal(), modern=True).answer(request_id)

    async def _post(self, message: Any) -> Answer | EventStream | None:
        self._message = message
        if self._is_modern(message):
            if not _is_message(message) or "method" not in message:
                return _NOT_A_MESSAGE.answer(_readable_id(message))
            self._inner = ModernExchange(self._kernel, self._arrival, message)
            return await self._inner.answer()
        messages = message if isinstance(message, list) else [message]
        if not messages or not all(_is_message(item) for item in messages):
            return _NOT_A_MESSAGE.answer(_readable_id(message))
        self._inner = HandshakeExchange(self._kernel, self._arrival, message)
        return await self._inner.answer()

    def _is_modern(self, message: Any) -> bool:
        if self._arrival.headers.get(MCP_PROTOCOL_VERSION_HEADER) in MODERN_PROTOCOL_VERSIONS:
            return True
        params = message.get("params") if isinstance(message, dict) else None
        meta = params.get("_meta") if isinstance(params, Mapping) else None
        return isinstance(meta, Mapping) and PROTOCOL_VERSION_META_KEY in meta


def _is_message(value: Any) -> bool:
    """Whether a value is one JSON-RPC request, notification or response.

    An id is a string or an integer, never null (MCP 2025-11-25 and 2026-07-28, basic).
    """
    if not isinstance(value, dict) or value.get("jsonrpc") != "2.0":
        return False
    if "id" in value and not _is_id(value["id"]):
        return False
    if "params" in value and not isinstance(value["params"], dict):
        return False
    if "method" in value:
        return isinstance(value["method"], str) and "result" not in value and "error" not in value
    return "id" in value and ("result" in value) != ("error" in value)


def _is_id(value: Any) -> bool:
    return isinstance(value, str | int) and not isinstance(value, bool)


def _readable_id(value: Any) -> RequestId | None:
    """Return the id of a malformed request, where it has one: its refusal carries it (MCP 2026-07-28, basic)."""
    if not isinstance(value, dict) or "result" in value or "error" in value or not _is_id(value.get("id")):
        return None
    return cast("RequestId", value["id"])

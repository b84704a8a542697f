"""The modern era as a client speaks it: every request on its own, questions answered in rounds (MCP 2026-07-28)."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import aclosing
from itertools import count
from typing import Any, Final

from mcp.shared.inbound import NAME_BEARING_METHODS, encode_header_value, mcp_param_headers, x_mcp_header_map
from mcp_types import CLIENT_CAPABILITIES_META_KEY, CLIENT_INFO_META_KEY, LOG_LEVEL_META_KEY, PROTOCOL_VERSION_META_KEY

from django_mcp.core import strict_json
from django_mcp.registry.server import servers
from django_mcp.server.compile import compiled
from django_mcp.testing.answers import Question, Respond
from django_mcp.testing.door import InProcessDoor
from django_mcp.testing.errors import MCPClientError
from django_mcp.testing.recorder import Recorder
from django_mcp.testing.results import Reply

CLIENT_INFO: Final = {"name": "django_mcp.testing", "version": "1"}
MAX_ROUNDS: Final = 20
ACCEPT: Final = "application/json, text/event-stream"


class ModernLink:
    """Requests to one server in the modern era."""

    def __init__(
        self, door: InProcessDoor, version: str, capabilities: Mapping[str, Any], log_level: str | None
    ) -> None:
        self._door = door
        self._version = version
        self._meta: dict[str, Any] = {
            PROTOCOL_VERSION_META_KEY: version,
            CLIENT_INFO_META_KEY: CLIENT_INFO,
            CLIENT_CAPABILITIES_META_KEY: dict(capabilities),
        }
        if log_level is not None:
            self._meta[LOG_LEVEL_META_KEY] = log_level
        self._ids = count(1)

    async def request(
        self,
        method: str,
        params: Mapping[str, Any],
        recorder: Recorder,
        respond: Respond,
        *,
        stop: bool = False,
        after: Reply | None = None,
    ) -> Reply:
        """Send a request, and again with the answers as long as the result is a question.

        Args:
            respond: answers a question.
            stop: return at the next questions instead of answering them.
            after: a reply that stopped at its questions; they are answered first.
        """
        reply = after
        for _ in range(MAX_ROUNDS):
            sent = dict(params)
            if reply is not None:
                answered = {question.name: await respond(question) for question in questions_of(reply.raw)}
                sent |= {"inputResponses": answered} if answered else {}
                sent |= {"requestState": reply.request_state} if reply.request_state is not None else {}
            reply = await self._round(method, sent, recorder)
            asked = questions_of(reply.raw)
            recorder.questions.extend(asked)
            if reply.raw.get("resultType") != "input_required" or stop:
                return reply
        raise RuntimeError(f"the server still asks after {MAX_ROUNDS} rounds: {recorder.questions[-1:]}")

    async def _round(self, method: str, params: dict[str, Any], recorder: Recorder) -> Reply:
        request_id = next(self._ids)
        meta = with_meta({**self._meta, "progressToken": f"progress-{request_id}"}, params)
        message = {"jsonrpc": "2.0", "id": request_id, "method": method, "params": {**params, "_meta": meta}}
        response = await self._door.send("POST", self._headers(method, params), message)
        async with aclosing(response.events) as events:  # type: ignore[type-var]
            async for event in events:
                received: Any = strict_json.decode(event.data.encode("utf-8")) if event.data else {}
                if "method" in received:
                    recorder.hear(received)
                elif "error" in received:
                    error = received["error"]
                    raise MCPClientError(error["code"], error["message"], error.get("data"), response.status)
                elif "result" in received:
                    raw = received["result"]
                    return recorder.reply(
                        raw,
                        status=response.status,
                        headers=response.headers,
                        stopped=raw.get("resultType") == "input_required",
                    )
        raise ConnectionError(f"the response to {method} ended without a result (HTTP status {response.status})")

    def _headers(self, method: str, params: Mapping[str, Any]) -> dict[str, str]:
        headers = {
            "content-type": "application/json",
            "accept": ACCEPT,
            "mcp-protocol-version": self._version,
            "mcp-method": method,
        }
        if (key := NAME_BEARING_METHODS.get(method)) is not None and isinstance(params.get(key), str):
            headers["mcp-name"] = encode_header_value(params[key])
        if method == "tools/call":
            tool = compiled(servers[self._door.server]).tools.get(str(params.get("name")))
            if tool is not None and tool.mirrors_headers:
                headers |= mcp_param_headers(x_mcp_header_map(tool.input_schema), params.get("arguments") or {})
        return headers


def with_meta(own: Mapping[str, Any], params: Mapping[str, Any]) -> dict[str, Any]:
    """Return the `_meta` that the client sends by itself, as `params` change it; a None takes a key away."""
    meta = {**own, **params.get("_meta", {})}
    return {key: value for key, value in meta.items() if value is not None}


def questions_of(raw: Mapping[str, Any]) -> list[Question]:
    """Return the questions of a result that is not complete."""
    asked = raw.get("inputRequests") or {}
    return [
        Question(name=name, method=request["method"], params=request.get("params") or {})
        for name, request in asked.items()
    ]

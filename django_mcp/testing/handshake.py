"""The handshake era as a client speaks it: a session, and questions that arrive on the stream of the request."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import aclosing
from itertools import count
from typing import Any

from django_mcp.core import strict_json
from django_mcp.server.call import QUESTION_META_KEY
from django_mcp.testing.answers import Question, Respond
from django_mcp.testing.door import InProcessDoor, Response
from django_mcp.testing.errors import MCPClientError
from django_mcp.testing.modern import ACCEPT, CLIENT_INFO, with_meta
from django_mcp.testing.recorder import Recorder
from django_mcp.testing.results import Reply

SESSION_HEADER = "mcp-session-id"


class HandshakeLink:
    """Requests of one session, which is begun with the first of them."""

    def __init__(
        self, door: InProcessDoor, version: str, capabilities: Mapping[str, Any], log_level: str | None
    ) -> None:
        self._door = door
        self._version = version
        self._capabilities = dict(capabilities)
        self._log_level = log_level
        self._ids = count(1)
        self.session_id: str | None = None

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
        """Send a request and answer what the server asks on its stream.

        Args:
            respond: answers a question.
            stop: cancel the call at its first question instead of answering it.
            after: a reply that stopped at its questions. In this era the call begins anew.
        """
        if self.session_id is None:
            await self._begin()
        return await self._exchange(method, params, recorder, None if stop else respond)

    async def _begin(self) -> None:
        initialize = {
            "protocolVersion": self._version,
            "capabilities": self._capabilities,
            "clientInfo": CLIENT_INFO,
        }
        reply = await self._exchange("initialize", initialize, Recorder(), None)
        self.session_id = reply.headers[SESSION_HEADER]
        await self._post({"method": "notifications/initialized"})
        if self._log_level is not None:
            await self._exchange("logging/setLevel", {"level": self._log_level}, Recorder(), None)

    async def _exchange(
        self, method: str, params: Mapping[str, Any], recorder: Recorder, respond: Respond | None
    ) -> Reply:
        request_id = next(self._ids)
        sent = dict(params)
        if method != "initialize":
            sent["_meta"] = with_meta({"progressToken": f"progress-{request_id}"}, params)
        response = await self._post({"id": request_id, "method": method, "params": sent})
        last_event_id: str | None = None
        while True:
            async with aclosing(response.events) as events:  # type: ignore[type-var]
                async for event in events:
                    last_event_id = event.event_id or last_event_id
                    received: Any = strict_json.decode(event.data.encode("utf-8")) if event.data else {}
                    if received.get("id") == request_id and "method" not in received:
                        return _result(received, response, recorder)
                    if "id" in received and "method" in received:
                        question = _question(received)
                        recorder.questions.append(question)
                        if respond is None:
                            await self._cancel(request_id)
                            return recorder.reply({}, status=response.status, headers=response.headers, stopped=True)
                        await self._answer(received["id"], question, request_id, respond)
                    elif "method" in received:
                        recorder.hear(received)
                    elif "error" in received:
                        return _result(received, response, recorder)
            if last_event_id is None:
                raise ConnectionError(f"{method} was answered without a result (HTTP status {response.status})")
            # The server ended the connection, not the call: come back for the rest.
            response = await self._door.send("GET", {**self._headers(), "last-event-id": last_event_id})
            if response.status != 200:
                raise ConnectionError(f"the stream of {method} ended without a result")

    async def _answer(self, asked: Any, question: Question, request_id: int, respond: Respond) -> None:
        try:
            result = await respond(question)
        except BaseException:
            await self._cancel(request_id)
            raise
        await self._post({"id": asked, "result": result})

    async def _cancel(self, request_id: int) -> None:
        await self._post({"method": "notifications/cancelled", "params": {"requestId": request_id}})
        # One turn of the loop, in which the call learns of it.
        await asyncio.sleep(0)

    async def _post(self, message: Mapping[str, Any]) -> Response:
        return await self._door.send("POST", self._headers(), {"jsonrpc": "2.0", **message})

    def _headers(self) -> dict[str, str]:
        headers = {"content-type": "application/json", "accept": ACCEPT}
        if self.session_id is not None:
            headers |= {SESSION_HEADER: self.session_id, "mcp-protocol-version": self._version}
        return headers


def _result(received: Mapping[str, Any], response: Response, recorder: Recorder) -> Reply:
    if "error" in received:
        error = received["error"]
        raise MCPClientError(error["code"], error["message"], error.get("data"), response.status)
    return recorder.reply(received["result"], status=response.status, headers=response.headers)


def _question(received: Mapping[str, Any]) -> Question:
    params = dict(received.get("params") or {})
    meta = params.pop("_meta", None) or {}
    return Question(name=str(meta.get(QUESTION_META_KEY, "")), method=received["method"], params=params)

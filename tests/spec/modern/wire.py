"""Requests of revision 2026-07-28 as a client posts them, and what the consumer sends back, message by message."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from mcp.shared.inbound import NAME_BEARING_METHODS, encode_header_value

from django_mcp.consumers import MCPConsumer
from django_mcp.core import sse
from django_mcp.testing.asgi import StreamedResponse, stream

SERVER = "tested"
VERSION = "2026-07-28"
PREFIX = "io.modelcontextprotocol/"
SUBSCRIPTION = f"{PREFIX}subscriptionId"
BOUND_SECONDS = 10
EVERYTHING: Mapping[str, Any] = {"elicitation": {"form": {}}, "sampling": {"tools": {}}, "roots": {}}

#: One good request of each method that is answered by itself, for the server that `full` defines.
REQUESTS: Mapping[str, Mapping[str, Any]] = {
    "server/discover": {},
    "tools/list": {},
    "tools/call": {"name": "greet", "arguments": {}},
    "resources/list": {},
    "resources/templates/list": {},
    "resources/read": {"uri": "note://today"},
    "prompts/list": {},
    "prompts/get": {"name": "plan", "arguments": {"day": "monday"}},
    "completion/complete": {
        "ref": {"type": "ref/prompt", "name": "plan"},
        "argument": {"name": "day", "value": "m"},
    },
}

_ids = count(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A whole response and the JSON-RPC messages in it."""

    status: int
    headers: Mapping[str, str]
    messages: list[dict[str, Any]] = field(default_factory=list)

    @property
    def media_type(self) -> str:
        return self.headers.get("content-type", "").partition(";")[0]

    @property
    def last(self) -> dict[str, Any]:
        return self.messages[-1]

    @property
    def result(self) -> dict[str, Any]:
        assert "result" in self.last, self.last
        return dict(self.last["result"])

    @property
    def error(self) -> dict[str, Any]:
        assert "error" in self.last, self.last
        return dict(self.last["error"])

    @property
    def text(self) -> str:
        return "\n".join(block["text"] for block in self.result["content"])

    @property
    def notifications(self) -> list[dict[str, Any]]:
        return [message for message in self.messages if "method" in message]


class Opened:
    """A response that is read while it goes on."""

    def __init__(self, response: StreamedResponse) -> None:
        self.response = response
        self._messages = self._read()

    async def next(self) -> dict[str, Any]:
        """Return the next message; TimeoutError when none comes, StopAsyncIteration at the end."""
        return await asyncio.wait_for(anext(self._messages), BOUND_SECONDS)

    async def rest(self) -> list[dict[str, Any]]:
        async with asyncio.timeout(BOUND_SECONDS):
            return [message async for message in self._messages]

    async def _read(self) -> AsyncIterator[dict[str, Any]]:
        decoder = sse.Decoder()
        await self.response.started()
        if self.response.headers.get("content-type", "").startswith("application/json"):
            yield json.loads(await self.response.read())
            return
        async for chunk in self.response:
            for event in decoder.feed(chunk):
                if event.data:
                    yield json.loads(event.data)


def request(
    method: str,
    params: Mapping[str, Any] | None = None,
    *,
    capabilities: Mapping[str, Any] = EVERYTHING,
    meta: Mapping[str, Any] | None = None,
    **members: Any,
) -> dict[str, Any]:
    """Return a request; in `meta` and `members`, ... takes a key away."""
    envelope = {
        f"{PREFIX}protocolVersion": VERSION,
        f"{PREFIX}clientInfo": {"name": "wire", "version": "1"},
        f"{PREFIX}clientCapabilities": dict(capabilities),
        **(meta or {}),
    }
    message = {
        "jsonrpc": "2.0",
        "id": next(_ids),
        "method": method,
        "params": {**(params or {}), "_meta": _kept(envelope)},
        **members,
    }
    return _kept(message)


def call(tool: str, arguments: Mapping[str, Any] | None = None, **options: Any) -> dict[str, Any]:
    """Return a `tools/call`; see `request`."""
    more = options.pop("params", {})
    return request("tools/call", {"name": tool, "arguments": dict(arguments or {}), **more}, **options)


def mirrored(message: Any) -> dict[str, str]:
    """Return the headers that a conforming client sends with a message."""
    headers = {
        "content-type": "application/json",
        "accept": "application/json, text/event-stream",
        "mcp-protocol-version": VERSION,
    }
    if isinstance(message, dict) and isinstance(method := message.get("method"), str):
        headers["mcp-method"] = method
        params = message.get("params")
        name = params.get(NAME_BEARING_METHODS.get(method, "")) if isinstance(params, dict) else None
        if isinstance(name, str):
            headers["mcp-name"] = encode_header_value(name)
    return headers


async def post(message: Any, headers: Mapping[str, Any] | None = None, *, application: Any = None) -> Answer:
    """Send one message (or bytes) and read the whole response; in `headers`, ... takes one away."""
    async with opened(message, headers, application=application) as answer:
        messages = await answer.rest()
        await answer.response.over()
        return Answer(status=answer.response.status, headers=answer.response.headers, messages=messages)


@asynccontextmanager
async def opened(
    message: Any, headers: Mapping[str, Any] | None = None, *, application: Any = None
) -> AsyncIterator[Opened]:
    """Send one message and yield its response while it goes on; the client leaves at the end of the block."""
    body = message if isinstance(message, bytes) else json.dumps(message).encode()
    sent = _kept({**mirrored(message), **(headers or {})})
    async with stream(application or MCPConsumer(SERVER), "POST", "/mcp", headers=sent, body=body) as response:
        yield Opened(response)


async def bounded(event: asyncio.Event) -> None:
    await asyncio.wait_for(event.wait(), BOUND_SECONDS)


def _kept(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not ...}

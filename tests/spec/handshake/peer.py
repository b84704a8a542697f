"""A client of the handshake era by hand: what it sends and reads is JSON, over the consumer and a transport that
streams.
"""

import asyncio
import itertools
import json
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any

from django_mcp.consumers import MCPConsumer
from django_mcp.core import sse
from django_mcp.registry.server import servers
from django_mcp.server.changes import change_feed
from django_mcp.server.compile import compiled
from django_mcp.testing.asgi import StreamedResponse, stream

SERVER = "tested"
VERSION = "2025-11-25"
BOUND_SECONDS = 10
JSON = "application/json"
EVENTS = "text/event-stream"
EVERYTHING: Mapping[str, Any] = {"elicitation": {}, "sampling": {}, "roots": {}}

Message = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A whole HTTP response."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def media_type(self) -> str:
        return self.headers.get("content-type", "").partition(";")[0]

    @property
    def messages(self) -> list[Message]:
        """The JSON-RPC messages in their order, be it a stream or one JSON body."""
        if self.media_type != EVENTS:
            return [json.loads(self.body)] if self.body else []
        return [json.loads(event.data) for event in sse.Decoder().feed(self.body) if event.data]

    @property
    def message(self) -> Message:
        """The response: the last message."""
        return self.messages[-1]

    @property
    def result(self) -> dict[str, Any]:
        assert "result" in self.message, self.message
        return dict(self.message["result"])

    @property
    def error(self) -> dict[str, Any]:
        assert "error" in self.message, self.message
        return dict(self.message["error"])

    @property
    def text(self) -> str:
        return "\n".join(block.get("text", "") for block in self.result["content"])


class Reading:
    """A stream of events, read one by one; every read has a bound."""

    def __init__(self, response: StreamedResponse) -> None:
        self.response = response
        self._chunks = aiter(response)
        self._decoder = sse.Decoder()
        self._events: list[sse.Event] = []

    async def event(self) -> sse.Event:
        """Return the next event. Raises StopAsyncIteration at the end of the stream."""
        while not self._events:
            async with asyncio.timeout(BOUND_SECONDS):
                self._events += self._decoder.feed(await anext(self._chunks))
        return self._events.pop(0)

    async def message(self) -> tuple[str, Message]:
        """Return the next JSON-RPC message and the id of its event."""
        while not (event := await self.event()).data:
            pass
        return str(event.event_id), json.loads(event.data)

    async def rest(self) -> list[Message]:
        """Return the messages until the stream ends."""
        messages = []
        while True:
            try:
                messages.append((await self.message())[1])
            except StopAsyncIteration:
                return messages


class Peer:
    """A client with one session, or with none yet."""

    def __init__(self, version: str = VERSION, *, session_id: str = "", headers: Mapping[str, str] | None = None):
        self.version = version
        self.session_id = session_id
        self.headers = dict(headers or {})
        self._ids = itertools.count(1)

    async def begin(self, **capabilities: Any) -> "Peer":
        """Initialize a session and confirm it."""
        answer = await self.initialize(self.version, **capabilities)
        assert answer.status == 200, answer
        self.session_id = answer.headers["mcp-session-id"]
        assert (await self.send({"method": "notifications/initialized"})).status == 202
        return self

    async def initialize(self, version: str, **capabilities: Any) -> Answer:
        """Send `initialize` alone."""
        client = {"name": "peer", "version": "1"}
        params = {"protocolVersion": version, "capabilities": capabilities, "clientInfo": client}
        return await self.ask("initialize", **params)

    async def ask(self, method: str, **params: Any) -> Answer:
        """Send a request under the next id and return its answer."""
        return await self.send({"id": next(self._ids), "method": method, "params": params})

    async def call(self, tool: str, *, meta: Mapping[str, Any] | None = None, **arguments: Any) -> Answer:
        return await self.send(self.calling(tool, meta=meta, **arguments))

    def calling(self, tool: str, *, meta: Mapping[str, Any] | None = None, **arguments: Any) -> Message:
        """Return the request that calls a tool, under the next id."""
        params: dict[str, Any] = {"name": tool, "arguments": arguments}
        if meta is not None:
            params["_meta"] = dict(meta)
        return {"id": next(self._ids), "method": "tools/call", "params": params}

    async def send(self, message: Any = None, *, method: str = "POST", **headers: str | None) -> Answer:
        """Send any message and read the whole answer."""
        async with self.open(message, method=method, **headers) as response:
            status = await asyncio.wait_for(response.started(), BOUND_SECONDS)
            body = await asyncio.wait_for(response.read(), BOUND_SECONDS)
            return Answer(status=status, headers=response.headers, body=body)

    def open(
        self, message: Any = None, *, method: str = "POST", **headers: str | None
    ) -> AbstractAsyncContextManager[StreamedResponse]:
        """Send any message and yield its response, to be read while it goes on.

        Args:
            message: a message without its `jsonrpc` member, a list, or bytes that are sent as they are.
            headers: instead of the usual ones; None takes one away.
        """
        body = b""
        if isinstance(message, bytes):
            body = message
        elif message is not None:
            body = json.dumps({"jsonrpc": "2.0", **message} if isinstance(message, dict) else message).encode()
        usual: dict[str, str | None] = {"accept": f"{JSON}, {EVENTS}", **self.headers}
        if method == "POST":
            usual["content-type"] = JSON
        if self.session_id:
            usual |= {"mcp-session-id": self.session_id, "mcp-protocol-version": self.version}
        usual |= {name.replace("_", "-"): value for name, value in headers.items()}
        sent = {name: value for name, value in usual.items() if value is not None}
        return stream(MCPConsumer(SERVER), method, "/mcp", headers=sent, body=body, buffer=100)

    def listen(self, **headers: str | None) -> AbstractAsyncContextManager[StreamedResponse]:
        """Open the session's stream by GET."""
        return self.open(method="GET", **headers)


async def subscribed(count: int) -> None:
    """Wait until `count` streams of the server are told of its changes."""
    target = compiled(servers[SERVER])
    feed = change_feed(target.key, target.store_alias)
    async with asyncio.timeout(BOUND_SECONDS):
        while len(feed._subscriptions) != count:  # noqa: ASYNC110 - the feed tells nobody
            await asyncio.sleep(0)

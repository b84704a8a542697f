"""HTTP and MCP by hand, so that what no client would send can be sent. Synchronous; every read has a bound."""

import contextlib
import http.client
import itertools
import json
import select
import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.services import HOST

MODERN = "2026-07-28"
HANDSHAKE = "2025-11-25"
BATCHING = "2025-03-26"
READ_SECONDS = 30.0
CHUNK_BYTES = 65_536
HeaderList = Sequence[tuple[str, str]]

_ids = itertools.count(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A whole HTTP response; the names of `headers` are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def media_type(self) -> str:
        return self.headers.get("content-type", "").partition(";")[0]

    @property
    def message(self) -> Any:
        """Return the JSON-RPC message: the body, or the last event that holds one."""
        if self.media_type == "text/event-stream":
            return [json.loads(event.data) for event in parse_events(self.body.decode().splitlines()) if event.data][
                -1
            ]
        return json.loads(self.body)

    @property
    def result(self) -> dict[str, Any]:
        message = self.message
        assert "result" in message, message
        return dict(message["result"])

    @property
    def error(self) -> dict[str, Any]:
        message = self.message
        assert "error" in message, message
        return dict(message["error"])

    @property
    def text(self) -> str:
        """Return the text of a tool's result."""
        return "\n".join(block.get("text", "") for block in self.result["content"])


@dataclass(slots=True, kw_only=True)
class Event:
    """One server-sent event."""

    id: str | None = None
    data: str = ""
    retry: str | None = None

    @property
    def message(self) -> Any:
        return json.loads(self.data)


def parse_events(lines: Iterator[str] | Sequence[str]) -> Iterator[Event]:
    """Yield the events of a stream of lines, those without data too; comments alone are none."""
    event, seen = Event(), False
    for line in lines:
        name, _, value = line.partition(":")
        if not line:
            if seen:
                yield event
            event, seen = Event(), False
        elif name in {"id", "data", "retry"}:
            setattr(event, name, value.removeprefix(" "))
            seen = True


def exchange(
    port: int,
    method: str,
    path: str,
    headers: HeaderList = (),
    body: bytes = b"",
    *,
    host: str | None = "",
    declared: int | None = None,
    chunked: bool = False,
) -> Answer:
    """Send one request exactly so, and return the response.

    Args:
        host: the Host header; None for none, "" for the right one.
        declared: the Content-Length to declare; that of the body by default.
        chunked: send the body in chunks, without a Content-Length.
    """
    connection = http.client.HTTPConnection(HOST, port, timeout=READ_SECONDS)
    try:
        connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        if host is not None:
            connection.putheader("Host", host or f"{HOST}:{port}")
        for name, value in headers:
            connection.putheader(name, value.encode("latin-1"))
        if chunked:
            connection.putheader("Transfer-Encoding", "chunked")
        elif declared is not None or body or method == "POST":
            connection.putheader("Content-Length", str(len(body) if declared is None else declared))
        # A server that refuses early may close before it has read everything.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.endheaders()
            for start in range(0, len(body), CHUNK_BYTES):
                if _is_readable(connection.sock):
                    break
                piece = body[start : start + CHUNK_BYTES]
                connection.send(b"%x\r\n%s\r\n" % (len(piece), piece) if chunked else piece)
            else:
                if chunked:
                    connection.send(b"0\r\n\r\n")
        return _read(connection)
    finally:
        connection.close()


def _is_readable(sock: socket.socket) -> bool:
    """Say whether something has arrived, whatever the number of the socket: `select()` takes small ones alone."""
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return bool(poll.poll(0))


def _read(connection: http.client.HTTPConnection) -> Answer:
    response = connection.getresponse()
    headers = {name.lower(): value for name, value in response.getheaders()}
    return Answer(status=response.status, headers=headers, body=response.read())


class Streaming:
    """A response that is read while it goes on; leaving the context closes the connection."""

    def __init__(self, connection: http.client.HTTPConnection) -> None:
        self._connection = connection
        self._response = connection.getresponse()
        self.status = self._response.status
        self.headers = {name.lower(): value for name, value in self._response.getheaders()}
        self.last_event_id: str | None = None
        self._events = parse_events(self._lines())

    def __enter__(self) -> "Streaming":
        return self

    def __exit__(self, *details: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection, as a client does that goes away."""
        self._response.close()
        self._connection.close()

    def next_event(self) -> Event:
        """Return the next event; TimeoutError when none comes within READ_SECONDS, EOFError at the end."""
        for event in self._events:
            self.last_event_id = event.id or self.last_event_id
            return event
        raise EOFError("the stream has ended")

    def next_message(self, method: str = "") -> Any:
        """Return the next JSON-RPC message, or the next with this method."""
        while True:
            event = self.next_event()
            if event.data and (not method or event.message.get("method") == method):
                return event.message

    def next_response(self, message: Mapping[str, Any]) -> Any:
        """Return the response to a request, whatever comes before it."""
        while (found := self.next_message()).get("id") != message["id"] or "method" in found:
            pass
        return found

    def rest(self) -> list[Any]:
        """Return the messages up to the end of the stream."""
        messages = []
        with contextlib.suppress(EOFError):
            while True:
                messages.append(self.next_message())
        return messages

    def _lines(self) -> Iterator[str]:
        while line := self._response.readline():
            yield line.decode().rstrip("\r\n")


def tool_call(name: str, arguments: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the message of a call in a session, which asks for progress."""
    number = next(_ids)
    params = {"name": name, "arguments": dict(arguments or {}), "_meta": {"progressToken": number}}
    return {"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": params}


@dataclass(slots=True, kw_only=True)
class Caller:
    """One caller of one server: a port, and headers that go with each request."""

    port: int
    path: str = "/mcp"
    headers: HeaderList = ()
    session: str | None = None
    version: str = HANDSHAKE
    capabilities: Mapping[str, Any] = field(default_factory=lambda: {"sampling": {}, "elicitation": {}, "roots": {}})
    streams: list[Streaming] = field(default_factory=list, repr=False)
    """All that were opened, for whoever closes what is left of them."""

    def at(self, port: int) -> "Caller":
        """Return the same caller at another process."""
        return Caller(
            port=port,
            path=self.path,
            headers=self.headers,
            session=self.session,
            version=self.version,
            capabilities=self.capabilities,
            streams=self.streams,
        )

    # The modern era.

    def modern_request(self, method: str, params: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Return the message of a modern request."""
        meta = {
            "io.modelcontextprotocol/protocolVersion": MODERN,
            "io.modelcontextprotocol/clientInfo": {"name": "wire", "version": "1"},
            "io.modelcontextprotocol/clientCapabilities": dict(self.capabilities),
        }
        given = dict(params or {})
        given["_meta"] = {**meta, **given.get("_meta", {})}
        return {"jsonrpc": "2.0", "id": next(_ids), "method": method, "params": given}

    def modern_headers(self, message: Mapping[str, Any]) -> list[tuple[str, str]]:
        """Return the headers that mirror a modern request."""
        headers = [*_JSON, *self.headers, ("MCP-Protocol-Version", MODERN), ("Mcp-Method", message["method"])]
        name = message["params"].get("name", message["params"].get("uri"))
        return [*headers, ("Mcp-Name", name)] if isinstance(name, str) else headers

    def modern(self, method: str, params: Mapping[str, Any] | None = None) -> Answer:
        """Send a modern request and read the whole answer."""
        message = self.modern_request(method, params)
        return exchange(self.port, "POST", self.path, self.modern_headers(message), _encode(message))

    def modern_call(self, name: str, arguments: Mapping[str, Any] | None = None, **params: Any) -> Answer:
        return self.modern("tools/call", {"name": name, "arguments": dict(arguments or {}), **params})

    def modern_stream(self, method: str, params: Mapping[str, Any]) -> Streaming:
        """Send a modern request and read its answer as it comes."""
        message = self.modern_request(method, params)
        return self._open("POST", self.modern_headers(message), _encode(message))

    # The handshake era.

    def initialize(self, version: str = HANDSHAKE) -> Answer:
        """Begin a session, and keep its id."""
        params = {
            "protocolVersion": version,
            "capabilities": dict(self.capabilities),
            "clientInfo": {"name": "wire", "version": "1"},
        }
        self.session, self.version = None, version
        answer = self.post({"jsonrpc": "2.0", "id": next(_ids), "method": "initialize", "params": params})
        if answer.status == 200:
            self.session = answer.headers["mcp-session-id"]
            self.post({"jsonrpc": "2.0", "method": "notifications/initialized"})
        return answer

    def session_headers(self) -> list[tuple[str, str]]:
        if self.session is None:
            return [*self.headers]
        return [*self.headers, ("Mcp-Session-Id", self.session), ("MCP-Protocol-Version", self.version)]

    def post(self, message: Any) -> Answer:
        """Post a message of the session and read the whole answer."""
        return exchange(self.port, "POST", self.path, [*_JSON, *self.session_headers()], _encode(message))

    def request(self, method: str, params: Mapping[str, Any] | None = None) -> Answer:
        message = {"jsonrpc": "2.0", "id": next(_ids), "method": method, "params": dict(params or {})}
        return self.post(message)

    def call(self, name: str, arguments: Mapping[str, Any] | None = None) -> Answer:
        return self.request("tools/call", {"name": name, "arguments": dict(arguments or {})})

    def notify(self, method: str, params: Mapping[str, Any]) -> Answer:
        return self.post({"jsonrpc": "2.0", "method": method, "params": dict(params)})

    def reply(self, question: Mapping[str, Any], result: Mapping[str, Any]) -> Answer:
        """Answer a question of the server."""
        return self.post({"jsonrpc": "2.0", "id": question["id"], "result": dict(result)})

    def post_stream(self, message: Any) -> Streaming:
        """Post a message of the session and read the answer as it comes."""
        return self._open("POST", [*_JSON, *self.session_headers()], _encode(message))

    def listen(self, last_event_id: str | None = None) -> Streaming:
        """Open a GET stream of the session."""
        headers = [("Accept", "text/event-stream"), *self.session_headers()]
        if last_event_id is not None:
            headers.append(("Last-Event-ID", last_event_id))
        return self._open("GET", headers, b"")

    def terminate(self) -> Answer:
        return exchange(self.port, "DELETE", self.path, self.session_headers())

    @contextlib.contextmanager
    def leave_open(self, method: str, params: Mapping[str, Any]) -> Iterator[socket.socket]:
        """Send a modern request, and at the end go away without having read anything but what the block reads."""
        message = self.modern_request(method, params)
        connection = self._send("POST", self.modern_headers(message), _encode(message))
        try:
            yield connection.sock
        finally:
            connection.close()

    @contextlib.contextmanager
    def leave_session_open(self, message: Any) -> Iterator[socket.socket]:
        """Do what `leave_open` does, with a message of the session."""
        connection = self._send("POST", [*_JSON, *self.session_headers()], _encode(message))
        try:
            yield connection.sock
        finally:
            connection.close()

    def _open(self, method: str, headers: HeaderList, body: bytes) -> Streaming:
        self.streams.append(stream := Streaming(self._send(method, headers, body)))
        return stream

    def _send(self, method: str, headers: HeaderList, body: bytes) -> http.client.HTTPConnection:
        connection = http.client.HTTPConnection(HOST, self.port, timeout=READ_SECONDS)
        connection.putrequest(method, self.path, skip_accept_encoding=True)
        for name, value in headers:
            connection.putheader(name, value)
        if body:
            connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body)
        return connection


_JSON = (("Content-Type", "application/json"), ("Accept", "application/json, text/event-stream"))


def _encode(message: Any) -> bytes:
    return json.dumps(message).encode()

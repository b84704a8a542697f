"""`tools/call` as a client of the modern era sends it (MCP 2026-07-28, transports), and one answer to it."""

import json
import urllib.request
from typing import Any

VERSION = "2026-07-28"
ARGUMENTS = {"a": 40, "b": 2}
SUM = ARGUMENTS["a"] + ARGUMENTS["b"]


def headers(tool: str) -> dict[str, str]:
    """Return every header that a client sends with a call of `tool`."""
    return {
        "Accept": "application/json, text/event-stream",
        "Content-Type": "application/json",
        "Mcp-Method": "tools/call",
        "Mcp-Name": tool,
        "MCP-Protocol-Version": VERSION,
    }


def body(tool: str) -> str:
    """Return the message that calls `tool` with `ARGUMENTS`."""
    meta = {
        "io.modelcontextprotocol/protocolVersion": VERSION,
        "io.modelcontextprotocol/clientInfo": {"name": "benchmark", "version": "1"},
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    params = {"name": tool, "arguments": ARGUMENTS, "_meta": meta}
    return json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}, separators=(",", ":"))


def call(url: str, tool: str) -> str:
    """Call `tool` once and return the body of the answer.

    Raises:
        OSError: nothing answers there, or not with a status of success.
    """
    request = urllib.request.Request(url, data=body(tool).encode(), headers=headers(tool))
    with urllib.request.urlopen(request, timeout=10) as answer:
        return str(answer.read().decode())


def result_of(answer: str) -> dict[str, Any]:
    """Return the result in an answer, without what a server says of itself."""
    result: dict[str, Any] = json.loads(answer)["result"]
    return {key: value for key, value in result.items() if key != "_meta"}

"""What a person pastes into a client to reach the desk: pure text from a URL and an access token."""

import json
import shlex

SERVER = "travel-desk"
PROTOCOL_VERSION = "2026-07-28"


def headers(token: str) -> dict[str, str]:
    """Return the headers by which a client signs in."""
    return {"Authorization": f"Bearer {token}"}


def client_configurations(url: str, token: str) -> dict[str, str]:
    """Return the JSON for each client, under the client's name and the file that the text belongs in."""
    server = {"type": "http", "url": url, "headers": headers(token)}
    untyped = {"url": url, "headers": headers(token)}
    return {
        "Claude Code (.mcp.json)": json.dumps({"mcpServers": {SERVER: server}}, indent=2),
        "Cursor (.cursor/mcp.json)": json.dumps({"mcpServers": {SERVER: untyped}}, indent=2),
        "VS Code (.vscode/mcp.json)": json.dumps({"servers": {SERVER: server}}, indent=2),
    }


def call_request(token: str, tool: str, arguments: dict[str, object]) -> tuple[dict[str, str], dict[str, object]]:
    """Return the headers and the body of a `tools/call` by itself (2026-07-28, streamable HTTP)."""
    sent_headers = {
        **headers(token),
        "Content-Type": "application/json",
        "Accept": "application/json, text/event-stream",
        "MCP-Protocol-Version": PROTOCOL_VERSION,
        "Mcp-Method": "tools/call",
        "Mcp-Name": tool,
    }
    body: dict[str, object] = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "tools/call",
        "params": {
            "name": tool,
            "arguments": arguments,
            "_meta": {
                "io.modelcontextprotocol/protocolVersion": PROTOCOL_VERSION,
                "io.modelcontextprotocol/clientInfo": {"name": "curl", "version": "1"},
                "io.modelcontextprotocol/clientCapabilities": {},
            },
        },
    }
    return sent_headers, body


def curl(url: str, token: str, tool: str, arguments: dict[str, object]) -> str:
    """Return a command for a POSIX shell that calls a tool."""
    sent_headers, body = call_request(token, tool, arguments)
    lines = [f"curl -sS {shlex.quote(url)}"]
    lines += [f"-H {shlex.quote(f'{name}: {value}')}" for name, value in sent_headers.items()]
    lines.append(f"-d {shlex.quote(json.dumps(body))}")
    return " \\\n  ".join(lines)


def rest_curl(url: str, token: str) -> str:
    """Return a command for a POSIX shell that asks the REST API at `url`."""
    (header,) = (f"{name}: {value}" for name, value in headers(token).items())
    return f"curl -sS {shlex.quote(url)} -H {shlex.quote(header)}"


def resumption(url: str, token: str) -> str:
    """Return commands for bash: one drafts a leg, another shows the draft by the resumption token that came back."""
    call = curl(url, token, "@TOOL@", {"@": "@"})
    call = call.replace("@TOOL@", "'\"$1\"'").replace('{"@": "@"}', "'\"$2\"'")
    leg = json.dumps({"origin": "ZRH", "destination": "JFK", "departs_on": "2027-03-01"})
    return "\n".join(
        [
            f'mcp() {{ {call} "${{@:3}}"; }}',
            f"header=$(mcp draft_leg '{leg}' -o /dev/null -D - |",
            "  grep -i '^mcp-resumption-token:' | tr -d '\\r')",
            "mcp show_draft '{}' -H \"$header\"",
        ]
    )

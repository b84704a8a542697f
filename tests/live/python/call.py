"""Call a tool with the official client of the handshake era: `call.py URL TOOL ARGUMENTS`; print what it saw as JSON.

Runs in the environment of `requirements.txt` beside it.
"""

import asyncio
import json
import sys
from typing import Any

import httpx
from mcp import ClientSession
from mcp.client.streamable_http import streamable_http_client
from mcp.shared._httpx_utils import create_mcp_http_client

SECONDS = 60.0


async def main(url: str, tool: str, arguments: str) -> None:
    listening = asyncio.Event()
    resumed: list[int] = []
    progress: list[float] = []

    async def look(response: httpx.Response) -> None:
        if response.request.method != "GET":
            return
        if "last-event-id" in response.request.headers:
            resumed.append(response.status_code)
        listening.set()

    async def progressed(value: float, total: float | None, message: str | None) -> None:
        progress.append(value)

    http = create_mcp_http_client()
    http.event_hooks = {"response": [look]}
    async with (
        asyncio.timeout(SECONDS),
        http,
        streamable_http_client(url, http_client=http) as (read, write, _),
        ClientSession(read, write) as session,
    ):
        await session.initialize()
        tools = (await session.list_tools()).tools
        # So that the next request that the load balancer sees is the call's.
        await listening.wait()
        called = await session.call_tool(tool, json.loads(arguments), progress_callback=progressed)
        again = await session.call_tool("test_simple_text", {})
    report: dict[str, Any] = {
        "tools": [one.name for one in tools],
        "progress": progress,
        "resumed": resumed,
        "result": called.model_dump(mode="json", by_alias=True, exclude_none=True),
        "again": again.content[0].text,
    }
    print(json.dumps(report))


asyncio.run(main(*sys.argv[1:]))

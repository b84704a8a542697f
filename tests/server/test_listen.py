"""`subscriptions/listen`: what a caller may subscribe to."""

import asyncio
import json
from typing import Any

import pytest
from pytest_django import Settings

from django_mcp import Server
from django_mcp.consumers import MCPConsumer
from django_mcp.core import sse
from django_mcp.testing.asgi import stream
from tests.test_consumers import META

BOUND_SECONDS = 10


@pytest.mark.django_db(transaction=True)
async def test_a_resource_that_the_caller_may_not_read_is_not_subscribed_to(
    server: Server, settings: Settings
) -> None:
    settings.DJANGO_MCP = {"ACCESS": "public"}

    @server.resource("open://a")
    def readable() -> str:
        return ""

    @server.resource("rows://{number}")
    def row(number: str) -> str:
        return ""

    @server.resource("hidden://a", permission=lambda request: False)
    def hidden() -> str:
        return ""

    wanted = ["open://a", "rows://1", "hidden://a", "unknown://a", "open://a"]
    body = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "subscriptions/listen",
        "params": {"notifications": {"resourceSubscriptions": wanted}, "_meta": META},
    }
    headers = {
        "content-type": "application/json",
        "accept": "application/json, text/event-stream",
        "mcp-protocol-version": "2026-07-28",
        "mcp-method": "subscriptions/listen",
    }
    sent: Any = stream(MCPConsumer("tested"), "POST", "/mcp", headers=headers, body=json.dumps(body).encode())
    async with asyncio.timeout(BOUND_SECONDS), sent as response:
        (acknowledged,) = sse.Decoder().feed(await anext(aiter(response)))
    honoured = json.loads(acknowledged.data)["params"]["notifications"]
    assert honoured == {"resourceSubscriptions": ["open://a", "rows://1"]}

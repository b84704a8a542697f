"""The official Python client, connected as a user of it would: a URL, an access token, and answers to questions."""

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import mcp_types as types
from mcp import Client
from mcp.client.context import ClientRequestContext
from mcp.client.streamable_http import streamable_http_client
from mcp.shared._httpx_utils import create_mcp_http_client

READ_SECONDS = 30.0


class Person:
    """Answers what a server asks, and remembers what it was told."""

    def __init__(self, **content: Any) -> None:
        self.content = content
        self.asked: list[str] = []
        self.logged: list[Any] = []
        self.heard: list[str] = []

    async def elicit(self, context: ClientRequestContext, params: types.ElicitRequestParams) -> types.ElicitResult:
        self.asked.append(params.message)
        return types.ElicitResult(action="accept", content=self.content)

    async def sample(
        self, context: ClientRequestContext, params: types.CreateMessageRequestParams
    ) -> types.CreateMessageResult:
        return types.CreateMessageResult(
            role="assistant", content=types.TextContent(type="text", text="Paris"), model="a-model"
        )

    async def list_roots(self, context: ClientRequestContext) -> types.ListRootsResult:
        return types.ListRootsResult(roots=[types.Root(uri="file:///one")])

    async def log(self, params: types.LoggingMessageNotificationParams) -> None:
        self.logged.append(params.data)

    async def hear(self, message: Any) -> None:
        if isinstance(message, Exception):
            raise message
        self.heard.append(message.method)


@contextlib.asynccontextmanager
async def connect(url: str, mode: str, *, token: str = "", person: Person | None = None) -> AsyncIterator[Client]:
    """Connect to a server in one of the client's modes, `legacy` or a modern version, or `auto`."""
    headers = {"Authorization": f"Bearer {token}"} if token else None
    person = person or Person()
    async with (
        create_mcp_http_client(headers=headers) as http,
        Client(
            streamable_http_client(url, http_client=http),
            mode=mode,
            read_timeout_seconds=READ_SECONDS,
            elicitation_callback=person.elicit,
            sampling_callback=person.sample,
            list_roots_callback=person.list_roots,
            logging_callback=person.log,
            log_level="info",
            message_handler=person.hear,
            cache=None,
        ) as client,
    ):
        yield client


def text_of(result: types.CallToolResult) -> str:
    """Return the text of a result."""
    return "\n".join(block.text for block in result.content if isinstance(block, types.TextContent))

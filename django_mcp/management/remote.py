"""A server at a URL, through the official SDK's client, with the face of `django_mcp.testing.Client`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final, TypeVar

from mcp.client.client import Client as SDKClient
from mcp.client.streamable_http import streamable_http_client
from mcp.shared._httpx_utils import create_mcp_http_client
from mcp.shared.exceptions import MCPError
from mcp_types import (
    INVALID_REQUEST,
    CreateMessageResult,
    ElicitResult,
    ErrorData,
    Implementation,
    InputRequiredResult,
    ListRootsResult,
    Result,
    Tool,
)

from django_mcp.server.call import QUESTION_META_KEY
from django_mcp.testing import (
    CallResult,
    Log,
    MCPClientError,
    Progress,
    PromptResult,
    Question,
    ReadResult,
    UnansweredQuestion,
)
from django_mcp.testing.answers import Respond
from django_mcp.testing.modern import MAX_ROUNDS, questions_of
from django_mcp.testing.recorder import Listener

R = TypeVar("R", CallResult, ReadResult, PromptResult)
_ANSWERS: Final[dict[str, type[Any]]] = {
    "elicitation": ElicitResult,
    "sampling": CreateMessageResult,
    "roots": ListRootsResult,
}
_INFO: Final = Implementation(name="manage.py mcp", version="1")


class Asked:
    """Answers the questions of a server, and remembers one that has no answer.

    In the handshake era they arrive in callbacks of the SDK, out of which no exception comes.
    """

    def __init__(self, respond: Respond) -> None:
        self._respond = respond
        self.unanswered: UnansweredQuestion | None = None

    async def answer(self, question: Question) -> Any:
        return _ANSWERS[question.kind].model_validate(await self._respond(question))

    async def elicit(self, context: Any, params: Any) -> Any:
        return await self._called_back("elicitation/create", params)

    async def sample(self, context: Any, params: Any) -> Any:
        return await self._called_back("sampling/createMessage", params)

    async def list_roots(self, context: Any) -> Any:
        return await self._called_back("roots/list", None)

    async def _called_back(self, method: str, params: Any) -> Any:
        sent = params.model_dump(mode="json", by_alias=True, exclude_none=True) if params is not None else {}
        meta = sent.pop("_meta", None) or {}
        try:
            return await self.answer(Question(name=str(meta.get(QUESTION_META_KEY, "")), method=method, params=sent))
        except UnansweredQuestion as error:
            self.unanswered = error
            return ErrorData(code=INVALID_REQUEST, message="There is nobody to answer")


class RemoteClient:
    """Requests to a server at a URL."""

    def __init__(self, sdk: SDKClient, asked: Asked, listener: Listener) -> None:
        self._sdk = sdk
        self._asked = asked
        self._listener = listener

    async def alist_tools(self) -> list[Tool]:
        tools: list[Tool] = []
        cursor: str | None = None
        while True:
            page = await self._sdk.list_tools(cursor=cursor)
            tools += page.tools
            cursor = page.next_cursor
            if cursor is None:
                return tools

    async def acall(self, name: str, arguments: Mapping[str, Any]) -> CallResult:
        async def hear(progress: float, total: float | None, message: str | None) -> None:
            self._listener(Progress(progress=progress, total=total, message=message))

        async def send(responses: Any, state: str | None) -> Result:
            return await self._sdk.session.call_tool(
                name,
                dict(arguments),
                progress_callback=hear,
                input_responses=responses,
                request_state=state,
                allow_input_required=True,
            )

        return await self._rounds(CallResult, send)

    async def aread(self, uri: str) -> ReadResult:
        async def send(responses: Any, state: str | None) -> Result:
            return await self._sdk.session.read_resource(
                uri, input_responses=responses, request_state=state, allow_input_required=True
            )

        return await self._rounds(ReadResult, send)

    async def aprompt(self, name: str, arguments: Mapping[str, str]) -> PromptResult:
        async def send(responses: Any, state: str | None) -> Result:
            return await self._sdk.session.get_prompt(
                name, dict(arguments), input_responses=responses, request_state=state, allow_input_required=True
            )

        return await self._rounds(PromptResult, send)

    async def _rounds(self, kind: type[R], send: Callable[[Any, str | None], Awaitable[Result]]) -> R:
        responses: dict[str, Any] | None = None
        state: str | None = None
        for _ in range(MAX_ROUNDS):
            try:
                result = await send(responses, state)
            except MCPError as error:
                if self._asked.unanswered is not None:
                    raise self._asked.unanswered from error
                raise MCPClientError(error.error.code, error.error.message, error.error.data) from error
            if self._asked.unanswered is not None:
                raise self._asked.unanswered
            raw = result.model_dump(mode="json", by_alias=True, exclude_none=True)
            if not isinstance(result, InputRequiredResult):
                return kind(raw=raw)
            responses = {asked.name: await self._asked.answer(asked) for asked in questions_of(raw)} or None
            state = result.request_state
        raise MCPClientError(0, f"The server still asks after {MAX_ROUNDS} rounds")


@asynccontextmanager
async def remote_client(
    url: str, token: str | None, respond: Respond, listener: Listener, *, mode: str = "auto"
) -> AsyncIterator[RemoteClient]:
    """Connect to the server at `url`.

    Args:
        mode: the newest protocol version that the server speaks, `"legacy"`, or a version of the modern era.
    """

    asked = Asked(respond)

    async def log(params: Any) -> None:
        listener(Log(level=params.level, data=params.data, logger=params.logger))

    headers = {"Authorization": f"Bearer {token}"} if token else None
    async with (
        create_mcp_http_client(headers=headers) as http,
        SDKClient(
            streamable_http_client(url, http_client=http),
            mode=mode,
            client_info=_INFO,
            elicitation_callback=asked.elicit,
            sampling_callback=asked.sample,
            list_roots_callback=asked.list_roots,
            logging_callback=log,
            log_level="info",
        ) as sdk,
    ):
        yield RemoteClient(sdk, asked, listener)

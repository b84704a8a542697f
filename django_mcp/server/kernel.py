"""The SDK's low-level server with our handler for every method.

One kernel per compiled server and kind of door: a door that holds long streams offers subscriptions, the other does
not. Nothing is kept between two requests here.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from functools import cached_property, lru_cache
from typing import Any, Final

from mcp.server.caching import CacheHint
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import NotificationOptions
from mcp.server.lowlevel import Server as LowLevelServer
from mcp.server.models import InitializationOptions
from mcp.server.runner import ServerRunner
from mcp.shared.exceptions import MCPError
from mcp_types import (
    INVALID_PARAMS,
    CallToolRequestParams,
    CallToolResult,
    CompleteRequestParams,
    CompleteResult,
    EmptyResult,
    GetPromptRequestParams,
    GetPromptResult,
    Icon,
    InputRequiredResult,
    ListPromptsResult,
    ListResourcesResult,
    ListResourceTemplatesResult,
    ListToolsResult,
    PaginatedRequestParams,
    PromptReference,
    ReadResourceRequestParams,
    ReadResourceResult,
    RequestId,
    Result,
    SetLevelRequestParams,
    SubscribeRequestParams,
    SubscriptionsListenRequestParams,
    SubscriptionsListenResult,
    UnsubscribeRequestParams,
)

from django_mcp.conf import mcp_settings
from django_mcp.server import completion, resumption
from django_mcp.server.call import Call
from django_mcp.server.carriers import EXTENSION
from django_mcp.server.compile import CompiledServer
from django_mcp.server.listen import listen
from django_mcp.server.page import page_of
from django_mcp.server.permission import may_use, usable
from django_mcp.server.request_state import boundary
from django_mcp.server.resource import CompiledResource, not_found
from django_mcp.server.response import response
from django_mcp.server.spill import read_spilled
from django_mcp.server.surroundings import in_language
from django_mcp.server.telling import tell_end
from django_mcp.server.throttle import throttle
from django_mcp.server.wire import Answer

Context = ServerRequestContext[Any, Any]
_CACHED: Final = (
    "server/discover",
    "tools/list",
    "prompts/list",
    "resources/list",
    "resources/templates/list",
    "resources/read",
)


class Kernel:
    """Our handlers around the tables of one server.

    Args:
        listens: whether the door can hold streams without an end, for subscriptions and list changes.
    """

    def __init__(self, server: CompiledServer, *, listens: bool) -> None:
        self.server = server
        self.listens = listens
        self.lowlevel = _LowLevelServer(  # type: ignore[misc]
            server.name,
            version=server.version,
            title=str(server.title) or None,
            instructions=str(server.instructions) or None,
            website_url=server.source.website_url,
            icons=[Icon.model_validate(icon) for icon in server.source.icons] or None,
            cache_hints=self._cache_hints(),  # type: ignore[arg-type]
            on_list_tools=self.list_tools,
            on_call_tool=self.call_tool,
            on_list_resources=self.list_resources,
            on_list_resource_templates=self.list_templates,
            on_read_resource=self.read_resource,
            on_subscribe_resource=self.subscribe if listens else None,
            on_unsubscribe_resource=self.unsubscribe if listens else None,
            on_subscriptions_listen=self.listen if listens else None,
            on_list_prompts=self.list_prompts,
            on_get_prompt=self.get_prompt,
            on_completion=self.complete,
        )
        # The constructor's own argument for this warns of the deprecation, which concerns clients of the modern era.
        self.lowlevel.add_request_handler("logging/setLevel", SetLevelRequestParams, self.set_level)
        experimental: dict[str, dict[str, Any]] = {}
        if any(tool.is_stateful for tool in server.tools.values()):
            # Extensions exist in the modern era; a handshake has experimental capabilities.
            self.lowlevel.extensions[EXTENSION] = experimental[EXTENSION] = {}
            self.lowlevel.add_request_handler(resumption.HISTORY, resumption.HistoryParams, self.history)
            self.lowlevel.add_request_handler(resumption.REWIND, resumption.RewindParams, self.rewind)
            self.lowlevel.add_request_handler(resumption.FORK, resumption.ForkParams, self.fork)
        self.lowlevel.middleware[:] = [boundary(server.key)]
        self.initialization: InitializationOptions = self.lowlevel.create_initialization_options(
            NotificationOptions(prompts_changed=listens, resources_changed=listens, tools_changed=listens),
            experimental_capabilities=experimental or None,
            extensions={},
        )

    async def run(self, call: Call, method: str, params: Mapping[str, Any] | None) -> dict[str, Any]:
        """Run the handler of one request and return its result in the form of the wire.

        Raises:
            MCPError, pydantic.ValidationError, django_mcp.exceptions.MCPException: the request failed.
        """
        runner: ServerRunner[Any] = ServerRunner(self.lowlevel, call.connection, {})
        try:
            return await runner.on_request(call, method, params)
        finally:
            # It remembers its own bound method, and such a circle waits for the garbage collector.
            del runner.on_request

    async def answer(self, call: Call, method: str, request_id: RequestId, params: Mapping[str, Any] | None) -> Answer:
        """Run the handler of one request and return its answer. Every call of a tool passes here, and is told of.

        Raises:
            MCPError, pydantic.ValidationError, django_mcp.exceptions.MCPException: the request failed.
            ValueError: the result holds a non-finite number.
        """
        if method != "tools/call":
            return await self._answer(call, method, request_id, params)
        began = time.perf_counter()
        try:
            answer = await self._answer(call, method, request_id, params)
        except BaseException as error:
            await tell_end(self.server, call, params, error=error, seconds=time.perf_counter() - began)
            raise
        await tell_end(self.server, call, params, error=None, seconds=time.perf_counter() - began)
        return answer

    async def _answer(
        self, call: Call, method: str, request_id: RequestId, params: Mapping[str, Any] | None
    ) -> Answer:
        result = await self.run(call, method, params)
        if result.get("isError"):
            call.came_to = "failed"
        elif result.get("resultType") == "input_required":
            call.came_to = "input_required"
        return await response(call, method, request_id, result)

    async def list_tools(self, context: Context, params: PaginatedRequestParams | None) -> ListToolsResult:
        call = _enter(context)
        allowed = await usable((tool.definition for tool in self.server.tools.values()), call.arrival)
        tools = [tool for tool in self.server.tools.values() if tool.definition in allowed]
        page, cursor = page_of(tools, params.cursor if params else None, lambda tool: tool.name)
        with in_language(call):
            return ListToolsResult(tools=[tool.wire for tool in page], next_cursor=cursor)

    async def call_tool(self, context: Context, params: CallToolRequestParams) -> CallToolResult | InputRequiredResult:
        call = _enter(context, params)
        tool = self.server.tools.get(params.name)
        if tool is None or not await may_use(tool.definition, call.arrival):
            raise MCPError(INVALID_PARAMS, f"Unknown tool: {params.name}")
        await throttle(tool, call)
        return await tool.call(call, context, params)

    async def list_resources(self, context: Context, params: PaginatedRequestParams | None) -> ListResourcesResult:
        call = _enter(context)
        allowed = await usable((item.definition for item in self.server.resources.values()), call.arrival)
        resources = [item for item in self.server.resources.values() if item.definition in allowed]
        page, cursor = page_of(resources, params.cursor if params else None, lambda item: item.uri)
        with in_language(call):
            return ListResourcesResult(resources=[item.wire for item in page], next_cursor=cursor)

    async def list_templates(
        self, context: Context, params: PaginatedRequestParams | None
    ) -> ListResourceTemplatesResult:
        call = _enter(context)
        allowed = await usable((item.definition for item in self.server.templates), call.arrival)
        templates = [item for item in self.server.templates if item.definition in allowed]
        page, cursor = page_of(templates, params.cursor if params else None, lambda item: item.uri)
        with in_language(call):
            return ListResourceTemplatesResult(resource_templates=[item.wire for item in page], next_cursor=cursor)

    async def read_resource(
        self, context: Context, params: ReadResourceRequestParams
    ) -> ReadResourceResult | InputRequiredResult:
        call = _enter(context, params)
        uri = str(params.uri)
        spilled = await read_spilled(call, uri)
        if spilled is not None:
            return spilled
        known = self.server.resources.get(uri)
        for resource in [known] if known is not None else self.server.templates:
            values = resource.match(uri)
            if values is not None and await may_use(resource.definition, call.arrival):
                return await resource.read(call, context, params, values)
        raise not_found(uri)

    async def list_prompts(self, context: Context, params: PaginatedRequestParams | None) -> ListPromptsResult:
        call = _enter(context)
        allowed = await usable((prompt.definition for prompt in self.server.prompts.values()), call.arrival)
        prompts = [prompt for prompt in self.server.prompts.values() if prompt.definition in allowed]
        page, cursor = page_of(prompts, params.cursor if params else None, lambda prompt: prompt.name)
        with in_language(call):
            return ListPromptsResult(prompts=[prompt.wire for prompt in page], next_cursor=cursor)

    async def get_prompt(
        self, context: Context, params: GetPromptRequestParams
    ) -> GetPromptResult | InputRequiredResult:
        call = _enter(context, params)
        prompt = self.server.prompts.get(params.name)
        if prompt is None or not await may_use(prompt.definition, call.arrival):
            raise MCPError(INVALID_PARAMS, f"Unknown prompt: {params.name}")
        return await prompt.get(call, context, params)

    async def complete(self, context: Context, params: CompleteRequestParams) -> CompleteResult:
        call = _enter(context)
        if isinstance(params.ref, PromptReference):
            target, known = params.ref.name, self.server.prompts.get(params.ref.name)
        else:
            target = str(params.ref.uri)
            known = next((item for item in self.server.templates if item.uri == target), None)  # type: ignore[assignment]
        if known is None or not await may_use(known.definition, call.arrival):
            raise MCPError(INVALID_PARAMS, f"Unknown reference: {target}")
        found = self.server.completions.get((target, params.argument.name))
        return completion.NOTHING if found is None else await found.complete(call, params)

    async def set_level(self, context: Context, params: SetLevelRequestParams) -> EmptyResult:
        call = _enter(context)
        await call.arrival.threads.door.run(call.session.set_log_level, params.level)
        return EmptyResult()

    async def subscribe(self, context: Context, params: SubscribeRequestParams) -> EmptyResult:
        call = _enter(context)
        uri = str(params.uri)
        if not await self._readable(call, [uri]):
            raise not_found(uri)
        await call.arrival.threads.door.run(call.session.subscribe, uri)
        return EmptyResult()

    async def unsubscribe(self, context: Context, params: UnsubscribeRequestParams) -> EmptyResult:
        call = _enter(context)
        await call.arrival.threads.door.run(call.session.unsubscribe, str(params.uri))
        return EmptyResult()

    async def listen(self, context: Context, params: SubscriptionsListenRequestParams) -> SubscriptionsListenResult:
        call = _enter(context)
        return await listen(call, params, lambda uris: self._readable(call, uris))

    async def history(self, context: Context, params: resumption.HistoryParams) -> Result:
        return await resumption.history(_enter(context), params)

    async def rewind(self, context: Context, params: resumption.RewindParams) -> Result:
        return await resumption.rewind(_enter(context), params)

    async def fork(self, context: Context, params: resumption.ForkParams) -> Result:
        return await resumption.fork(_enter(context), params)

    async def _readable(self, call: Call, uris: Sequence[str]) -> set[str]:
        """Return those of `uris` that the caller may read."""
        served = {uri: [item.definition for item in self._candidates(uri)] for uri in uris}
        allowed = await usable({one for definitions in served.values() for one in definitions}, call.arrival)
        return {uri for uri, definitions in served.items() if not allowed.isdisjoint(definitions)}

    def _candidates(self, uri: str) -> list[CompiledResource]:
        known = self.server.resources.get(uri)
        return (
            [known] if known is not None else [item for item in self.server.templates if item.match(uri) is not None]
        )

    def _cache_hints(self) -> dict[str, CacheHint]:
        # "public" lets a shared cache serve one caller's answer to another (MCP 2026-07-28, server/utilities/caching).
        open_to_all = mcp_settings.ACCESS == "public" and not self.server.varies
        ttl_ms = mcp_settings.LIST_TTL_SECONDS * 1000
        hints = {method: CacheHint(ttl_ms=ttl_ms, scope="public" if open_to_all else "private") for method in _CACHED}
        hints["resources/read"] = CacheHint(ttl_ms=0, scope="private")
        return hints


@lru_cache(maxsize=64)
def kernel_of(server: CompiledServer, listens: bool) -> Kernel:
    """Return the kernel of a server for one kind of door, made once."""
    return Kernel(server, listens=listens)


class _LowLevelServer(LowLevelServer[Any]):
    """The SDK's server. It copies its identity deeply for every result; ours is encoded at once, and never changed."""

    @property
    def server_info_stamp(self) -> dict[str, Any]:
        return dict(self._stamp)

    @cached_property
    def _stamp(self) -> dict[str, Any]:
        return super().server_info_stamp


def _enter(context: Context, params: Any = None) -> Call:
    """Return the call that the kernel runs, and tell it the SDK's context."""
    call = context.request
    if not isinstance(call, Call):
        raise LookupError("the kernel was driven without a call")
    call.context = context
    call.input_params = params
    return call

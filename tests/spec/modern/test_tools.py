"""Tools: what is checked before a body runs, and of what it returns (server/tools, server/utilities/completion)."""

import asyncio
import json
import threading
from collections.abc import Mapping
from typing import Any

import pytest
from django.contrib.auth.models import AnonymousUser
from django.test import RequestFactory
from mcp_types import CallToolResult, TextContent

from django_mcp import Context, Server, ToolError
from django_mcp.core.principal import ANONYMOUS
from django_mcp.server.caller import Arrival, Caller
from django_mcp.server.exchange import Exchange
from django_mcp.server.threads import HandlerThreads
from django_mcp.server.wire import Answer as Whole
from tests.spec.modern.wire import SERVER, bounded, call, mirrored, post, request

NUMBER: Mapping[str, Any] = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}


async def test_a_result_that_breaks_its_output_schema_is_an_error_without_details(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    @server.tool
    async def annotated() -> int:
        return "secret"  # type: ignore[return-value]

    @server.tool(output_schema=NUMBER)
    async def declared() -> dict[str, Any]:
        return {"n": "secret"}

    @server.tool(output_schema=NUMBER)
    async def unannotated():  # type: ignore[no-untyped-def]
        return {"n": "secret"}

    @server.tool(output_schema=NUMBER)
    async def by_hand() -> CallToolResult:
        return CallToolResult(content=[], structured_content={"n": "secret"})

    @server.tool(output_schema=NUMBER)
    async def without() -> CallToolResult:
        return CallToolResult(content=[TextContent(type="text", text="secret")])

    for name in ("annotated", "declared", "unannotated", "by_hand", "without"):
        result = (await post(call(name))).result
        assert result["isError"] is True
        assert result["content"] == [{"type": "text", "text": f"The tool {name!r} failed."}]
        assert "structuredContent" not in result
    assert "_Misfit" in caplog.text


async def test_structured_content_fits_the_output_schema_that_is_listed(server: Server) -> None:
    @server.tool
    async def annotated() -> list[int]:
        return [1, 2]

    @server.tool(output_schema=NUMBER)
    async def declared() -> dict[str, Any]:
        return {"n": 7}

    @server.tool(output_schema=NUMBER)
    async def unannotated():  # type: ignore[no-untyped-def]
        return {"n": 7}

    listed = {tool["name"]: tool["outputSchema"] for tool in (await post(request("tools/list"))).result["tools"]}
    assert listed["declared"] == listed["unannotated"] == NUMBER
    assert listed["annotated"]["properties"]["result"]["items"] == {"type": "integer"}
    assert (await post(call("annotated"))).result["structuredContent"] == {"result": [1, 2]}
    assert (await post(call("declared"))).result["structuredContent"] == {"n": 7}
    assert (await post(call("unannotated"))).result["structuredContent"] == {"n": 7}


async def test_an_error_of_a_tool_needs_no_structured_content(server: Server) -> None:
    @server.tool(output_schema=NUMBER)
    async def fail() -> dict[str, Any]:
        raise ToolError("on purpose")

    result = (await post(call("fail"))).result
    assert (result["isError"], result["content"][0]["text"]) == (True, "on purpose")


async def test_a_call_is_validated_authorised_limited_and_its_output_cleaned(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    started, go_on = asyncio.Event(), threading.Event()
    loop, ran = asyncio.get_running_loop(), []

    @server.tool
    def work(number: int) -> str:
        ran.append(number)
        loop.call_soon_threadsafe(started.set)
        assert go_on.wait(10)
        return f"did {number}"

    @server.tool(permission=lambda http_request: False)
    def forbidden() -> str:
        ran.append(0)
        return ""

    @server.tool
    def fail() -> str:
        raise LookupError("the password is hunter2")

    async def limited(message: dict[str, Any], threads: HandlerThreads) -> Whole:
        """Send a message where handlers have these threads."""
        arrival = Arrival(
            method="POST",
            headers=mirrored(message),
            caller=Caller(principal=ANONYMOUS, user=AnonymousUser()),
            threads=threads,
            make_request=lambda: RequestFactory().post("/mcp"),
            body=json.dumps(message).encode(),
        )
        answer = await Exchange(SERVER, arrival).answer()
        assert isinstance(answer, Whole)
        return answer

    for wrong in ({}, {"number": "x"}, {"number": None}, {"number": [1]}):
        result = (await post(call("work", wrong))).result
        assert (result["isError"], result["content"][0]["text"][:18]) == (True, "Invalid arguments:")
    assert (await post(call("forbidden"))).error["message"] == "Unknown tool: forbidden"
    assert ran == []

    threads = HandlerThreads(size=1, queue=0)
    first = asyncio.create_task(limited(call("work", {"number": 1}), threads))
    await bounded(started)
    refused = await limited(call("work", {"number": 2}), threads)
    go_on.set()
    assert b"did 1" in (await first).body
    assert (refused.status, dict(refused.headers)[b"retry-after"]) == (503, b"1")
    assert ran == [1]

    failed = await post(call("fail"))
    assert failed.text == "The tool 'fail' failed."
    assert "hunter2" in caplog.text
    assert "hunter2" not in str(failed.messages)


async def test_completion_is_validated_limited_guarded_and_says_nothing_of_its_failures(
    full: Server, caplog: pytest.LogCaptureFixture
) -> None:
    @full.completion("day", resource="note://{day}")
    async def days(value: str, ctx: Context) -> list[str]:
        if value == "fail":
            raise LookupError("hunter2")
        return [f"{value}{number}" for number in range(250)]

    async def complete(ref: Any, argument: Any) -> Any:
        return await post(request("completion/complete", {"ref": ref, "argument": argument}))

    plan, note = {"type": "ref/prompt", "name": "plan"}, {"type": "ref/resource", "uri": "note://{day}"}
    good = (await complete(plan, {"name": "day", "value": "mon"})).result["completion"]
    assert good == {"values": ["monday"], "total": 1, "hasMore": False}
    many = (await complete(note, {"name": "day", "value": "d"})).result["completion"]
    assert (len(many["values"]), many["total"], many["hasMore"]) == (100, 250, True)
    assert (await complete(plan, {"name": "unknown", "value": ""})).result["completion"]["values"] == []
    for ref, argument in (
        (plan, {"name": "day", "value": 7}),
        (plan, {"name": "day"}),
        (plan, "day"),
        ({"type": "ref/tool", "name": "greet"}, {"name": "name", "value": ""}),
        ({"type": "ref/prompt", "name": "nothing"}, {"name": "day", "value": ""}),
        ({"type": "ref/resource", "uri": "note://today"}, {"name": "day", "value": ""}),
    ):
        answer = await complete(ref, argument)
        assert (answer.status, answer.error["code"]) == (400, -32602)
    failed = await complete(note, {"name": "day", "value": "fail"})
    assert failed.error["message"] == "The completion failed"
    assert "hunter2" in caplog.text
    assert "hunter2" not in str(failed.messages)

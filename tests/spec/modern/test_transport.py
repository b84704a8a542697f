"""Streamable HTTP: one endpoint, its answers and streams, clients that leave (basic/transports, basic/patterns)."""

import asyncio
import json
import threading
from typing import Any

import pytest
from django.core.asgi import get_asgi_application
from django.core.handlers.asgi import ASGIHandler
from mcp.shared.exceptions import NoBackChannelError
from mcp_types import ListRootsRequest, ListRootsResult
from pydantic import BaseModel

from django_mcp import Context, Server
from django_mcp.consumers import MCPConsumer
from django_mcp.exceptions import CallCancelled, QuestionUnavailable
from django_mcp.routing import mcp_application
from django_mcp.testing.asgi import stream
from tests.spec.modern.wire import PREFIX, SERVER, bounded, call, mirrored, opened, post, request

WATCHED = {"progressToken": "t", f"{PREFIX}logLevel": "debug"}


class Name(BaseModel):
    name: str


# The endpoint.


@pytest.mark.parametrize("path", ["/mcp", "/mcp/"])
@pytest.mark.parametrize("door", ["consumer", "view"])
async def test_one_path_is_the_endpoint_for_post(full: Server, door: str, path: str) -> None:
    django: ASGIHandler = get_asgi_application()
    application = mcp_application(django) if door == "consumer" else django
    message = request("server/discover")
    body = json.dumps(message).encode()
    async with stream(application, "POST", path, headers=mirrored(message), body=body) as response:
        assert await response.started() == 200
        assert json.loads(await response.read())["result"]["resultType"] == "complete"


@pytest.mark.parametrize("method", ["GET", "DELETE", "PUT"])
async def test_in_this_revision_the_endpoint_serves_no_other_method(full: Server, method: str) -> None:
    headers = {"accept": "text/event-stream", "mcp-protocol-version": "2026-07-28"}
    async with stream(MCPConsumer(SERVER), method, "/mcp", headers=headers) as response:
        assert await response.started() == 405
        assert "POST" in response.headers["allow"]


@pytest.mark.parametrize("method", ["POST", "GET", "DELETE", "OPTIONS"])
@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://testserver.evil.example", "garbage"])
async def test_a_foreign_origin_gets_403_whatever_it_asks(full: Server, origin: str, method: str) -> None:
    message = call("greet")
    headers = mirrored(message) | {"origin": origin}
    async with stream(
        MCPConsumer(SERVER), method, "/mcp", headers=headers, body=json.dumps(message).encode()
    ) as response:
        assert await response.started() == 403
        assert "result" not in json.loads(await response.read())


@pytest.mark.parametrize("origin", ["http://testserver", ...])
async def test_a_page_of_the_same_host_and_a_client_that_is_no_page_are_served(full: Server, origin: Any) -> None:
    assert (await post(call("greet"), {"origin": origin})).text == "Hello, you!"


# Messages and streams.


async def test_messages_are_utf_8_in_both_directions(full: Server) -> None:
    name = "Zoë 世界 \U0001f40d"
    for body in (
        json.dumps(call("greet", {"name": name}), ensure_ascii=False).encode("utf-8"),
        json.dumps(call("greet", {"name": name})).encode("ascii"),
    ):
        answer = await post(body, mirrored(call("greet")))
        assert answer.text == f"Hello, {name}!"
    for encoding in ("utf-16", "latin-1", "utf-8-sig"):
        body = json.dumps(call("greet", {"name": "Zoë"}), ensure_ascii=False).encode(encoding)
        refused = await post(body, mirrored(call("greet")))
        assert (refused.status, refused.error["code"]) == (400, -32700)


async def test_requests_and_notifications_come_in_and_responses_and_notifications_go_out(full: Server) -> None:
    assert (await post({"jsonrpc": "2.0", "method": "notifications/anything"})).status == 202
    answer = await post(call("talk", meta=WATCHED))
    assert [message.get("method", "response") for message in answer.messages] == [
        "notifications/progress",
        "notifications/message",
        "notifications/progress",
        "response",
    ]


async def test_a_request_is_answered_with_one_json_object_or_with_a_stream(full: Server) -> None:
    plain = await post(call("talk"))
    assert (plain.headers["content-type"], len(plain.messages)) == ("application/json", 1)
    streamed = await post(call("talk", meta=WATCHED))
    assert (streamed.media_type, len(streamed.messages)) == ("text/event-stream", 4)
    assert streamed.headers["x-accel-buffering"] == "no"
    for refused in (request("nothing"), call("nothing"), {"id": 1}):
        assert (await post(refused)).headers["content-type"] == "application/json"


async def test_a_stream_carries_only_what_concerns_its_request(server: Server) -> None:
    both = asyncio.Barrier(2)

    @server.tool
    async def work(ctx: Context, name: str) -> str:
        for step in (1, 2, 3):
            await both.wait()
            await ctx.aprogress(step, message=name)
            await ctx.ainfo(name)
        return name

    answers = await asyncio.gather(
        post(call("work", {"name": "a"}, id=1, meta={**WATCHED, "progressToken": "of a"})),
        post(call("work", {"name": "b"}, id=2, meta={**WATCHED, "progressToken": "of b"})),
    )
    for answer, request_id, name in zip(answers, (1, 2), "ab", strict=True):
        assert (answer.last["id"], answer.text) == (request_id, name)
        progress, logs = answer.notifications[::2], answer.notifications[1::2]
        expected = [{"progressToken": f"of {name}", "progress": step, "message": name} for step in (1, 2, 3)]
        assert [message["params"] for message in progress] == expected
        assert {message["params"]["data"] for message in logs} == {name}


async def test_the_server_starts_no_request(full: Server) -> None:
    failures: list[Exception] = []

    @full.tool
    async def insist(ctx: Context) -> str:
        await ctx.aprogress(1)
        for asking in (
            lambda: ctx.aelicit("Your name?", Name),
            lambda: ctx.sdk.session.send_request(ListRootsRequest(), ListRootsResult),
        ):
            try:
                await asking()
            except Exception as error:
                failures.append(error)
        return "asked in vain"

    answer = await post(call("insist", meta=WATCHED))
    assert answer.text == "asked in vain"
    assert [type(failure) for failure in failures] == [QuestionUnavailable, NoBackChannelError]
    question = await post(call("ask", meta=WATCHED))
    assert question.result["inputRequests"]["ask_consent"]["method"] == "elicitation/create"
    for message in (*answer.messages, *question.messages):
        assert not ("method" in message and "id" in message)


# Clients that leave.


async def test_a_client_that_leaves_has_cancelled_its_request(server: Server) -> None:
    started, cancelled = asyncio.Event(), asyncio.Event()

    @server.tool
    async def work(ctx: Context, streaming: bool) -> str:
        if streaming:
            await ctx.aprogress(1)
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            if ctx.cancelled:
                cancelled.set()
        return ""

    for streaming in (True, False):
        started.clear()
        cancelled.clear()
        async with opened(call("work", {"streaming": streaming}, meta=WATCHED)) as answer:
            await bounded(started)
            answer.response.disconnect()
            await bounded(cancelled)
            await answer.response.over()


@pytest.mark.parametrize("kind", ["async", "sync"])
async def test_nothing_is_sent_for_a_cancelled_request(server: Server, kind: str) -> None:
    sent: list[dict[str, Any]] = []
    loop, learned = asyncio.get_running_loop(), asyncio.Event()
    left = threading.Event()

    @server.tool(name="async")
    async def stubborn(ctx: Context) -> str:
        await ctx.aprogress(1)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await ctx.ainfo("too late")
            learned.set()
        return "too late"

    @server.tool(name="sync")
    def stubborn_in_a_thread(ctx: Context) -> str:
        ctx.progress(1)
        assert left.wait(10)
        ctx.info("too late")
        try:
            ctx.progress(2)
        except CallCancelled:
            loop.call_soon_threadsafe(learned.set)
        return "too late"

    async def watched(scope: Any, receive: Any, send: Any) -> None:
        async def note(message: dict[str, Any]) -> None:
            sent.append(message)
            await send(message)

        await MCPConsumer(SERVER)(scope, receive, note)

    async with opened(call(kind, meta=WATCHED), application=watched) as answer:
        assert (await answer.next())["params"]["progress"] == 1
        before = len(sent)
        answer.response.disconnect()
        await answer.response.over()
        left.set()
        await bounded(learned)
    assert len(sent) == before


async def test_a_cancellation_that_names_a_request_stops_nothing_here(full: Server) -> None:
    go_on, started = asyncio.Event(), asyncio.Event()

    @full.tool
    async def work() -> str:
        started.set()
        await go_on.wait()
        return "done"

    def cancelling(request_id: Any) -> dict[str, Any]:
        return {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": request_id}}

    async with opened(call("work", id=7)) as answer:
        await bounded(started)
        named: list[Any] = [7, 8, "7", None, {}]
        for request_id in named:
            assert (await post(cancelling(request_id))).status == 202
        go_on.set()
        assert (await answer.next())["result"]["content"][0]["text"] == "done"
    # The answer is out: a cancellation that crossed with it is taken, and nothing is sent for it.
    late = await post(cancelling(7))
    assert (late.status, late.messages) == (202, [])
    assert (await post(call("greet", id=7))).text == "Hello, you!"


async def test_no_call_is_ever_cancelled_by_the_server(full: Server) -> None:
    @full.tool
    async def fail(ctx: Context) -> str:
        await ctx.aprogress(1)
        raise TimeoutError

    answers = [await post(call(name, meta=WATCHED)) for name in ("talk", "fail", "ask", "greet")]
    methods = {message["method"] for answer in answers for message in answer.notifications}
    assert methods == {"notifications/progress", "notifications/message"}

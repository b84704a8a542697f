"""The consumer over a transport that streams: clients that leave, read slowly, and come back."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from typing import Any

import pytest
from pytest_django import Settings

from django_mcp import Context, Server, notify
from django_mcp.consumers import MCPConsumer
from django_mcp.core import sse
from django_mcp.exceptions import CallCancelled
from django_mcp.models import Call, MCPSession, Outlet, Stream
from django_mcp.models.session import SessionState
from django_mcp.registry.server import servers
from django_mcp.server import event_reader, keeper
from django_mcp.server.changes import change_feed
from django_mcp.server.compile import key_of
from django_mcp.server.event_stream import MAX_RESPONSE_BYTES
from django_mcp.sessions.stores.streams import MAX_STREAM_BYTES
from django_mcp.testing.asgi import StreamedResponse, stream
from tests.server.test_changes import TroubledStore
from tests.servers import defined

BOUND_SECONDS = 10
META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
    "progressToken": "t",
}


@pytest.fixture(autouse=True)
def public(settings: Settings) -> None:
    settings.DJANGO_MCP = {"ACCESS": "public"}


@pytest.fixture
def server() -> Iterator[Server]:
    with defined("tested") as server:
        yield server


@pytest.fixture
async def tool_started() -> asyncio.Event:
    return asyncio.Event()


@pytest.fixture
async def go_on() -> asyncio.Event:
    return asyncio.Event()


def modern(tool: str, **options: Any) -> Any:
    """Call a tool of the test's server in the modern era."""
    body = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "tools/call",
        "params": {"name": tool, "arguments": {}, "_meta": META},
    }
    headers = {
        "content-type": "application/json",
        "accept": "application/json, text/event-stream",
        "mcp-protocol-version": "2026-07-28",
        "mcp-method": "tools/call",
        "mcp-name": tool,
    }
    return stream(MCPConsumer("tested"), "POST", "/mcp", headers=headers, body=json.dumps(body).encode(), **options)


def legacy(message: dict[str, Any] | None, session_id: str = "", method: str = "POST", **headers: str) -> Any:
    """Send a message of the handshake era."""
    sent = {"content-type": "application/json", "accept": "application/json, text/event-stream", **headers}
    if session_id:
        sent |= {"mcp-session-id": session_id, "mcp-protocol-version": "2025-11-25"}
    body = json.dumps({"jsonrpc": "2.0", **message}).encode() if message is not None else b""
    return stream(MCPConsumer("tested"), method, "/mcp", headers=sent, body=body)


async def begin_session(version: str = "2025-11-25") -> str:
    client = {"protocolVersion": version, "capabilities": {}, "clientInfo": {"name": "c", "version": "1"}}
    async with legacy({"id": 0, "method": "initialize", "params": client}) as response:
        assert await response.started() == 200
        return str(response.headers["mcp-session-id"])


async def events(response: StreamedResponse) -> AsyncIterator[sse.Event]:
    decoder = sse.Decoder()
    async for chunk in response:
        for event in decoder.feed(chunk):
            yield event


async def bounded(event: asyncio.Event) -> None:
    await asyncio.wait_for(event.wait(), BOUND_SECONDS)


async def test_a_result_without_messages_is_json(server: Server) -> None:
    @server.tool
    async def hello() -> str:
        return "hi"

    async with modern("hello") as response:
        assert await response.started() == 200
        assert response.headers["content-type"] == "application/json"
        body = await response.read()
        assert response.headers["content-length"] == str(len(body))
        assert json.loads(body)["result"]["content"] == [{"type": "text", "text": "hi"}]
        await response.over()


async def test_messages_are_read_while_the_tool_runs(server: Server, go_on: asyncio.Event) -> None:
    @server.tool
    async def work(ctx: Context) -> str:
        await ctx.aprogress(1)
        await go_on.wait()
        return "done"

    async with modern("work") as response:
        assert await response.started() == 200
        assert response.headers["content-type"].startswith("text/event-stream")
        received = events(response)
        first = await anext(received)
        assert json.loads(first.data)["params"]["progress"] == 1
        assert not response.is_over
        go_on.set()
        assert json.loads((await anext(received)).data)["result"]["content"][0]["text"] == "done"
        assert [event async for event in received] == []
        await response.over()


@pytest.mark.parametrize("send_fails", [False, True])
@pytest.mark.parametrize("streaming", [False, True])
async def test_a_modern_client_that_leaves_cancels_its_call(
    server: Server, tool_started: asyncio.Event, streaming: bool, send_fails: bool
) -> None:
    cancelled = asyncio.Event()

    @server.tool
    async def work(ctx: Context) -> str:
        if streaming:
            await ctx.aprogress(1)
        tool_started.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            assert ctx.cancelled
            cancelled.set()
            raise
        return ""

    async with modern("work", send_fails=send_fails) as response:
        await bounded(tool_started)
        if streaming:
            await response.started()
        response.disconnect()
        await bounded(cancelled)
        await response.over()


async def test_a_sync_tool_learns_that_its_client_left(server: Server, tool_started: asyncio.Event) -> None:
    learned = asyncio.Event()
    loop = asyncio.get_running_loop()
    left = threading.Event()

    @server.tool
    def work(ctx: Context) -> str:
        ctx.progress(1)
        loop.call_soon_threadsafe(tool_started.set)
        assert left.wait(BOUND_SECONDS)
        try:
            ctx.progress(2)
        except CallCancelled:
            assert ctx.cancelled
            loop.call_soon_threadsafe(learned.set)
            raise
        return ""

    async with modern("work") as response:
        await bounded(tool_started)
        await response.started()
        response.disconnect()
        await response.over()
        left.set()
        await bounded(learned)


@pytest.mark.django_db(transaction=True)
async def test_a_handshake_call_goes_on_and_its_result_is_fetched_later(
    server: Server, tool_started: asyncio.Event, go_on: asyncio.Event
) -> None:
    finished = asyncio.Event()

    @server.tool
    async def work(ctx: Context) -> str:
        await ctx.aprogress(1)
        tool_started.set()
        await go_on.wait()
        finished.set()
        return "done"

    session_id = await begin_session()
    params = {"name": "work", "arguments": {}, "_meta": {"progressToken": "t"}}
    async with legacy({"id": 7, "method": "tools/call", "params": params}, session_id) as response:
        await bounded(tool_started)
        place = (await anext(events(response))).event_id
        response.disconnect()
        await response.over()
    assert not finished.is_set()
    go_on.set()
    await bounded(finished)
    async with legacy(None, session_id, "GET", **{"last-event-id": str(place)}) as response:
        messages = [json.loads(event.data) async for event in events(response) if event.data]
    assert [message.get("method") for message in messages] == ["notifications/progress", None]
    assert messages[1]["id"] == 7
    assert messages[1]["result"]["content"][0]["text"] == "done"


@pytest.mark.django_db(transaction=True)
async def test_a_standalone_stream_ends_with_its_client(server: Server) -> None:
    session_id = await begin_session()
    async with legacy(None, session_id, "GET") as response:
        assert await response.started() == 200
        assert (await anext(events(response))).event_id
        response.disconnect()
        await response.over()
    assert await MCPSession.objects.active().acount() == 1


@pytest.mark.django_db(transaction=True)
async def test_what_a_standalone_stream_was_told_is_not_kept_for_it(server: Server) -> None:
    session_id = await begin_session()
    async with asyncio.timeout(BOUND_SECONDS), legacy(None, session_id, "GET") as response:
        received = events(response)
        await anext(received)
        for _ in range(2):
            await asyncio.to_thread(notify.tools_changed, "tested")
            assert json.loads((await anext(received)).data)["method"] == "notifications/tools/list_changed"
        (subscription,) = change_feed(key_of("tested"), "default")._subscriptions
        assert not subscription.pending


@pytest.mark.django_db(transaction=True)
async def test_a_standalone_stream_ends_when_it_has_sent_what_one_response_may(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_reader, "MAX_RESPONSE_BYTES", 1_000)
    session_id = await begin_session()
    count = 0
    async with asyncio.timeout(BOUND_SECONDS), legacy(None, session_id, "GET") as response:
        received = events(response)
        await anext(received)
        await asyncio.to_thread(notify.tools_changed, "tested")
        async for _ in received:
            count += 1
            await asyncio.to_thread(notify.tools_changed, "tested")
        await response.over()
    assert 1 < count < 20


@pytest.mark.django_db(transaction=True)
async def test_a_client_that_cancels_anything_is_not_followed_without_end(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper, "MAX_SOUGHT", 2)
    session_id = await begin_session()

    async def cancel(number: int) -> None:
        message = {"method": "notifications/cancelled", "params": {"requestId": number}}
        async with legacy(message, session_id) as response:
            assert await response.started() == 202

    for number in (1, 1, 2, 3, 4):
        await cancel(number)
    seeking = [task for task in asyncio.all_tasks() if task.get_name() == "mcp-cancel"]
    assert len(seeking) == 2
    async with asyncio.timeout(BOUND_SECONDS):
        await asyncio.wait(seeking)
    await cancel(5)
    assert [task for task in asyncio.all_tasks() if task.get_name() == "mcp-cancel"]


@pytest.mark.django_db(transaction=True)
async def test_an_answer_that_is_too_large_for_a_stream_ends_it_all_the_same(server: Server) -> None:
    @server.resource("text://much")
    async def much(ctx: Context) -> str:
        await ctx.aprogress(1)
        return "x" * MAX_STREAM_BYTES

    session_id = await begin_session()
    params = {"uri": "text://much", "_meta": {"progressToken": "t"}}
    async with legacy({"id": 7, "method": "resources/read", "params": params}, session_id) as response:
        messages = [json.loads(event.data) async for event in events(response) if event.data]
    assert messages[-1]["error"]["data"] == {"reason": "output_limit"}
    assert (await Call.objects.aget()).state == "failed"


@pytest.mark.django_db(transaction=True)
async def test_a_batch_of_which_all_is_cancelled_has_no_answer(server: Server, tool_started: asyncio.Event) -> None:
    @server.tool
    async def work() -> str:
        tool_started.set()
        await asyncio.Event().wait()
        return ""

    session_id = await begin_session("2025-03-26")
    body = [{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "work", "arguments": {}}}]
    sent = {"content-type": "application/json", "accept": "application/json, text/event-stream"}
    headers = {**sent, "mcp-session-id": session_id}
    cancel = {"method": "notifications/cancelled", "params": {"requestId": 1}}
    async with stream(MCPConsumer("tested"), "POST", "/mcp", headers=headers, body=json.dumps(body).encode()) as batch:
        await bounded(tool_started)
        async with legacy(cancel, session_id) as response:
            assert await response.started() == 202
        assert await batch.started() == 202
        assert await batch.read() == b""


async def test_a_silent_call_is_kept_alive(server: Server, settings: Settings, go_on: asyncio.Event) -> None:
    settings.DJANGO_MCP = {"ACCESS": "public", "KEEPALIVE_SECONDS": 1}

    @server.tool
    async def work() -> str:
        await go_on.wait()
        return "done"

    async with modern("work") as response:
        chunks = aiter(response)
        assert [await anext(chunks) for _ in range(2)] == [sse.comment()] * 2
        go_on.set()
        assert b'"done"' in await response.read()


async def test_a_tool_waits_for_a_client_that_reads_slowly(server: Server) -> None:
    total, sent = 5_000, 0

    @server.tool
    async def work(ctx: Context) -> str:
        nonlocal sent
        for number in range(1, total + 1):
            await ctx.aprogress(number)
            sent = number
        return "done"

    async with modern("work") as response:
        await response.started()
        for _ in range(100):
            await asyncio.sleep(0)
        assert 0 < sent < 1_100
        received = [json.loads(event.data) async for event in events(response)]
    assert [message["params"]["progress"] for message in received[:-1]] == list(range(1, total + 1))
    assert received[-1]["result"]["content"][0]["text"] == "done"


async def test_a_response_that_is_read_at_once_is_bounded_all_the_same(server: Server) -> None:
    @server.tool
    async def work(ctx: Context) -> str:
        for number in range(1, 401):
            await ctx.aprogress(number, message="x" * 65_536)
        return "done"

    async with modern("work") as response:
        body = await response.read()
    assert MAX_RESPONSE_BYTES / 2 < len(body) < MAX_RESPONSE_BYTES
    assert b'"done"' in body


@pytest.mark.parametrize("send_fails", [False, True])
async def test_nothing_escapes_once_the_response_has_begun(server: Server, send_fails: bool) -> None:
    @server.tool
    async def work(ctx: Context) -> str:
        for number in range(1_000_000):
            await ctx.aprogress(number)
            await asyncio.sleep(0)
        return ""

    async with modern("work", send_fails=send_fails) as response:
        await anext(events(response))
        response.disconnect()
        await response.over()
    assert response.violations == []


async def test_a_client_that_leaves_while_it_sends_gets_nothing(server: Server) -> None:
    async def unsent(scope: Any, receive: Any, send: Any) -> None:
        async def half() -> dict[str, Any]:
            message = await receive()
            return {**message, "more_body": True} if message["type"] == "http.request" else message

        await MCPConsumer("tested")(scope, half, send)

    headers = {"content-type": "application/json", "accept": "application/json, text/event-stream"}
    async with stream(unsent, "POST", "/mcp", headers=headers, body=b"{") as response:
        response.disconnect()
        await response.over()
        with pytest.raises(ConnectionError, match="no response"):
            await response.started()


async def test_a_failure_of_ours_is_one_plain_answer(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    del servers["tested"]
    try:
        async with modern("anything") as response:
            assert await response.started() == 500
            error = json.loads(await response.read())["error"]
    finally:
        servers["tested"] = server
    assert error == {"code": -32603, "message": "Internal error"}
    assert "a request failed in the door" in caplog.text


class Connection:
    """A connection whose application is ended from outside, or whose `send` fails, without a word from `receive`."""

    def __init__(self, body: bytes, method: str = "POST", *, send_fails: bool = False, **headers: str) -> None:
        self.sent = asyncio.Event()
        self._send_fails = send_fails
        self._body: bytes | None = body
        usual = {
            "host": "testserver",
            "content-type": "application/json",
            "accept": "application/json, text/event-stream",
        }
        named = {**usual, **{name.replace("_", "-"): value for name, value in headers.items()}}
        self.scope: dict[str, Any] = {
            "type": "http",
            "method": method,
            "path": "/mcp",
            "query_string": b"",
            "headers": [(name.encode(), value.encode()) for name, value in named.items()],
        }

    def serve(self) -> asyncio.Task[None]:
        return asyncio.ensure_future(MCPConsumer("tested")(self.scope, self._receive, self._send))

    async def _receive(self) -> dict[str, Any]:
        if self._body is None:
            await asyncio.Event().wait()
        body, self._body = self._body, None
        return {"type": "http.request", "body": body, "more_body": False}

    async def _send(self, message: dict[str, Any]) -> None:
        if message["type"] == "http.response.body":
            self.sent.set()
            if self._send_fails:
                raise OSError("the client has left")


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("send_fails", [False, True])
async def test_a_modern_call_is_cancelled_whatever_ends_its_response(
    server: Server, tool_started: asyncio.Event, streaming: bool, send_fails: bool
) -> None:
    cancelled = asyncio.Event()

    @server.tool
    async def work(ctx: Context) -> str:
        if streaming or send_fails:
            await ctx.aprogress(1)
        tool_started.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        return ""

    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "work", "_meta": META}}
    connection = Connection(
        json.dumps(body).encode(),
        send_fails=send_fails,
        mcp_protocol_version="2026-07-28",
        mcp_method="tools/call",
        mcp_name="work",
    )
    serving = connection.serve()
    await bounded(tool_started)
    if streaming or send_fails:
        await bounded(connection.sent)
    if not send_fails:
        serving.cancel()
    await asyncio.wait({serving}, timeout=BOUND_SECONDS)
    await bounded(cancelled)


@pytest.mark.django_db(transaction=True)
async def test_a_handshake_call_whose_door_was_ended_is_brought_to_its_end(
    server: Server, tool_started: asyncio.Event, go_on: asyncio.Event
) -> None:
    finished = asyncio.Event()

    @server.tool
    async def work() -> str:
        tool_started.set()
        await go_on.wait()
        finished.set()
        return ""

    session_id = await begin_session()
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "work", "arguments": {}}}
    serving = Connection(json.dumps(body).encode(), mcp_session_id=session_id).serve()
    await bounded(tool_started)
    serving.cancel()
    await asyncio.wait({serving}, timeout=BOUND_SECONDS)
    go_on.set()
    await bounded(finished)
    async with asyncio.timeout(BOUND_SECONDS):
        while not await Call.objects.filter(state="succeeded").aexists():  # noqa: ASYNC110 - another task ends it
            await asyncio.sleep(0.05)
    (stream,) = [row async for row in Stream.objects.all()]
    assert (stream.last, stream.is_open) == (1, False)


@pytest.mark.django_db(transaction=True)
async def test_a_standalone_stream_that_nobody_began_to_read_is_not_fed(server: Server) -> None:
    session_id = await begin_session()
    connection = Connection(b"", "GET", mcp_session_id=session_id, send_fails=False)
    refused = asyncio.Event()

    async def refuse(message: dict[str, Any]) -> None:
        refused.set()
        raise OSError("the client has left")

    await asyncio.wait_for(MCPConsumer("tested")(connection.scope, connection._receive, refuse), BOUND_SECONDS)
    assert refused.is_set()
    assert not [task for task in asyncio.all_tasks() if task.get_name() in {"mcp-changes", "mcp-standalone"}]
    assert not await Stream.objects.aexists()


@pytest.mark.django_db(transaction=True)
async def test_a_standalone_stream_survives_an_outage_and_misses_nothing(server: Server, settings: Settings) -> None:
    settings.DJANGO_MCP = {
        "ACCESS": "public",
        "POLL_SECONDS": 0.05,
        "STORES": {"default": {"BACKEND": "tests.server.test_changes.TroubledStore"}},
    }
    session_id = await begin_session()
    async with asyncio.timeout(BOUND_SECONDS), legacy(None, session_id, "GET") as response:
        received = events(response)
        await anext(received)
        TroubledStore.failures = 2
        await asyncio.to_thread(notify.tools_changed, "tested")
        assert json.loads((await anext(received)).data)["method"] == "notifications/tools/list_changed"
        assert TroubledStore.failures == 0


@pytest.mark.django_db(transaction=True)
async def test_a_standalone_stream_does_not_begin_while_the_store_is_down(server: Server, settings: Settings) -> None:
    settings.DJANGO_MCP = {
        "ACCESS": "public",
        "STORES": {"default": {"BACKEND": "tests.server.test_changes.TroubledStore"}},
    }
    session_id = await begin_session()
    async with asyncio.timeout(BOUND_SECONDS), legacy(None, session_id, "GET") as response:
        event_id = (await anext(events(response))).event_id
    assert event_id is not None
    for place in ({}, {"last-event-id": event_id}):
        TroubledStore.cursor_failures = 1
        async with asyncio.timeout(BOUND_SECONDS), legacy(None, session_id, "GET", **place) as response:
            assert await response.started() == 503
            assert response.headers["retry-after"].isdecimal()
            assert json.loads(await response.read())["error"]["message"] == "The store is unavailable"
        async with asyncio.timeout(BOUND_SECONDS), legacy(None, session_id, "GET", **place) as response:
            assert await response.started() == 200
            # Behind its first event it reads no place any more, which is to fail for the next one.
            await anext(events(response))


@pytest.mark.django_db(transaction=True)
async def test_a_session_whose_place_among_the_changes_is_lost_hears_that_everything_changed(server: Server) -> None:
    @server.resource("shelf://one")
    def shelf() -> str:
        return ""

    session_id = await begin_session()
    params = {"uri": "shelf://one"}
    async with legacy({"id": 2, "method": "resources/subscribe", "params": params}, session_id) as response:
        assert json.loads(await response.read())["result"] == {}
    async with legacy(None, session_id, "GET") as response:
        await anext(events(response))
        response.disconnect()
        await response.over()
    await asyncio.to_thread(notify.tools_changed, "tested")
    assert await Outlet.objects.aupdate(cursor=1_000) == 1
    async with asyncio.timeout(BOUND_SECONDS), legacy(None, session_id, "GET") as response:
        received = events(response)
        await anext(received)
        messages = [json.loads((await anext(received)).data) for _ in range(4)]
    assert [message["method"] for message in messages] == [
        "notifications/tools/list_changed",
        "notifications/prompts/list_changed",
        "notifications/resources/list_changed",
        "notifications/resources/updated",
    ]
    assert messages[-1]["params"] == params


@pytest.mark.django_db(transaction=True)
async def test_a_busy_standalone_stream_ends_with_its_session(server: Server, settings: Settings) -> None:
    settings.DJANGO_MCP = {"ACCESS": "public", "POLL_SECONDS": 0.05, "KEEPALIVE_SECONDS": 1}
    session_id = await begin_session()
    over = asyncio.Event()

    async def keep_changing() -> None:
        while not over.is_set():
            await asyncio.to_thread(notify.tools_changed, "tested")
            with suppress(TimeoutError):
                await asyncio.wait_for(over.wait(), 0.1)

    changing = asyncio.create_task(keep_changing())
    async with asyncio.timeout(BOUND_SECONDS), legacy(None, session_id, "GET") as response:
        received = events(response)
        await anext(received)
        await anext(received)
        await MCPSession.objects.active().aupdate(state=SessionState.REVOKED)
        await response.read()
        await response.over()
    over.set()
    await changing

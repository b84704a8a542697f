"""The consumer while the process drains: what it still serves, what it refuses, and what it ends."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Annotated, Any

import pytest
from pytest_django import Settings

from django_mcp import Context, Resolve, Server
from django_mcp.consumers import MCPConsumer
from django_mcp.models import Call
from django_mcp.server import drain as drain_module
from django_mcp.server.drain import Drain
from django_mcp.server.reply import Reply
from tests.server.test_drain import until
from tests.test_consumers import BOUND_SECONDS, begin_session, events, legacy, modern


@pytest.fixture(autouse=True)
def public(settings: Settings) -> None:
    settings.DJANGO_MCP = {"ACCESS": "public", "DRAIN_SECONDS": BOUND_SECONDS}


@pytest.fixture
def drain(monkeypatch: pytest.MonkeyPatch) -> Drain:
    drain = Drain()
    for module in ("django_mcp.consumers", "django_mcp.server.listen"):
        monkeypatch.setattr(f"{module}.process_drain", lambda: drain)
    return drain


@pytest.fixture
async def draining(drain: Drain) -> AsyncIterator[Callable[[], Any]]:
    """Begin the drain, and wait at the end until it is over."""
    tasks: list[asyncio.Task[None]] = []

    async def begin() -> None:
        tasks.append(asyncio.create_task(drain.run(lambda: None)))
        await until(lambda: drain.is_draining)

    yield begin
    async with asyncio.timeout(BOUND_SECONDS):
        await asyncio.gather(*tasks)


async def test_a_call_is_served_and_its_connection_closed(
    server: Server, draining: Callable[[], Any], drain: Drain
) -> None:
    go_on = asyncio.Event()

    @server.tool
    async def work() -> str:
        await go_on.wait()
        return "done"

    @server.tool
    async def more() -> str:
        return "more"

    async with modern("work") as working:
        await until(lambda: drain.running == 1)
        await draining()
        async with modern("more") as coming:
            assert await coming.started() == 200
        go_on.set()
        assert await working.started() == 200
        assert working.headers["connection"] == "close"
        assert json.loads(await working.read())["result"]["content"][0]["text"] == "done"


@pytest.mark.django_db(transaction=True)
async def test_a_call_whose_client_comes_back_later_is_brought_to_its_end(
    server: Server, draining: Callable[[], Any], drain: Drain, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("keeper", "reply", "event_reader"):
        monkeypatch.setattr(f"django_mcp.server.{module}.process_drain", lambda: drain)
    go_on = asyncio.Event()

    @server.tool
    async def work(ctx: Context) -> str:
        await ctx.aprogress(1)
        await go_on.wait()
        return "done"

    session = await begin_session()
    params = {"name": "work", "arguments": {}, "_meta": {"progressToken": "t"}}
    async with legacy({"id": 7, "method": "tools/call", "params": params}, session) as response:
        await anext(events(response))
        response.disconnect()
        await response.over()
    await draining()
    assert drain.running == 1
    go_on.set()
    await until(lambda: not drain.running)
    assert (await Call.objects.aget()).state == "succeeded"


@pytest.mark.django_db(transaction=True)
async def test_a_get_stream_is_refused(drain: Drain, draining: Callable[[], Any], server: Server) -> None:
    session = await begin_session()
    with drain.exchange():
        await draining()
        async with legacy(None, session, "GET", origin="http://testserver", host="testserver") as response:
            assert await response.started() == 503
            assert response.headers["retry-after"] == "5"
            assert json.loads(await response.read())["error"]["code"] == -32603


@pytest.mark.parametrize("speaks", [False, True], ids=["silent", "streaming"])
async def test_a_call_whose_time_is_over_ends_as_if_its_client_had_left(
    server: Server, drain: Drain, draining: Callable[[], Any], settings: Settings, speaks: bool
) -> None:
    settings.DJANGO_MCP = {"ACCESS": "public", "DRAIN_SECONDS": 0}
    began, cancelled = asyncio.Event(), asyncio.Event()

    @server.tool
    async def work(ctx: Context) -> str:
        if speaks:
            await ctx.aprogress(1)
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        return "never"

    async with modern("work") as response:
        await asyncio.wait_for(began.wait(), BOUND_SECONDS)
        if speaks:
            assert await response.started() == 200
        await draining()
        assert await response.started() == 200
        if speaks:
            assert [event async for event in events(response) if "result" in event.data] == []
        else:
            lost = json.loads(await response.read())
            assert lost["error"]["data"] == {"reason": "worker_lost"}
            assert lost["id"] == 1
        await asyncio.wait_for(cancelled.wait(), BOUND_SECONDS)
        await response.over()
        assert response.violations == []


async def test_a_call_that_may_be_repeated_is_refused_when_its_time_is_over(
    server: Server, drain: Drain, draining: Callable[[], Any], settings: Settings
) -> None:
    settings.DJANGO_MCP = {"ACCESS": "public", "DRAIN_SECONDS": 0}
    began = asyncio.Event()

    @server.tool(idempotent=True)
    async def work() -> str:
        began.set()
        await asyncio.Event().wait()
        return "never"

    async with modern("work") as response:
        await asyncio.wait_for(began.wait(), BOUND_SECONDS)
        await draining()
        assert await response.started() == 503
        assert response.headers["retry-after"] == "5"
        refused = json.loads(await response.read())
    assert (refused["id"], refused["error"]["code"]) == (1, -32603)
    assert "data" not in refused["error"]


async def test_a_client_that_does_not_read_does_not_hold_the_drain(
    server: Server, drain: Drain, draining: Callable[[], Any], settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.DJANGO_MCP = {"ACCESS": "public", "DRAIN_SECONDS": 0}
    monkeypatch.setattr(drain_module, "END_SECONDS", BOUND_SECONDS)

    @server.tool
    async def flood(ctx: Context) -> str:
        for step in range(10_000):
            await ctx.aprogress(step)
        return "never"

    async with modern("flood", buffer=1) as response:
        assert await response.started() == 200
        await draining()
        await until(lambda: drain.running == 0)
        response.disconnect()


async def test_nothing_is_begun_when_the_process_goes(server: Server, drain: Drain) -> None:
    @server.tool
    async def work() -> str:
        raise AssertionError("it was begun")

    await drain.run(lambda: None)
    async with modern("work") as response:
        assert await response.started() == 503
        assert response.headers["retry-after"] == "5"
        assert response.headers["content-type"] == "application/json"


async def test_a_request_that_does_not_arrive_in_time_may_be_sent_again(drain: Drain, settings: Settings) -> None:
    sent: list[dict[str, Any]] = []
    headers = [
        (b"host", b"testserver"),
        (b"content-type", b"application/json"),
        (b"accept", b"application/json, text/event-stream"),
        (b"content-length", b"1000"),
    ]
    scope = {"type": "http", "http_version": "1.1", "method": "POST", "path": "/mcp", "headers": headers}

    async def receive() -> dict[str, Any]:
        await asyncio.Event().wait()
        return {}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    serving = asyncio.create_task(MCPConsumer("tested")(scope, receive, send))
    await until(lambda: drain.running == 1)
    settings.DJANGO_MCP = {"ACCESS": "public", "DRAIN_SECONDS": 0}
    await drain.run(lambda: None)
    async with asyncio.timeout(BOUND_SECONDS):
        await serving
    start, body = sent
    assert start["status"] == 503
    assert (b"retry-after", b"5") in start["headers"]
    assert (b"connection", b"close") in start["headers"]
    assert json.loads(body["body"])["error"]["message"] == "The server process ends; try again"


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("is_idempotent", "meta", "status"),
    [
        (False, {}, 200),
        (False, {"org.django-mcp/idempotencyKey": "k"}, 503),
        (True, {}, 503),
    ],
    ids=["plain", "keyed", "repeatable"],
)
async def test_a_call_of_a_session_whose_time_is_over_may_be_sent_again_where_that_does_no_harm(
    server: Server,
    drain: Drain,
    draining: Callable[[], Any],
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    is_idempotent: bool,
    meta: dict[str, str],
    status: int,
) -> None:
    settings.DJANGO_MCP = {"ACCESS": "public", "DRAIN_SECONDS": 0}
    monkeypatch.setattr(Reply, "open", lambda self: None)
    began = asyncio.Event()

    @server.tool(idempotent=is_idempotent)
    async def work() -> str:
        began.set()
        await asyncio.Event().wait()
        return "never"

    session = await begin_session()
    params = {"name": "work", "arguments": {}, "_meta": meta}
    async with legacy({"id": 7, "method": "tools/call", "params": params}, session) as response:
        await asyncio.wait_for(began.wait(), BOUND_SECONDS)
        await draining()
        assert await response.started() == status
        said = json.loads(await response.read())
    assert (said["id"], said["error"]["code"]) == (7, -32603)
    assert said["error"].get("data") == ({"reason": "worker_lost"} if status == 200 else None)


@pytest.mark.django_db(transaction=True)
async def test_a_call_of_a_session_that_has_not_begun_is_not_begun_after_its_client_was_told_to_come_back(
    server: Server, drain: Drain, draining: Callable[[], Any], settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.DJANGO_MCP = {"ACCESS": "public", "DRAIN_SECONDS": 0}
    monkeypatch.setattr(Reply, "open", lambda self: None)
    asked, go_on = asyncio.Event(), asyncio.Event()
    runs: list[str] = []

    async def slowly() -> str:
        asked.set()
        await go_on.wait()
        return "word"

    @server.tool
    async def work(word: Annotated[str, Resolve(slowly)]) -> str:
        runs.append(word)
        return word

    session = await begin_session()
    async with legacy(
        {"id": 7, "method": "tools/call", "params": {"name": "work", "arguments": {}}}, session
    ) as response:
        await asyncio.wait_for(asked.wait(), BOUND_SECONDS)
        await draining()
        assert await response.started() == 503
    go_on.set()
    await until(lambda: not [task for task in asyncio.all_tasks() if task.get_name() == "mcp-call"])
    assert runs == []

"""MCP 2025-11-25, basic/utilities and server/utilities: ping, cancellation, progress, tasks, completion, logging."""

import asyncio
import logging
import threading
from typing import Any

import pytest
from mcp.shared.message import ServerMessageMetadata
from mcp_types import ListRootsRequest, ListRootsResult
from pydantic import BaseModel
from pytest_django import Settings

from django_mcp import Context, Server
from django_mcp.server.threads import HandlerThreads
from tests.spec.handshake.peer import BOUND_SECONDS, EVERYTHING, Message, Peer, Reading

pytestmark = pytest.mark.django_db(transaction=True)


class Name(BaseModel):
    name: str


@pytest.fixture
async def go_on() -> asyncio.Event:
    return asyncio.Event()


def progress_of(messages: list[Message]) -> list[dict[str, Any]]:
    return [message["params"] for message in messages if message.get("method") == "notifications/progress"]


# Ping


async def test_a_ping_gets_an_empty_result_at_any_time(server: Server, go_on: asyncio.Event) -> None:
    @server.tool
    async def work(ctx: Context) -> str:
        await ctx.aprogress(1)
        await go_on.wait()
        return "done"

    peer = Peer()
    answer = await peer.initialize("2025-11-25")
    peer.session_id = answer.headers["mcp-session-id"]
    assert (await peer.send({"id": "early", "method": "ping"})).message == {
        "jsonrpc": "2.0",
        "id": "early",
        "result": {},
    }
    async with peer.open(peer.calling("work", meta={"progressToken": 1})) as response:
        assert await response.started() == 200
        assert (await peer.send({"id": 5, "method": "ping"})).message == {"jsonrpc": "2.0", "id": 5, "result": {}}
        go_on.set()
        assert (await Reading(response).rest())[-1]["result"]["content"][0]["text"] == "done"


# Cancellation


async def test_the_server_cancels_its_own_running_question_and_nothing_else(
    server: Server, settings: Settings
) -> None:
    settings.DJANGO_MCP = {**settings.DJANGO_MCP, "QUESTION_SECONDS": 1}

    @server.tool
    async def ask(ctx: Context) -> str:
        await ctx.alist_roots()
        await ctx.aelicit("Who?", Name)
        return ""

    peer = await Peer().begin(**EVERYTHING)
    async with peer.open(peer.calling("ask")) as response:
        reading = Reading(response)
        answered = (await reading.message())[1]
        await peer.send({"id": answered["id"], "result": {"roots": []}})
        asked = (await reading.message())[1]
        cancelled, final = await reading.rest()
    assert asked["method"] == "elicitation/create"
    assert asked["id"] != answered["id"]
    assert cancelled == {
        "jsonrpc": "2.0",
        "method": "notifications/cancelled",
        "params": {"requestId": asked["id"], "reason": "timed out"},
    }
    assert final["error"]["code"] == -32603
    late = await peer.send({"id": asked["id"], "result": {"action": "decline"}})
    assert (late.status, late.body) == (202, b"")


async def test_a_cancelled_call_is_stopped_and_not_answered(server: Server) -> None:
    stopped = asyncio.Event()

    @server.tool
    async def work(ctx: Context) -> str:
        await ctx.aprogress(1)
        try:
            await asyncio.Event().wait()
        finally:
            assert ctx.cancelled
            stopped.set()
        return ""

    peer = await Peer().begin()
    message = peer.calling("work", meta={"progressToken": 1})
    async with peer.open(message) as response:
        reading = Reading(response)
        await reading.message()
        await peer.send({"method": "notifications/cancelled", "params": {"requestId": message["id"]}})
        assert await reading.rest() == []
        await asyncio.wait_for(stopped.wait(), BOUND_SECONDS)


async def test_a_cancellation_of_what_does_not_run_changes_nothing(server: Server, go_on: asyncio.Event) -> None:
    @server.tool
    async def work(ctx: Context) -> str:
        await ctx.aprogress(1)
        await go_on.wait()
        return "done"

    peer, other = await Peer().begin(), await Peer().begin()
    message = {**peer.calling("work", meta={"progressToken": 1}), "id": 1}
    async with peer.open(message) as response:
        reading = Reading(response)
        await reading.message()
        finished = await peer.send({"id": "finished", "method": "ping"})
        assert finished.result == {}
        names: list[Any] = ["finished", "unknown", "1", True, 1.0, None, {}, [1]]
        for request_id in names:
            answer = await peer.send({"method": "notifications/cancelled", "params": {"requestId": request_id}})
            assert (answer.status, answer.body) == (202, b"")
        answer = await other.send({"method": "notifications/cancelled", "params": {"requestId": 1}})
        assert (answer.status, answer.body) == (202, b"")
        go_on.set()
        assert (await reading.rest())[-1]["result"]["content"][0]["text"] == "done"
    late = await peer.send({"method": "notifications/cancelled", "params": {"requestId": 1}})
    assert (late.status, late.body) == (202, b"")
    assert (await peer.send({"id": 1, "method": "ping"})).result == {}


# Progress


@pytest.mark.parametrize("token", ["t", "", "1", 1, 0, -1, 2**53])
async def test_a_progress_token_is_sent_back_as_it_came(server: Server, token: Any) -> None:
    @server.tool
    async def work(ctx: Context) -> str:
        await ctx.aprogress(1)
        return ""

    answer = await (await Peer().begin()).call("work", meta={"progressToken": token})
    assert progress_of(answer.messages) == [{"progressToken": token, "progress": 1}]
    assert type(progress_of(answer.messages)[0]["progressToken"]) is type(token)


@pytest.mark.parametrize("token", [None, 1.5, True, {}, ["t"]])
async def test_nothing_else_is_a_progress_token(server: Server, token: Any) -> None:
    @server.tool
    async def work(ctx: Context) -> str:
        await ctx.aprogress(1)
        return "done"

    answer = await (await Peer().begin()).call("work", meta={"progressToken": token})
    assert [message.get("method") for message in answer.messages] == [None]


async def test_the_servers_questions_ask_for_no_progress(server: Server) -> None:
    @server.tool
    async def ask(ctx: Context) -> str:
        async def ignore(progress: float, total: float | None, message: str | None) -> None:
            raise AssertionError("nobody was asked for progress")

        session = ctx.sdk.session
        asking = (ListRootsRequest(), ListRootsResult)
        metadata = ServerMessageMetadata(related_request_id=ctx.sdk.request_id)
        await asyncio.gather(
            session.send_request(*asking, metadata=metadata, progress_callback=ignore), ctx.alist_roots()
        )
        return "done"

    peer = await Peer().begin(**EVERYTHING)
    async with peer.open(peer.calling("ask")) as response:
        reading = Reading(response)
        for _ in range(2):
            question = (await reading.message())[1]
            assert "progressToken" not in question.get("params", {}).get("_meta", {})
            await peer.send({"id": question["id"], "result": {"roots": []}})
        assert (await reading.rest())[-1]["result"]["content"][0]["text"] == "done"


async def test_only_progress_that_rises_is_sent(server: Server) -> None:
    @server.tool
    async def work(ctx: Context) -> str:
        for value in (1, 2.5, 2.5, 2, 0, -1, 3, 3.0, 10):
            await ctx.aprogress(value, 10)
        return ""

    @server.tool
    def threaded(ctx: Context) -> str:
        for value in (1, 1, 3, 2, 4):
            ctx.progress(value)
        return ""

    peer = await Peer().begin()
    answer = await peer.call("work", meta={"progressToken": 1})
    assert [(params["progress"], params["total"]) for params in progress_of(answer.messages)] == [
        (1, 10),
        (2.5, 10),
        (3, 10),
        (10, 10),
    ]
    answer = await peer.call("threaded", meta={"progressToken": 1})
    assert [params["progress"] for params in progress_of(answer.messages)] == [1, 3, 4]
    assert all("total" not in params for params in progress_of(answer.messages))


async def test_progress_goes_to_the_token_of_its_own_running_call_only(server: Server) -> None:
    meet = asyncio.Barrier(2)

    @server.tool
    async def work(ctx: Context) -> str:
        await asyncio.wait_for(meet.wait(), BOUND_SECONDS)
        await ctx.aprogress(1)
        await asyncio.wait_for(meet.wait(), BOUND_SECONDS)
        return ""

    peer = await Peer().begin()
    assert (await peer.ask("ping")).result == {}
    with_token, without = await asyncio.gather(peer.call("work", meta={"progressToken": "mine"}), peer.call("work"))
    assert progress_of(with_token.messages) == [{"progressToken": "mine", "progress": 1}]
    assert [message.get("method") for message in without.messages] == [None]


async def test_no_progress_follows_the_result(server: Server, go_on: asyncio.Event) -> None:
    leaked: list[Context] = []

    @server.tool
    async def work(ctx: Context) -> str:
        await ctx.aprogress(1)
        leaked.append(ctx)
        return "done"

    peer = await Peer().begin()
    async with peer.listen() as listening:
        async with peer.open(peer.calling("work", meta={"progressToken": 1})) as response:
            reading = Reading(response)
            place, first = await reading.message()
            assert (first["params"]["progress"], (await reading.message())[1]["result"]["isError"]) == (1, False)
            await leaked[0].aprogress(2)
            await asyncio.to_thread(leaked[0].progress, 3)
            assert await reading.rest() == []
        async with peer.listen(last_event_id=place) as resumed:
            assert [message.get("method") for message in await Reading(resumed).rest()] == [None]
        await peer.send(method="DELETE")
        assert await Reading(listening).rest() == []


# Tasks


async def test_task_metadata_is_ignored(server: Server) -> None:
    server.tool(name="hello")(lambda: "hi")
    peer = await Peer().begin()
    assert "tasks" not in (await Peer().initialize("2025-11-25")).result["capabilities"]
    params = {"name": "hello", "arguments": {}, "task": {"ttl": 60_000}}
    answer = await peer.send({"id": 1, "method": "tools/call", "params": params})
    assert answer.text == "hi"
    assert "task" not in answer.result
    assert "io.modelcontextprotocol/related-task" not in answer.result.get("_meta", {})


# Completion


async def test_completion_is_validated_guarded_bounded_and_limited(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    started, let_go = threading.Event(), threading.Event()

    @server.prompt
    def greet(name: str) -> str:
        return name

    @server.prompt(permission=lambda request: False)
    def hidden(name: str) -> str:
        return name

    @server.completion("name", prompt="greet")
    def names(value: str) -> list[str]:
        if value == "crash":
            raise RuntimeError("the password is hunter2")
        if value == "wait":
            started.set()
            assert let_go.wait(BOUND_SECONDS)
        return [f"{value}{number}" for number in range(150)]

    @server.completion("name", prompt="hidden")
    def secrets(value: str) -> list[str]:
        return ["secret"]

    def completing(prompt: str, value: Any, name: str = "name") -> dict[str, Any]:
        return {"ref": {"type": "ref/prompt", "name": prompt}, "argument": {"name": name, "value": value}}

    peer = await Peer().begin()

    async def complete(*arguments: Any) -> Any:
        answer = await peer.ask("completion/complete", **completing(*arguments))
        return answer.message.get("error") or answer.result["completion"]

    assert await complete("hidden", "") == {"code": -32602, "message": "Unknown reference: hidden"}
    assert await complete("nothing", "") == {"code": -32602, "message": "Unknown reference: nothing"}
    assert (await complete("greet", 7))["code"] == -32602
    assert (await complete("greet", None))["code"] == -32602
    assert await complete("greet", "a", "other") == {"values": [], "total": 0, "hasMore": False}
    found = await complete("greet", "a")
    assert (len(found["values"]), found["total"], found["hasMore"]) == (100, 150, True)
    assert await complete("greet", "crash") == {"code": -32603, "message": "The completion failed"}

    pool = HandlerThreads(size=1, queue=1)
    monkeypatch.setattr("django_mcp.consumers.process_threads", lambda: pool)
    message = {"id": 1, "method": "completion/complete", "params": completing("greet", "wait")}
    running = asyncio.create_task(peer.send(message))
    try:
        assert await asyncio.to_thread(started.wait, BOUND_SECONDS)
        more = [asyncio.create_task(peer.send(message)) for _ in range(2)]
        (refused,), (queued,) = await asyncio.wait(more, return_when=asyncio.FIRST_COMPLETED)
    finally:
        let_go.set()
    assert (refused.result().status, refused.result().headers["retry-after"]) == (503, "1")
    for answer in (await running, await queued):
        assert len(answer.result["completion"]["values"]) == 100


# Logging


async def test_nothing_reaches_the_client_as_a_log_message_but_what_a_handler_sends_it(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    @server.tool
    async def work(ctx: Context) -> str:
        logging.getLogger("django_mcp.tools").error("internal: %s", "hunter2")
        logging.getLogger("project").critical("internal: %s", "hunter2")
        await ctx.ainfo({"step": 1})
        raise RuntimeError("the password is hunter2")

    peer = await Peer().begin()
    assert (await peer.ask("logging/setLevel", level="debug")).result == {}
    async with peer.listen() as listening:
        answer = await peer.call("work")
        logs, final = answer.messages
        await peer.send(method="DELETE")
        assert await Reading(listening).rest() == []
    assert logs == {
        "jsonrpc": "2.0",
        "method": "notifications/message",
        "params": {"level": "info", "data": {"step": 1}},
    }
    assert (final["result"]["isError"], answer.text) == (True, "The tool 'work' failed.")
    assert b"hunter2" not in answer.body
    assert "hunter2" in caplog.text

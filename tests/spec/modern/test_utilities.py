"""Progress and logging: only for who asked, only while the request runs, only on its stream (basic, server)."""

import asyncio
import logging
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from pytest_django import Settings

from django_mcp import Context, Server, notify
from tests.spec.modern.wire import PREFIX, SERVER, call, opened, post, request

LEVEL = f"{PREFIX}logLevel"
LEVELS = ["debug", "info", "notice", "warning", "error", "critical", "alert", "emergency"]


@pytest.mark.parametrize("token", [7, 0, -1, "7", "", "a b"])
async def test_a_progress_token_comes_back_as_it_was(full: Server, token: Any) -> None:
    answer = await post(call("talk", meta={"progressToken": token}))
    assert [message["params"]["progressToken"] for message in answer.notifications] == [token, token]
    assert {type(message["params"]["progressToken"]) for message in answer.notifications} == {type(token)}


@pytest.mark.parametrize("token", [None, 1.5, {}, [1]])
async def test_a_progress_token_of_another_type_is_refused(full: Server, token: Any) -> None:
    answer = await post(call("talk", meta={"progressToken": token}))
    assert (answer.status, answer.error["code"]) == (400, -32602)


@pytest.mark.parametrize("token", [True, False])
async def test_a_boolean_is_no_progress_token(full: Server, token: bool) -> None:
    assert (await post(call("talk", meta={"progressToken": token}))).notifications == []


@pytest.mark.parametrize("total", [None, 10])
async def test_progress_only_rises(server: Server, total: int | None) -> None:
    @server.tool
    async def work(ctx: Context) -> str:
        for value in (1, 1, 0, 2.5, 2.4, -1, 3, 3.0):
            await ctx.aprogress(value, total)
        await asyncio.to_thread(ctx.progress, 2, total)
        await asyncio.to_thread(ctx.progress, 4, total)
        return "done"

    answer = await post(call("work", meta={"progressToken": 1}))
    assert [message["params"]["progress"] for message in answer.notifications] == [1, 2.5, 3, 4]
    assert {message["params"].get("total") for message in answer.notifications} == {total}


async def test_progress_goes_to_the_token_of_the_running_request_alone(full: Server) -> None:
    assert (await post(call("talk"))).notifications == []
    first, second = await asyncio.gather(
        *(post(call("talk", meta={"progressToken": token})) for token in ("first", "second"))
    )
    assert [message["params"]["progressToken"] for message in first.notifications] == ["first"] * 2
    assert [message["params"]["progressToken"] for message in second.notifications] == ["second"] * 2


async def test_nothing_follows_the_result(server: Server) -> None:
    kept: list[Context] = []

    @server.tool
    async def leak(ctx: Context) -> str:
        kept.append(ctx)
        await ctx.aprogress(1)
        return "done"

    async with opened(call("leak", meta={"progressToken": 1, LEVEL: "debug"})) as answer:
        messages = await answer.rest()
        await kept[0].aprogress(2)
        await kept[0].ainfo("too late")
        await asyncio.to_thread(kept[0].progress, 3)
        await answer.response.over()
        assert await answer.rest() == []
    assert [message.get("method", "response") for message in messages] == ["notifications/progress", "response"]


async def test_without_a_level_nothing_is_logged_to_the_client(server: Server) -> None:
    @server.tool
    async def chat(ctx: Context) -> str:
        for level in LEVELS:
            await ctx.alog(level, level)  # type: ignore[arg-type]
        return "done"

    assert (await post(call("chat"))).notifications == []
    for index, level in enumerate(LEVELS):
        logged = (await post(call("chat", meta={LEVEL: level}))).notifications
        assert [message["params"]["level"] for message in logged] == LEVELS[index:]
    assert (await post(call("chat"))).notifications == []


@pytest.mark.django_db(transaction=True)
async def test_a_log_message_stays_on_the_stream_of_its_request(full: Server, settings: Settings) -> None:
    settings.DJANGO_MCP = {"ACCESS": "public", "POLL_SECONDS": 0.05}
    wanted = {"notifications": {"toolsListChanged": True}}
    async with opened(request("subscriptions/listen", wanted, meta={LEVEL: "debug"})) as listening:
        assert (await listening.next())["method"] == "notifications/subscriptions/acknowledged"
        loud, quiet = await asyncio.gather(post(call("talk", meta={LEVEL: "debug"})), post(call("talk")))
        await sync_to_async(notify.tools_changed)(SERVER)
        assert (await listening.next())["method"] == "notifications/tools/list_changed"
    assert [message["params"]["data"] for message in loud.notifications] == ["half way"]
    assert quiet.notifications == []


async def test_nothing_of_the_servers_own_log_reaches_the_client(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    @server.tool
    async def fail(ctx: Context) -> str:
        logging.getLogger("django").warning("the password is hunter2")
        raise LookupError("hunter2 in /etc/shadow")

    with caplog.at_level("DEBUG"):
        answer = await post(call("fail", meta={LEVEL: "debug", "progressToken": 1}))
    assert "hunter2 in /etc/shadow" in caplog.text
    assert (answer.text, answer.result["isError"]) == ("The tool 'fail' failed.", True)
    assert answer.notifications == []
    assert "hunter2" not in str(answer.messages)

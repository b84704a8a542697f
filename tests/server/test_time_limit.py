"""What becomes of a body that takes too long: who is told, what is kept, and what a repeat gets."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth.models import Group, User
from django.test import AsyncClient, override_settings
from django.test import Client as HTTPClient
from django.urls import path
from pydantic import BaseModel

from django_mcp import Context, Server
from django_mcp.exceptions import CallCancelled, RegistryError, TimeLimitExceeded
from django_mcp.server.compile import compiled
from django_mcp.server.threads import HandlerThreads
from django_mcp.server.time_limit import TimeLimit
from django_mcp.testing import Client
from django_mcp.testing.answers import Question
from django_mcp.views import endpoint

BOUND_SECONDS = 10
LIMIT = 0.05
TOLD = "The call took longer than its limit of 0.05 seconds and was given up."
META = {"io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {}}
both_eras = pytest.mark.parametrize("mode", ["modern", "legacy"])

urlpatterns = [path("mcp", endpoint, {"server": "tested"})]


class Name(BaseModel):
    name: str


@pytest.fixture(autouse=True)
def public() -> Iterator[None]:
    with override_settings(DJANGO_MCP={"ACCESS": "public"}):
        yield


def wait_until_given_up(ctx: Context) -> None:
    """Work as a body does that reads `ctx.cancelled` now and then."""
    never = threading.Event()
    for _ in range(BOUND_SECONDS * 100):
        if ctx.cancelled:
            return
        never.wait(0.01)
    raise AssertionError("nobody gave it up")


@both_eras
@pytest.mark.django_db(transaction=True)
async def test_an_async_body_is_cancelled(server: Server, mode: str) -> None:
    ended: list[str] = []

    @server.tool(time_limit=LIMIT)
    async def endless(ctx: Context) -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ended.append(f"cancelled {ctx.cancelled}")
            raise
        return ""

    result = await Client(server="tested", mode=mode).acall("endless")
    assert (result.is_error, result.text) == (True, TOLD)
    assert ended == ["cancelled True"]


@pytest.mark.django_db(transaction=True)
async def test_an_async_body_that_catches_its_cancellation_was_too_slow_all_the_same(server: Server) -> None:
    @server.tool(time_limit=LIMIT)
    async def stubborn() -> str:
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        return "done"

    result = await Client(server="tested").acall("stubborn")
    assert (result.is_error, result.text) == (True, TOLD)


@both_eras
@pytest.mark.django_db(transaction=True)
async def test_nobody_waits_for_a_sync_body_and_nothing_of_it_is_kept(server: Server, mode: str) -> None:
    go_on, ended = threading.Event(), threading.Event()
    seen: list[Any] = []

    @server.tool(time_limit=0.5, stateful=True)
    def slow(ctx: Context, wait: bool) -> str:
        seen.append(ctx.state.get("count", 0))
        ctx.state["count"] = len(seen)
        if wait:
            try:
                go_on.wait(BOUND_SECONDS)
                ctx.progress(1)
            except CallCancelled:
                seen.append("cancelled")
            finally:
                ended.set()
        return "done"

    user = await User.objects.acreate_user("ada")
    client = Client(user, server="tested", mode=mode, threads=HandlerThreads(size=2, queue=8))
    begun = await client.acall("slow", {"wait": False})
    result = await client.acall("slow", {"wait": True, "handle": begun.handle})
    assert not ended.is_set()
    assert (result.is_error, result.text) == (True, TOLD.replace("0.05", "0.5"))
    go_on.set()
    assert await asyncio.to_thread(ended.wait, BOUND_SECONDS)
    await client.acall("slow", {"wait": False, "handle": begun.handle})
    assert seen == [0, 1, "cancelled", 1]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("kind", ["wsgi", "asgi"])
def test_at_the_view_a_sync_body_learns_it(server: Server, kind: str) -> None:
    @server.tool(time_limit=LIMIT)
    def slow(ctx: Context) -> str:
        wait_until_given_up(ctx)
        return "done"

    post = HTTPClient().post if kind == "wsgi" else async_to_sync(AsyncClient().post)
    params = {"name": "slow", "arguments": {}, "_meta": META}
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    headers = {
        "accept": "application/json, text/event-stream",
        "mcp-protocol-version": "2026-07-28",
        "mcp-method": "tools/call",
        "mcp-name": "slow",
    }
    with override_settings(ROOT_URLCONF=__name__):
        answer: Any = post("/mcp", json.dumps(body), content_type="application/json", headers=headers)
    result = json.loads(answer.content)["result"]
    assert (result["isError"], result["content"][0]["text"]) == (True, TOLD)


@both_eras
@pytest.mark.django_db
def test_an_atomic_body_is_rolled_back(server: Server, mode: str) -> None:
    @server.tool(time_limit=LIMIT, atomic=True)
    def write(ctx: Context) -> str:
        Group.objects.create(name="written")
        wait_until_given_up(ctx)
        return "done"

    assert Client(server="tested", mode=mode).call("write").text == TOLD
    assert not Group.objects.exists()


@both_eras
@pytest.mark.parametrize("repeatable", [True, False])
@pytest.mark.django_db
def test_a_repeat_under_the_same_key_gets_the_same_failure(server: Server, mode: str, repeatable: bool) -> None:
    ran: list[int] = []

    @server.tool(time_limit=LIMIT, idempotent=repeatable)
    def slow(ctx: Context) -> str:
        ran.append(1)
        wait_until_given_up(ctx)
        return "done"

    client = Client(User.objects.create_user("ada"), server="tested", mode=mode)
    results = [client.call("slow", idempotency_key="k") for _ in range(2)]
    assert [(result.is_error, result.text) for result in results] == [(True, TOLD)] * 2
    assert ran == [1]


@pytest.mark.django_db(transaction=True)
async def test_the_time_of_a_question_does_not_count(server: Server) -> None:
    @server.tool(time_limit=0.4)
    async def ask(ctx: Context) -> str:
        answer = await ctx.aelicit("Who?", Name)
        if answer.data.name == "slow":
            await asyncio.Event().wait()
        return str(answer.data.name)

    def client(name: str) -> Client:
        async def answer(question: Question) -> dict[str, str]:
            # Longer than the limit: it is the passing of time that must not matter.
            await asyncio.sleep(0.8)
            return {"name": name}

        return Client(server="tested", mode="legacy", answers=answer)

    assert (await client("ada").acall("ask")).text == "ada"
    result = await client("slow").acall("ask")
    assert (result.is_error, result.text) == (True, TOLD.replace("0.05", "0.4"))


@pytest.mark.django_db(transaction=True)
async def test_a_body_in_time_is_as_without_a_limit(server: Server) -> None:
    server.tool(name="quick", time_limit=BOUND_SECONDS)(lambda: "done")

    @server.tool(time_limit=BOUND_SECONDS)
    async def wrong() -> str:
        raise TimeoutError("of its own")

    client = Client(server="tested")
    assert (await client.acall("quick")).text == "done"
    assert (await client.acall("wrong")).text == "The tool 'wrong' failed."


async def test_who_ends_in_time_is_never_given_up() -> None:
    limit = TimeLimit(0.01)
    begun, ended = threading.Event(), threading.Event()

    def body() -> bool:
        limit.begin()
        in_time = limit.ends_in_time()
        begun.set()
        ended.wait(BOUND_SECONDS)
        return in_time

    work = asyncio.create_task(limit.run(asyncio.to_thread(body)))
    assert await asyncio.to_thread(begun.wait, BOUND_SECONDS)
    # The time is over when this timer goes, which was set after the limit's.
    await asyncio.sleep(0.05)
    ended.set()
    assert await work is True


async def test_who_is_given_up_does_not_end_in_time() -> None:
    limit = TimeLimit(0.01)
    limit.begin()
    with pytest.raises(TimeLimitExceeded, match="longer than its limit"):
        await limit.run(asyncio.sleep(BOUND_SECONDS))
    assert not limit.ends_in_time()


@pytest.mark.parametrize("given", [0, -1, "10", True, float("inf")])
def test_what_is_no_limit_is_refused_with_its_place(server: Server, given: Any) -> None:
    server.tool(name="wrong", time_limit=given)(lambda: "done")
    with pytest.raises(RegistryError, match="give a number of seconds above 0"):
        compiled(server)

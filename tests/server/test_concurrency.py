"""How many bodies of a tool run at once, and what becomes of one more."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import override_settings

from django_mcp import Context, Server
from django_mcp.exceptions import Overloaded, RegistryError
from django_mcp.server.compile import compiled
from django_mcp.server.places import Places
from django_mcp.server.threads import HandlerThreads
from django_mcp.testing import Client, MCPClientError

BOUND_SECONDS = 10
both_eras = pytest.mark.parametrize("mode", ["modern", "legacy"])
pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def public() -> Iterator[None]:
    with override_settings(DJANGO_MCP={"ACCESS": "public"}):
        yield


@both_eras
async def test_one_more_is_503_and_does_not_run(server: Server, mode: str) -> None:
    go_on, inside = asyncio.Event(), asyncio.Semaphore(0)
    ran: list[str] = []

    @server.tool(concurrency=2)
    async def narrow(name: str) -> str:
        ran.append(name)
        inside.release()
        await go_on.wait()
        return name

    user = await User.objects.acreate_user("ada")
    clients = [Client(user, server="tested", mode=mode) for _ in range(3)]
    calls = [asyncio.create_task(client.acall("narrow", {"name": "first"})) for client in clients[:2]]
    for _ in calls:
        await asyncio.wait_for(inside.acquire(), BOUND_SECONDS)
    with pytest.raises(MCPClientError) as caught:
        await clients[2].acall("narrow", {"name": "late"}, idempotency_key="k")
    assert caught.value.status == 503
    assert caught.value.message == "As many calls of this tool run as may run at once"
    go_on.set()
    assert [call.text for call in await asyncio.gather(*calls)] == ["first", "first"]
    # Its key is as good as before.
    assert (await clients[2].acall("narrow", {"name": "late"}, idempotency_key="k")).text == "late"
    assert ran == ["first", "first", "late"]


async def test_a_failed_body_gives_its_place_back(server: Server) -> None:
    @server.tool(concurrency=1)
    def fail() -> str:
        raise ValueError("a mistake")

    client = Client(server="tested")
    for _ in range(3):
        assert (await client.acall("fail")).is_error


async def test_a_sync_body_that_was_given_up_has_its_place_until_it_ends(server: Server) -> None:
    go_on, ended = threading.Event(), threading.Event()

    @server.tool(concurrency=1, time_limit=0.05)
    def slow(ctx: Context, wait: bool) -> str:
        if wait:
            go_on.wait(BOUND_SECONDS)
        return "done"

    threads = HandlerThreads(size=2, queue=8)
    client = Client(server="tested", threads=threads)
    assert (await client.acall("slow", {"wait": True})).is_error
    with pytest.raises(MCPClientError, match="may run at once"):
        await client.acall("slow", {"wait": False})
    go_on.set()
    for _ in range(BOUND_SECONDS * 100):
        try:
            assert (await client.acall("slow", {"wait": False})).text == "done"
        except MCPClientError:
            await asyncio.sleep(0.01)
        else:
            ended.set()
            break
    assert ended.is_set()


def test_a_place_is_free_when_nobody_is_in_it() -> None:
    places = Places(1)
    place = places.take()
    with place:
        with place:
            pass
        with pytest.raises(Overloaded) as caught:
            places.take()
        assert (caught.value.scope, caught.value.has_begun) == ("global", False)
    with place:
        pass
    with places.take(), pytest.raises(Overloaded):
        places.take()


@pytest.mark.parametrize("given", [0, -1, 1.5, "2", True])
def test_what_is_no_number_of_bodies_is_refused(server: Server, given: Any) -> None:
    server.tool(name="wrong", concurrency=given)(lambda: "done")
    with pytest.raises(RegistryError, match="give a whole number, 1 or more"):
        compiled(server)

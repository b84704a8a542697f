"""What is entered around a handler: where it holds, that it is always left, and what it costs."""

import asyncio
import contextvars
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import pytest
from asgiref.sync import sync_to_async
from django.http import HttpRequest
from django.utils import translation
from pydantic import BaseModel
from pytest_django import Settings

from django_mcp import Context, Server
from django_mcp.server.threads import HandlerThreads
from django_mcp.testing import Client, Question
from tests.test_consumers import modern

BOUND_SECONDS = 10
label: contextvars.ContextVar[str] = contextvars.ContextVar("label", default="outside")


class Around:
    """What was entered and left, and on which thread."""

    entered: ClassVar[list[int]] = []
    left: ClassVar[list[int]] = []
    began: ClassVar[threading.Event] = threading.Event()
    go_on: ClassVar[threading.Event] = threading.Event()


@contextmanager
def labelled(request: HttpRequest, name: str) -> Iterator[None]:
    Around.began.set()
    assert Around.go_on.wait(BOUND_SECONDS)
    Around.entered.append(threading.get_ident())
    token = label.set(name)
    try:
        yield
    finally:
        label.reset(token)
        Around.left.append(threading.get_ident())


@pytest.fixture(autouse=True)
def around(settings: Settings) -> None:
    settings.DJANGO_MCP = {"ACCESS": "public", "AROUND_CALL": ["tests.server.test_surroundings.labelled"]}
    Around.entered.clear()
    Around.left.clear()
    Around.began.clear()
    Around.go_on.set()


@pytest.fixture(params=["sync", "async"])
def labels(request: Any, server: Server) -> str:
    if request.param == "sync":

        @server.tool(name="read")
        def read() -> str:
            return label.get()

    else:

        @server.tool(name="read")
        async def aread() -> str:
            return f"{label.get()}"

    return "read"


@pytest.mark.parametrize("pool", [None, HandlerThreads(size=2, queue=1)])
async def test_a_context_variable_is_set_in_the_body_and_can_be_reset(labels: str, pool: Any) -> None:
    client = Client(server="tested", **({"threads": pool} if pool else {}))
    result = await client.acall(labels)
    assert (result.text, result.is_error) == ("read", False)
    assert Around.entered == Around.left
    assert label.get() == "outside"


async def test_what_the_body_sets_is_seen_on_the_way_out(server: Server, settings: Settings) -> None:
    settings.DJANGO_MCP = {"AROUND_CALL": ["tests.server.test_surroundings.noting"]}

    @server.tool
    async def work() -> str:
        label.set("set in the body")
        return ""

    await Client(server="tested", threads=HandlerThreads(size=1, queue=1)).acall("work")
    assert Noted.label == "set in the body"


class Noted:
    label: ClassVar[str] = ""


@contextmanager
def noting(request: HttpRequest, name: str) -> Iterator[None]:
    yield
    Noted.label = label.get()


class Consent(BaseModel):
    ok: bool


@pytest.mark.django_db(transaction=True)
async def test_a_question_in_the_body_does_not_lend_the_entered_thread_to_others(server: Server) -> None:
    @server.tool
    async def ask(ctx: Context) -> str:
        await ctx.aelicit("May I?", Consent)
        return str(await sync_to_async(threading.get_ident)())

    pool = HandlerThreads(size=2, queue=1)
    others: list[int] = []

    async def answer(question: Question) -> dict[str, bool]:
        others.append(await pool.run(threading.get_ident))
        return {"ok": True}

    result = await Client(server="tested", threads=pool, mode="legacy", answers=answer).acall("ask")
    assert Around.entered == Around.left == [int(result.text)]
    assert others != Around.entered


async def test_what_is_entered_while_the_client_leaves_is_left_again(server: Server) -> None:
    ran: list[bool] = []

    @server.tool
    async def work() -> str:
        ran.append(True)
        return ""

    Around.go_on.clear()
    async with modern("work") as response:
        assert await asyncio.to_thread(Around.began.wait, BOUND_SECONDS)
        response.disconnect()
        await response.over()
    Around.go_on.set()
    async with asyncio.timeout(BOUND_SECONDS):
        while not Around.left:  # noqa: ASYNC110 - a thread sets it
            await asyncio.sleep(0.01)
    assert Around.entered == Around.left
    assert ran == []


async def test_a_language_alone_takes_no_thread_of_an_async_handler(server: Server, settings: Settings) -> None:
    settings.DJANGO_MCP = {}

    @server.tool
    async def work() -> str:
        return str(translation.get_language())

    pool = HandlerThreads(size=1, queue=0)
    client = Client(server="tested", threads=pool, headers={"accept-language": "de"})
    entered, gate = threading.Event(), threading.Event()

    def hold() -> None:
        entered.set()
        assert gate.wait(BOUND_SECONDS)

    holding = asyncio.create_task(pool.run(hold))
    assert await asyncio.to_thread(entered.wait, BOUND_SECONDS)
    try:
        assert (await client.acall("work")).text == "de"
    finally:
        gate.set()
        await holding
    assert translation.get_language() != "de"

"""A public server of the test's own, with one definition of each kind where a test asks for it."""

from collections.abc import Iterator
from typing import Annotated

import pytest
from pydantic import BaseModel
from pytest_django import Settings

from django_mcp import Context, Elicit, Resolve, Server
from tests.servers import defined
from tests.spec.modern.wire import SERVER


class Consent(BaseModel):
    ok: bool


def ask_consent() -> Elicit[Consent]:
    return Elicit("May it run?", Consent)


@pytest.fixture(autouse=True)
def public(settings: Settings) -> None:
    settings.DJANGO_MCP = {"ACCESS": "public"}


@pytest.fixture
def server() -> Iterator[Server]:
    with defined(SERVER) as server:
        yield server


@pytest.fixture
def full(server: Server) -> Server:
    """Define something for every method there is."""

    @server.tool
    async def greet(name: str = "you") -> str:
        return f"Hello, {name}!"

    @server.tool
    async def talk(ctx: Context) -> str:
        await ctx.aprogress(1)
        await ctx.ainfo("half way")
        await ctx.aprogress(2)
        return "done"

    @server.tool(read_only=True)
    async def ask(answer: Annotated[Consent, Resolve(ask_consent)]) -> str:
        return f"asked: {answer.ok}"

    @server.resource("note://today", mime_type="text/plain")
    async def today() -> str:
        return "sunny"

    @server.resource("note://{day}")
    async def day_of(day: str) -> str:
        return day

    @server.prompt
    async def plan(day: str) -> str:
        return f"Plan {day}."

    @server.completion("day", prompt="plan")
    async def complete_day(value: str) -> list[str]:
        return [day for day in ("monday", "tuesday") if day.startswith(value)]

    return server

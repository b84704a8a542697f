"""The last round of a call with questions: its body runs once, and what became of it is recorded, come what may."""

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from typing import Annotated, Any, ClassVar

import pytest
from pydantic import BaseModel
from pytest_django import Settings

from django_mcp import Context, Elicit, Resolve, Server
from django_mcp.consumers import MCPConsumer
from django_mcp.exceptions import Overloaded
from django_mcp.sessions.stores.base import ClaimOutcome
from django_mcp.sessions.stores.database import DatabaseStore
from django_mcp.testing.asgi import stream
from tests.test_consumers import META

BOUND_SECONDS = 10
pytestmark = pytest.mark.django_db(transaction=True)


class Consent(BaseModel):
    ok: bool


def consent() -> Elicit[Consent]:
    return Elicit("May I?", Consent)


Agreed = Annotated[Consent, Resolve(consent)]


class HookedStore(DatabaseStore):
    """A store whose claims can be looked at as they happen."""

    after_claim: ClassVar[Callable[[], object] | None] = None
    before_settle: ClassVar[Callable[[], object] | None] = None
    before_release: ClassVar[Callable[[], object] | None] = None

    def claim(self, *args: Any, **kwargs: Any) -> ClaimOutcome:
        claim = super().claim(*args, **kwargs)
        if HookedStore.after_claim is not None:
            HookedStore.after_claim()
        return claim

    def settle(self, *args: Any, **kwargs: Any) -> bool:
        if HookedStore.before_settle is not None:
            HookedStore.before_settle()
        return super().settle(*args, **kwargs)

    def release(self, *args: Any, **kwargs: Any) -> bool:
        if HookedStore.before_release is not None:
            HookedStore.before_release()
        return super().release(*args, **kwargs)


class Gate:
    """Holds a thread until it is opened."""

    def __init__(self) -> None:
        self.reached, self.opened = threading.Event(), threading.Event()

    def __call__(self) -> None:
        self.reached.set()
        assert self.opened.wait(BOUND_SECONDS)

    async def is_reached(self) -> None:
        assert await asyncio.to_thread(self.reached.wait, BOUND_SECONDS)


class BusyAtFirst:
    """Says that every thread is busy, once."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self) -> None:
        self.asked += 1
        if self.asked == 1:
            raise Overloaded(1)


@pytest.fixture(autouse=True)
def hooked(settings: Settings) -> Iterator[None]:
    settings.DJANGO_MCP = {
        "ACCESS": "public",
        "POLL_SECONDS": 0.05,
        "STORES": {"default": {"BACKEND": "tests.server.test_single_use.HookedStore"}},
    }
    yield
    HookedStore.after_claim = HookedStore.before_settle = HookedStore.before_release = None


def call(tool: str, **params: Any) -> Any:
    meta = {**META, "io.modelcontextprotocol/clientCapabilities": {"elicitation": {}}}
    body = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "tools/call",
        "params": {"name": tool, "arguments": {}, "_meta": meta, **params},
    }
    headers = {
        "content-type": "application/json",
        "accept": "application/json, text/event-stream",
        "mcp-protocol-version": "2026-07-28",
        "mcp-method": "tools/call",
        "mcp-name": tool,
    }
    return stream(MCPConsumer("tested"), "POST", "/mcp", headers=headers, body=json.dumps(body).encode())


async def asked(tool: str) -> dict[str, Any]:
    """Return what the last round of a call to `tool` carries."""
    async with call(tool) as response:
        result = json.loads(await response.read())["result"]
    (name,) = result["inputRequests"]
    answer = {"action": "accept", "content": {"ok": True}}
    return {"requestState": result["requestState"], "inputResponses": {name: answer}}


async def outcome(tool: str, last_round: dict[str, Any]) -> dict[str, Any]:
    async with asyncio.timeout(BOUND_SECONDS), call(tool, **last_round) as response:
        message = (await response.read()).decode().strip().rpartition("data: ")[2]
    return dict(json.loads(message))


@pytest.fixture
def runs(server: Server) -> list[int]:
    made: list[int] = []

    @server.tool(name="write")
    def write(agreed: Agreed) -> str:
        made.append(1)
        return f"run {len(made)}"

    return made


async def test_a_client_that_leaves_during_the_claim_leaves_the_state_as_good_as_before(runs: list[int]) -> None:
    last_round = await asked("write")
    HookedStore.after_claim = gate = Gate()
    async with call("write", **last_round) as response:
        await gate.is_reached()
        response.disconnect()
        await response.over()
    gate.opened.set()
    assert (await outcome("write", last_round))["result"]["content"][0]["text"] == "run 1"
    assert runs == [1]


async def test_an_outcome_is_recorded_when_the_store_is_busy_at_first(runs: list[int]) -> None:
    last_round = await asked("write")
    HookedStore.before_settle = busy = BusyAtFirst()
    for _ in range(2):
        assert (await outcome("write", last_round))["result"]["content"][0]["text"] == "run 1"
    assert (runs, busy.asked) == ([1], 2)


async def test_a_body_that_never_began_leaves_the_state_as_good_as_before(server: Server, settings: Settings) -> None:
    settings.DJANGO_MCP = {**settings.DJANGO_MCP, "AROUND_CALL": ["tests.server.test_single_use.Refusing"]}

    @server.tool
    def write(agreed: Agreed) -> str:
        return "written"

    last_round = await asked("write")
    Refusing.error = Overloaded(1)
    HookedStore.before_release = BusyAtFirst()
    assert (await outcome("write", last_round))["error"]["code"] == -32603
    Refusing.error = RuntimeError("not yet")
    assert (await outcome("write", last_round))["result"]["isError"] is True
    Refusing.error = None
    assert (await outcome("write", last_round))["result"]["content"][0]["text"] == "written"


class Refusing:
    """Refuses to be entered, for the time being."""

    error: ClassVar[Exception | None] = None

    def __init__(self, request: Any, name: str) -> None:
        pass

    def __enter__(self) -> None:
        if Refusing.error is not None:
            raise Refusing.error

    def __exit__(self, *raised: object) -> None:
        pass


async def test_a_body_that_meets_an_overload_is_not_run_again(server: Server) -> None:
    runs: list[int] = []

    @server.tool
    async def write(agreed: Agreed) -> str:
        runs.append(1)
        raise Overloaded(1)

    last_round = await asked("write")
    for _ in range(2):
        assert (await outcome("write", last_round))["result"]["isError"] is True
    assert runs == [1]


@pytest.mark.parametrize("is_async", [False, True])
async def test_a_body_that_reports_progress_runs_to_its_end_without_its_client(server: Server, is_async: bool) -> None:
    begun, go_on = threading.Event(), threading.Event()

    if is_async:

        @server.tool(name="write")
        async def awrite(ctx: Context, agreed: Agreed) -> str:
            begun.set()
            assert await asyncio.to_thread(go_on.wait, BOUND_SECONDS)
            await ctx.aprogress(1)
            return f"cancelled: {ctx.cancelled}"

    else:

        @server.tool(name="write")
        def write(ctx: Context, agreed: Agreed) -> str:
            begun.set()
            assert go_on.wait(BOUND_SECONDS)
            ctx.progress(1)
            return f"cancelled: {ctx.cancelled}"

    last_round = await asked("write")
    async with call("write", **last_round) as response:
        assert await asyncio.to_thread(begun.wait, BOUND_SECONDS)
        response.disconnect()
        await response.over()
    go_on.set()
    assert (await outcome("write", last_round))["result"]["content"][0]["text"] == "cancelled: True"

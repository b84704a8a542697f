"""Idempotency keys and clients that leave or cancel: who is stopped, who runs to the end, and what is recorded."""

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import User
from pytest_django import Settings

from django_mcp import Context, Server, State
from django_mcp.consumers import MCPConsumer
from django_mcp.exceptions import StoreUnavailable
from django_mcp.models import Claim, Conversation, MCPAccessToken
from django_mcp.models.claim import ClaimState
from django_mcp.server import modern
from django_mcp.server.idempotency import IDEMPOTENCY_META_KEY
from django_mcp.sessions.stores.base import ClaimOutcome, Standing
from django_mcp.sessions.stores.database import DatabaseStore
from django_mcp.testing.asgi import stream
from tests.test_consumers import META, begin_session, legacy

BOUND_SECONDS = 10
pytestmark = pytest.mark.django_db(transaction=True)
is_async = pytest.mark.parametrize("is_async", [False, True])


class GatedStore(DatabaseStore):
    """A store whose operations on claims can be held."""

    after_claim: ClassVar[Callable[[], object] | None] = None
    before_settle: ClassVar[Callable[[], object] | None] = None
    looks: ClassVar[list[object]] = []

    def peek(self, *args: Any, **terms: Any) -> Standing | None:
        found = super().peek(*args, **terms)
        GatedStore.looks.append(found)
        return found

    def claim(self, *args: Any, **kwargs: Any) -> ClaimOutcome:
        claim = super().claim(*args, **kwargs)
        if GatedStore.after_claim is not None:
            GatedStore.after_claim()
        return claim

    def settle(self, *args: Any, **kwargs: Any) -> bool:
        if GatedStore.before_settle is not None:
            GatedStore.before_settle()
        return super().settle(*args, **kwargs)


class Gate:
    """Holds a thread, or what awaits it, until it is opened."""

    def __init__(self) -> None:
        self.reached, self.opened = threading.Event(), threading.Event()

    def __call__(self) -> None:
        self.reached.set()
        assert self.opened.wait(BOUND_SECONDS)

    async def hold(self) -> None:
        self.reached.set()
        assert await asyncio.to_thread(self.opened.wait, BOUND_SECONDS)

    async def is_reached(self) -> None:
        assert await asyncio.to_thread(self.reached.wait, BOUND_SECONDS)


class Stopped:
    """Notes that a body was stopped."""

    def __init__(self) -> None:
        self.event = threading.Event()

    async def is_noted(self) -> None:
        assert await asyncio.to_thread(self.event.wait, BOUND_SECONDS)


@pytest.fixture(autouse=True)
def gated(settings: Settings) -> Iterator[None]:
    settings.DJANGO_MCP = {
        "ACCESS": "public",
        "POLL_SECONDS": 0.05,
        "STORES": {"default": {"BACKEND": f"{__name__}.GatedStore"}},
    }
    yield
    GatedStore.after_claim = GatedStore.before_settle = None
    GatedStore.looks.clear()


@pytest.fixture
async def token(server: Server) -> str:
    ada = await User.objects.acreate(username="ada")
    return (await sync_to_async(MCPAccessToken.objects.issue)(ada, "laptop"))[1]


def call(token: str, tool: str, **params: Any) -> Any:
    """Call a tool in the modern era, under a key."""
    meta = {**META, IDEMPOTENCY_META_KEY: "k"}
    body = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "tools/call",
        "params": {"name": tool, "arguments": {}, "_meta": meta, **params},
    }
    headers = {
        "content-type": "application/json",
        "accept": "application/json, text/event-stream",
        "authorization": f"Bearer {token}",
        "mcp-protocol-version": "2026-07-28",
        "mcp-method": "tools/call",
        "mcp-name": tool,
    }
    return stream(MCPConsumer("tested"), "POST", "/mcp", headers=headers, body=json.dumps(body).encode())


def call_in(session: str, tool: str, request_id: int, key: Any = "k") -> Any:
    """Call a tool in a session of the handshake era, under a key."""
    params = {"name": tool, "arguments": {}, "_meta": {IDEMPOTENCY_META_KEY: key}}
    return legacy({"id": request_id, "method": "tools/call", "params": params}, session)


async def message_of(response: Any) -> dict[str, Any]:
    async with asyncio.timeout(BOUND_SECONDS):
        return dict(json.loads((await response.read()).decode().strip().rpartition("data: ")[2]))


async def text_of(calling: Any) -> str:
    async with calling as response:
        message = await message_of(response)
    assert "result" in message, message
    return str(message["result"]["content"][0]["text"])


async def leave(calling: Any, gate: Gate) -> None:
    """Send a call, and leave once it came to the gate."""
    async with calling as response:
        await gate.is_reached()
        response.disconnect()
        await response.over()


async def is_free() -> None:
    """Wait until nobody holds the key."""
    async with asyncio.timeout(BOUND_SECONDS):
        while await Claim.objects.exclude(state=ClaimState.FREE).aexists():  # noqa: ASYNC110 - the database tells nobody
            await asyncio.sleep(0)


@is_async
async def test_a_body_that_may_not_run_again_runs_to_its_end_alone(server: Server, token: str, is_async: bool) -> None:
    gate, runs = Gate(), list[int]()
    if is_async:

        @server.tool(name="write")
        async def awrite(ctx: Context) -> str:
            runs.append(1)
            await gate.hold()
            await ctx.aprogress(1)
            return f"cancelled: {ctx.cancelled}"

    else:

        @server.tool(name="write")
        def write(ctx: Context) -> str:
            runs.append(1)
            gate()
            ctx.progress(1)
            return f"cancelled: {ctx.cancelled}"

    await leave(call(token, "write"), gate)
    async with call(token, "write") as repeat:
        gate.opened.set()
        message = await message_of(repeat)
    assert message["result"]["content"][0]["text"] == "cancelled: True"
    assert runs == [1]


async def test_a_repeatable_async_body_is_stopped_and_the_key_is_free(server: Server, token: str) -> None:
    gate, stopped, runs = Gate(), Stopped(), list[int]()

    @server.tool(idempotent=True)
    async def put() -> str:
        runs.append(1)
        if len(runs) == 1:
            try:
                await gate.hold()
            except asyncio.CancelledError:
                stopped.event.set()
                raise
        return f"run {len(runs)}"

    await leave(call(token, "put"), gate)
    await stopped.is_noted()
    await is_free()
    gate.opened.set()
    assert [await text_of(call(token, "put")) for _ in range(2)] == ["run 2", "run 2"]


async def test_a_repeatable_body_that_answers_although_it_was_stopped_is_nobodys_outcome(
    server: Server, token: str
) -> None:
    gate, runs = Gate(), list[int]()

    @server.tool(idempotent=True)
    async def put(state: State) -> str:
        runs.append(1)
        state["runs"] = len(runs)
        if len(runs) == 1:
            try:
                await gate.hold()
            except asyncio.CancelledError:
                return "half"
        return f"run {len(runs)}"

    await leave(call(token, "put"), gate)
    await is_free()
    gate.opened.set()
    assert await text_of(call(token, "put")) == "run 2"
    assert await Conversation.objects.active().acount() == 1


async def test_a_repeatable_sync_body_leaves_the_key_free_and_stops_at_its_next_progress(
    server: Server, token: str
) -> None:
    gate, stopped, runs = Gate(), Stopped(), list[int]()

    @server.tool(idempotent=True)
    def put(ctx: Context) -> str:
        runs.append(1)
        if len(runs) == 1:
            gate()
            try:
                ctx.progress(1)
            finally:
                stopped.event.set()
            runs.append(1)
        return f"run {len(runs)}"

    await leave(call(token, "put"), gate)
    await is_free()
    assert await text_of(call(token, "put")) == "run 2"
    gate.opened.set()
    await stopped.is_noted()
    assert await text_of(call(token, "put")) == "run 2"
    assert runs == [1, 1]


@pytest.mark.parametrize("idempotent", [False, True])
async def test_a_client_that_leaves_during_the_claim_leaves_the_key_free(
    server: Server, token: str, idempotent: bool
) -> None:
    runs: list[int] = []

    @server.tool(idempotent=idempotent)
    def write() -> str:
        runs.append(1)
        return f"run {len(runs)}"

    GatedStore.after_claim = gate = Gate()
    await leave(call(token, "write"), gate)
    gate.opened.set()
    await is_free()
    assert await text_of(call(token, "write")) == "run 1"


@pytest.mark.parametrize("idempotent", [False, True])
async def test_a_client_that_leaves_while_the_outcome_is_recorded_does_not_prevent_it(
    server: Server, token: str, idempotent: bool
) -> None:
    runs: list[int] = []

    @server.tool(idempotent=idempotent)
    def write() -> str:
        runs.append(1)
        return f"run {len(runs)}"

    gate = Gate()

    def fail_at_first() -> None:
        is_first = not gate.reached.is_set()
        gate()
        if is_first:
            raise StoreUnavailable

    GatedStore.before_settle = fail_at_first
    await leave(call(token, "write"), gate)
    gate.opened.set()
    assert await text_of(call(token, "write")) == "run 1"
    assert runs == [1]


@pytest.mark.parametrize(("idempotent", "state"), [(False, ClaimState.RUNNING), (True, ClaimState.FREE)])
async def test_a_body_that_ends_with_its_process_frees_the_key_where_it_may_run_again(
    server: Server, token: str, idempotent: bool, state: ClaimState
) -> None:
    gate = Gate()

    @server.tool(idempotent=idempotent)
    async def write() -> str:
        await gate.hold()
        return "written"

    async with call(token, "write") as response:
        await gate.is_reached()
        (task,) = modern._running
        task.cancel()
        await asyncio.wait([task])
        response.disconnect()
    gate.opened.set()
    assert (await Claim.objects.aget()).state == state


async def test_who_waits_for_another_call_may_leave(server: Server, token: str) -> None:
    gate = Gate()

    @server.tool
    def write() -> str:
        gate()
        return "written"

    async with call(token, "write") as first:
        await gate.is_reached()
        async with call(token, "write") as second:
            async with asyncio.timeout(BOUND_SECONDS):
                # The first has looked once; who waits for it has looked twice.
                while len(GatedStore.looks) < 3:  # noqa: ASYNC110 - threads count
                    await asyncio.sleep(0)
            second.disconnect()
            await second.over()
        gate.opened.set()
        assert (await message_of(first))["result"]["content"][0]["text"] == "written"
    assert await text_of(call(token, "write")) == "written"


# The handshake era, where only a notification cancels


async def cancel(session: str, request_id: int) -> None:
    params = {"requestId": request_id}
    async with legacy({"method": "notifications/cancelled", "params": params}, session) as response:
        assert await response.started() == 202


async def test_a_session_that_cancels_stops_a_repeatable_body_and_frees_the_key(server: Server) -> None:
    gate, runs = Gate(), list[int]()

    @server.tool(idempotent=True)
    async def put() -> str:
        runs.append(1)
        if len(runs) == 1:
            await gate.hold()
        return f"run {len(runs)}"

    session = await begin_session()
    async with call_in(session, "put", 1):
        await gate.is_reached()
        await cancel(session, 1)
    gate.opened.set()
    await is_free()
    assert await text_of(call_in(session, "put", 2)) == "run 2"


async def test_a_session_that_cancels_does_not_stop_a_body_that_may_not_run_again(server: Server) -> None:
    gate, runs = Gate(), list[int]()

    @server.tool
    async def write(ctx: Context) -> str:
        runs.append(1)
        await gate.hold()
        return f"cancelled: {ctx.cancelled}"

    session = await begin_session()
    async with call_in(session, "write", 1):
        await gate.is_reached()
        await cancel(session, 1)
        gate.opened.set()
    assert await text_of(call_in(session, "write", 2)) == "cancelled: True"
    assert runs == [1]


async def test_a_null_is_no_key(server: Server) -> None:
    @server.tool(read_only=True)
    def read() -> str:
        return "read"

    session = await begin_session()
    async with call_in(session, "read", 1, key=None) as response:
        message = await message_of(response)
    assert message["error"]["code"] == -32602
    assert "must be a string" in message["error"]["message"]

"""The handlers' threads: a fixed set, lent to calls. Proven by counting."""

import asyncio
import contextvars
import threading
from collections.abc import Iterator
from typing import Annotated, Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import Group
from django.db import connection, connections
from django.db.backends.signals import connection_created
from pydantic import BaseModel

from django_mcp import Context, Elicit, Resolve, Server, ToolError
from django_mcp.exceptions import Overloaded
from django_mcp.server import threads
from django_mcp.server.threads import HandlerThreads
from django_mcp.testing import Client, MCPClientError, Question

BOUND_SECONDS = 10
committed = pytest.mark.django_db(transaction=True)


class Consent(BaseModel):
    ok: bool


def consent() -> Elicit[Consent]:
    Group.objects.count()
    return Elicit("May I?", Consent)


@pytest.fixture
def connected(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Note the thread of each database connection that is made. None is closed by its age, so these are open."""
    monkeypatch.setitem(connection.settings_dict, "CONN_MAX_AGE", None)
    made: list[int] = []

    def note(**kwargs: Any) -> None:
        made.append(threading.get_ident())

    connection_created.connect(note, weak=False, dispatch_uid="tests.server.test_threads")
    yield made
    connection_created.disconnect(dispatch_uid="tests.server.test_threads")


class Held:
    """A tool that keeps its thread until it is let go."""

    def __init__(self, server: Server) -> None:
        self.entered = threading.Semaphore(0)
        self.gate = threading.Event()
        self.runs = 0

        @server.tool(name="hold")
        def hold() -> str:
            self.runs += 1
            self.entered.release()
            assert self.gate.wait(BOUND_SECONDS)
            return "held"

    async def is_running(self) -> None:
        assert await asyncio.to_thread(self.entered.acquire, timeout=BOUND_SECONDS)


@pytest.fixture
def held(server: Server) -> Iterator[Held]:
    held = Held(server)
    yield held
    held.gate.set()


def pooled(size: int, queue: int = 1, **options: Any) -> Client:
    return Client(server="tested", threads=HandlerThreads(size=size, queue=queue), **options)


@committed
async def test_twenty_calls_that_meet_by_tens_finish(server: Server, connected: list[int]) -> None:
    barrier = threading.Barrier(10)

    @server.tool
    def meet() -> int:
        Group.objects.count()
        barrier.wait(BOUND_SECONDS)
        return threading.get_ident()

    client = pooled(10, queue=10)
    results = await asyncio.gather(*(client.acall("meet") for _ in range(20)))
    assert not any(result.is_error for result in results)
    used = {result.structured["result"] for result in results}
    assert len(used) == 10
    assert len(connected) <= 10
    assert set(connected) <= used


@committed
async def test_two_hundred_calls_make_no_new_thread(server: Server, connected: list[int]) -> None:
    @server.tool
    def sync() -> int:
        Group.objects.count()
        return threading.get_ident()

    @server.tool
    async def later() -> int:
        await Group.objects.acount()
        return int(await sync_to_async(threading.get_ident)())

    client = pooled(4, queue=200)

    async def call(number: int) -> int:
        result = await client.acall("later" if number % 2 else "sync")
        assert not result.is_error
        return int(result.structured["result"])

    before = set(threading.enumerate())
    used = set(await asyncio.gather(*(call(number) for number in range(40))))
    assert len(used) == 4
    warm = set(threading.enumerate())
    assert len(warm - before) == 4
    used |= set(await asyncio.gather(*(call(number) for number in range(200))))
    for number in range(50):
        used.add(await call(number))
    assert len(used) == 4
    assert not set(threading.enumerate()) - warm
    assert len(connected) <= 4


@committed
async def test_the_async_orm_of_a_call_stays_on_one_thread(server: Server) -> None:
    @server.tool
    async def wander() -> list[int]:
        seen = [await sync_to_async(threading.get_ident)()]
        await Group.objects.acount()
        seen += await asyncio.gather(*(sync_to_async(threading.get_ident)() for _ in range(3)))
        return [*seen, await sync_to_async(threading.get_ident)()]

    client = pooled(8, queue=8)
    results = await asyncio.gather(*(client.acall("wander") for _ in range(4)))
    assert all(len(set(result.structured["result"])) == 1 for result in results)
    assert threading.get_ident() not in {result.structured["result"][0] for result in results}


async def test_a_call_over_the_queue_is_refused_and_the_others_finish(held: Held) -> None:
    client = pooled(1, queue=1)
    first = asyncio.create_task(client.acall("hold"))
    await held.is_running()
    second = asyncio.create_task(client.acall("hold"))
    await asyncio.sleep(0)
    with pytest.raises(MCPClientError, match="Every handler thread is busy and the queue is full") as caught:
        await client.acall("hold")
    assert (caught.value.code, caught.value.status) == (-32603, 503)
    held.gate.set()
    assert [result.text for result in await asyncio.gather(first, second)] == ["held", "held"]
    assert held.runs == 2


async def test_overload_says_when_to_come_back() -> None:
    pool = HandlerThreads(size=1, queue=0)
    gate, entered = threading.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def hold() -> None:
        loop.call_soon_threadsafe(entered.set)
        gate.wait(BOUND_SECONDS)

    running = asyncio.create_task(pool.run(hold))
    await entered.wait()
    with pytest.raises(Overloaded) as caught:
        await pool.run(hold)
    assert (caught.value.retry_after_seconds, caught.value.scope) == (1, "global")
    gate.set()
    await running


async def test_a_cancelled_call_frees_its_place_in_the_queue(held: Held) -> None:
    pool = HandlerThreads(size=1, queue=1)
    running = asyncio.create_task(Client(server="tested", threads=pool).acall("hold"))
    await held.is_running()
    waiting = asyncio.create_task(pool.run(threading.get_ident))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    next_in_line = asyncio.create_task(pool.run(threading.get_ident))
    await asyncio.sleep(0)
    assert not next_in_line.done()
    held.gate.set()
    await running
    assert await next_in_line != threading.get_ident()


async def test_a_cancelled_call_in_the_queue_never_runs(held: Held) -> None:
    pool = HandlerThreads(size=1, queue=1)
    ran: list[int] = []
    running = asyncio.create_task(Client(server="tested", threads=pool).acall("hold"))
    await held.is_running()
    waiting = asyncio.create_task(pool.run(ran.append, 1))
    await asyncio.sleep(0)
    waiting.cancel()
    held.gate.set()
    await running
    await pool.run(ran.append, 2)
    assert ran == [2]


@committed
async def test_no_thread_is_held_while_a_resolver_asks(server: Server) -> None:
    @server.tool
    def ask(answer: Annotated[Consent, Resolve(consent)]) -> str:
        return str(answer.ok)

    @server.tool
    def count() -> int:
        return Group.objects.count()

    pool = HandlerThreads(size=1, queue=1)
    other = Client(server="tested", threads=pool)

    async def answer(question: Question) -> dict[str, bool]:
        async with asyncio.timeout(BOUND_SECONDS):
            return {"ok": (await other.acall("count")).structured == {"result": 0}}

    for mode in ("legacy", "modern"):
        client = Client(server="tested", threads=pool, mode=mode, answers=answer)
        assert (await client.acall("ask")).text == "True"


@committed
async def test_no_thread_is_held_while_an_async_body_asks(server: Server) -> None:
    @server.tool
    async def ask(ctx: Context) -> str:
        await Group.objects.acreate(name="before")
        outcome = await ctx.aelicit("May I?", Consent)
        await Group.objects.acreate(name="after")
        return str(outcome.data.ok)

    @server.tool
    def count() -> int:
        return Group.objects.count()

    pool = HandlerThreads(size=1, queue=1)
    other = Client(server="tested", threads=pool)

    async def answer(question: Question) -> dict[str, bool]:
        async with asyncio.timeout(BOUND_SECONDS):
            return {"ok": (await other.acall("count")).structured == {"result": 1}}

    client = Client(server="tested", threads=pool, mode="legacy", answers=answer)
    assert (await client.acall("ask")).text == "True"
    assert (await other.acall("count")).structured == {"result": 2}


async def test_a_failing_handler_gives_its_thread_back(server: Server) -> None:
    @server.tool
    def fail() -> str:
        raise ToolError(str(threading.get_ident()))

    @server.tool
    def stop() -> str:
        raise StopIteration

    client = pooled(1)
    seen = {(await client.acall("fail")).text for _ in range(3)}
    assert len(seen) == 1
    assert (await client.acall("stop")).is_error
    assert (await client.acall("fail")).text in seen


async def test_a_thread_outlives_a_connection_that_cannot_be_closed(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        raise OSError("the server is gone")

    pool = HandlerThreads(size=1, queue=1)
    monkeypatch.setattr(threads, "close_old_connections", fail)
    seen = {await pool.run(threading.get_ident) for _ in range(3)}
    assert len(seen) == 1
    assert "a handler's thread could not be cleaned up" in caplog.text


@committed
async def test_old_connections_are_closed_before_and_after_a_call(server: Server, monkeypatch: Any) -> None:
    order: list[tuple[str, int]] = []

    def note(what: str) -> None:
        order.append((what, threading.get_ident()))

    monkeypatch.setattr(threads, "close_old_connections", lambda: note("close"))

    @server.tool
    def work() -> str:
        note("body")
        return ""

    pool = HandlerThreads(size=1, queue=1)
    await Client(server="tested", threads=pool, tenant="").acall("work")
    mine = await pool.run(threading.get_ident)
    # The threads of other pools close theirs, too.
    assert [what for what, thread in order if thread == mine][:3] == ["close", "body", "close"]


async def test_context_variables_reach_the_thread_and_stay_in_it() -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")
    pool = HandlerThreads(size=1, queue=1)
    variable.set("outside")

    def work() -> str:
        found = variable.get()
        variable.set("inside")
        return found

    assert await pool.run(work) == "outside"
    assert variable.get() == "outside"
    assert await pool.run(variable.get) == "outside"


async def test_what_a_call_leaves_running_gives_its_thread_back(server: Server) -> None:
    pool = HandlerThreads(size=1, queue=4)
    go_on = asyncio.Event()
    left: list[asyncio.Task[int]] = []

    async def later() -> int:
        await go_on.wait()
        return await sync_to_async(threading.get_ident)()

    @server.tool
    async def start() -> str:
        left.extend(asyncio.create_task(later()) for _ in range(3))
        return ""

    await Client(server="tested", threads=pool).acall("start")
    go_on.set()
    async with asyncio.timeout(BOUND_SECONDS):
        assert len(set(await asyncio.gather(*left))) == 1
        await pool.run(threading.get_ident)


async def test_what_waits_for_a_thread_when_its_call_ends_is_cancelled(server: Server, held: Held) -> None:
    pool = HandlerThreads(size=1, queue=4)
    left: list[asyncio.Task[int]] = []

    @server.tool
    async def start() -> str:
        left.append(asyncio.create_task(sync_to_async(threading.get_ident)()))
        await asyncio.sleep(0)
        raise ToolError("enough")

    running = asyncio.create_task(Client(server="tested", threads=pool).acall("hold"))
    await held.is_running()
    assert (await Client(server="tested", threads=pool).acall("start")).text == "enough"
    await asyncio.wait(left, timeout=BOUND_SECONDS)
    assert left[0].cancelled()
    held.gate.set()
    await running


@pytest.mark.parametrize("mode", ["legacy", "modern"])
@pytest.mark.parametrize("error", [SystemExit(2), asyncio.CancelledError()])
@pytest.mark.django_db(transaction=True)
async def test_a_handler_that_raises_more_than_an_exception_fails_alone(
    server: Server, mode: Any, error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    @server.tool
    def leave() -> str:
        raise error

    @server.tool
    async def aleave() -> str:
        raise error

    client = pooled(1, mode=mode)
    for name in ("leave", "aleave"):
        async with asyncio.timeout(BOUND_SECONDS):
            result = await client.acall(name)
        assert (result.is_error, result.text) == (True, f"The tool {name!r} failed.")


class Unspeakable(int):
    def __str__(self) -> str:
        raise ToolError("no words")


async def test_a_generator_that_is_given_up_is_closed_on_its_own_thread(server: Server) -> None:
    began: list[int] = []
    closed: list[int] = []

    @server.tool
    def work() -> Iterator[int]:
        began.append(threading.get_ident())
        try:
            yield Unspeakable(1)
        finally:
            closed.append(threading.get_ident())

    assert (await pooled(1).acall("work")).text == "no words"
    assert began == closed


@pytest.mark.django_db(transaction=True)
async def test_what_writes_streams_keeps_its_connection_from_one_write_to_the_next_and_then_closes_it() -> None:
    background = HandlerThreads(size=1, queue=1, linger_seconds=2)
    opened: list[Any] = []

    def work() -> Any:
        connection.ensure_connection()
        opened.append(connection.connection)
        # The connection of another thread is looked at, and not used.
        return connections["default"]

    found = await background.run(work)
    await background.run(work)
    assert opened[0] is opened[1]
    async with asyncio.timeout(BOUND_SECONDS):
        while found.connection is not None:  # noqa: ASYNC110 - its thread closes it
            await asyncio.sleep(0.02)


@pytest.mark.django_db(transaction=True)
async def test_what_writes_streams_gives_up_a_connection_that_failed() -> None:
    background = HandlerThreads(size=1, queue=1, linger_seconds=2)
    opened: list[Any] = []

    def work(*, fails: bool) -> None:
        connection.ensure_connection()
        opened.append(connection.connection)
        connection.errors_occurred = fails

    await background.run(work, fails=True)
    await background.run(work, fails=False)
    assert opened[0] is not opened[1]

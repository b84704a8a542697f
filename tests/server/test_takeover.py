"""Calls whose process died: who goes on with them, with what, and who does not."""

import asyncio
import json
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth import get_user_model
from django.db import OperationalError
from django.db.models import Model
from pydantic import BaseModel
from pytest_django import Settings

from django_mcp import Context, Elicit, Resolve, Server
from django_mcp.core import strict_json
from django_mcp.core.principal import Principal, scope_digest
from django_mcp.models import Call, Event, MCPSession, Question, Stream
from django_mcp.registry.server import servers
from django_mcp.server import standalone, takeover
from django_mcp.server.compile import compiled, key_of
from django_mcp.server.keeper import CallKeeper, keeper_of
from django_mcp.server.kernel import kernel_of
from django_mcp.server.log import Log
from django_mcp.server.parcel import Parcel
from django_mcp.server.questioning import take_answer
from django_mcp.server.threads import HandlerThreads
from django_mcp.server.wake import wake_local
from django_mcp.sessions.sealing import seal
from django_mcp.sessions.stores import CallHold, NewCall, Renewal, store
from django_mcp.sessions.stores.database import DatabaseStore

pytestmark = pytest.mark.django_db(transaction=True)

BOUND_SECONDS = 20
WORKER_LOST = {"reason": "worker_lost"}


class Choice(BaseModel):
    seat: str


@pytest.fixture(autouse=True)
def hasty(settings: Settings) -> None:
    settings.DJANGO_MCP = {"POLL_SECONDS": 0.05, "LEASE_SECONDS": 1}


@pytest.fixture
def user(db: None) -> Any:
    return get_user_model().objects.create_user("ann", password="secret")


@pytest.fixture
def session(server: Server, user: Any) -> MCPSession:
    session, _ = MCPSession.objects.begin(
        server=key_of(server.name),
        principal=Principal(kind="user", id=str(user.pk)),
        tenant="acme",
        user=user,
        protocol_version="2025-11-25",
        client_info={},
        capabilities={"elicitation": {"form": {}}},
    )
    return session


class Abandoned:
    """A call as a process leaves it behind that dies."""

    def __init__(
        self, session: MCPSession, *, payload: str | None = None, message: dict[str, Any] | None = None, **terms: Any
    ) -> None:
        self.session = session
        principal = Principal(kind="user", id=str(session.user_id))
        message = message or {
            "jsonrpc": "2.0",
            "id": 7,
            "method": "tools/call",
            "params": {"name": "work", "arguments": {}, "_meta": {"progressToken": "t"}},
        }
        self.log = store("default")
        self.stream = self.log.open_stream(session.key, "post")
        sealed = Parcel(message=message, path="/somewhere", principal=principal).seal()
        call = NewCall(request_id="7", payload=sealed if payload is None else payload, **terms)
        (self.hold,) = self.log.begin_calls(
            session.server,
            scope_digest("acme", principal),
            [call],
            owner="dead",
            lease_seconds=0,
            session=session.key,
            stream=self.stream,
        )

    async def ended(self) -> str:
        """Look after calls as a process does until this one has ended, and return how."""
        look_after()
        async with asyncio.timeout(BOUND_SECONDS):
            while True:
                call = await Call.objects.aget(pk=self.hold.id)
                if call.state != "running":
                    break
                await asyncio.sleep(0.02)
        assert not (await Stream.objects.aget(pk=self.stream)).is_open
        return call.state

    async def messages(self) -> list[dict[str, Any]]:
        rows = Event.objects.filter(stream_id=self.stream).order_by("sequence")
        return [json.loads(bytes(row.body)) async for row in rows]


def look_after() -> CallKeeper:
    return keeper_of(kernel_of(compiled(servers["tested"]), True), HandlerThreads(size=2, queue=10))


abandon = sync_to_async(Abandoned)


async def test_a_call_whose_body_did_not_begin_goes_on_as_its_user_without_any_header(
    server: Server, session: MCPSession, user: Any
) -> None:
    seen: dict[str, Any] = {}

    @server.tool
    def work(ctx: Context) -> str:
        request = ctx.request
        seen.update(user=ctx.user, tenant=ctx.tenant, path=request.path, headers=dict(request.headers))
        return "done"

    abandoned = await abandon(session)
    assert await abandoned.ended() == "succeeded"
    (message,) = await abandoned.messages()
    assert (message["id"], message["result"]["content"][0]["text"]) == (7, "done")
    assert seen == {"user": user, "tenant": "acme", "path": "/somewhere", "headers": {}}


async def test_a_call_that_goes_on_is_not_counted_again(server: Server, session: MCPSession) -> None:
    server.tool(name="work", rate="1/day")(lambda: "done")
    for _ in range(3):
        abandoned = await abandon(session)
        assert await abandoned.ended() == "succeeded"


async def test_a_call_that_may_have_had_effects_ends_and_says_so(server: Server, session: MCPSession) -> None:
    runs = 0

    @server.tool
    def work() -> str:
        nonlocal runs
        runs += 1
        return ""

    abandoned = await abandon(session, body_began=True)
    assert await abandoned.ended() == "interrupted"
    (message,) = await abandoned.messages()
    assert (message["id"], message["error"]["code"], message["error"]["data"]) == (7, -32603, WORKER_LOST)
    assert runs == 0


async def test_a_call_that_may_be_repeated_goes_on_above_the_progress_that_it_made(
    server: Server, session: MCPSession
) -> None:
    @server.tool(idempotent=True)
    async def work(ctx: Context) -> str:
        for step in range(1, 6):
            await ctx.aprogress(step)
        return "done"

    abandoned = await abandon(session, is_repeatable=True, body_began=True)
    await sync_to_async(abandoned.log.append)(
        session.key, abandoned.stream, [b'{"n":1}', b'{"n":3}'], hold=abandoned.hold, progress=3
    )
    assert await abandoned.ended() == "succeeded"
    *progress, _ = (await abandoned.messages())[2:]
    assert [message["params"]["progress"] for message in progress] == [4, 5]


async def test_an_answer_that_came_before_the_death_is_not_asked_for_again(
    server: Server, session: MCPSession
) -> None:
    @server.tool
    async def work(seat: Annotated[Choice, Resolve(lambda: Elicit("Which seat?", Choice))]) -> str:
        return seat.seat

    # A process of the same code asks, and is gone before the answer.
    first = await abandon(session)
    look_after()
    async with asyncio.timeout(BOUND_SECONDS):
        while not await Question.objects.filter(call=first.hold.id).aexists():  # noqa: ASYNC110 - another task writes it
            await asyncio.sleep(0.02)
    question = await Question.objects.aget(call=first.hold.id)
    second = await abandon(session)
    await Question.objects.filter(pk=question.pk).aupdate(call=second.hold.id)
    log = Log.of("default", HandlerThreads(size=1, queue=0))
    answer = {"id": question.pk, "result": {"action": "accept", "content": {"seat": "12A"}}}
    await take_answer(log, session.key, answer)
    assert await second.ended() == "succeeded"
    (message,) = await second.messages()
    assert message["result"]["content"][0]["text"] == "12A"


async def test_a_question_that_waits_is_not_shown_a_second_time(server: Server, session: MCPSession) -> None:
    @server.tool
    async def work(seat: Annotated[Choice, Resolve(lambda: Elicit("Which seat?", Choice))]) -> str:
        return seat.seat

    abandoned = await abandon(session)
    look_after()
    async with asyncio.timeout(BOUND_SECONDS):
        while not await Event.objects.filter(stream_id=abandoned.stream).aexists():  # noqa: ASYNC110 - another task writes it
            await asyncio.sleep(0.02)
        # It is taken from who asked, as if that one had died.
        await Call.objects.filter(pk=abandoned.hold.id).aupdate(owner="dead", fence=90)
        await Call.objects.filter(pk=abandoned.hold.id).aupdate(lease_until="2020-01-01T00:00:00Z")
        while (await Call.objects.aget(pk=abandoned.hold.id)).fence < 91:  # noqa: ASYNC110 - another task takes it
            await asyncio.sleep(0.02)
    question = await Question.objects.aget(call=abandoned.hold.id)
    log = Log.of("default", HandlerThreads(size=1, queue=0))
    await take_answer(log, session.key, {"id": question.pk, "result": {"action": "accept", "content": {"seat": "3C"}}})
    assert await abandoned.ended() == "succeeded"
    asked, message = await abandoned.messages()
    assert asked["id"] == question.pk
    assert message["result"]["content"][0]["text"] == "3C"


async def test_a_question_outlives_the_process_that_hands_its_call_over(server: Server, session: MCPSession) -> None:
    @server.tool
    async def work(seat: Annotated[Choice, Resolve(lambda: Elicit("Which seat?", Choice))]) -> str:
        return seat.seat

    abandoned = await abandon(session)
    keeper = look_after()
    async with asyncio.timeout(BOUND_SECONDS):
        while not await Event.objects.filter(stream_id=abandoned.stream).aexists():  # noqa: ASYNC110 - another task writes it
            await asyncio.sleep(0.02)
        await keeper.hand_over()
        while [task for task in asyncio.all_tasks() if task.get_name() == "mcp-call"]:  # noqa: ASYNC110 - it is ending
            await asyncio.sleep(0.02)
    question = await Question.objects.aget(call=abandoned.hold.id)
    assert question.state == "waiting"
    another = CallKeeper(kernel_of(compiled(servers["tested"]), True), HandlerThreads(size=2, queue=10))
    another.look_after()
    log = Log.of("default", HandlerThreads(size=1, queue=0))
    await take_answer(log, session.key, {"id": question.pk, "result": {"action": "accept", "content": {"seat": "3C"}}})
    assert await abandoned.ended() == "succeeded"
    asked, message = await abandoned.messages()
    assert (asked["id"], message["result"]["content"][0]["text"]) == (question.pk, "3C")


@pytest.mark.parametrize("change", ["inactive", "password", "revoked"])
async def test_a_call_whose_user_or_session_is_not_what_it_was_is_not_run(
    server: Server, session: MCPSession, user: Any, change: str
) -> None:
    runs = 0

    @server.tool
    def work() -> str:
        nonlocal runs
        runs += 1
        return ""

    abandoned = await abandon(session)
    if change == "inactive":
        user.is_active = False
    elif change == "password":
        user.set_password("another")
    else:
        await sync_to_async(session.revoke)()
    await user.asave()
    assert await abandoned.ended() == "cancelled"
    assert await abandoned.messages() == []
    assert runs == 0
    assert not await MCPSession.objects.active().aexists()


async def test_a_tool_that_its_user_may_not_use_any_more_is_unknown(server: Server, session: MCPSession) -> None:
    @server.tool(permission="auth.add_user")
    def work() -> str:
        raise AssertionError("it must not run")

    abandoned = await abandon(session)
    assert await abandoned.ended() == "failed"
    (message,) = await abandoned.messages()
    assert message["error"]["message"] == "Unknown tool: work"


async def test_a_request_that_no_key_opens_ends_and_says_that_its_process_died(
    server: Server, session: MCPSession
) -> None:
    abandoned = await abandon(session, payload="c1:nothing")
    assert await abandoned.ended() == "interrupted"
    (message,) = await abandoned.messages()
    assert message["error"]["data"] == WORKER_LOST


async def test_a_request_as_deep_as_may_be_is_read_again(server: Server, session: MCPSession) -> None:
    @server.tool
    def work(value: list[Any]) -> str:
        return "done"

    value: list[Any] = []
    for _ in range(60):
        value = [value]
    params = {"name": "work", "arguments": {"value": value}}
    message = {"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": params}
    assert strict_json.decode(strict_json.encode(message)) == message
    abandoned = await abandon(session, message=message)
    assert await abandoned.ended() == "succeeded"


async def test_a_request_that_other_code_sealed_ends_and_keeps_nobody_from_going_on(
    server: Server, session: MCPSession
) -> None:
    @server.tool
    def work() -> str:
        return "done"

    other = await abandon(session, payload=seal("django_mcp.call", b'{"of_tomorrow":1}', prefix="c1:"))
    mine = await abandon(session)
    assert await other.ended() == "interrupted"
    assert await mine.ended() == "succeeded"


async def test_a_call_that_cannot_go_on_now_keeps_nobody_from_going_on(
    server: Server, session: MCPSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    @server.tool
    def work() -> str:
        return "done"

    first = await abandon(session)
    second = await abandon(session)
    find, asked = takeover._session, []

    def lose_connection(key: str | None) -> MCPSession | None:
        asked.append(key)
        if len(asked) == 1:
            raise OperationalError("the connection was lost")
        return find(key)

    monkeypatch.setattr(takeover, "_session", lose_connection)
    assert await second.ended() == "succeeded"
    assert (await Call.objects.aget(pk=second.hold.id)).fence == 2
    assert await first.ended() == "succeeded"


class StaleReplica:
    """A router that sends what reads sessions to a replica, which is behind."""

    def db_for_read(self, model: type[Model], **hints: Any) -> str | None:
        return "replica" if model is MCPSession else None


def test_whether_a_session_has_ended_is_asked_where_it_ends(session: MCPSession, settings: Settings) -> None:
    settings.DATABASE_ROUTERS = [f"{__name__}.StaleReplica"]
    found = takeover._session(session.key)
    assert found == session
    assert standalone._subscriptions(session.key) == ()
    session.revoke()
    assert takeover._session(session.key) is None


class CountingStore(DatabaseStore):
    """Notes of how many calls each renewal is."""

    renewed: ClassVar[list[int]] = []

    def renew_calls(self, owner: str, holds: Sequence[CallHold], **terms: Any) -> Renewal:
        CountingStore.renewed.append(len(holds))
        return super().renew_calls(owner, holds, **terms)


async def test_a_call_that_begins_renews_no_lease_of_the_others(
    server: Server, session: MCPSession, settings: Settings
) -> None:
    backend = f"{__name__}.CountingStore"
    settings.DJANGO_MCP = {"POLL_SECONDS": 0.05, "LEASE_SECONDS": 600, "STORES": {"default": {"BACKEND": backend}}}
    CountingStore.renewed.clear()
    go_on = asyncio.Event()

    @server.tool
    async def work() -> str:
        await go_on.wait()
        return "done"

    calls = []
    for number in range(1, 5):
        calls.append(await abandon(session))
        look_after()
        async with asyncio.timeout(BOUND_SECONDS):
            # All at the first, and then each when it is seen for the first time.
            while sum(CountingStore.renewed) < 1 + number:
                wake_local()
                await asyncio.sleep(0.02)
    assert sum(CountingStore.renewed) == 1 + len(calls)
    go_on.set()
    for call in calls:
        assert await call.ended() == "succeeded"


async def test_what_is_sealed_for_another_process_says_nothing_of_itself(session: MCPSession) -> None:
    abandoned = await abandon(session)
    payload = (await Call.objects.aget(pk=abandoned.hold.id)).payload
    assert "work" not in payload
    assert "somewhere" not in payload
    assert Parcel.unseal(payload).path == "/somewhere"

"""The end of a call of a tool, told once: to the log, and to the receivers of the signal."""

import asyncio
import logging
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, fields
from typing import Annotated, Any

import pytest
from django.contrib.auth.models import User
from mcp.shared.exceptions import MCPError
from pydantic import BaseModel
from pytest_django import Settings

from django_mcp import Context, Elicit, Resolve, Server, State, ToolError
from django_mcp.exceptions import Overloaded, StoreUnavailable
from django_mcp.models import Conversation, MCPSession
from django_mcp.registry.server import servers
from django_mcp.server import finished_call
from django_mcp.server.compile import compiled, key_of
from django_mcp.server.finished_call import CallOutcome, FinishedCall
from django_mcp.server.keeper import CallKeeper
from django_mcp.server.kernel import kernel_of
from django_mcp.server.threads import HandlerThreads
from django_mcp.signals import call_finished
from django_mcp.testing import Client, MCPClientError
from tests.server import test_takeover as takeovers
from tests.test_consumers import begin_session, legacy, modern

BOUND_SECONDS = 10
MODES = ("modern", "legacy")
RECORDS = "django_mcp.calls.finished"

both_eras = pytest.mark.parametrize("mode", MODES)
alone = pytest.mark.django_db
on_threads = pytest.mark.django_db(transaction=True)


class Choice(BaseModel):
    seat: str


class Told:
    """What the signal told."""

    def __init__(self) -> None:
        self.calls: list[FinishedCall] = []
        self.threads: list[str] = []

    def receive(self, *, sender: str, call: FinishedCall, **kwargs: Any) -> None:
        assert sender == call.server
        self.calls.append(call)
        self.threads.append(threading.current_thread().name)

    @property
    def outcomes(self) -> list[CallOutcome]:
        return [call.outcome for call in self.calls]

    async def first(self) -> FinishedCall:
        async with asyncio.timeout(BOUND_SECONDS):
            while not self.calls:  # noqa: ASYNC110 - a thread adds to it
                await asyncio.sleep(0.01)
        return self.calls[0]


@pytest.fixture
def told() -> Iterator[Told]:
    told = Told()
    call_finished.connect(told.receive)
    yield told
    call_finished.disconnect(told.receive)


@pytest.fixture
def ada() -> User:
    return User.objects.create_user("ada")


@pytest.fixture
def tools(server: Server) -> Server:
    @server.tool
    def echo(text: str = "") -> str:
        return text

    @server.tool(read_only=True)
    def trouble(kind: str) -> None:
        match kind:
            case "tool error":
                raise ToolError("sold out")
            case "bug":
                raise ZeroDivisionError
            case "overloaded":
                raise Overloaded(1)
            case "store":
                raise StoreUnavailable
            case "protocol":
                raise MCPError(-31000, "not today")

    @server.tool(permission="auth.add_user")
    def guarded() -> str:
        return ""

    @server.tool
    def count(state: State, by: int = 1) -> int:
        return int(state.update("total", lambda total: total + by, default=0))

    return server


def attempt(client: Client, *args: Any, **options: Any) -> None:
    """Call a tool, whatever becomes of it."""
    with suppress(MCPClientError):
        client.call(*args, **options)


# What is told


@alone
@both_eras
def test_a_call_is_told_of_with_all_that_is_known_of_it(
    tools: Server, ada: User, told: Told, caplog: pytest.LogCaptureFixture, mode: str
) -> None:
    client = Client(ada, server="tested", mode=mode, tenant="acme")
    with caplog.at_level(logging.INFO, RECORDS):
        client.call("count", {"by": 2})
    (call,), (record,) = told.calls, [record for record in caplog.records if record.name == RECORDS]
    is_modern = mode == "modern"
    assert (call.server, call.tool, call.tenant, call.outcome) == (key_of("tested"), "count", "acme", "ok")
    assert (call.principal, call.protocol_version) == (f"user:{ada.pk}", client.protocol_version)
    assert call.era == ("modern" if is_modern else "handshake")
    assert call.client_name
    assert call.client_version
    assert call.conversation == Conversation.objects.get().fingerprint
    assert call.session == ("" if is_modern else MCPSession.objects.get().fingerprint)
    assert 0 <= call.milliseconds < BOUND_SECONDS * 1000
    assert not call.is_repeat
    assert not call.is_takeover
    assert {field.name: getattr(record, f"mcp_{field.name}") for field in fields(call)} == asdict(call)
    where = f"conversation {call.conversation}…" if is_modern else f"session {call.session}…, conversation"
    assert record.getMessage().startswith(f"count by user:{ada.pk}: ok in {call.milliseconds} ms ({where}")
    assert record.levelno == logging.INFO


@alone
@both_eras
@pytest.mark.parametrize(
    ("tool", "arguments", "outcome", "name"),
    [
        ("echo", {"text": "hi"}, "ok", "echo"),
        ("trouble", {"kind": "tool error"}, "failed", "trouble"),
        ("trouble", {"kind": "bug"}, "failed", "trouble"),
        ("trouble", {"kind": "overloaded"}, "limited", "trouble"),
        ("trouble", {"kind": "store"}, "unavailable", "trouble"),
        ("trouble", {"kind": "protocol"}, "error", "trouble"),
        ("echo", {"text": []}, "refused", "echo"),
        ("guarded", {}, "refused", "guarded"),
        ("there is no such tool", {}, "refused", ""),
        ("count", {"handle": "no such handle"}, "refused", "count"),
    ],
)
def test_every_end_has_its_name(
    tools: Server, ada: User, told: Told, mode: str, tool: str, arguments: dict[str, Any], outcome: str, name: str
) -> None:
    attempt(Client(ada, server="tested", mode=mode), tool, arguments)
    assert [(call.tool, call.outcome) for call in told.calls] == [(name, outcome)]


@alone
@both_eras
def test_a_refused_token_is_a_refusal(tools: Server, ada: User, told: Told, mode: str) -> None:
    attempt(Client(ada, server="tested", mode=mode, headers={"Mcp-Resumption-Token": "no token"}), "count")
    assert told.outcomes == ["refused"]


@alone
def test_a_round_that_ends_with_questions_is_told_of_by_itself(server: Server, ada: User, told: Told) -> None:
    @server.tool
    async def seat(seat: Annotated[Choice, Resolve(lambda: Elicit("Which seat?", Choice))]) -> str:
        return seat.seat

    client = Client(ada, server="tested")
    stopped = client.call("seat", answer=False)
    assert client.call("seat", after=stopped, answers=lambda question: {"seat": "3C"}).text == "3C"
    assert told.outcomes == ["input_required", "ok"]
    told.calls.clear()
    Client(ada, server="tested", mode="legacy", answers=lambda question: {"seat": "3C"}).call("seat")
    assert told.outcomes == ["ok"]


@alone
@both_eras
def test_a_repeat_says_that_it_is_one(tools: Server, ada: User, told: Told, mode: str) -> None:
    client = Client(ada, server="tested", mode=mode)
    for _ in range(2):
        client.call("echo", {"text": "a"}, idempotency_key="k")
        client.call("trouble", {"kind": "tool error"}, idempotency_key="another")
        attempt(client, "trouble", {"kind": "protocol"}, idempotency_key="third")
    ends = [(call.outcome, call.is_repeat) for call in told.calls]
    assert ends == [(outcome, again) for again in (False, True) for outcome in ("ok", "failed", "error")]
    attempt(client, "echo", {"text": "b"}, idempotency_key="k")
    assert (told.calls[-1].outcome, told.calls[-1].is_repeat) == ("refused", False)


@alone
def test_other_requests_are_not_calls(tools: Server, ada: User, told: Told) -> None:
    for mode in MODES:
        assert Client(ada, server="tested", mode=mode).list_tools()
    assert told.calls == []


# The digest, and what is nowhere


@alone
def test_equal_arguments_have_equal_digests_in_every_order_and_with_every_handle(
    server: Server, ada: User, told: Told, settings: Settings
) -> None:
    @server.tool(stateful=True)
    def first(a: int = 0, b: int = 0) -> str:
        return ""

    @server.tool
    def second(a: int = 0, b: int = 0, handle: str = "") -> str:
        return ""

    client = Client(ada, server="tested")
    handle = client.call("first", {"a": 1, "b": 2}).handle
    client.call("first", {"b": 2, "a": 1, "handle": handle})
    client.call("first", {"a": 1})
    client.call("second", {"a": 1, "b": 2})
    client.call("second", {"a": 1, "b": 2, "handle": "an argument like any other"})
    client.call("second")
    settings.SECRET_KEY = "another secret, as long as the one that there was before"
    client.call("second", {"a": 1, "b": 2})
    one, same, *others = [call.arguments_digest for call in told.calls]
    assert one == same
    assert others[3] == ""
    assert len({one, *others}) == 6
    assert {len(digest) for digest in (one, *others) if digest} == {16}


@alone
@both_eras
def test_nothing_that_was_said_is_told(
    server: Server, ada: User, told: Told, caplog: pytest.LogCaptureFixture, mode: str
) -> None:
    @server.tool
    def remember(state: State, text: str) -> str:
        state["text"] = text
        return f"I keep the result {text[::-1]}"

    client = Client(ada, server="tested", mode=mode)
    with caplog.at_level(logging.INFO, RECORDS):
        first = client.call("remember", {"text": "swordfish"})
        second = client.call("remember", {"text": "swordfish", "handle": first.handle})
        attempt(client, "remember", {"text": ["swordfish"], "handle": "stolen-handle"})
        attempt(client, "swordfish", {"text": "swordfish"})
    lines = [f"{record.getMessage()} {vars(record)}" for record in caplog.records if record.name == RECORDS]
    assert len(lines) == 4
    assert first.token is not None
    assert first.handle is not None
    secrets = ["swordfish", "hsifdrows", "stolen-handle", first.token, second.token, first.handle, client.session_id]
    for secret in filter(None, secrets):
        for line in [*lines, *map(repr, told.calls)]:
            assert secret not in line


@alone
def test_what_a_client_says_of_itself_makes_no_line_of_its_own(tools: Server, ada: User, told: Told) -> None:
    meta = {
        "io.modelcontextprotocol/clientInfo": {"name": f"a\nb{'c' * 200}", "version": "1\x00\x1b[31m"},
    }
    Client(ada, server="tested").request("tools/call", {"name": "echo", "arguments": {}, "_meta": meta})
    (call,) = told.calls
    assert call.client_name == f"a�b{'c' * 97}"
    assert call.client_version == "1��[31m"


# Who listens


@alone
@both_eras
def test_nothing_is_made_where_nobody_listens(
    tools: Server, ada: User, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, mode: str
) -> None:
    made: list[str] = []

    def digest(*args: Any) -> str:
        made.append("digest")
        return ""

    monkeypatch.setattr(finished_call, "arguments_digest", digest)
    client = Client(ada, server="tested", mode=mode)
    assert not call_finished.has_listeners()
    client.call("echo", {"text": "a"})
    assert made == []
    with caplog.at_level(logging.INFO, RECORDS):
        client.call("echo", {"text": "a"})
    assert made == ["digest"]


@alone
@both_eras
def test_what_a_receiver_raises_is_logged_and_no_matter_of_the_call(
    tools: Server, ada: User, told: Told, caplog: pytest.LogCaptureFixture, mode: str
) -> None:
    def fail(**kwargs: Any) -> None:
        raise ValueError("the receiver's own")

    call_finished.connect(fail)
    try:
        assert Client(ada, server="tested", mode=mode).call("echo", {"text": "a"}).text == "a"
    finally:
        call_finished.disconnect(fail)
    assert told.outcomes == ["ok"]
    assert "the receiver's own" in caplog.text


@alone
def test_what_cannot_be_told_is_no_matter_of_the_call(
    tools: Server, ada: User, told: Told, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def too_deep(value: Any) -> bytes:
        raise RecursionError

    monkeypatch.setattr(finished_call, "canonical", too_deep)
    assert Client(ada, server="tested").call("echo", {"text": "a"}).text == "a"
    assert told.calls == []
    assert "the end of a call could not be told" in caplog.text


@on_threads
@both_eras
async def test_receivers_run_on_a_thread_that_no_handler_and_no_store_needs(
    tools: Server, told: Told, mode: str
) -> None:
    ada = await User.objects.acreate(username="ada")
    client = Client(ada, server="tested", mode=mode, threads=HandlerThreads(size=1, queue=10))
    await asyncio.gather(*(client.acall("echo", {"text": "a"}) for _ in range(5)))
    assert told.outcomes == ["ok"] * 5
    assert set(told.threads) == {"mcp-signal-1"}


# Clients that leave


@pytest.fixture
def public(settings: Settings) -> None:
    settings.DJANGO_MCP = {"ACCESS": "public", "POLL_SECONDS": 0.05}


@pytest.mark.usefixtures("public")
@pytest.mark.parametrize("is_async", [True, False])
async def test_a_call_whose_client_has_left_is_told_of_once(server: Server, told: Told, is_async: bool) -> None:
    started, go_on, loop = asyncio.Event(), threading.Event(), asyncio.get_running_loop()

    if is_async:

        @server.tool
        async def work() -> str:
            started.set()
            await asyncio.Event().wait()
            return ""

    else:

        @server.tool
        def work() -> str:
            loop.call_soon_threadsafe(started.set)
            go_on.wait(BOUND_SECONDS)
            return ""

    async with modern("work") as response:
        await asyncio.wait_for(started.wait(), BOUND_SECONDS)
        response.disconnect()
        await response.over()
    call = await told.first()
    go_on.set()
    assert (call.tool, call.outcome, call.principal, call.era) == ("work", "cancelled", "anonymous", "modern")
    assert len(told.calls) == 1


@on_threads
@pytest.mark.usefixtures("public")
async def test_a_call_of_a_session_whose_client_has_left_is_told_of_when_it_ends(server: Server, told: Told) -> None:
    started, go_on = asyncio.Event(), asyncio.Event()

    @server.tool
    async def work(ctx: Context) -> str:
        await ctx.aprogress(1)
        started.set()
        await go_on.wait()
        return "done"

    session = await begin_session()
    params = {"name": "work", "arguments": {}, "_meta": {"progressToken": "t"}}
    async with legacy({"id": 5, "method": "tools/call", "params": params}, session) as response:
        await asyncio.wait_for(started.wait(), BOUND_SECONDS)
        response.disconnect()
        await response.over()
    assert told.calls == []
    go_on.set()
    assert (await told.first()).outcome == "ok"


@on_threads
@pytest.mark.usefixtures("public")
@pytest.mark.parametrize("has_ended", [False, True], ids=["cancelled", "session ended"])
async def test_a_cancelled_call_of_a_session_is_told_of_once(server: Server, told: Told, has_ended: bool) -> None:
    started = asyncio.Event()

    @server.tool
    async def work(ctx: Context) -> str:
        await ctx.aprogress(1)
        started.set()
        await asyncio.Event().wait()
        return ""

    session = await begin_session()
    params = {"name": "work", "arguments": {}, "_meta": {"progressToken": "t"}}
    async with legacy({"id": 5, "method": "tools/call", "params": params}, session):
        await asyncio.wait_for(started.wait(), BOUND_SECONDS)
        if has_ended:
            async with legacy(None, session, method="DELETE") as ending:
                assert await ending.started() in {200, 202, 204}
        else:
            note = {"method": "notifications/cancelled", "params": {"requestId": 5}}
            async with legacy(note, session) as cancelling:
                assert await cancelling.started() == 202
        call = await told.first()
    assert (call.tool, call.outcome, call.era) == ("work", "cancelled", "handshake")
    assert told.outcomes == ["cancelled"]


# Calls that change their process


hasty = takeovers.hasty
user = takeovers.user
session = takeovers.session


@on_threads
@pytest.mark.usefixtures("hasty")
async def test_a_call_that_was_taken_over_is_told_of_where_it_ended(
    server: Server, session: MCPSession, told: Told
) -> None:
    @server.tool
    def work() -> str:
        return "done"

    assert await (await takeovers.abandon(session)).ended() == "succeeded"
    call = await told.first()
    assert (call.tool, call.outcome, call.is_takeover) == ("work", "ok", True)
    assert (call.principal, call.tenant, call.session) == (session.principal, "acme", session.fingerprint)
    assert len(told.calls) == 1


@on_threads
@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("terms", [{"body_began": True}, {"payload": "c1:nothing"}], ids=["began", "unreadable"])
async def test_a_call_that_died_with_its_process_is_told_of_as_far_as_it_is_known(
    server: Server, session: MCPSession, told: Told, terms: dict[str, Any]
) -> None:
    @server.tool
    def work() -> str:
        raise AssertionError("it must not run")

    assert await (await takeovers.abandon(session, **terms)).ended() == "interrupted"
    call = await told.first()
    assert (call.tool, call.outcome, call.is_takeover) == ("", "lost", True)
    assert (call.principal, call.tenant, call.session) == (session.principal, "acme", session.fingerprint)
    assert (call.protocol_version, call.era) == ("2025-11-25", "handshake")
    assert str(call).startswith(f"(unknown tool) by {session.principal}: lost in ")
    assert len(told.calls) == 1


@on_threads
@pytest.mark.usefixtures("hasty")
async def test_a_call_that_is_handed_over_is_told_of_by_the_process_that_ends_it(
    server: Server, session: MCPSession, told: Told
) -> None:
    started, is_second = asyncio.Event(), threading.Event()

    @server.tool(idempotent=True)
    async def work() -> str:
        started.set()
        if not is_second.is_set():
            await asyncio.Event().wait()
        return "done"

    abandoned = await takeovers.abandon(session, is_repeatable=True)
    keeper = takeovers.look_after()
    await asyncio.wait_for(started.wait(), BOUND_SECONDS)
    is_second.set()
    await keeper.hand_over()
    async with asyncio.timeout(BOUND_SECONDS):
        while [task for task in asyncio.all_tasks() if task.get_name() == "mcp-call"]:  # noqa: ASYNC110 - it is ending
            await asyncio.sleep(0.02)
    assert told.calls == []
    another = CallKeeper(kernel_of(compiled(servers["tested"]), True), HandlerThreads(size=2, queue=10))
    another.look_after()
    assert await abandoned.ended() == "succeeded"
    assert ((await told.first()).outcome, len(told.calls)) == ("ok", 1)

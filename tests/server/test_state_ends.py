"""How a stateful call ends when something goes wrong: what the client is told is what was kept, and nothing leaks."""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import pytest
from django.contrib.auth.models import User
from django.db import IntegrityError, OperationalError
from mcp_types import CallToolResult, TextContent
from pydantic import BaseModel
from pytest_django import Settings

from django_mcp import Context, Server, State, ToolError, UserState, conversation_connection
from django_mcp.exceptions import StoreUnavailable
from django_mcp.models import Conversation
from django_mcp.server.threads import HandlerThreads
from django_mcp.sessions.stores.database import DatabaseStore
from django_mcp.sessions.stores.database_state import DatabaseStateStore
from django_mcp.sessions.stores.state import Generation, Head
from django_mcp.testing import Client
from django_mcp.testing.errors import MCPClientError

BOUND_SECONDS = 10
pytestmark = pytest.mark.django_db(transaction=True)


class Consent(BaseModel):
    ok: bool


class Deadlock(Exception):
    sqlstate = "40P01"


class HookedState(DatabaseStateStore):
    """A store to which things can happen at given moments."""

    after_begin: ClassVar[Callable[[], object] | None] = None
    after_blobs: ClassVar[Callable[[], object] | None] = None
    after_commit: ClassVar[Callable[[], object] | None] = None
    before_add: ClassVar[Callable[[], object] | None] = None
    before_history: ClassVar[Callable[[], object] | None] = None
    before_note: ClassVar[Callable[[], object] | None] = None

    def begin(self, **kwargs: Any) -> Head:
        head = super().begin(**kwargs)
        _happen(HookedState.after_begin)
        return head

    def blobs(self, *args: Any) -> dict[str, bytes]:
        found = super().blobs(*args)
        _happen(HookedState.after_blobs)
        return found

    def commit(self, *args: Any, **kwargs: Any) -> Head:
        head = super().commit(*args, **kwargs)
        _happen(HookedState.after_commit)
        return head

    def history(self, *args: Any) -> list[Generation]:
        _happen(HookedState.before_history)
        return super().history(*args)

    def note(self, *args: Any, **kwargs: Any) -> None:
        _happen(HookedState.before_note)
        super().note(*args, **kwargs)

    def _add(self, *args: Any, **kwargs: Any) -> None:
        _happen(HookedState.before_add)
        super()._add(*args, **kwargs)


class HookedStore(DatabaseStore):
    before_result: ClassVar[Callable[[], object] | None] = None

    def __init__(self, alias: str, params: Any) -> None:
        super().__init__(alias, params)
        self._state = HookedState(alias, params)

    def put_result(self, *args: Any, **kwargs: Any) -> str:
        _happen(HookedStore.before_result)
        return super().put_result(*args, **kwargs)


def _happen(hook: Callable[[], object] | None) -> None:
    if hook is not None:
        hook()


class Down:
    """Raises that the store is down, so many times."""

    def __init__(self, times: int = 10**6) -> None:
        self.left = times

    def __call__(self) -> None:
        if self.left:
            self.left -= 1
            raise StoreUnavailable


@pytest.fixture(autouse=True)
def hooked(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.DJANGO_MCP = {"STORES": {"default": {"BACKEND": f"{__name__}.HookedStore"}}}
    hooks = ("after_begin", "after_blobs", "after_commit", "before_add", "before_history", "before_note")
    for name in hooks:
        monkeypatch.setattr(HookedState, name, None)
    monkeypatch.setattr(HookedStore, "before_result", None)


@pytest.fixture
def ada() -> User:
    return User.objects.create_user("ada")


@pytest.fixture
def look(server: Server) -> None:
    @server.tool(read_only=True)
    def look(state: State) -> dict[str, Any]:
        return dict(state)


def call(user: User, tool: str, arguments: dict[str, Any] | None = None, **options: Any) -> Any:
    return Client(user, server="tested", **options).call(tool, arguments)


def kept(user: User, handle: str) -> dict[str, Any]:
    return dict(call(user, "look", {"handle": handle}).structured)


def active() -> int:
    return Conversation.objects.active().count()


# What a dict does


@pytest.mark.usefixtures("look")
def test_what_setdefault_returns_is_what_is_kept(server: Server, ada: User) -> None:
    @server.tool
    def add(state: State) -> int:
        state.setdefault("items", []).append(1)
        state.setdefault("counts", {})["n"] = len(state["items"])
        return len(state["items"])

    handle = call(ada, "add").handle
    assert [call(ada, "add", {"handle": handle}).structured["result"] for _ in range(2)] == [2, 3]
    assert kept(ada, handle) == {"items": [1, 1, 1], "counts": {"n": 3}}


@pytest.mark.usefixtures("look")
def test_clearing_reads_no_value(server: Server, ada: User) -> None:
    read: list[int] = []

    @server.tool
    def fill(state: State) -> None:
        state.update({f"key {number}": "x" * 20 for number in range(5_000)}, large="x" * 10_000)

    @server.tool
    def empty(state: State) -> int:
        HookedState.after_blobs = lambda: read.append(1)
        list(state)
        pages = len(read)
        state.clear()
        with pytest.raises(KeyError):
            state.popitem()
        assert len(read) == pages
        return len(state)

    @server.tool
    async def aempty(state: State) -> None:
        await state.akeys()
        state.clear()

    for tool in ("empty", "aempty"):
        handle = call(ada, "fill").handle
        assert not call(ada, tool, {"handle": handle}).is_error
        assert kept(ada, handle) == {}


@pytest.mark.usefixtures("look")
def test_an_assignment_beside_a_read_of_the_same_key_stays(server: Server, ada: User) -> None:
    reached, opened = threading.Event(), threading.Event()

    @server.tool
    def begin(state: State) -> None:
        state["doc"] = "old" * 10_000

    @server.tool
    async def race(state: State) -> str:
        async def assign() -> None:
            assert await asyncio.to_thread(reached.wait, BOUND_SECONDS)
            state["doc"] = "new"
            opened.set()

        await asyncio.gather(state.aget("doc"), assign())
        return str(state["doc"])

    def hold() -> None:
        reached.set()
        assert opened.wait(BOUND_SECONDS)

    handle = call(ada, "begin").handle
    HookedState.after_blobs = hold
    raced = call(ada, "race", {"handle": handle}, threads=HandlerThreads(size=1, queue=4))
    assert raced.structured["result"] == "new"
    assert kept(ada, handle) == {"doc": "new"}


# Failures of the handler


@pytest.mark.usefixtures("look")
@pytest.mark.parametrize("is_async", [False, True])
def test_a_failure_that_a_context_manager_swallows_is_a_failure(server: Server, ada: User, is_async: bool) -> None:
    @conversation_connection
    def lenient(state: State) -> Iterator[int]:
        with contextlib.suppress(ToolError):
            yield 1

    if is_async:

        @server.tool(name="put")
        async def aput(ctx: Context, state: State, fail: bool = False) -> None:
            lenient(ctx)
            state["n"] = int(fail)
            if fail:
                raise ToolError("no")
    else:

        @server.tool(name="put")
        def put(ctx: Context, state: State, fail: bool = False) -> None:
            lenient(ctx)
            state["n"] = int(fail)
            if fail:
                raise ToolError("no")

    handle = call(ada, "put").handle
    assert call(ada, "put", {"handle": handle, "fail": True}).text == "The tool 'put' failed."
    assert kept(ada, handle) == {"n": 0}


def test_an_atomic_tool_that_answers_with_errors_uses_no_conversations_up(
    server: Server, ada: User, settings: Settings
) -> None:
    settings.DJANGO_MCP = {**settings.DJANGO_MCP, "MAX_CONVERSATIONS_PER_PRINCIPAL": 2}

    @server.tool(atomic=True)
    def refuse(state: State, how: str) -> CallToolResult:
        state["x"] = 1
        if how == "raise":
            raise ToolError("no")
        return CallToolResult(content=[TextContent(type="text", text="no")], is_error=True)

    for how in ("raise", "answer", "raise", "answer"):
        assert call(ada, "refuse", {"how": how}).text == "no"
    assert active() == 0


def test_an_error_of_an_atomic_tool_is_noted(server: Server, ada: User) -> None:
    @server.tool(atomic=True)
    def act(state: State, fail: bool = False) -> CallToolResult:
        state["x"] = fail
        return CallToolResult(content=[], is_error=fail)

    @server.tool(read_only=True)
    def past(state: State, ctx: Context) -> list[str]:
        return [f"{past.name} {past.outcome}" for past in ctx.calls]

    handle = call(ada, "act").handle
    call(ada, "act", {"handle": handle, "fail": True})
    assert call(ada, "past", {"handle": handle}).structured["result"] == ["act failed", "act succeeded"]


def test_a_transaction_that_the_body_broke_is_what_the_log_tells(
    server: Server, ada: User, caplog: pytest.LogCaptureFixture
) -> None:
    @server.tool(atomic=True)
    def double(state: State) -> None:
        for _ in range(2):
            User.objects.create_user("twin")

    assert call(ada, "double").text == "The tool 'double' failed."
    assert "IntegrityError" in caplog.text
    assert (active(), User.objects.filter(username="twin").exists()) == (0, False)


@pytest.mark.usefixtures("look")
@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda items: items.append("y" * 3_000), "state['items']: larger than 2000 bytes."),
        (lambda items: items.append({1, 2}), "state['items'][0]: a set cannot be kept; use a list."),
    ],
)
def test_what_cannot_be_kept_after_the_body_says_that_it_ran(
    server: Server, ada: User, settings: Settings, change: Any, text: str
) -> None:
    settings.DJANGO_MCP = {**settings.DJANGO_MCP, "STATE_MAX_BYTES": 2_000}

    @server.tool
    def put(state: State) -> None:
        state["items"] = []
        change(state["items"])

    assert call(ada, "put").text == f"The call ran, but its state was not saved: {text}"


@pytest.mark.parametrize(
    ("error", "told"), [(ToolError("sold out"), "sold out"), (KeyError("x"), "its update failed")]
)
def test_an_update_that_fails_on_what_another_call_made_is_told(
    server: Server, ada: User, error: Exception, told: str
) -> None:
    @server.tool
    def take(state: State, meanwhile: bool = False) -> None:
        def take_one(left: int) -> int:
            if not left:
                raise error
            return left - 1

        state.update("left", take_one, default=2)
        if meanwhile:
            call(ada, "take", {"handle": handle})

    handle = call(ada, "take").handle
    text = call(ada, "take", {"handle": handle, "meanwhile": True}).text
    assert text.startswith(f"The call ran, but its state was not saved: state['left']: {told}")


# Failures after the body


@pytest.mark.usefixtures("look")
@pytest.mark.parametrize("mode", ["modern", "legacy"])
def test_a_result_that_is_too_large_and_cannot_be_kept_is_no_refusal(server: Server, ada: User, mode: str) -> None:
    @server.tool
    def shout(state: State) -> str:
        state["n"] = state.get("n", 0) + 1
        return "x" * 2_000_000

    HookedStore.before_result = Down()
    shouted = call(ada, "shout", mode=mode)
    assert (shouted.is_error, shouted.text.startswith("The call ran, but its result of 4")) == (True, True)
    assert kept(ada, shouted.handle) == {"n": 1}


@pytest.mark.usefixtures("look")
@pytest.mark.parametrize("mode", ["modern", "legacy"])
def test_a_list_as_structured_content_is_sent_where_it_is_allowed(server: Server, ada: User, mode: str) -> None:
    @server.tool(output_schema={"type": "array"})
    def listed(state: State) -> Any:
        state["n"] = 1
        return [1, 2]

    answer = call(ada, "listed", mode=mode)
    assert not answer.is_error
    assert answer.structured == ([1, 2] if mode == "modern" else None)
    assert kept(ada, answer.handle) == {"n": 1}


@pytest.mark.usefixtures("look")
@pytest.mark.parametrize("value", [object(), lambda: None])
def test_of_a_result_that_cannot_be_sent_nothing_is_kept(server: Server, ada: User, value: Any) -> None:
    @server.tool
    def put(state: State, bad: bool = False) -> CallToolResult:
        state["n"] = int(bad)
        return CallToolResult(content=[], structured_content={"value": value if bad else 1})

    handle = call(ada, "put").handle
    assert call(ada, "put", {"handle": handle, "bad": True}).text == "The tool 'put' failed."
    assert kept(ada, handle) == {"n": 0}


@pytest.mark.usefixtures("look")
def test_the_end_of_an_async_call_is_not_refused_for_want_of_a_thread(server: Server, ada: User) -> None:
    pool = HandlerThreads(size=1, queue=1)
    held = threading.Event()

    @server.tool
    async def buy(ctx: Context, state: State) -> int:
        await ctx.aelicit("sure?", Consent)
        state["x"] = 1
        started = threading.Event()

        def hold() -> None:
            started.set()
            assert held.wait(BOUND_SECONDS)

        # One has the only thread, another the only place in the queue.
        holding.extend(asyncio.ensure_future(pool.run(hold)) for _ in range(2))
        assert await asyncio.to_thread(started.wait, BOUND_SECONDS)
        asyncio.get_running_loop().call_later(0.05, held.set)
        return 1

    holding: list[Any] = []
    bought = call(ada, "buy", mode="legacy", threads=pool, answers={"sure?": {"ok": True}})
    assert not bought.is_error
    assert kept(ada, bought.handle) == {"x": 1}


@pytest.mark.usefixtures("look")
def test_a_commit_whose_answer_is_lost_went_through(server: Server, ada: User) -> None:
    @server.tool
    def put(state: State) -> None:
        state["x"] = 1

    HookedState.after_commit = Down()
    put_ = call(ada, "put")
    assert not put_.is_error
    assert kept(ada, put_.handle) == {"x": 1}


def test_a_commit_that_nobody_can_tell_of_is_told_as_one(server: Server, ada: User) -> None:
    @server.tool
    def put(state: State) -> None:
        state["x"] = 1

    @server.tool(idempotent=True)
    def put_again(state: State) -> None:
        state["x"] = 1

    HookedState.after_commit = HookedState.before_history = Down()
    unknown = "The call ran, and nobody knows whether its state was saved: the store is unavailable."
    assert call(ada, "put").text == unknown
    with pytest.raises(MCPClientError) as raised:
        call(ada, "put_again")
    assert raised.value.status == 503


def test_a_commit_that_fails_for_certain_says_so(server: Server, ada: User) -> None:
    @server.tool
    def put(state: State) -> None:
        state["x"] = 1

    HookedState.before_add = Down()
    assert call(ada, "put").text == "The call ran, but its state was not saved: the store is unavailable."


@pytest.mark.parametrize("both", [False, True])
def test_a_deadlock_is_tried_again(server: Server, ada: User, both: bool) -> None:
    if both:

        @server.tool(name="put")
        def put_both(state: State, user: UserState) -> int:
            state["x"] = user["x"] = 1
            return 1
    else:

        @server.tool(name="put")
        def put(state: State) -> int:
            state["x"] = 1
            return 1

    hits: list[int] = []

    def deadlock() -> None:
        if not hits:
            hits.append(1)
            raise OperationalError("deadlock detected") from Deadlock()

    HookedState.before_add = deadlock
    assert call(ada, "put").structured["result"] == 1
    assert set(Conversation.objects.values_list("generation", flat=True)) == {1}


def test_a_note_that_cannot_be_written_fails_no_call(server: Server, ada: User) -> None:
    @server.tool
    def glance(state: State) -> int:
        return len(state)

    handle = call(ada, "glance").handle
    HookedState.before_note = Down()
    assert call(ada, "glance", {"handle": handle}).structured["result"] == 0


def test_a_conflict_of_the_user_state_is_one_note(server: Server, ada: User) -> None:
    runs: list[int] = []

    @server.tool(stateful=True)
    def mine(ctx: Context, user: UserState, meanwhile: bool = False) -> None:
        runs.append(1)
        user["x"] = len(runs)
        if meanwhile:
            call(ada, "mine", {"handle": handle})

    @server.tool(read_only=True)
    def past(state: State, ctx: Context) -> list[str]:
        state.get("x")
        return [past.outcome for past in ctx.calls]

    @server.tool
    def begin(state: State) -> None:
        state["x"] = 1

    handle = call(ada, "begin").handle
    call(ada, "mine", {"handle": handle})
    assert call(ada, "mine", {"handle": handle, "meanwhile": True}).is_error
    outcomes = call(ada, "past", {"handle": handle}).structured["result"]
    assert outcomes == ["conflict", "succeeded", "succeeded", "succeeded"]


# Threads and clients that leave


async def test_an_async_body_holds_no_thread(server: Server, settings: Settings) -> None:
    settings.DJANGO_MCP = {**settings.DJANGO_MCP, "ANONYMOUS_STATE": True}
    pool = HandlerThreads(size=1, queue=4)
    began, go_on = asyncio.Event(), asyncio.Event()

    @server.tool
    async def think(state: State) -> int:
        began.set()
        await go_on.wait()
        state["x"] = 1
        return 1

    @server.tool
    def quick() -> str:
        return "quick"

    client = Client(server="tested", threads=pool)
    thinking = asyncio.ensure_future(client.acall("think"))
    async with asyncio.timeout(BOUND_SECONDS):
        await began.wait()
        assert (await client.acall("quick")).structured["result"] == "quick"
        go_on.set()
        assert (await thinking).structured["result"] == 1


def test_a_call_that_was_cancelled_before_its_body_runs_nothing(server: Server, ada: User) -> None:
    runs: list[int] = []

    @server.tool
    def slow(ctx: Context, state: State) -> None:
        runs.append(1)

    leaving: list[Any] = []
    HookedState.after_begin = lambda: leaving[0]()

    @server.tool(name="leave")
    def leave() -> None: ...

    from django_mcp.server import call_state

    entered = call_state.CallState.enter

    def enter(self: Any) -> None:
        leaving[:] = [lambda: setattr(self._call, "cancelled", True)]
        entered(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(call_state.CallState, "enter", enter)
        call(ada, "slow")
    assert (runs, active()) == ([], 0)


# What nobody must read


def test_what_is_secret_is_in_no_repr(server: Server, ada: User) -> None:
    from django_mcp.server.carriers import Carried, Issued
    from django_mcp.sessions.stores import state_store

    @server.tool
    def put(state: State) -> None:
        state["password"] = "hunter2"

    answer = call(ada, "put")
    head = state_store().inspect(Conversation.objects.get().pk)
    found = state_store().find_by_handle(
        answer.handle, server="tests/tested", tenant="", principal=_principal(ada), user=ada
    )
    shown = repr([head, found, Issued(token="secret", handle="secret"), Carried(meta_token="secret", handle="secret")])
    assert "secret" not in shown
    assert "hunter2" not in shown
    assert answer.handle not in shown


def _principal(user: User) -> Any:
    from django_mcp.core.principal import Principal

    return Principal(kind="user", id=str(user.pk))


@pytest.mark.parametrize(
    "closing", [{"maxProperties": 1}, {"allOf": [{"properties": {"n": {}}, "additionalProperties": False}]}]
)
def test_a_closed_schema_of_a_result_gets_no_handle(server: Server, ada: User, closing: dict[str, Any]) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, **closing}

    @server.tool(output_schema=schema)
    def put(state: State) -> dict[str, int]:
        state["n"] = 1
        return {"n": 1}

    answer = call(ada, "put")
    assert answer.structured == {"n": 1}
    assert answer.handle is not None


def test_integrity_is_an_error_of_the_body(server: Server, ada: User) -> None:
    @server.tool(atomic=True)
    def fail(state: State) -> None:
        raise IntegrityError("mine")

    assert call(ada, "fail").text == "The tool 'fail' failed."

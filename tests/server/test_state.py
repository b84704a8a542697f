"""`ctx.state` and `ctx.user_state`: what a handler keeps, when it is committed, and what becomes of the rest."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Annotated, Any
from uuid import UUID

import pytest
from django.contrib.auth.models import User
from pydantic import BaseModel
from pytest_django import Settings

from django_mcp import (
    Context,
    Elicit,
    Resolve,
    Server,
    State,
    ToolError,
    UserState,
    conversation_connection,
)
from django_mcp.exceptions import RegistryError
from django_mcp.models import Conversation, Snapshot
from django_mcp.server.compile import compiled
from django_mcp.testing import Client
from django_mcp.testing.errors import MCPClientError

pytestmark = pytest.mark.django_db

MODES = ("modern", "legacy", "2025-03-26")


@pytest.fixture
def ada() -> User:
    return User.objects.create_user("ada")


@pytest.fixture
def bob() -> User:
    return User.objects.create_user("bob")


@pytest.fixture
def counting(server: Server) -> Server:
    @server.tool
    def count(state: State, by: int = 1) -> int:
        """Count on."""
        total: int = state.update("total", lambda total: total + by, default=0)
        return total

    @server.tool
    async def acount(state: State, by: int = 1) -> int:
        total: int = await state.aupdate("total", lambda total: total + by, default=0)
        return total

    return server


def call(user: User | None, tool: str, arguments: dict[str, Any] | None = None, **options: Any) -> Any:
    return Client(user, server="tested", **options).call(tool, arguments)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("tool", ["count", "acount"])
def test_a_conversation_goes_on_by_its_handle(counting: Server, ada: User, mode: str, tool: str) -> None:
    first = call(ada, tool, mode=mode)
    assert first.handle is not None
    second = call(ada, tool, {"handle": first.handle, "by": 5}, mode=mode)
    assert second.structured["result"] == 6
    assert second.handle == first.handle
    assert second.structured["handle"] == first.handle


@pytest.mark.parametrize("mode", MODES)
def test_a_conversation_goes_on_by_the_header(counting: Server, ada: User, mode: str) -> None:
    first = call(ada, "count", mode=mode)
    token = first.headers["mcp-resumption-token"]
    assert len(token) <= 300
    second = call(ada, "count", mode=mode, headers={"Mcp-Resumption-Token": token})
    assert second.structured["result"] == 2
    assert second.handle is None
    assert second.headers["mcp-resumption-token"] != token


@pytest.mark.parametrize("mode", MODES)
def test_a_client_that_declares_the_extension_gets_tokens_in_meta(counting: Server, ada: User, mode: str) -> None:
    extension: dict[str, Any] = {"org.django-mcp/resumption": {}}
    capabilities = {"extensions": extension} if mode == "modern" else {"experimental": extension}
    client = Client(ada, server="tested", mode=mode, capabilities=capabilities)
    first = client.call("count")
    assert first.handle is None
    assert "handle" not in first.structured
    token = first.raw["_meta"]["org.django-mcp/resumptionToken"]
    again = client.request("tools/call", {"name": "count", "_meta": {"org.django-mcp/resumptionToken": token}})
    assert again.raw["structuredContent"] == {"result": 2}


def test_a_conversation_of_one_era_goes_on_in_the_other(counting: Server, ada: User) -> None:
    handle = call(ada, "count", mode="legacy").handle
    assert call(ada, "count", {"handle": handle}, mode="modern").structured["result"] == 2
    assert call(ada, "acount", {"handle": handle}, mode="2025-03-26").structured["result"] == 3


def test_calls_without_a_carrier_are_conversations_of_their_own(counting: Server, ada: User) -> None:
    client = Client(ada, server="tested", mode="legacy")
    assert [client.call("count").structured["result"] for _ in range(2)] == [1, 1]


def test_a_session_has_a_conversation_where_the_setting_says_so(
    counting: Server, ada: User, settings: Settings
) -> None:
    settings.DJANGO_MCP = {"SESSION_CONVERSATIONS": True}
    client, other = (Client(ada, server="tested", mode="legacy") for _ in range(2))
    results = [client.call("count") for _ in range(3)]
    assert [result.structured for result in results] == [{"result": 1}, {"result": 2}, {"result": 3}]
    assert other.call("count").structured["result"] == 1
    begun = client.call("count", {"handle": call(ada, "count").handle})
    assert begun.structured["result"] == 2


def test_a_stateful_tool_declares_the_handle(counting: Server) -> None:
    tool = compiled(counting).tools["count"].wire
    assert tool.input_schema["properties"].keys() == {"by", "handle"}
    assert "required" not in tool.input_schema
    assert tool.output_schema is not None
    assert tool.output_schema["properties"].keys() == {"result", "handle"}
    assert tool.output_schema["required"] == ["result"]


def test_what_is_not_stateful_has_no_handle(server: Server) -> None:
    @server.tool
    def plain() -> int:
        return 1

    tool = compiled(server).tools["plain"].wire
    assert "handle" not in tool.input_schema.get("properties", {})


def test_an_argument_called_handle_is_refused_at_compile_time(server: Server) -> None:
    @server.tool(stateful=True)
    def grip(handle: str) -> str:
        return handle

    with pytest.raises(RegistryError, match="has the argument 'handle', which every stateful tool has; rename yours"):
        compiled(server)


def test_every_type_comes_back_as_it_was(server: Server, ada: User) -> None:
    values: dict[str, Any] = {
        "datetime": datetime(2026, 2, 3, 4, 5, 6, 789, tzinfo=UTC),
        "date": date(2026, 2, 3),
        "time": time(4, 5, 6, 7),
        "timedelta": timedelta(days=-1, microseconds=3),
        "decimal": Decimal("1.500"),
        "uuid": UUID(int=7),
        "bytes": b"\x00\xff",
        "nested": {"a": [1, {"b": None}], "$": "dollar"},
        "empty": "",
        "long": "x" * 100_000,
        "nul": "a\x00b",
        "surrogate": "\ud800",
    }

    @server.tool
    def put(state: State) -> None:
        for key, value in values.items():
            state[key] = value
            assert state[key] == value

    @server.tool
    def look(state: State) -> bool:
        return dict(state) == values and all(type(state[key]) is type(values[key]) for key in values)

    handle = call(ada, "put").handle
    assert call(ada, "look", {"handle": handle}).structured["result"] is True


def test_what_cannot_be_kept_raises_at_the_assignment(server: Server, ada: User) -> None:
    raised = []

    @server.tool
    def put(state: State) -> None:
        for value in ({1, 2}, object(), float("nan"), {1: 2}):
            try:
                state["x"] = value
            except (TypeError, ValueError) as error:
                raised.append(str(error))

    call(ada, "put")
    assert len(raised) == 4
    assert all(text.startswith("state['x']") for text in raised)


def test_what_was_assigned_is_a_copy(server: Server, ada: User) -> None:
    @server.tool
    def put(state: State) -> list[int]:
        mine = [1]
        state["x"] = mine
        mine.append(2)
        return list(state["x"])

    assert call(ada, "put").structured["result"] == [1]


def test_a_change_in_place_is_kept(server: Server, ada: User) -> None:
    @server.tool
    def put(state: State) -> None:
        state["list"] = [1]
        state["list"].append(2)

    @server.tool
    def add(state: State) -> None:
        state["list"].append({"deep": []})
        state["list"][-1]["deep"].append("x")

    @server.tool
    def look(state: State) -> list[Any]:
        return list(state["list"])

    handle = call(ada, "put").handle
    call(ada, "add", {"handle": handle})
    assert call(ada, "look", {"handle": handle}).structured["result"] == [1, 2, {"deep": ["x"]}]


def test_a_state_is_a_dict(server: Server, ada: User) -> None:
    seen: list[Any] = []

    @server.tool
    def put(state: State) -> None:
        state.update({"b": 2, "a": 1}, c=3)
        seen.append((list(state), len(state), "a" in state, "z" in state, state.get("z", "none")))
        del state["a"]
        seen.append((list(state.items()), state.pop("b"), state.setdefault("d", 4), len(state)))

    @server.tool
    def look(state: State) -> None:
        seen.append((dict(state), len(state)))
        with pytest.raises(KeyError):
            state["a"]
        with pytest.raises(KeyError):
            del state["a"]
        state.clear()

    handle = call(ada, "put").handle
    for _ in range(2):
        call(ada, "look", {"handle": handle})
    assert seen == [
        (["a", "b", "c"], 3, True, False, "none"),
        ([("b", 2), ("c", 3)], 2, 4, 2),
        ({"c": 3, "d": 4}, 2),
        ({}, 0),
    ]


@pytest.mark.parametrize("how", ["raises", "is_error", "asks"])
def test_a_call_without_a_result_keeps_nothing(server: Server, ada: User, how: str) -> None:
    from mcp_types import CallToolResult, InputRequiredResult, TextContent

    @server.tool
    def put(ctx: Context, state: State, fail: bool = False) -> Any:
        state["x"] = "failed" if fail else "kept"
        if not fail:
            return None
        if how == "raises":
            raise ToolError("no")
        if how == "is_error":
            return CallToolResult(content=[TextContent(type="text", text="no")], is_error=True)
        return InputRequiredResult(request_state="more")

    @server.tool
    def look(state: State) -> str:
        return str(state["x"])

    handle = call(ada, "put").handle
    failed = Client(ada, server="tested").call("put", {"handle": handle, "fail": True}, answer=False)
    assert failed.handle is None
    assert failed.token is None
    assert call(ada, "look", {"handle": handle}).structured["result"] == "kept"
    before = Conversation.objects.active().count()
    Client(ada, server="tested").call("put", {"fail": True}, answer=False)
    assert Conversation.objects.active().count() == before


def test_a_tool_that_leaves_its_state_alone_leaves_no_conversation(server: Server, ada: User) -> None:
    @server.tool(stateful=True)
    def idle() -> int:
        return 1

    result = call(ada, "idle")
    assert (result.handle, result.token) == (None, None)
    assert not Conversation.objects.active().exists()


def test_reading_commits_no_generation(counting: Server, ada: User) -> None:
    @counting.tool
    def look(state: State) -> int:
        return int(state["total"])

    handle = call(ada, "count").handle
    looked = call(ada, "look", {"handle": handle})
    assert looked.structured == {"result": 1, "handle": handle}
    assert Conversation.objects.get().generation == 1


def test_an_async_handler_awaits_large_values(server: Server, ada: User) -> None:
    large = "x" * 10_000

    @server.tool
    async def put(state: State) -> None:
        state["large"] = large
        assert state["large"] == large

    @server.tool
    async def look(state: State) -> bool:
        with pytest.raises(Exception, match=r"await state.aget\(key\)"):
            state["large"]
        assert await state.aget("large") == large == state["large"]
        assert await state.aget("missing", 5) == 5
        assert await state.akeys() == ["large"]
        return "large" in state

    handle = call(ada, "put").handle
    assert call(ada, "look", {"handle": handle}).structured["result"] is True


def test_a_large_state_of_small_values_is_awaited_too(server: Server, ada: User) -> None:
    @server.tool
    def put(state: State) -> None:
        for number in range(6_000):
            state[f"key {number}"] = number

    @server.tool
    async def look(state: State) -> list[Any]:
        with pytest.raises(Exception, match=r"await state.aget\(key\)"):
            state["key 17"]
        with pytest.raises(Exception, match=r"await state.akeys\(\)"):
            list(state)
        return [await state.aget("key 17"), len(await state.akeys()), len(state)]

    handle = call(ada, "put").handle
    assert call(ada, "look", {"handle": handle}).structured["result"] == [17, 6_000, 6_000]


@pytest.mark.parametrize(
    ("bounds", "put", "text"),
    [
        ({"STATE_MAX_BYTES": 100}, lambda state: state.update({"x": "y" * 200}), "state['x']: larger than 100 bytes"),
        ({"STATE_MAX_DEPTH": 2}, lambda state: state.update({"x": [[[]]]}), "state['x']: nested deeper than 2 levels"),
        ({"STATE_MAX_KEYS": 2}, lambda state: state.update(a=1, b=2, c=3), "state: more than 2 keys"),
        (
            {"STATE_MAX_BYTES": 100},
            lambda state: state.update(a="y" * 60, b="y" * 60),
            "The call ran, but its state was not saved: state: larger than 100 bytes",
        ),
    ],
)
def test_a_bound_is_named(
    server: Server, ada: User, settings: Settings, bounds: dict[str, int], put: Any, text: str
) -> None:
    settings.DJANGO_MCP = bounds

    @server.tool(name="put")
    def keep(state: State) -> None:
        put(state)

    result = call(ada, "put")
    assert (result.is_error, result.text) == (True, f"{text}.")
    assert not Snapshot.objects.exists()


@pytest.mark.parametrize("mode", ["modern", "legacy"])
def test_too_many_conversations_are_refused_before_the_body_runs(
    server: Server, ada: User, settings: Settings, mode: str
) -> None:
    settings.DJANGO_MCP = {"MAX_CONVERSATIONS_PER_PRINCIPAL": 2}
    runs: list[int] = []

    @server.tool
    def begin(state: State) -> None:
        runs.append(1)
        state["x"] = 1

    handles = [call(ada, "begin", mode=mode).handle for _ in range(2)]
    with pytest.raises(MCPClientError) as raised:
        call(ada, "begin", mode=mode)
    assert (raised.value.status, raised.value.message) == (429, "Too many conversations")
    assert len(runs) == 2
    assert not call(ada, "begin", {"handle": handles[0]}, mode=mode).is_error


@pytest.mark.parametrize("tool", ["fail", "afail"])
def test_failures_do_not_use_up_the_conversations(server: Server, ada: User, settings: Settings, tool: str) -> None:
    settings.DJANGO_MCP = {"MAX_CONVERSATIONS_PER_PRINCIPAL": 2}

    @server.tool
    def fail(state: State) -> None:
        raise ToolError("no")

    @server.tool
    async def afail(state: State) -> None:
        raise ToolError("no")

    assert {call(ada, tool).text for _ in range(5)} == {"no"}


def test_two_users_never_see_each_others_state(counting: Server, ada: User, bob: User) -> None:
    first = call(ada, "count")
    stolen = call(bob, "count", {"handle": first.handle})
    unknown = call(bob, "count", {"handle": "a" * 26})
    assert stolen.is_error
    assert stolen.raw == unknown.raw
    assert "Call again without a handle" in stolen.text


def test_what_a_user_keeps_is_there_in_every_conversation(server: Server, ada: User, bob: User) -> None:
    @server.tool
    def prefer(ctx: Context, seat: str) -> None:
        ctx.user_state["seat"] = seat

    @server.tool
    async def preferred(user: UserState) -> str:
        return str(await user.aget("seat", "any"))

    @server.tool
    async def lazily(ctx: Context) -> str:
        await ctx.user_state.aload()
        return str(ctx.user_state.get("seat"))

    assert call(ada, "prefer", {"seat": "12A"}).token is None
    assert call(ada, "preferred", mode="legacy").structured["result"] == "12A"
    assert call(ada, "lazily").structured["result"] == "12A"
    assert call(bob, "preferred").structured["result"] == "any"
    refused = call(None, "preferred")
    assert (refused.is_error, refused.text) == (True, "This needs an authenticated caller.")


def test_an_async_handler_that_did_not_read_is_told_how(server: Server, ada: User) -> None:
    @server.tool
    async def hasty(ctx: Context) -> None:
        with pytest.raises(Exception, match=r"await state.aload\(\)"):
            ctx.user_state["seat"]

    assert not call(ada, "hasty").is_error


def test_deleting_a_user_deletes_what_it_kept(counting: Server, ada: User) -> None:
    @counting.tool
    def prefer(user: UserState) -> None:
        user["large"] = "x" * 10_000

    call(ada, "count")
    call(ada, "prefer")
    assert Conversation.objects.count() == 2
    ada.delete()
    assert not Conversation.objects.exists()
    assert not Snapshot.objects.exists()


def test_anonymous_callers_have_no_state_unless_the_setting_allows_it(counting: Server, settings: Settings) -> None:
    refused = call(None, "count")
    assert (refused.is_error, refused.text) == (True, "This needs an authenticated caller.")
    settings.DJANGO_MCP = {"ANONYMOUS_STATE": True}
    handle = call(None, "count").handle
    assert call(None, "count", {"handle": handle}).structured["result"] == 2


def test_a_handler_that_is_not_stateful_says_what_to_do(
    server: Server, ada: User, caplog: pytest.LogCaptureFixture
) -> None:
    @server.tool
    def forgetful(ctx: Context) -> None:
        ctx.state["x"] = 1

    result = call(ada, "forgetful")
    assert (result.is_error, result.text) == (True, "The tool 'forgetful' failed.")
    assert "declare the tool with `@tool(stateful=True)`" in caplog.text
    assert not Conversation.objects.exists()


def test_a_token_serves_a_handler_that_is_not_stateful(counting: Server, ada: User) -> None:
    @counting.prompt
    def report(ctx: Context) -> str:
        return f"{ctx.state['total']} so far"

    token = call(ada, "count").token
    client = Client(ada, server="tested", headers={"Mcp-Resumption-Token": token or ""})
    assert client.prompt("report").text == "1 so far"


def test_a_token_is_left_alone_by_who_does_not_need_it(server: Server, ada: User) -> None:
    @server.tool
    def plain() -> int:
        return 1

    result = call(ada, "plain", headers={"Mcp-Resumption-Token": "nonsense"})
    assert (result.is_error, result.token) == (False, None)


class Consent(BaseModel):
    ok: bool


@pytest.mark.parametrize("mode", ["modern", "legacy"])
def test_a_question_knows_the_state(server: Server, ada: User, mode: str) -> None:
    def may_i(ctx: Context) -> Elicit[Consent]:
        return Elicit(f"Buy {ctx.state['item']}?", Consent)

    @server.tool
    def choose(state: State, item: str) -> None:
        state["item"] = item

    @server.tool
    def buy(state: State, answer: Annotated[Consent, Resolve(may_i)]) -> str:
        state["bought"] = answer.ok
        return str(state["item"])

    handle = call(ada, "choose", {"item": "a ticket"}).handle
    client = Client(ada, server="tested", mode=mode, answers={"Buy a ticket?": {"ok": True}})
    assert client.call("buy", {"handle": handle}).structured == {"result": "a ticket", "handle": handle}
    assert Conversation.objects.get().generation == 2


@pytest.mark.parametrize("mode", ["modern", "legacy"])
def test_nobody_is_asked_in_a_conversation_that_is_not_there(server: Server, ada: User, mode: str) -> None:
    def may_i() -> Elicit[Consent]:
        return Elicit("May I?", Consent)

    @server.tool(stateful=True)
    def buy(answer: Annotated[Consent, Resolve(may_i)]) -> bool:
        return answer.ok

    result = Client(ada, server="tested", mode=mode, answers={"may_i": {"ok": True}}).call("buy", {"handle": "x"})
    assert (result.is_error, result.questions) == (True, [])


def test_an_assignment_that_somebody_else_made_meanwhile_is_a_conflict(server: Server, ada: User) -> None:
    @server.tool
    def put(state: State, key: str, value: int, meanwhile: str = "") -> None:
        state[key] = value
        if meanwhile:
            call(ada, "put", {"handle": handle, "key": meanwhile, "value": 99})

    handle = call(ada, "put", {"key": "a", "value": 1}).handle
    merged = call(ada, "put", {"handle": handle, "key": "a", "value": 2, "meanwhile": "b"})
    assert not merged.is_error
    lost = call(ada, "put", {"handle": handle, "key": "a", "value": 3, "meanwhile": "a"})
    assert lost.is_error
    assert lost.text == "The call ran, but its state was not saved: another call changed 'a' meanwhile."


def test_two_calls_that_make_the_same_of_a_key_are_a_conflict(server: Server, ada: User) -> None:
    @server.tool
    def add(state: State, nested: bool = False) -> None:
        state["n"] = state.get("n", 0) + 1
        if nested:
            call(ada, "add", {"handle": handle})

    @server.tool
    def take(state: State, nested: bool = False) -> int:
        taken = int(state.pop("n"))
        if nested:
            call(ada, "take", {"handle": handle})
        return taken

    handle = call(ada, "add").handle
    for name in ("add", "take"):
        lost = call(ada, name, {"handle": handle, "nested": True})
        assert (lost.is_error, "another call changed 'n' meanwhile" in lost.text) == (True, True)


def test_an_update_is_applied_to_what_somebody_else_made_of_it(server: Server, ada: User) -> None:
    @server.tool
    def add(state: State, by: int, meanwhile: int = 0) -> None:
        state.update("n", lambda n: n + by, default=0)
        state.update("list", lambda items: [*items, by], default=[])
        if meanwhile:
            call(ada, "add", {"handle": handle, "by": meanwhile})

    @server.tool
    def look(state: State) -> dict[str, Any]:
        return dict(state)

    handle = call(ada, "add", {"by": 1}).handle
    assert not call(ada, "add", {"handle": handle, "by": 10, "meanwhile": 100}).is_error
    assert call(ada, "look", {"handle": handle}).structured["n"] == 111
    assert call(ada, "look", {"handle": handle}).structured["list"] == [1, 100, 10]


def test_an_update_that_was_changed_in_place_is_an_assignment(server: Server, ada: User) -> None:
    @server.tool
    def add(state: State, item: str, meanwhile: str = "") -> None:
        state.update("list", lambda items: items, default=[]).append(item)
        if meanwhile:
            call(ada, "add", {"handle": handle, "item": meanwhile})

    handle = call(ada, "add", {"item": "a"}).handle
    result = call(ada, "add", {"handle": handle, "item": "b", "meanwhile": "c"})
    assert (result.is_error, "another call changed 'list'" in result.text) == (True, True)


def test_an_atomic_tool_takes_everything_back(server: Server, ada: User) -> None:
    @server.tool(atomic=True)
    def put(state: State, how: str) -> Any:
        from mcp_types import CallToolResult

        User.objects.create_user(how)
        state["x"] = how
        if how == "conflict":
            call(ada, "put", {"handle": handle, "how": "winner"})
        if how == "raise":
            raise ToolError("no")
        return CallToolResult(content=[], is_error=True) if how == "error" else None

    handle = call(ada, "put", {"how": "first"}).handle
    for how in ("raise", "error"):
        assert call(ada, "put", {"handle": handle, "how": how}).is_error
    assert sorted(User.objects.values_list("username", flat=True)) == ["ada", "first"]


def test_a_conflict_takes_an_atomic_tool_back(server: Server, ada: User) -> None:
    @server.tool(atomic=True)
    def put(state: State, name: str) -> None:
        User.objects.create_user(name)
        state["x"] = name
        if name == "loser":
            # As if another process had committed: no transaction of this one is in its way.
            from django_mcp.sessions.stores import state_store

            head = state_store().inspect(Conversation.objects.get().id)
            other = commit_value(head, "x", "winner")
            assert other.generation == 2

    handle = call(ada, "put", {"name": "first"}).handle
    lost = call(ada, "put", {"handle": handle, "name": "loser"})
    assert lost.text == "Nothing was changed: another call changed 'x' meanwhile."
    assert sorted(User.objects.values_list("username", flat=True)) == ["ada", "first"]


def commit_value(head: Any, key: str, value: Any) -> Any:
    from django_mcp.core.entry import Inline
    from django_mcp.core.manifest import ManifestReader, edit
    from django_mcp.core.value import to_bytes
    from django_mcp.sessions.stores import state_store

    packed = edit(ManifestReader(head.manifest), {key: Inline(to_bytes(value))})
    return state_store().commit(
        head.conversation,
        base_generation=head.generation,
        manifest=packed.root,
        snapshot=packed.address,
        blobs=packed.blobs,
    )


def test_an_atomic_tool_is_sync(server: Server) -> None:
    @server.tool(atomic=True)
    async def put() -> None:
        pass

    with pytest.raises(RegistryError, match="is atomic and async; make it a sync function"):
        compiled(server)


def test_both_states_are_saved_or_neither(server: Server, ada: User) -> None:
    @server.tool
    def put(state: State, user: UserState, meanwhile: bool = False) -> None:
        state["x"] = user["x"] = int(meanwhile)
        if meanwhile:
            head = Conversation.objects.get(kind="user")
            from django_mcp.sessions.stores import state_store

            commit_value(state_store().inspect(head.id), "x", 5)

    @server.tool
    def look(state: State) -> int:
        return int(state["x"])

    handle = call(ada, "put").handle
    assert call(ada, "put", {"handle": handle, "meanwhile": True}).is_error
    assert call(ada, "look", {"handle": handle}).structured["result"] == 0


def test_a_connection_is_made_once_and_closed_before_the_commit(server: Server, ada: User) -> None:
    log: list[str] = []

    @conversation_connection
    def warehouse(state: State) -> Iterator[str]:
        log.append("open")
        try:
            yield str(state["url"])
        finally:
            log.append("close")

    @conversation_connection
    async def awarehouse(state: State) -> AsyncIterator[str]:
        log.append("open")
        yield str(state["url"])
        await asyncio.sleep(0)
        log.append("close")

    @server.tool
    def configure(state: State) -> None:
        state["url"] = "https://warehouse.example"

    @server.tool(stateful=True)
    def stock(ctx: Context) -> bool:
        first, second = warehouse(ctx), warehouse(ctx)
        log.append(first)
        return first is second

    @server.tool(stateful=True)
    async def astock(ctx: Context) -> bool:
        first, second = await awarehouse(ctx), await awarehouse(ctx)
        log.append(first)
        return first is second

    @server.tool(stateful=True)
    def broken(ctx: Context) -> None:
        warehouse(ctx)
        raise ToolError("no")

    handle = call(ada, "configure").handle
    for name in ("stock", "astock"):
        log.clear()
        assert call(ada, name, {"handle": handle}).structured["result"] is True
        assert log == ["open", "https://warehouse.example", "close"]
    log.clear()
    assert call(ada, "broken", {"handle": handle}).is_error
    assert log == ["open", "close"]


def test_a_handler_sees_what_was_called_before(counting: Server, ada: User) -> None:
    @counting.tool(stateful=True)
    def stumble(state: State, how: str) -> Any:
        state["x"] = how
        if how == "raise":
            raise ToolError("no")
        if how == "conflict":
            call(ada, "stumble", {"handle": handle, "how": "win"})

    @counting.tool(read_only=True)
    def past(state: State, ctx: Context) -> list[str]:
        assert all(past.milliseconds is not None for past in ctx.calls)
        return [f"{past.name} {past.outcome} {past.generation}" for past in ctx.calls]

    @counting.tool(stateful=True)
    async def apast(ctx: Context) -> int:
        return len(await ctx.acalls())

    handle = call(ada, "count").handle
    call(ada, "acount", {"handle": handle})
    for how in ("raise", "conflict"):
        assert call(ada, "stumble", {"handle": handle, "how": how}).is_error
    for _ in range(2):
        assert call(ada, "past", {"handle": handle}).structured["result"] == [
            "stumble conflict None",
            "stumble succeeded 3",
            "stumble failed None",
            "acount succeeded 2",
            "count succeeded 1",
        ]
    assert [call(ada, "apast", {"handle": handle}).structured["result"] for _ in range(2)] == [5, 6]

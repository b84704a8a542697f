"""What a handler is given: the request, the user, the way back to the client, and what is entered around it."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import Group, User
from django.core.handlers.asgi import ASGIRequest
from django.db import transaction
from django.http import HttpRequest
from pydantic import BaseModel
from pytest_django import Settings

from django_mcp import Context, Server, ToolError
from django_mcp.exceptions import ConfigurationError
from django_mcp.server.threads import HandlerThreads
from django_mcp.testing import Client, MCPClientError

both_eras = pytest.mark.parametrize("mode", ["modern", "legacy"])
kinds = pytest.mark.parametrize("kind", ["sync", "async"])
pytestmark = pytest.mark.django_db

entered: list[tuple[str, str, str, int]] = []
active: ContextVar[str] = ContextVar("active", default="")


@contextmanager
def audit(request: HttpRequest, name: str) -> Iterator[None]:
    """An `AROUND_CALL` that notes what it is entered for, and how it is left."""
    entered.append(("enter", name, str(request.user), threading.get_ident()))
    token = active.set(name)
    try:
        yield
    except BaseException as error:
        entered.append(("error", name, type(error).__name__, threading.get_ident()))
        raise
    else:
        entered.append(("exit", name, "", threading.get_ident()))
    finally:
        active.reset(token)


@contextmanager
def savepoint(request: HttpRequest, name: str) -> Iterator[None]:
    """An `AROUND_CALL` that undoes what the handler wrote, when it fails."""
    with transaction.atomic():
        yield


def tenant_of_host(request: HttpRequest) -> str:
    return request.headers.get("x-tenant", "")


def tenant_by_number(request: HttpRequest) -> int:
    return 7


class Name(BaseModel):
    name: str


@pytest.fixture(autouse=True)
def forget() -> None:
    entered.clear()


@both_eras
@kinds
def test_the_request_is_djangos(server: Server, mode: str, kind: str) -> None:
    alice = User.objects.create_user("alice")
    seen: list[Any] = []

    if kind == "sync":

        @server.tool(name="look")
        def look(ctx: Context) -> str:
            seen.append(ctx)
            return ctx.request.build_absolute_uri("/x")
    else:

        @server.tool(name="look")
        async def look_async(ctx: Context) -> str:
            seen.append(ctx)
            return ctx.request.build_absolute_uri("/x")

    client = Client(alice, server="tested", mode=mode, headers={"Cookie": "a=b"}, path="/mcp")
    assert client.call("look").text == "http://testserver/x"
    (ctx,) = seen
    assert isinstance(ctx.request, ASGIRequest)
    assert ctx.request is ctx.request
    assert (ctx.request.method, ctx.request.COOKIES) == ("POST", {"a": "b"})
    assert b"tools/call" in ctx.request.body
    assert ctx.user == ctx.request.user == alice
    assert ctx.request.resolver_match is not None
    assert ctx.request.resolver_match.namespace == "django_mcp"


@both_eras
def test_what_the_client_says_of_itself(server: Server, mode: str) -> None:
    seen: list[Any] = []

    @server.tool
    def look(ctx: Context) -> str:
        seen.append((ctx.client_info, ctx.client_capabilities, ctx.cancelled, ctx.tenant, ctx.sdk, ctx.request_state))
        return ctx.protocol_version

    client = Client(server="tested", mode=mode, capabilities={"roots": {}})
    assert client.call("look").text == client.protocol_version
    ((info, capabilities, cancelled, tenant, sdk, state),) = seen
    assert info.name == "django_mcp.testing"
    assert capabilities.roots is not None
    assert capabilities.sampling is None
    assert (cancelled, tenant, state) == (False, "", None)
    assert sdk.session is not None


@both_eras
def test_progress_only_grows(server: Server, mode: str) -> None:
    @server.tool
    def work(ctx: Context) -> str:
        for progress in (1, 1, 0.5, 2, 2.5):
            ctx.progress(progress, 3)
        return ""

    assert [heard.progress for heard in Client(server="tested", mode=mode).call("work").progress] == [1, 2, 2.5]


@both_eras
def test_nothing_is_sent_to_who_asked_for_nothing(server: Server, mode: str) -> None:
    @server.tool
    def work(ctx: Context) -> str:
        ctx.progress(1)
        ctx.debug("quiet")
        return "done"

    client = Client(server="tested", mode=mode, log_level=None)
    params = {"name": "work", "arguments": {}, "_meta": {"progressToken": None}}
    reply = client.request("tools/call", params)
    assert (reply.progress, reply.logs) == ([], [])


@both_eras
def test_every_level_has_a_method(server: Server, mode: str) -> None:
    @server.tool
    def sync(ctx: Context) -> str:
        ctx.debug(1)
        ctx.info("a")
        ctx.warning([1])
        ctx.error(None)
        ctx.log("emergency", {"a": 1}, logger="worker")
        return ""

    @server.tool
    async def later(ctx: Context) -> str:
        await ctx.adebug(1)
        await ctx.ainfo("a")
        await ctx.awarning([1])
        await ctx.aerror(None)
        await ctx.alog("emergency", {"a": 1}, logger="worker")
        return ""

    client = Client(server="tested", mode=mode)
    for name in ("sync", "later"):
        logs = client.call(name).logs
        assert [log.level for log in logs] == ["debug", "info", "warning", "error", "emergency"]
        assert [log.data for log in logs] == [1, "a", [1], None, {"a": 1}]
        assert logs[-1].logger == "worker"


def test_a_blocking_method_in_an_async_handler_names_its_twin(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    @server.tool
    async def work(ctx: Context) -> str:
        ctx.progress(1)
        return ""

    assert Client(server="tested").call("work").is_error
    assert "use `await ctx.aprogress(…)`" in caplog.text


def test_questions_in_a_body_name_the_remedy_in_the_modern_era(server: Server, caplog: Any) -> None:
    @server.tool
    async def ask(which: str, ctx: Context) -> str:
        await {"user": lambda: ctx.aelicit("?", Name), "roots": ctx.alist_roots}[which]()
        return ""

    for which in ("user", "roots"):
        caplog.clear()
        assert Client(server="tested").call("ask", {"which": which}).is_error
        assert "ask it by a parameter `Annotated[T, Resolve(asking)]`, which works in both eras" in caplog.text


# The tenant


@both_eras
def test_the_tenant_is_what_the_callable_gives(server: Server, settings: Settings, mode: str) -> None:
    settings.DJANGO_MCP = {"TENANT": "tests.server.test_context.tenant_of_host"}

    @server.tool
    def tenant(ctx: Context) -> str:
        return ctx.tenant

    assert Client(server="tested", mode=mode, headers={"X-Tenant": "acme"}).call("tenant").text == "acme"
    assert Client(server="tested", mode=mode).call("tenant").text == ""
    assert Client(server="tested", mode=mode, tenant="given").call("tenant").text == "given"


def test_a_tenant_is_a_text_that_fits(server: Server, settings: Settings) -> None:
    settings.DJANGO_MCP = {"TENANT": "tests.server.test_context.tenant_by_number"}
    with pytest.raises(ConfigurationError, match="TENANT gave 7; it must give a string of at most 100 characters"):
        Client(server="tested").list_tools()
    settings.DJANGO_MCP = {"TENANT": "tests.server.test_context.tenant_of_host"}
    with pytest.raises(ConfigurationError, match="TENANT gave 'xxx"):
        Client(server="tested", headers={"X-Tenant": "x" * 101}).list_tools()


def test_a_session_belongs_to_its_tenant(server: Server, settings: Settings) -> None:
    server.tool(name="tool")(lambda: "")
    client = Client(server="tested", mode="legacy", tenant="one")
    client.call("tool")
    other = Client(server="tested", mode="legacy", tenant="two", headers={"Mcp-Session-Id": str(client.session_id)})
    with pytest.raises(MCPClientError, match="Session not found") as caught:
        other.request("tools/list")
    assert caught.value.status == 404


# Around the call


@both_eras
@kinds
def test_around_call_is_entered_in_the_thread_of_the_handler(
    server: Server, settings: Settings, mode: str, kind: str
) -> None:
    settings.DJANGO_MCP = {"AROUND_CALL": ["tests.server.test_context.audit"]}

    if kind == "sync":

        @server.tool(name="work")
        def work() -> str:
            return f"{active.get()} {threading.get_ident()}"
    else:

        @server.tool(name="work")
        async def work_async() -> str:
            return f"{active.get()} {threading.get_ident()}"

    text = Client(User.objects.create_user("alice"), server="tested", mode=mode).call("work").text
    here = threading.get_ident()
    assert entered == [("enter", "work", "alice", here), ("exit", "work", "", here)]
    assert text.startswith("work ")
    if kind == "sync":
        assert text == f"work {here}"
    assert active.get() == ""


@kinds
def test_around_call_learns_of_an_error(server: Server, settings: Settings, kind: str) -> None:
    settings.DJANGO_MCP = {"AROUND_CALL": ["tests.server.test_context.audit"]}

    if kind == "sync":

        @server.tool(name="fail")
        def fail() -> str:
            raise ToolError("on purpose")
    else:

        @server.tool(name="fail")
        async def fail_async() -> str:
            raise ToolError("on purpose")

    assert Client(server="tested").call("fail").text == "on purpose"
    assert [(what, name) for what, name, *_ in entered] == [("enter", "fail"), ("error", "fail")]
    assert entered[1][2] == "ToolError"


@kinds
def test_around_call_can_hold_a_transaction(server: Server, settings: Settings, kind: str) -> None:
    settings.DJANGO_MCP = {"AROUND_CALL": ["tests.server.test_context.audit", "tests.server.test_context.savepoint"]}

    if kind == "sync":

        @server.tool(name="add")
        def add(name: str) -> str:
            Group.objects.create(name=name)
            if name == "bad":
                raise ToolError("undone")
            return name
    else:

        @server.tool(name="add")
        async def add_async(name: str) -> str:
            await Group.objects.acreate(name=name)
            if name == "bad":
                raise ToolError("undone")
            return name

    client = Client(server="tested")
    assert client.call("add", {"name": "good"}).text == "good"
    assert client.call("add", {"name": "bad"}).text == "undone"
    assert list(Group.objects.values_list("name", flat=True)) == ["good"]


@pytest.mark.django_db(transaction=True)
async def test_around_call_and_the_async_orm_share_a_thread_of_the_pool(server: Server, settings: Settings) -> None:
    settings.DJANGO_MCP = {"AROUND_CALL": ["tests.server.test_context.audit"]}

    @server.tool
    async def work() -> str:
        await Group.objects.acount()
        return f"{active.get()} {await sync_to_async(threading.get_ident)()}"

    client = Client(server="tested", threads=HandlerThreads(size=4, queue=4))
    results = await asyncio.gather(*(client.acall("work") for _ in range(4)))
    threads = {thread for *_, thread in entered}
    assert {int(result.text.removeprefix("work ")) for result in results} == threads
    assert threading.get_ident() not in threads


def test_prompts_resources_and_completions_are_surrounded_too(server: Server, settings: Settings) -> None:
    settings.DJANGO_MCP = {"AROUND_CALL": ["tests.server.test_context.audit"]}

    @server.resource("note://{name}")
    def note(name: str) -> str:
        return active.get()

    @server.prompt
    def ask(name: str) -> str:
        return active.get()

    @server.completion("name", prompt="ask")
    def names() -> list[str]:
        return [active.get()]

    client = Client(server="tested")
    assert client.read("note://one").text == "note"
    assert client.prompt("ask", {"name": ""}).text == "ask"
    assert client.complete("name", prompt="ask").values == ["names"]

"""A permission hides and refuses alike: what a caller may not use is, for that caller, not there."""

import threading
from typing import Annotated, Any

import pytest
from django.contrib.auth.models import AnonymousUser, Permission, User
from django.http import HttpRequest

from django_mcp import ParamHeader, Server
from django_mcp.server.threads import HandlerThreads
from django_mcp.testing import Client, MCPClientError

both_eras = pytest.mark.parametrize("mode", ["modern", "legacy"])
pytestmark = pytest.mark.django_db


def is_north(request: HttpRequest) -> bool:
    return request.headers.get("x-region") == "north"


@pytest.fixture
def ran(server: Server) -> list[str]:
    """Define one guarded thing of each kind, and an open one beside it; note what ran."""
    ran: list[str] = []

    def note(name: str) -> str:
        ran.append(name)
        return name

    guard = {"permission": "auth.view_group"}
    server.tool(name="open")(lambda: note("open"))
    server.tool(name="guarded", **guard)(lambda: note("tool"))  # type: ignore[call-overload]
    server.resource("open://one")(lambda: note("open"))
    server.resource("guarded://one", **guard)(lambda: note("resource"))  # type: ignore[arg-type]
    server.resource("guarded://{name}/all", **guard)(lambda name: note("template"))  # type: ignore[arg-type]
    server.prompt(name="open")(lambda: note("open"))
    server.prompt(name="guarded", **guard)(lambda name: note("prompt"))  # type: ignore[call-overload]
    server.completion("name", prompt="guarded")(lambda: [note("completion")])
    server.completion("name", resource="guarded://{name}/all")(lambda: [note("completion")])
    return ran


@pytest.fixture
def viewer() -> User:
    user = User.objects.create_user("viewer")
    user.user_permissions.add(Permission.objects.get(codename="view_group"))
    return user


def names(client: Client) -> list[str]:
    return [
        *(tool.name for tool in client.list_tools()),
        *(resource.uri for resource in client.list_resources()),
        *(template.uri_template for template in client.list_templates()),
        *(prompt.name for prompt in client.list_prompts()),
    ]


def refusal(client: Client, method: str, params: dict[str, Any]) -> tuple[int, str, Any, int]:
    with pytest.raises(MCPClientError) as caught:
        client.request(method, params)
    error = caught.value
    return error.code, error.message, error.data, error.status


@both_eras
def test_who_may_sees_and_uses_everything(ran: list[str], viewer: User, mode: str) -> None:
    client = Client(viewer, server="tested", mode=mode)
    assert names(client) == [
        "open",
        "guarded",
        "open://one",
        "guarded://one",
        "guarded://{name}/all",
        "open",
        "guarded",
    ]
    assert client.call("guarded").text == "tool"
    assert client.read("guarded://one").text == "resource"
    assert client.read("guarded://x/all").text == "template"
    assert client.prompt("guarded", {"name": ""}).text == "prompt"
    assert client.complete("name", prompt="guarded").values == ["completion"]
    assert client.complete("name", resource="guarded://{name}/all").values == ["completion"]
    assert ran == ["tool", "resource", "template", "prompt", "completion", "completion"]


@both_eras
@pytest.mark.parametrize("kind", ["anonymous", "nobody", "plain"])
def test_who_may_not_sees_nothing_and_is_told_that_there_is_nothing(ran: list[str], mode: str, kind: str) -> None:
    user: Any = {
        "anonymous": AnonymousUser(),
        "nobody": None,
        "plain": User.objects.create_user("plain"),
    }[kind]
    client = Client(user, server="tested", mode=mode)
    assert names(client) == ["open", "open://one", "open"]
    status = 400 if mode == "modern" else 200
    for guarded, missing, method, key in (
        ("guarded", "missing", "tools/call", "name"),
        ("guarded", "missing", "prompts/get", "name"),
        ("guarded://one", "missing://one", "resources/read", "uri"),
        ("guarded://x/all", "missing://x/all", "resources/read", "uri"),
    ):
        refused = refusal(client, method, {key: guarded})
        unknown = refusal(client, method, {key: missing})
        assert refused[0] == unknown[0] == -32602
        assert refused[1] == unknown[1].replace(missing, guarded)
        assert str(refused[2]) == str(unknown[2]).replace(missing, guarded)
        assert refused[3] == unknown[3] == status
    for ref in ({"type": "ref/prompt", "name": "guarded"}, {"type": "ref/resource", "uri": "guarded://{name}/all"}):
        params = {"ref": ref, "argument": {"name": "name", "value": ""}}
        assert refusal(client, "completion/complete", params)[1].startswith("Unknown reference: guarded")
    assert ran == []


def test_who_is_inactive_may_nothing(ran: list[str], viewer: User) -> None:
    viewer.is_active = False
    assert names(Client(viewer, server="tested")) == ["open", "open://one", "open"]


def test_a_superuser_may_everything(ran: list[str]) -> None:
    admin = User.objects.create_superuser("admin")
    assert "guarded" in names(Client(admin, server="tested"))


def test_a_callable_is_asked_with_the_request(server: Server) -> None:
    server.tool(name="tool", permission=is_north)(lambda: "north")
    server.prompt(name="prompt", permission=lambda request: request.user.is_authenticated)(lambda: "in")
    north = Client(server="tested", headers={"X-Region": "north"})
    assert (names(north), north.call("tool").text) == (["tool"], "north")
    south = Client(User.objects.create_user("alice"), server="tested", headers={"X-Region": "south"})
    assert (names(south), south.prompt("prompt").text) == (["prompt"], "in")
    with pytest.raises(MCPClientError, match="Unknown tool: tool"):
        south.call("tool")


def test_a_permission_that_is_given_counts_at_the_next_call(ran: list[str]) -> None:
    alice = User.objects.create_user("alice")
    assert "guarded" not in names(Client(alice, server="tested"))
    alice.user_permissions.add(Permission.objects.get(codename="view_group"))
    assert "guarded" in names(Client(User.objects.get(), server="tested"))


@pytest.mark.django_db(transaction=True)
async def test_permissions_are_asked_on_a_handlers_thread_and_together(server: Server) -> None:
    asked: list[int] = []

    def ask(request: HttpRequest) -> bool:
        asked.append(threading.get_ident())
        return User.objects.count() == 0

    for number in range(3):
        server.tool(name=f"tool{number}", permission=ask)(lambda: "")
    client = Client(server="tested", threads=HandlerThreads(size=1, queue=1))
    assert len(await client.alist_tools()) == 3
    assert len(asked) == 3
    assert threading.get_ident() not in asked


def test_a_header_that_is_mirrored_tells_nothing_of_a_hidden_tool(server: Server) -> None:
    @server.tool(permission="auth.view_group")
    def hidden(region: Annotated[str, ParamHeader("Region")]) -> str:
        return region

    client = Client(server="tested", headers={"Mcp-Param-Region": "south"})
    with pytest.raises(MCPClientError, match="Unknown tool: hidden"):
        client.call("hidden", {"region": "north"})

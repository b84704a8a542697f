"""Suggestions for arguments of prompts and variables of templates."""

from typing import Any

import pytest
from django.contrib.auth.models import Group
from mcp_types import CompleteResult, Completion

from django_mcp import Context, Server
from django_mcp.exceptions import RegistryError
from django_mcp.server.compile import compiled
from django_mcp.testing import Client, MCPClientError

pytestmark = pytest.mark.django_db


@pytest.fixture
def client(server: Server) -> Client:
    server.prompt(name="brief")(lambda origin, destination="": "")
    server.resource("group://{name}")(lambda name: name)
    server.resource("group://all")(lambda: "")
    return Client(server="tested")


@pytest.mark.parametrize("mode", ["modern", "legacy"])
def test_a_prompt_and_a_template_are_completed(server: Server, client: Client, mode: str) -> None:
    Group.objects.create(name="staff")
    Group.objects.create(name="boss")

    @server.completion("origin", prompt="brief")
    def origins(value: str) -> list[str]:
        return [code for code in ("ZRH", "ZAG", "JFK") if code.startswith(value)]

    @server.completion("name", resource="group://{name}")
    async def names(value: str) -> Any:
        return [group.name async for group in Group.objects.filter(name__startswith=value)]

    client = Client(server="tested", mode=mode)
    found = client.complete("origin", "Z", prompt="brief")
    assert (found.values, found.total, found.has_more) == (["ZRH", "ZAG"], 2, False)
    assert client.complete("name", "st", resource="group://{name}").values == ["staff"]
    assert origins("J") == ["JFK"]


def test_other_arguments_and_the_context_are_given(server: Server, client: Client) -> None:
    @server.completion("destination", prompt="brief")
    def destinations(value: str, arguments: dict[str, str], ctx: Context) -> list[str]:
        return [f"{value}{arguments.get('origin', '-')}{ctx.user}"]

    found = client.complete("destination", "x", prompt="brief", arguments={"origin": "ZRH"})
    assert found.values == ["xZRHAnonymousUser"]
    assert client.complete("destination", "x", prompt="brief").values == ["x-AnonymousUser"]


def test_no_more_than_a_hundred_are_sent(server: Server, client: Client) -> None:
    server.completion("origin", prompt="brief")(lambda value: range(101))
    found = client.complete("origin", prompt="brief")
    assert found.values == [str(number) for number in range(100)]
    assert (found.total, found.has_more) == (101, True)


def test_nothing_a_whole_result_and_no_completion_at_all(server: Server, client: Client) -> None:
    server.completion("origin", prompt="brief")(lambda: None)
    server.completion("destination", prompt="brief")(
        lambda: CompleteResult(completion=Completion(values=["a"], total=9, has_more=True))
    )
    assert client.complete("origin", prompt="brief").values == []
    assert client.complete("destination", prompt="brief").total == 9
    assert client.complete("name", resource="group://{name}").values == []
    assert client.complete("unknown", prompt="brief").values == []


@pytest.mark.parametrize("target", [{"prompt": "missing"}, {"resource": "group://all"}, {"resource": "x://{y}"}])
def test_an_unknown_target_is_an_error(client: Client, target: Any) -> None:
    with pytest.raises(MCPClientError) as caught:
        client.complete("name", **target)
    (name,) = target.values()
    assert (caught.value.code, caught.value.message) == (-32602, f"Unknown reference: {name}")


def test_an_error_of_a_completion_is_logged_and_not_told(
    server: Server, client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    @server.completion("origin", prompt="brief")
    def fail(value: str) -> list[str]:
        raise LookupError("secret")

    with pytest.raises(MCPClientError, match=r"^The completion failed \(code -32603"):
        client.complete("origin", prompt="brief")
    assert "secret" in caplog.text


@pytest.mark.parametrize(
    ("argument", "target", "problem"),
    [
        ("origin", {"prompt": "missing"}, "completes 'missing', which is not registered"),
        ("name", {"resource": "group://all"}, "completes 'group://all', which is not registered"),
        ("nowhere", {"prompt": "brief"}, "completes the argument 'nowhere'; there are origin, destination"),
        ("nowhere", {"resource": "group://{name}"}, "completes the argument 'nowhere'; there are name"),
    ],
)
def test_a_completion_of_nothing_does_not_load(
    server: Server, client: Client, argument: str, target: Any, problem: str
) -> None:
    definition: Any = server.completion(argument, **target)(lambda value: [])
    with pytest.raises(RegistryError) as caught:
        compiled(server)
    assert problem in str(caught.value)
    assert caught.value.where == definition.where


def test_a_target_is_one_thing_and_completed_once(server: Server, client: Client) -> None:
    for target in ({}, {"prompt": "brief", "resource": "group://{name}"}):
        with pytest.raises(RegistryError, match="names no single target; give either prompt= or resource="):
            server.completion("origin", **target)(lambda value: [])
    first: Any = server.completion("origin", prompt="brief")(lambda value: [])
    server.completion("origin", prompt="brief")(lambda value: [])
    with pytest.raises(RegistryError) as caught:
        compiled(server)
    assert f"takes 'brief origin', which {first.where} has already" in str(caught.value)


def test_other_parameters_do_not_load(server: Server, client: Client) -> None:
    server.completion("origin", prompt="brief")(lambda text: [])
    with pytest.raises(RegistryError, match=r"takes \['text'\]; take `value: str`"):
        compiled(server)


def test_a_prompt_with_a_prefix_is_completed_by_its_own_name(server: Server) -> None:
    server.prefix = "ops_"
    server.prompt(name="brief")(lambda origin: "")
    server.completion("origin", prompt="brief")(lambda value: ["ZRH"])
    assert Client(server="tested").complete("origin", prompt="ops_brief").values == ["ZRH"]

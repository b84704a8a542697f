"""Who sees, calls and reads what; everybody else is told that it is not there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any, ClassVar

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import AnonymousUser, User
from django.http import HttpRequest
from django.test import override_settings
from rest_framework.authtoken.models import Token

from django_mcp import Server
from django_mcp.consumers import MCPConsumer
from django_mcp.contrib.models import ModelTools, register_models
from django_mcp.contrib.models.access import MAX_SCANNED
from django_mcp.contrib.rest_framework import register_router
from django_mcp.exceptions import RegistryError
from django_mcp.models import MCPAccessToken
from django_mcp.server.compile import compiled
from django_mcp.testing import Client, MCPClientError
from django_mcp.testing.asgi import stream
from tests.contrib.models.shop.models import Item, Maker
from tests.contrib.models.shop.tools import ItemTools
from tests.contrib.rest_framework.library import urls
from tests.contrib.rest_framework.library.models import Author
from tests.servers import defined

ITEM_TOOLS = {"list_items", "get_item", "create_item", "update_item", "delete_item"}
MAKER_TOOLS = {"list_makers", "get_maker"}
META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
}


def as_user(username: str, server: Server) -> Client:
    return Client(User.objects.get(username=username) if username else None, server=server.name)


@pytest.mark.parametrize(
    ("username", "may"),
    [
        ("", set()),
        ("nobody", set()),
        ("viewer", {"list_items", "get_item"}),
        ("adder", {"create_item"}),
        ("clerk", ITEM_TOOLS),
    ],
)
class TestItems:
    def test_are_listed_and_called_by_who_has_the_permission(self, shop: Server, username: str, may: set[str]) -> None:
        client = as_user(username, shop)
        assert {tool.name for tool in client.list_tools()} - MAKER_TOOLS == may
        pk = Item.objects.get(name="Drum").pk
        arguments: dict[str, Any] = {
            "list_items": {},
            "get_item": {"pk": pk},
            "create_item": {"name": "New"},
            "update_item": {"pk": pk, "name": "New"},
            "delete_item": {"pk": pk},
        }
        for name in sorted(ITEM_TOOLS - may):
            with pytest.raises(MCPClientError, match=f"Unknown tool: {name}"):
                client.call(name, arguments[name])
        assert not Item.objects.filter(name="New").exists()
        assert Item.objects.filter(pk=pk).exists()
        for name in sorted(may, key=list(arguments).index):
            assert not client.call(name, arguments[name]).is_error

    def test_are_read_by_who_may_see_them(self, shop: Server, username: str, may: set[str]) -> None:
        client = as_user(username, shop)
        uri = f"app://item/{Item.objects.get(name='Axe').pk}"
        shown = {template.name for template in client.list_templates()}
        if "get_item" in may:
            assert "item" in shown
            assert json.loads(client.read(uri).text)["name"] == "Axe"
            assert client.complete("pk", resource="app://item/{pk}").values
        else:
            assert "item" not in shown
            with pytest.raises(MCPClientError, match="Resource not found"):
                client.read(uri)
            with pytest.raises(MCPClientError, match="Unknown reference"):
                client.complete("pk", resource="app://item/{pk}")


def test_an_inactive_user_has_no_permission(shop: Server) -> None:
    User.objects.filter(username="clerk").update(is_active=False)
    assert not as_user("clerk", shop).list_tools()[0].name.endswith("item")
    with pytest.raises(MCPClientError, match="Unknown tool"):
        as_user("clerk", shop).call("list_items")


class TestObjects:
    """`viewer` has no permission for makers, but for those that are called like it."""

    def test_a_list_shows_those_of_the_caller(self, shop: Server) -> None:
        result = as_user("viewer", shop).call("list_makers").structured
        assert [row["name"] for row in result["rows"]] == ["viewer & sons"]
        assert (result["next_page"], result["count"], result["complete"]) == (None, None, True)
        assert as_user("nobody", shop).call("list_makers").structured["rows"] == []

    def test_the_wrong_object_is_answered_like_an_unknown_one(self, shop: Server) -> None:
        client = as_user("viewer", shop)
        own, other = Maker.objects.get(name="viewer & sons"), Maker.objects.get(name="Other")
        assert client.call("get_maker", {"pk": str(own.pk)}).structured["name"] == own.name
        wrong = client.call("get_maker", {"pk": str(other.pk)})
        unknown = client.call("get_maker", {"pk": "12345678-1234-1234-1234-123456789abc"})
        assert wrong.raw["content"] == unknown.raw["content"]
        assert wrong.is_error
        with pytest.raises(MCPClientError) as refused:
            client.read(f"app://maker/{other.pk}")
        with pytest.raises(MCPClientError) as absent:
            client.read("app://maker/12345678-1234-1234-1234-123456789abc")
        assert str(refused.value).replace(str(other.pk), "") == str(absent.value).replace(
            "12345678-1234-1234-1234-123456789abc", ""
        )

    def test_only_those_are_suggested(self, shop: Server) -> None:
        found = as_user("viewer", shop).complete("pk", resource="app://maker/{pk}")
        assert found.values == [str(Maker.objects.get(name="viewer & sons").pk)]
        assert found.total == 1

    def test_pages_are_made_of_those(self, shop: Server) -> None:
        Maker.objects.bulk_create(Maker(name=f"{owner}{n:02}") for n in range(25) for owner in ("viewer", "x"))
        client = as_user("viewer", shop)
        first = client.call("list_makers", {"page_size": 20}).structured
        second = client.call("list_makers", {"page_size": 20, "page": 2}).structured
        assert [len(first["rows"]), len(second["rows"])] == [20, 6]
        assert [first["next_page"], second["next_page"]] == [2, None]
        assert not {row["key"] for row in first["rows"]} & {row["key"] for row in second["rows"]}

    def test_no_more_rows_are_looked_through_than_allowed_and_it_is_said(self, shop: Server) -> None:
        Maker.objects.bulk_create(Maker(name=f"x{n:04}") for n in range(MAX_SCANNED))
        assert not as_user("nobody", shop).call("list_makers").structured["complete"]
        assert as_user("nobody", shop).call("list_makers", {"search": "x0001"}).structured["complete"]

    def test_who_has_the_permission_for_all_sees_all(self, shop: Server) -> None:
        User.objects.create_superuser("root")
        result = as_user("root", shop).call("list_makers").structured
        assert len(result["rows"]) == result["count"] == 2


class TestAHook:
    def test_decides_on_tools_and_on_each_object(self, shop: Server) -> None:
        class SmallTools(ModelTools):
            model = Item
            fields = ("id", "name")

            def has_permission(self, request: Any, action: str, obj: Any = None) -> bool:
                return request.user.username == "nobody" and (obj is None or obj.name < "C")

        with defined("small") as server:
            register_models(SmallTools, server=server)
            client = as_user("nobody", server)
            rows = client.call("list_items").structured["rows"]
            assert [row["name"] for row in rows] == ["Axe", "Ball"]
            assert client.call("get_item", {"pk": Item.objects.get(name="Car").pk}).text == "Not found."
            assert as_user("clerk", server).list_tools() == []


class TestAUserModel:
    def test_with_defaults_shows_numbers_alone(self, shop: Server) -> None:
        class UserTools(ModelTools):
            model = User

        with defined("users") as server:
            register_models(UserTools, server=server)
            root = User.objects.create_superuser("root", "root@example.com", "secret")
            client = Client(root, server=server.name)
            result = client.call("list_users")
            assert result.structured["rows"] == [
                {"id": pk} for pk in sorted(User.objects.values_list("pk", flat=True))
            ]
            assert set(compiled(server).tools["list_users"].input_schema["properties"]) == {"page", "page_size"}
            assert client.call("get_user", {"pk": root.pk}).structured == {"id": root.pk}
            for text in ("root", "example.com", root.password):
                assert text not in str(result.raw)
            for guess in ({"password__startswith": "m"}, {"email": "root@example.com"}, {"search": "root"}):
                assert client.call("list_users", guess).is_error


@pytest.fixture
def door(transactional_db: None) -> Iterator[Server]:
    with override_settings(DJANGO_MCP={"ACCESS": "required"}, ROOT_URLCONF=urls.__name__), defined("door") as server:

        class Items(ModelTools):
            model = Item
            fields = ("id", "name")

        register_models(Items, server=server)
        register_router(urls.router, include=["list"], server=server, accept_endpoint_authentication=True)
        yield server


async def test_an_expired_access_token_gets_nothing_at_the_endpoint(door: Server) -> None:
    root = await User.objects.acreate(username="root", is_superuser=True)
    await Item.objects.acreate(name="Axe")
    await Author.objects.acreate(name="Axel")
    _, fresh = await sync_to_async(MCPAccessToken.objects.issue)(root, "fresh")
    _, old = await sync_to_async(MCPAccessToken.objects.issue)(root, "old", lifetime=timedelta(0))
    calls: list[tuple[str, dict[str, Any]]] = [
        ("tools/call", {"name": name, "arguments": {}}) for name in ("list_items", "author_list")
    ]
    for method, params in (("tools/list", {}), *calls):
        status, body = await posted(method, params, fresh)
        assert status == 200
        assert "Axe" in body or ("list_items" in body and "author_list" in body)
        for secret in (old, "mcp_unknown", ""):
            status, body = await posted(method, params, secret)
            assert status == 401
            assert "Axe" not in body
            assert "list_items" not in body
            assert "author_list" not in body


def test_who_calls_too_often_is_told_to_wait(shop: Server) -> None:
    class Axes(ItemTools):
        singular = "axe"
        options: ClassVar[dict[str, Any]] = {"rate": "1/day"}

    register_models(Axes, server=shop)
    client = as_user("viewer", shop)
    assert client.call("list_axes").structured["rows"]
    with pytest.raises(MCPClientError, match="Too many calls"):
        client.call("list_axes")
    assert as_user("clerk", shop).call("list_axes").structured["rows"]


async def posted(method: str, params: dict[str, Any], secret: str) -> tuple[int, str]:
    headers = {
        "content-type": "application/json",
        "accept": "application/json, text/event-stream",
        "mcp-protocol-version": "2026-07-28",
        "mcp-method": method,
    }
    if "name" in params:
        headers["mcp-name"] = params["name"]
    if secret:
        headers["authorization"] = f"Bearer {secret}"
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": {**params, "_meta": META}})
    async with stream(MCPConsumer("door"), "POST", "/mcp", headers=headers, body=body.encode()) as response:
        status = await response.started()
        return status, (await response.read()).decode()


def test_the_list_is_private(shop: Server) -> None:
    for username in ("", "viewer"):
        assert as_user(username, shop).request("tools/list").raw["cacheScope"] == "private"
        assert as_user(username, shop).request("resources/templates/list").raw["cacheScope"] == "private"


def test_a_request_without_a_user_has_no_permission(shop: Server) -> None:
    request = HttpRequest()
    assert not ItemTools().has_permission(request, "list")
    request.user = AnonymousUser()
    assert not ItemTools().has_permission(request, "list")


def test_a_secret_primary_key_is_not_shown_by_default() -> None:
    class TokenTools(ModelTools):
        model = Token

    with pytest.raises(RegistryError, match="lists no fields"):
        TokenTools()

"""Rows that are created, changed and deleted: by the project's form, all or nothing, and only what is reached."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
from django import forms
from django.contrib.auth.models import User
from django.db import models
from django.http import HttpRequest

from django_mcp import Server
from django_mcp.contrib.models import ModelTools, register_models
from django_mcp.server.compile import compiled
from django_mcp.testing import Client
from tests.contrib.models.shop.models import Item, Maker
from tests.contrib.models.shop.tools import ItemForm
from tests.servers import defined

FULL = {
    "name": "New",
    "slug": "new",
    "text": "é",
    "size": 2,
    "kind": "toy",
    "stock": 5,
    "small": -1,
    "big": 2**63 - 1,
    "price": 1.5,
    "weight": 0.25,
    "is_sold": True,
    "day": "2026-01-02",
    "at": "2026-01-02T03:04:05.000678Z",
    "clock": "01:02:03.000004",
    "lasts": "PT1H",
    "code": "12345678-1234-1234-1234-123456789abc",
    "address": "::1",
    "extra": {"a": "[1]", "b": [None, True]},
}


@pytest.fixture
def client(shop: Server) -> Client:
    return Client(User.objects.get(username="clerk"), server=shop.name)


def pk_of(name: str) -> Any:
    return Item.objects.get(name=name).pk


class TestCreate:
    def test_takes_every_kind_of_value(self, client: Client) -> None:
        maker = Maker.objects.get(name="Other")
        given = {**FULL, "maker": str(maker.pk), "parts": [pk_of("Axe"), pk_of("Car")]}
        result = client.call("create_item", given)
        assert not result.is_error, result.text
        made = Item.objects.get(name="New")
        expected = {**FULL, "price": "1.50", "maker": str(maker.pk), "maker__name": "Other"}
        assert {name: result.structured[name] for name in expected} == expected
        assert result.structured["id"] == made.pk
        assert {part.name for part in made.parts.all()} == {"Axe", "Car"}

    def test_needs_what_has_no_default(self, client: Client, shop: Server) -> None:
        assert compiled(shop).tools["create_item"].input_schema["required"] == ["name"]
        assert client.call("create_item", {}).is_error
        row = client.call("create_item", {"name": "Plain"}).structured
        assert (row["kind"], row["size"], row["is_sold"], row["price"]) == ("tool", 1, False, None)

    def test_has_no_argument_for_a_file_or_for_what_the_form_has_not(self, client: Client, shop: Server) -> None:
        known = compiled(shop).tools["create_item"].input_schema["properties"]
        assert not {"photo", "hidden", "raw", "owner", "id"} & set(known)
        for name in ("photo", "hidden", "id"):
            assert "unexpected" in client.call("create_item", {"name": "New", name: 1}).text

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            ({"name": "forbidden"}, "name: This name is forbidden."),
            ({"day": "2026-02-30"}, "day: Enter a valid date."),
            ({"text": "a\x00"}, "text: The text has characters that cannot be stored."),
            ({"extra": {"a": ["\x00"]}}, "extra: The text has characters that cannot be stored."),
            ({"lasts": "999999999 00:00:00"}, "lasts: The duration is out of range."),
            ({"at": "9999-12-31T23:59:59-05:00"}, "at: The date is out of range."),
            ({"big": 2**63}, "maximum"),
            ({"stock": -1}, "minimum"),
            ({"price": "1e999999"}, "price: Ensure that there are no more than"),
            ({"maker": "12345678-1234-1234-1234-123456789abc"}, "maker: Select a valid choice."),
            ({"parts": [0]}, "parts: Select a valid choice."),
        ],
    )
    def test_says_in_the_forms_words_what_is_wrong(self, client: Client, arguments: dict[str, Any], said: str) -> None:
        result = client.call("create_item", {"name": "New", **arguments})
        assert result.is_error
        assert said in result.text
        assert not Item.objects.filter(name="New").exists()

    def test_tells_of_every_field(self, client: Client) -> None:
        result = client.call("create_item", {"name": "forbidden", "slug": "a b", "day": "x"})
        assert sorted(line.partition(":")[0] for line in result.text.splitlines()) == ["day", "name", "slug"]

    def test_makes_nothing_that_the_caller_would_not_reach(self, client: Client) -> None:
        before = Item.objects.count()
        result = client.call("create_item", {"name": "hidden"})
        assert (result.is_error, "Nothing was saved" in result.text) == (True, True)
        assert Item.objects.count() == before


class TestUpdate:
    def test_changes_what_is_given_and_nothing_else(self, client: Client) -> None:
        assert not client.call("create_item", {**FULL, "parts": [pk_of("Axe")]}).is_error
        before = Item.objects.filter(name="New").values().get()
        result = client.call("update_item", {"pk": before["id"], "stock": 9, "price": None})
        assert (result.structured["stock"], result.structured["price"]) == (9, None)
        assert Item.objects.filter(name="New").values().get() == {**before, "stock": 9, "price": None}
        assert [part.name for part in Item.objects.get(name="New").parts.all()] == ["Axe"]

    def test_refuses_by_the_form(self, client: Client) -> None:
        result = client.call("update_item", {"pk": pk_of("Axe"), "name": "forbidden"})
        assert result.text == "name: This name is forbidden."
        assert client.call("update_item", {"pk": pk_of("Axe"), "name": None}).is_error

    def test_does_not_know_what_is_outside_of_the_queryset(self, client: Client) -> None:
        for name, arguments in (("update_item", {"stock": 9}), ("delete_item", {})):
            assert client.call(name, {"pk": pk_of("hidden"), **arguments}).text == "Not found."
        assert Item.objects.get(name="hidden").stock == 0

    def test_moves_nothing_out_of_reach(self, client: Client) -> None:
        result = client.call("update_item", {"pk": pk_of("Axe"), "name": "hidden"})
        assert "Nothing was saved" in result.text
        assert Item.objects.filter(name="Axe").exists()


class TestDelete:
    def test_deletes(self, client: Client) -> None:
        pk = pk_of("Axe")
        assert client.call("delete_item", {"pk": pk}).structured == {"deleted": True}
        assert not Item.objects.filter(pk=pk).exists()
        assert client.call("delete_item", {"pk": pk}).text == "Not found."

    def test_leaves_what_others_need(self, shop: Server) -> None:
        class Makers(ModelTools):
            model = Maker
            actions = ("delete",)

        with defined("makers") as server:
            register_models(Makers, server=server)
            client = Client(User.objects.create_superuser("root"), server=server.name)
            result = client.call("delete_maker", {"pk": str(Maker.objects.get(name="Other").pk)})
            assert result.text == "Other objects need it. Nothing was deleted."
            assert Maker.objects.filter(name="Other").exists()


class MakerForm(forms.ModelForm):  # type: ignore[type-arg]
    class Meta:
        model = Maker
        fields: ClassVar[list[str]] = ["name"]


class OwnMakers(ModelTools):
    """Makers that each caller may rename where a backend says so."""

    model = Maker
    fields = ("key", "name")
    object_permissions = True
    form_class = MakerForm
    actions = ("create", "update", "delete")


class TestObjects:
    def test_are_changed_by_who_may_change_them(self, shop: Server) -> None:
        own, other = Maker.objects.get(name="viewer & sons"), Maker.objects.get(name="Other")
        with defined("own") as server:
            register_models(OwnMakers, server=server)
            client = Client(User.objects.get(username="viewer"), server=server.name)
            assert {tool.name for tool in client.list_tools()} == {"update_maker", "delete_maker"}
            renamed = client.call("update_maker", {"pk": str(own.pk), "name": "viewer & daughters"})
            assert renamed.structured["name"] == "viewer & daughters"
            for name, more in (("update_maker", {"name": "viewer"}), ("delete_maker", {})):
                assert client.call(name, {"pk": str(other.pk), **more}).text == "Not found."
            # It would be somebody else's from then on.
            assert "Nothing was saved" in client.call("update_maker", {"pk": str(own.pk), "name": "Mine"}).text
            assert Maker.objects.filter(name="viewer & daughters").exists()

    def test_conflicts_are_told(self, shop: Server) -> None:
        with defined("own") as server:
            register_models(OwnMakers, server=server)
            client = Client(User.objects.create_superuser("root"), server=server.name)
            assert "already exists" in client.call("create_maker", {"name": "Other"}).text


class TestTheForm:
    def test_may_depend_on_the_request(self, shop: Server) -> None:
        class Items(ModelTools):
            model = Item
            fields = ("id", "name", "owner")
            form_class = ItemForm
            actions = ("create",)

            def get_form(
                self, request: HttpRequest, data: dict[str, Any], instance: models.Model | None
            ) -> forms.ModelForm[Any]:
                return super().get_form(request, data, Item(owner=request.user))  # type: ignore[misc]

        with defined("owned") as server:
            register_models(Items, server=server)
            root = User.objects.create_superuser("root")
            row = Client(root, server=server.name).call("create_item", {"name": "Mine"}).structured
            assert row["owner"] == root.pk

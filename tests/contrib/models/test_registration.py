"""What is refused when the server is compiled, with its place and the remedy; and how tools are called."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
from django import forms
from django.contrib.auth.models import Group, User
from django.db import models

from django_mcp.contrib.models import ModelResources, ModelTools, register_models
from django_mcp.contrib.models.values import compared_field
from django_mcp.exceptions import RegistryError
from django_mcp.server.compile import CompiledServer, compile_all
from tests.contrib.models.shop.models import Item, Maker
from tests.contrib.models.shop.tools import ItemForm
from tests.servers import defined


class Upload(forms.ModelForm):  # type: ignore[type-arg]
    photo = forms.FileField()

    class Meta:
        model = Item
        fields: ClassVar[list[str]] = ["name", "photo"]


class Split(forms.ModelForm):  # type: ignore[type-arg]
    at = forms.SplitDateTimeField()

    class Meta:
        model = Item
        fields: ClassVar[list[str]] = ["name", "at"]


@pytest.mark.parametrize(
    ("declared", "said"),
    [
        ({}, "names no model"),
        ({"model": Item, "queryset": User.objects.all()}, "another model"),
        ({"model": Item, "fields": "__all__"}, "list the names"),
        ({"model": Item, "fields": ["nothing"]}, "no field 'nothing'"),
        ({"model": Item, "fields": ["parts"]}, "no column of its own"),
        ({"model": Maker, "fields": ["items"]}, "no column of its own"),
        ({"model": Item, "fields": ["parts__name"]}, "no column of its own"),
        ({"model": Item, "fields": ["name__lower"]}, "no relation to one object"),
        ({"model": Item, "fields": ["raw"]}, "binary"),
        ({"model": Item, "search_fields": ["hidden"]}, "'hidden' in search_fields and not in fields"),
        ({"model": Item, "fields": ["stock"], "search_fields": ["stock"]}, "is no text"),
        ({"model": Item, "filter_fields": ["hidden"]}, "'hidden' in filter_fields and not in fields"),
        ({"model": Item, "fields": ["maker"], "filter_fields": ["maker__name"]}, "not in fields"),
        ({"model": Item, "fields": ["name"], "filter_fields": {"name": ["regex"]}}, "lookup 'regex'"),
        ({"model": Item, "fields": ["stock"], "filter_fields": {"stock": ["icontains"]}}, "lookup 'icontains'"),
        ({"model": Item, "fields": ["extra"], "filter_fields": ["extra"]}, "JSONField is not compared"),
        ({"model": Item, "ordering_fields": ["hidden"]}, "'hidden' in ordering_fields and not in fields"),
        ({"model": Item, "actions": ["list", "drop"]}, "the actions drop"),
        ({"model": Item, "actions": "list"}, "the actions list"),
        ({"model": Item, "actions": ["create"]}, "without a form_class"),
        ({"model": Item, "page_size": 200}, "page_size"),
        ({"model": User, "form_class": ItemForm}, "no form of User"),
        ({"model": Item, "form_class": Upload}, "needs the file 'photo'"),
        ({"model": Item, "options": {"name": "x"}}, "name in options"),
        ({"model": Item, "options": {"no_such": 1}}, "options that no tool has"),
        ({"model": Item, "form_class": Split}, "'at' cannot be given"),
    ],
)
def test_what_cannot_be_served_is_refused_with_its_place(declared: dict[str, Any], said: str) -> None:
    wrong = type("Wrong", (Declared,), declared)
    with defined("wrong") as server:
        register_models(wrong, server=server)
        with pytest.raises(RegistryError) as caught:
            CompiledServer(server)
        assert said in str(caught.value)
        assert __name__ in str(caught.value.where) or __file__ in str(caught.value.where)
        assert [error for error in compile_all() if said in str(error)]


class Declared(ModelTools):
    """What the wrong ones stand on."""


def test_a_place_is_the_line_of_the_class() -> None:
    with defined("wrong") as server:
        register_models(Unlisted, server=server)
        with pytest.raises(RegistryError) as caught:
            CompiledServer(server)
    file, _, line = str(caught.value.where).rpartition(":")
    assert file == __file__
    with open(__file__) as source:
        assert source.readlines()[int(line) - 1].startswith("class Unlisted")


class Unlisted(ModelTools):
    model = Item
    search_fields = ("name",)


def test_a_key_of_several_columns_is_no_argument() -> None:
    key = models.CompositePrimaryKey("a", "b")
    key.set_attributes_from_name("pk")
    with pytest.raises(LookupError, match="several columns"):
        compared_field(key)


def test_more_options_of_tools_are_passed_on() -> None:
    class Groups(ModelTools):
        model = Group
        options: ClassVar[dict[str, Any]] = {"meta": {"com.example/kind": "rows"}}

    with defined("optional") as server:
        register_models(Groups, server=server)
        tools = CompiledServer(server).tools
    assert {str(tool.definition.meta) for tool in tools.values()} == {"{'com.example/kind': 'rows'}"}


def test_only_classes_of_models_are_registered() -> None:
    with defined("wrong") as server, pytest.raises(RegistryError, match="subclass ModelTools"):
        register_models(Item, server=server)  # type: ignore[arg-type]


class TestNames:
    def test_are_made_of_the_models_and_the_servers_prefix(self) -> None:
        class Groups(ModelTools):
            model = Group

        with defined("named", prefix="x_") as server:
            register_models(Groups, server=server)
            assert set(CompiledServer(server).tools) == {"x_list_groups", "x_get_group"}

    def test_are_the_projects_where_it_gives_some(self) -> None:
        class People(ModelTools):
            model = User
            singular = "person"
            plural = "people"

        class Person(ModelResources):
            model = User
            uri = "people://{pk}"

        with defined("named") as server:
            register_models(People, Person, server=server)
            made = CompiledServer(server)
            assert set(made.tools) == {"list_people", "get_person"}
            assert [template.uri for template in made.templates] == ["people://{pk}"]

    def test_of_two_classes_are_not_the_same(self) -> None:
        class Groups(ModelTools):
            model = Group

        with defined("named") as server:
            register_models(Groups, Groups, server=server)
            with pytest.raises(RegistryError, match="has already"):
                CompiledServer(server)


def test_hints_say_what_a_tool_does() -> None:
    class Items(ModelTools):
        model = Item
        form_class = ItemForm
        actions = ("list", "retrieve", "create", "update", "delete")

    with defined("hinted") as server:
        register_models(Items, server=server)
        tools = CompiledServer(server).tools
    hints = {name: (tool.definition.read_only, tool.definition.destructive) for name, tool in tools.items()}
    assert hints == {
        "list_items": (True, None),
        "get_item": (True, None),
        "create_item": (False, False),
        "update_item": (False, True),
        "delete_item": (False, True),
    }

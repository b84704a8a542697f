"""What a list and one row show, and how a list is narrowed."""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest
from django.contrib.auth.models import User
from mcp_types import Tool
from pytest_django import DjangoAssertNumQueries

from django_mcp import Server
from django_mcp.server.compile import compiled
from django_mcp.testing import Client
from tests.contrib.models.shop.models import Item, Maker
from tests.contrib.models.shop.tools import EVERY_COLUMN


@pytest.fixture
def client(shop: Server) -> Client:
    return Client(User.objects.get(username="viewer"), server=shop.name)


def names(client: Client, **arguments: Any) -> list[str]:
    result = client.call("list_items", arguments)
    assert not result.is_error, result.text
    return [row["name"] for row in result.structured["rows"]]


def refused(client: Client, **arguments: Any) -> str:
    result = client.call("list_items", arguments)
    assert result.is_error
    return result.text


class TestOneRow:
    def test_has_the_listed_columns_and_no_other(self, client: Client) -> None:
        axe = Item.objects.get(name="Axe")
        row = client.call("get_item", {"pk": axe.pk}).structured
        assert sorted(row) == sorted(EVERY_COLUMN)
        assert "never" not in str(row)
        assert row | {"maker": None} == row | {
            "id": axe.pk,
            "name": "Axe",
            "price": "9.90",
            "day": "2026-01-02",
            "at": "2026-01-02T03:04:05.000678Z",
            "clock": "01:02:00",
            "lasts": "PT1H",
            "extra": {"a": [1]},
            "maker__name": "viewer & sons",
            "photo": "",
            "maker": None,
        }
        assert row["maker"] == str(axe.maker_id)

    def test_has_null_where_a_relation_leads_nowhere(self, client: Client) -> None:
        row = client.call("get_item", {"pk": Item.objects.get(name="Drum").pk}).structured
        assert row["maker"] is None
        assert row["maker__name"] is None

    @pytest.mark.parametrize("pk", [0, -1, 10**9, 2**63 - 1])
    def test_that_is_not_there(self, client: Client, pk: int) -> None:
        result = client.call("get_item", {"pk": pk})
        assert (result.is_error, result.text) == (True, "Not found.")

    def test_outside_of_the_queryset_is_not_there_either(self, client: Client) -> None:
        result = client.call("get_item", {"pk": Item.objects.get(name="hidden").pk})
        assert (result.is_error, result.text) == (True, "Not found.")


class TestAList:
    def test_comes_in_pages(self, client: Client) -> None:
        first = client.call("list_items").structured
        assert [row["name"] for row in first["rows"]] == ["Axe", "Ball", "Car"]
        assert (first["next_page"], first["count"], first["complete"]) == (2, 4, True)
        second = client.call("list_items", {"page": 2}).structured
        assert [row["name"] for row in second["rows"]] == ["Drum"]
        assert second["next_page"] is None
        assert names(client, page=100_000) == []

    def test_of_no_more_rows_than_the_class_allows(self, client: Client) -> None:
        assert len(names(client, page_size=5)) == 4
        assert "maximum of 5" in refused(client, page_size=6)
        assert "page" in refused(client, page=0)

    def test_costs_the_same_number_of_queries_for_any_number_of_rows(
        self, client: Client, django_assert_num_queries: DjangoAssertNumQueries
    ) -> None:
        client.call("list_items")  # the permissions are kept by the user
        with django_assert_num_queries(2) as captured:
            names(client, page_size=5)
        assert "hidden" not in captured.captured_queries[0]["sql"].partition("FROM")[0]

    def test_is_searched_for_each_word(self, client: Client) -> None:
        assert names(client, search="oth") == ["Ball", "Car"]
        assert names(client, search="other CAR") == ["Car"]
        assert names(client, search=" ") == ["Axe", "Ball", "Car"]
        assert names(client, search="never") == []

    def test_is_narrowed(self, client: Client) -> None:
        other = Maker.objects.get(name="Other")
        assert names(client, kind="toy") == ["Ball", "Car"]
        assert names(client, stock__gte=2) == ["Axe", "Car"]
        assert names(client, stock__in=[0, 1]) == ["Ball", "Drum"]
        assert names(client, size=2) == ["Car"]
        assert names(client, maker=str(other.pk)) == ["Ball", "Car"]
        assert names(client, maker__isnull=True) == ["Drum"]
        assert names(client, maker__name__icontains="SONS") == ["Axe"]
        assert names(client, is_sold=True) == ["Drum"]
        assert names(client, is_sold=False, price="9.9") == ["Axe"]
        assert names(client, price=9.9) == ["Axe"]
        assert names(client, lasts="PT1H") == ["Axe"]
        assert names(client, at__lte="2026-01-02T04:04:06+01:00") == ["Axe"]
        assert names(client, day="2026-01-02", clock="01:02") == ["Axe"]

    def test_is_ordered_in_the_same_way_on_every_page(self, client: Client) -> None:
        assert names(client, ordering="-stock") == ["Axe", "Car", "Ball"]
        assert names(client, ordering="maker__name", page_size=5)[-1] in {"Axe", "Drum"}
        Item.objects.update(stock=1)
        pages = [names(client, ordering="stock", page=page, page_size=2) for page in (1, 2)]
        assert sorted([*pages[0], *pages[1]]) == ["Axe", "Ball", "Car", "Drum"]

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            ({"day": "2026-02-30"}, "day: Enter a valid date."),
            ({"at": "soon"}, "at: Enter a valid date/time."),
            ({"at": "0001-01-01T00:00:00+05:00"}, "at: The date is out of range."),
            ({"lasts": "999999999 00:00:00"}, "lasts: The duration is out of range."),
            ({"code__in": ["x"]}, "code__in: Enter a valid UUID."),
            ({"price": "1e999999"}, "price: Ensure that there are no more than"),
            ({"price": "NaN"}, "price: Enter a number."),
            ({"address": "fe80"}, "address: Enter a valid IPv4 or IPv6 address."),
            ({"name": "a\x00b"}, "name: The text has characters that cannot be stored."),
            ({"search": "\ud800"}, "cannot be stored"),
            ({"stock": 2**63}, "maximum"),
            ({"small__in": [2**15]}, "maximum"),
            ({"kind": "none"}, "not one of"),
            ({"hidden": "never"}, "'hidden' was unexpected"),
            ({"ordering": "hidden"}, "is not one of"),
            ({"name__in": ["a"] * 101}, "too long"),
            ({"maker": 5}, "not of type"),
        ],
    )
    def test_says_what_is_wrong_with_a_value(self, client: Client, arguments: dict[str, Any], said: str) -> None:
        assert said in refused(client, **arguments)


class TestSchemas:
    def test_are_valid_and_known_to_the_sdk(self, shop: Server) -> None:
        for user in User.objects.all():
            for tool in Client(user, server=shop.name).list_tools():
                assert isinstance(tool, Tool)
                jsonschema.Draft202012Validator.check_schema(tool.input_schema)
                assert tool.output_schema is not None
                jsonschema.Draft202012Validator.check_schema(tool.output_schema)

    def test_tell_what_the_model_says(self, shop: Server) -> None:
        tools = compiled(shop).tools
        asked = tools["list_items"].input_schema["properties"]
        assert asked["stock__gte"] == {
            "type": "integer",
            "minimum": 0,
            "maximum": 2**31 - 1,
            "description": "stock is at least",
        }
        assert asked["kind"]["enum"] == ["tool", "toy"]
        assert asked["page_size"]["maximum"] == 5
        told = tools["get_item"].output_schema
        assert told is not None
        assert told["properties"]["name"] == {"type": "string", "description": "As on the label."}
        assert told["properties"]["price"] == {"type": ["string", "null"]}
        assert tools["list_items"].definition.doc == "List items, a page at a time. Things in the shop."

    def test_a_result_fits_its_own(self, client: Client, shop: Server) -> None:
        told = compiled(shop).tools["list_items"].output_schema
        assert told is not None
        checker = jsonschema.Draft202012Validator(told, format_checker=jsonschema.FormatChecker())
        checker.validate(client.call("list_items", {"page_size": 5}).structured)

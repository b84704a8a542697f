"""Rows as resources: read by key, suggested by what was typed."""

from __future__ import annotations

import json

import pytest
from django.contrib.auth.models import User

from django_mcp import Server
from django_mcp.testing import Client, MCPClientError
from tests.contrib.models.shop.models import Item, Maker


@pytest.fixture
def client(shop: Server) -> Client:
    return Client(User.objects.get(username="viewer"), server=shop.name)


def suggested(client: Client, typed: str) -> list[str]:
    return client.complete("pk", typed, resource="app://item/{pk}").values


def test_a_row_is_its_listed_fields(client: Client) -> None:
    axe = Item.objects.get(name="Axe")
    found = client.read(f"app://item/{axe.pk}")
    assert found.mime_type == "application/json"
    assert json.loads(found.text) == {"id": axe.pk, "name": "Axe", "maker__name": "viewer & sons"}


@pytest.mark.parametrize("key", ["0", "x", "-1", "99999999999999999999999", "%00", "1.5", "%ED%A0%80", "%20"])
def test_a_key_without_a_row_is_not_found(client: Client, key: str) -> None:
    with pytest.raises(MCPClientError, match="Resource not found"):
        client.read(f"app://item/{key}")


def test_a_row_outside_of_the_queryset_is_not_found(client: Client) -> None:
    with pytest.raises(MCPClientError, match="Resource not found"):
        client.read(f"app://item/{Item.objects.get(name='hidden').pk}")


def test_keys_are_suggested_by_their_beginning_and_by_search(client: Client) -> None:
    keys = dict(Item.objects.values_list("name", "pk"))
    assert suggested(client, "") == [str(keys[name]) for name in ("Axe", "Ball", "Car", "Drum")]
    assert suggested(client, "ru") == [str(keys["Drum"])]
    assert suggested(client, "hidden") == []
    assert str(keys["Car"]) in suggested(client, str(keys["Car"])[0])
    assert suggested(client, "never") == []


@pytest.mark.parametrize("typed", ["\x00", "\ud800", "x" * 2_000, "%_\\", "9" * 500])
def test_nothing_is_suggested_for_what_no_row_has(client: Client, typed: str) -> None:
    assert suggested(client, typed) == []


def test_a_hundred_are_suggested_at_most(client: Client) -> None:
    Item.objects.bulk_create(Item(name=f"x{n}") for n in range(150))
    assert len(suggested(client, "x")) == 100


def test_a_key_that_is_a_uuid_is_suggested_by_its_beginning(shop: Server) -> None:
    client = Client(User.objects.create_superuser("root"), server=shop.name)
    pk = str(Maker.objects.get(name="Other").pk)
    assert client.complete("pk", pk[:8], resource="app://maker/{pk}").values == [pk]

"""The shop on PostgreSQL and MariaDB: the same values, the same refusals, and updates at the same time."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.http import HttpRequest

from django_mcp import Server
from django_mcp.testing import Client
from tests.contrib.models.shop.models import Item
from tests.contrib.models.shop.tools import ItemTools
from tests.contrib.models.test_writing import FULL
from tests.databases import together


@pytest.mark.services
@pytest.mark.parametrize("key", ["\x00", "\ud800", "9" * 30, "-1", "x", "1", "%"])
def test_resources_and_suggestions_on_a_real_database(real_shop: Server, key: str) -> None:
    client = Client(User(pk=1, username="root", is_superuser=True), server=real_shop.name)
    for model in ("item", "maker"):
        assert isinstance(client.complete("pk", key, resource=f"app://{model}/{{pk}}").values, list)
    assert client.complete("pk", str(uuid.UUID(int=7))[:6], resource="app://maker/{pk}").values


@pytest.mark.services
def test_a_real_database_writes_and_reads_the_same(real_shop: Server) -> None:
    client = Client(User(pk=1, username="root", is_superuser=True), server=real_shop.name)
    made = client.call("create_item", {**FULL, "maker": str(uuid.UUID(int=7))})
    assert not made.is_error, made.text
    expected = {**FULL, "price": "1.50"}
    assert {name: made.structured[name] for name in expected} == expected
    found = client.call("list_items", {"search": "NEW", "lasts": "PT1H", "at": FULL["at"], "code": FULL["code"]})
    assert [row["id"] for row in found.structured["rows"]] == [made.structured["id"]]
    changed = client.call("update_item", {"pk": made.structured["id"], "stock": 6})
    assert changed.structured == {**made.structured, "stock": 6}
    assert client.call("delete_item", {"pk": made.structured["id"]}).structured == {"deleted": True}


@pytest.mark.services
def test_updates_at_the_same_time_are_all_kept(real_shop: Server) -> None:
    pk = Item.objects.get().pk
    changes: list[dict[str, Any]] = [{name: FULL[name]} for name in ("slug", "text", "stock", "small", "day", "clock")]
    request = HttpRequest()
    request.user = User(pk=1, username="root", is_superuser=True)
    exposed = ItemTools()
    for _ in range(5):
        Item.objects.filter(pk=pk).update(slug="", text="", stock=0, small=0, day=None, clock=None)
        for answer in together(6, lambda number: exposed.run(request, "update", {"pk": pk, **changes[number]})):
            assert isinstance(answer, dict), answer
        row = exposed.run(request, "retrieve", {"pk": pk})
        for change in changes:
            assert row == {**row, **{name: row[name] if name in {"day", "clock"} else change[name] for name in change}}
            assert all(row[name] for name in change)

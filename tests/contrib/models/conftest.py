"""The shop with its callers, and a server that has it as tools and resources."""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import override_settings

from django_mcp import Server
from django_mcp.contrib.models import register_models
from tests.contrib.models import real
from tests.contrib.models.shop import tools
from tests.contrib.models.shop.models import Item, Maker
from tests.servers import defined

BACKENDS = ["django.contrib.auth.backends.ModelBackend", f"{tools.__name__}.ObjectBackend"]


@pytest.fixture
def shop(db: None) -> Iterator[Server]:
    fill()
    with override_settings(AUTHENTICATION_BACKENDS=BACKENDS, DJANGO_MCP={"ACCESS": "public"}), defined("shop") as made:
        register_models(tools.ItemTools, tools.ItemResources, tools.MakerTools, tools.MakerResources, server=made)
        yield made


@pytest.fixture
def real_shop(concurrent_database: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(real.ToTheRealOne, "alias", concurrent_database)
    routers = [f"{real.__name__}.{real.ToTheRealOne.__name__}"]
    options: dict[str, Any] = {"DATABASE_ROUTERS": routers, "DJANGO_MCP": {"ACCESS": "public"}}
    with override_settings(**options), defined("real") as server:
        register_models(tools.ItemTools, tools.ItemResources, tools.MakerTools, tools.MakerResources, server=server)
        maker = Maker.objects.create(key=uuid.UUID(int=7), name="Maker")
        Item.objects.create(name="Axe", maker=maker, extra={"a": 1}, weight=0.5)
        yield server


def fill() -> None:
    """Add four items that everyone with a permission sees, and one that nobody does."""
    allowed = {"viewer": ["view"], "clerk": ["view", "add", "change", "delete"], "adder": ["add"], "nobody": []}
    for username, verbs in allowed.items():
        user = User.objects.create_user(username, email=f"{username}@example.com")
        names = [f"{verb}_item" for verb in verbs]
        user.user_permissions.add(*Permission.objects.filter(content_type__app_label="shop", codename__in=names))
    acme = Maker.objects.create(name="viewer & sons")
    other = Maker.objects.create(name="Other", secret="never")
    common: dict[str, Any] = {"hidden": "never", "raw": b"never"}
    Item.objects.create(
        name="Axe",
        maker=acme,
        price=Decimal("9.90"),
        stock=3,
        day=datetime.date(2026, 1, 2),
        at=datetime.datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=datetime.UTC),
        clock=datetime.time(1, 2),
        lasts=datetime.timedelta(hours=1),
        extra={"a": [1]},
        **common,
    )
    Item.objects.create(name="Ball", maker=other, kind=Item.Kind.TOY, stock=1, **common)
    Item.objects.create(name="Car", maker=other, kind=Item.Kind.TOY, stock=2, size=Item.Size.LARGE, **common)
    Item.objects.create(name="Drum", stock=0, is_sold=True, **common)
    Item.objects.create(name="hidden", **common)

"""Calls that a program makes from the schemas alone: whatever fits is answered, never by a failure of the server."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any, Final

import jsonschema
import pytest
from django.contrib.auth.models import User
from django.db import transaction
from django.utils.duration import duration_iso_string
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from django_mcp import Server
from django_mcp.server.compile import compiled
from django_mcp.testing import Client
from tests.contrib.models.real import ToTheRealOne
from tests.contrib.models.shop.models import Item, Maker
from tests.contrib.rest_framework.drawn import fitting

FAILED: Final = "failed."
EXTREME: Final[Mapping[str, list[Any]]] = {
    "string": [
        "12:00",
        "23:59:59.999999",
        "12:00+02:00",
        "",
        "\x00",
        "a\x00b",
        "\ud800",
        "\udfff!",
        "%",
        "_",
        "\\",
        "'",
        "😀",
        " ",
        "a" * 1_000,
    ],
    "integer": [0, -1, 2**15, 2**31 - 1, 2**31, 2**32, 2**53, 2**63 - 1, -(2**63), 1.0],
    "number": [0, -0.0, 1e308, -1e308, 5e-324, 10**400, 1e16, 0.1],
    "decimal": ["NaN", "Infinity", "-0", "1e5", "1E+999999", "0.001", "123456789", "١", 1e300, 5e-324],
    "date": ["0001-01-01", "9999-12-31", "2026-02-30", "0000-00-00", "2026-1-2"],
    "date-time": [
        "0001-01-01T00:00:00Z",
        "9999-12-31T23:59:59-14:00",
        "0001-01-01T00:00:00+14:00",
        "2026-02-30T00:00Z",
    ],
    "duration": ["P999999999D", "-P999999999D", "P106751991DT4H", "1:02", "PT0.000001S"],
    "uuid": ["x", "0" * 32, "{12345678-1234-1234-1234-123456789abc}", "urn:uuid:" + "0" * 32],
}
FORMATS: Final[Mapping[str, st.SearchStrategy[Any]]] = {
    "uuid": st.uuids().map(str),
    "duration": st.timedeltas().map(duration_iso_string),
}


def given_for(schema: Mapping[str, Any]) -> st.SearchStrategy[Any]:
    """Return a strategy for values of one property: those that its schema suggests, and those that are extreme."""
    kinds = schema.get("type", "string" if "enum" not in schema else "enum")
    kind = kinds[0] if isinstance(kinds, list) else kinds
    if kind == "array":
        return st.lists(given_for(schema["items"]), max_size=3)
    extreme = st.sampled_from(EXTREME.get(schema.get("format", kind)) or EXTREME.get(kind) or [None])
    return st.one_of(FORMATS.get(schema.get("format", ""), fitting(schema)), fitting(schema), extreme)


@st.composite
def calls(draw: st.DrawFn, server: Server, keys: list[Any]) -> tuple[str, dict[str, Any]]:
    """Draw the name of a tool and arguments for it, of which most fit."""
    served = compiled(server).tools
    name = draw(st.sampled_from(sorted(served)))
    schema = served[name].input_schema
    known = schema["properties"]
    optional = sorted(set(known) - set(schema["required"]))
    chosen = draw(st.lists(st.sampled_from(optional), max_size=4, unique=True)) if optional else []
    arguments = {argument: draw(given_for(known[argument])) for argument in [*schema["required"], *chosen]}
    if "pk" in arguments and draw(st.booleans()):
        arguments["pk"] = draw(st.sampled_from(keys))
    return name, arguments


def check(server: Server, user: User, name: str, arguments: dict[str, Any], using: str) -> None:
    with transaction.atomic(using=using):
        try:
            result = Client(user, server=server.name).call(name, arguments)
        finally:
            transaction.set_rollback(True, using=using)
    if result.is_error:
        assert not result.text.endswith(FAILED), (name, arguments, result.text)
    else:
        told = compiled(server).tools[name].output_schema
        assert told is not None
        jsonschema.validate(result.structured, told)


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_call_never_fails_the_server(shop: Server, data: Any) -> None:
    user = User.objects.get(username="clerk")
    keys = [*Item.objects.values_list("pk", flat=True), *map(str, Maker.objects.values_list("pk", flat=True))]
    name, arguments = data.draw(calls(shop, keys))
    check(shop, user, name, arguments, "default")


@pytest.mark.services
@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_call_never_fails_the_server_on_a_real_database(real_shop: Server, data: Any) -> None:
    root = User(pk=1, username="root", is_superuser=True)
    keys = [*Item.objects.values_list("pk", flat=True), str(uuid.UUID(int=7))]
    name, arguments = data.draw(calls(real_shop, keys))
    check(real_shop, root, name, arguments, ToTheRealOne.alias)

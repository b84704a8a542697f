"""JSON Schemas: their dialects, their validity, and references (basic, server/tools)."""

import importlib
import socket
from typing import Any

import jsonschema
import pytest

from django_mcp import Server
from django_mcp.exceptions import RegistryError
from django_mcp.registry.definition import ToolDefinition
from django_mcp.registry.server import DEFAULT, servers
from django_mcp.server.compile import compiled
from django_mcp.server.tool import CompiledTool
from tests.servers import defined
from tests.spec.modern.wire import call, post, request

DRAFT_7 = "http://json-schema.org/draft-07/schema#"
DRAFT_2020 = "https://json-schema.org/draft/2020-12/schema"
PAIR: dict[str, Any] = {"type": "object", "properties": {"pair": {"prefixItems": [{"type": "integer"}]}}}
OLD_PAIR: dict[str, Any] = {"type": "object", "properties": {"pair": {"items": [{"type": "integer"}]}}}


async def accepts(server: Server, schema: dict[str, Any], arguments: dict[str, Any]) -> bool:
    """Tell whether a tool with this input schema takes the arguments."""

    @server.tool(input_schema=schema)
    async def take(**given: Any) -> str:
        return "taken"

    try:
        return not (await post(call("take", arguments))).result["isError"]
    finally:
        server.remove(take)


def refused(**schemas: Any) -> str:
    """Return why a tool with these schemas is not served."""
    with defined("refused") as server:

        @server.tool(**schemas)
        def take(**given: Any) -> dict[str, Any]:
            return given

        with pytest.raises(RegistryError) as caught:
            compiled(server)
        assert caught.value.where.startswith(__file__)
        return str(caught.value)


async def test_a_schema_without_a_dialect_is_read_as_2020_12(server: Server) -> None:
    for schema in (PAIR, {**PAIR, "$schema": DRAFT_2020}):
        assert await accepts(server, schema, {"pair": [1]})
        assert not await accepts(server, schema, {"pair": ["1"]})
    dependent = {"type": "object", "dependentRequired": {"card": ["address"]}}
    assert await accepts(server, dependent, {"card": 1, "address": "here"})
    assert not await accepts(server, dependent, {"card": 1})


async def test_a_schema_is_validated_by_the_dialect_that_it_declares(server: Server) -> None:
    for schema in ({**OLD_PAIR, "$schema": DRAFT_7}, {**OLD_PAIR, "$schema": DRAFT_7.rstrip("#")}):
        assert await accepts(server, schema, {"pair": [1, "x"]})
        assert not await accepts(server, schema, {"pair": ["x"]})
    # To draft-07 `prefixItems` is no word at all; to 2020-12 an array of `items` is a mistake.
    assert await accepts(server, {**PAIR, "$schema": DRAFT_7}, {"pair": ["x"]})
    assert "unusable input_schema" in refused(input_schema=OLD_PAIR)


@pytest.mark.parametrize("dialect", ["https://example.com/my-dialect", "http://json-schema.org/draft-03/schema#", 7])
@pytest.mark.parametrize("which", ["input_schema", "output_schema"])
def test_an_unsupported_dialect_is_refused_by_name(which: str, dialect: Any) -> None:
    message = refused(**{which: {"$schema": dialect, "type": "object"}})
    assert f"unusable {which} (the dialect {dialect!r} is not supported; there are {DRAFT_2020}, " in message


@pytest.mark.parametrize("which", ["input_schema", "output_schema"])
def test_a_schema_that_is_none_is_refused(which: str) -> None:
    message = refused(**{which: {"type": "object", "properties": {"a": {"type": "whole"}}}})
    assert "'whole' is not valid under any of the given schemas" in message
    old = {"$schema": DRAFT_7, "type": "object", "required": "a"}
    assert "'a' is not of type 'array'" in refused(**{which: old})


@pytest.mark.parametrize("name", ["tests.everything.mcp_tools", "demo_project.desk.mcp_tools"])
def test_every_schema_that_is_served_is_valid_in_its_dialect(name: str) -> None:
    before = list(servers[DEFAULT].definitions)
    found = vars(importlib.import_module(name)).values()
    for definition in [one for one in servers[DEFAULT].definitions if one not in before]:
        servers[DEFAULT].remove(definition)
    tools = [CompiledTool(one, one.name) for one in found if isinstance(one, ToolDefinition)]
    assert tools
    for tool in tools:
        for schema in filter(None, (tool.input_schema, tool.output_schema)):
            assert "$schema" not in schema or schema["$schema"] == DRAFT_2020
            jsonschema.Draft202012Validator.check_schema(schema)


@pytest.mark.parametrize("keyword", ["$ref", "$dynamicRef"])
@pytest.mark.parametrize("which", ["input_schema", "output_schema"])
def test_a_reference_to_the_network_is_refused(which: str, keyword: str) -> None:
    for place in ("https://example.com/address.json", "http://example.com/a#/b", "file:///etc/passwd"):
        schema = {"type": "object", "properties": {"a": {"anyOf": [{keyword: place}]}}}
        assert f"it refers to {place!r}, which is not part of it and is never fetched" in refused(**{which: schema})


async def test_a_reference_is_never_fetched(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    connected: list[Any] = []
    monkeypatch.setattr(socket.socket, "connect", lambda self, address: connected.append(address))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *arguments, **options: connected.append(arguments))
    relative = {
        "$id": "http://127.0.0.1:9/base.json",
        "type": "object",
        "properties": {"a": {"$ref": "other.json"}, "b": {"$ref": "#/$defs/b"}},
        "$defs": {"b": {"type": "integer"}},
    }
    assert await accepts(server, relative, {"b": 1})
    assert not await accepts(server, relative, {"b": "1"})
    assert not await accepts(server, relative, {"a": 1})
    assert connected == []


async def test_references_into_the_schema_and_to_a_dialect_are_followed(server: Server) -> None:
    own = {
        "type": "object",
        "properties": {"a": {"$ref": "https://example.com/own"}, "schema": {"$ref": DRAFT_2020}},
        "$defs": {"own": {"$id": "https://example.com/own", "type": "integer"}},
    }
    assert await accepts(server, own, {"a": 1, "schema": {"type": "object"}})
    assert not await accepts(server, own, {"a": "1"})
    assert not await accepts(server, own, {"schema": {"type": 7}})


async def test_an_input_schema_is_always_an_object(server: Server) -> None:
    @server.tool
    async def bare() -> None:
        pass

    @server.tool(input_schema={"type": "object"})
    async def open_to_all(**given: Any) -> None:
        pass

    tools = (await post(request("tools/list"))).result["tools"]
    assert [tool["inputSchema"]["type"] for tool in tools] == ["object", "object"]
    for schema in ({}, {"type": "string"}, {"type": ["object", "null"]}):
        assert 'has an input_schema without "type": "object"' in refused(input_schema=schema)

"""MCP 2025-11-25, server/tools, and the use of JSON Schema that basic/index describes."""

import asyncio
import threading
from typing import Annotated, Any

import jsonschema
import pytest
from jsonschema.validators import validator_for
from mcp_types import CallToolResult, TextContent
from pydantic import BaseModel, Field

from django_mcp import Context, Image, Server, ToolError
from django_mcp.exceptions import RegistryError
from django_mcp.registry.server import DEFAULT, servers
from django_mcp.server.compile import compiled
from django_mcp.server.threads import HandlerThreads
from tests.spec.handshake.peer import BOUND_SECONDS, Peer

pytestmark = pytest.mark.django_db(transaction=True)

DRAFT_7 = "http://json-schema.org/draft-07/schema#"
DRAFT_2020 = "https://json-schema.org/draft/2020-12/schema"
POSITIONS_2020 = {"pair": {"type": "array", "prefixItems": [{"type": "integer"}, {"type": "string"}]}}
POSITIONS_7 = {"pair": {"type": "array", "items": [{"type": "integer"}, {"type": "string"}]}}


def add_pair(server: Server, **schema: Any) -> None:
    @server.tool(input_schema={"type": "object", **schema})
    def take(**arguments: Any) -> str:
        return str(arguments["pair"])


class Total(BaseModel):
    count: Annotated[int, Field(ge=0)]
    note: str | None = None


# Schemas


@pytest.mark.parametrize("dialect", [{}, {"$schema": DRAFT_2020}], ids=["none", "2020-12"])
async def test_a_schema_without_a_dialect_is_read_as_2020_12(server: Server, dialect: dict[str, str]) -> None:
    add_pair(server, **dialect, properties=POSITIONS_2020)
    peer = await Peer().begin()
    assert (await peer.call("take", pair=[1, "a"])).text == "[1, 'a']"
    refused = await peer.call("take", pair=["a", "b"])
    assert refused.result["isError"] is True
    assert refused.text == "Invalid arguments: $.pair[0]: 'a' is not of type 'integer'"


async def test_a_schema_is_validated_by_the_dialect_it_declares(server: Server) -> None:
    add_pair(server, **{"$schema": DRAFT_7}, properties=POSITIONS_7)
    peer = await Peer().begin()
    listed = (await peer.ask("tools/list")).result["tools"][0]
    assert listed["inputSchema"] == {"type": "object", "$schema": DRAFT_7, "properties": POSITIONS_7}
    assert (await peer.call("take", pair=[1, "a"])).text == "[1, 'a']"
    refused = await peer.call("take", pair=["a", "b"])
    assert refused.text == "Invalid arguments: $.pair[0]: 'a' is not of type 'integer'"


@pytest.mark.parametrize("dialect", ["https://example.com/my-dialect", "", 7, None])
@pytest.mark.parametrize("argument", ["input_schema", "output_schema"])
def test_an_unsupported_dialect_is_refused_at_load_by_name(server: Server, argument: str, dialect: Any) -> None:
    given: dict[str, Any] = {argument: {"type": "object", "$schema": dialect}}
    server.tool(name="take", **given)(lambda: "")
    with pytest.raises(RegistryError) as caught:
        compiled(server)
    message = str(caught.value)
    assert f"tool 'take' has an unusable {argument} (the dialect {dialect!r} is not supported" in message
    assert "test_tools.py:" in message


@pytest.mark.parametrize("argument", ["input_schema", "output_schema"])
def test_a_schema_that_is_not_valid_in_its_dialect_is_refused_at_load(server: Server, argument: str) -> None:
    given: dict[str, Any] = {argument: {"type": "object", "properties": POSITIONS_7}}
    server.tool(name="take", **given)(lambda: "")
    with pytest.raises(RegistryError, match=f"tool 'take' has an unusable {argument}"):
        compiled(server)


def add_many(server: Server) -> None:
    @server.tool
    def plain() -> str:
        return ""

    @server.tool
    def typed(total: Total, words: list[str], when: dict[str, float] | None = None) -> list[Total]:
        return []

    @server.tool
    def shown() -> Image:
        return Image(data=b"x")

    add_pair(server, **{"$schema": DRAFT_7}, properties=POSITIONS_7)


async def test_every_schema_served_is_valid_in_its_dialect(server: Server) -> None:
    add_many(server)
    listed = (await (await Peer().begin()).ask("tools/list")).result["tools"]
    of_the_demo = [tool.wire.model_dump(by_alias=True) for tool in compiled(servers[DEFAULT]).tools.values()]
    assert len(listed) == 4
    assert len(of_the_demo) >= 5
    schemas = [tool.get(name) for tool in [*listed, *of_the_demo] for name in ("inputSchema", "outputSchema")]
    for schema in filter(None, schemas):
        validator_for(schema, default=jsonschema.Draft202012Validator).check_schema(schema)


async def test_every_input_schema_is_one_of_an_object(server: Server) -> None:
    add_many(server)
    for tool in (await (await Peer().begin()).ask("tools/list")).result["tools"]:
        assert tool["inputSchema"]["type"] == "object", tool
    plain = (await (await Peer().begin()).ask("tools/list")).result["tools"][0]["inputSchema"]
    assert plain["properties"] == {}


@pytest.mark.parametrize("schema", [{}, {"type": "string"}, {"type": ["object", "null"]}, {"properties": {}}])
def test_an_input_schema_of_something_else_is_refused_at_load(server: Server, schema: dict[str, Any]) -> None:
    server.tool(name="take", input_schema=schema)(lambda: "")
    with pytest.raises(RegistryError, match='has an input_schema without "type": "object"'):
        compiled(server)


# Results


MISFITS: dict[str, Any] = {
    "a negative count": {"count": -1},
    "no count": {"note": "x"},
    "a text": "x",
    "nothing": None,
    "a result by hand": CallToolResult(content=[], structured_content={"count": "secret"}),
    "a result by hand without structure": CallToolResult(content=[TextContent(type="text", text="secret")]),
}


@pytest.mark.parametrize("value", MISFITS.values(), ids=MISFITS)
@pytest.mark.parametrize("by", ["annotation", "schema"])
async def test_a_result_that_breaks_the_output_schema_is_an_error(
    server: Server, value: Any, by: str, caplog: pytest.LogCaptureFixture
) -> None:
    def total() -> Any:
        return value

    if by == "annotation":
        total.__annotations__["return"] = Annotated[CallToolResult, Total] if _by_hand(value) else Total
        server.tool(total)
    else:
        server.tool(output_schema=Total.model_json_schema())(total)
    answer = await (await Peer().begin()).call("total")
    assert answer.result["isError"] is True
    assert answer.text == "The tool 'total' failed."
    assert "structuredContent" not in answer.result
    assert "secret" not in answer.body.decode()
    assert "tool 'total' raised" in caplog.text


def _by_hand(value: Any) -> bool:
    return isinstance(value, CallToolResult)


async def test_structured_results_fit_the_schema_that_is_listed(server: Server) -> None:
    @server.tool
    def one() -> Total:
        return Total(count=1)

    @server.tool
    def several() -> list[Total]:
        return [Total(count=1), Total(count=2, note="x")]

    @server.tool(output_schema=Total.model_json_schema())
    def by_schema() -> dict[str, Any]:
        return {"count": 3}

    peer = await Peer().begin()
    schemas = {tool["name"]: tool["outputSchema"] for tool in (await peer.ask("tools/list")).result["tools"]}
    assert schemas.keys() == {"one", "several", "by_schema"}
    for name, schema in schemas.items():
        result = (await peer.call(name)).result
        assert result["isError"] is False
        jsonschema.validate(result["structuredContent"], schema)


# Calls


async def test_a_call_is_validated_guarded_limited_and_its_failures_say_nothing(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    started, let_go = threading.Event(), threading.Event()
    runs: list[str] = []

    @server.tool
    def wait(seconds: Annotated[int, Field(ge=0)]) -> str:
        runs.append("wait")
        started.set()
        assert let_go.wait(BOUND_SECONDS)
        return "waited"

    @server.tool(permission="auth.delete_user")
    def hidden() -> str:
        runs.append("hidden")
        return "secret"

    @server.tool
    def crash() -> str:
        raise RuntimeError("the password is hunter2")

    @server.tool
    async def refuse(ctx: Context) -> str:
        raise ToolError("Not on Sundays")

    peer = await Peer().begin()
    for arguments in ({}, {"seconds": -1}, {"seconds": "many"}, {"seconds": None}):
        refused = await peer.call("wait", **arguments)
        assert refused.result["isError"] is True
        assert refused.text.startswith("Invalid arguments: seconds: ")
    assert [tool["name"] for tool in (await peer.ask("tools/list")).result["tools"]] == ["wait", "crash", "refuse"]
    assert (await peer.call("hidden")).error == {"code": -32602, "message": "Unknown tool: hidden"}
    assert (await peer.call("crash")).text == "The tool 'crash' failed."
    assert (await peer.call("refuse")).text == "Not on Sundays"
    assert runs == []

    pool = HandlerThreads(size=1, queue=1)
    monkeypatch.setattr("django_mcp.consumers.process_threads", lambda: pool)
    running = asyncio.create_task(peer.call("wait", seconds=1))
    try:
        assert await asyncio.to_thread(started.wait, BOUND_SECONDS)
        more = [asyncio.create_task(peer.call("wait", seconds=1)) for _ in range(2)]
        (limited,), (queued,) = await asyncio.wait(more, return_when=asyncio.FIRST_COMPLETED)
    finally:
        let_go.set()
    assert (limited.result().status, limited.result().headers["retry-after"]) == (503, "1")
    assert [(await running).text, (await queued).text] == ["waited", "waited"]
    assert runs == ["wait", "wait"]

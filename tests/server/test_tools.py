"""Tools: how they are registered, listed, called, and how they fail."""

import dataclasses
import datetime
import decimal
import enum
import logging
import uuid
from collections.abc import Iterator
from typing import Annotated, Any, Literal

import pytest
from django.core.exceptions import PermissionDenied, ValidationError
from django.utils.translation import gettext_lazy as _
from pydantic import BaseModel, Field
from typing_extensions import TypedDict

from django_mcp import Context, ParamHeader, Server, ToolError
from django_mcp.exceptions import RegistryError
from django_mcp.registry.definition import ToolDefinition
from django_mcp.registry.server import servers
from django_mcp.server.compile import compile_all, compiled
from django_mcp.testing import Client, MCPClientError
from tests.servers import defined

ICON = {"src": "https://example.com/icon.png", "mimeType": "image/png", "sizes": ["48x48"]}


@dataclasses.dataclass(slots=True)
class Point:
    x: int
    y: int = 0


class Place(TypedDict):
    name: str
    open: bool


class Person(BaseModel):
    name: str = Field(description="As in the passport", min_length=2)
    born: datetime.date | None = None


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


def call(name: str, arguments: dict[str, Any] | None = None, **options: Any) -> Any:
    return Client(server="tested", **options).call(name, arguments)


def only_tool(**options: Any) -> Any:
    (tool,) = Client(server="tested", **options).list_tools()
    return tool


# Registration


def test_a_bare_decorator_takes_all_from_the_function(server: Server) -> None:
    @server.tool
    def add(a: int, b: int = 1) -> int:
        """Add two numbers.

        The second is one by default.
        """
        return a + b

    tool = only_tool()
    assert (tool.name, tool.title) == ("add", None)
    assert tool.description == "Add two numbers.\n\nThe second is one by default."
    assert tool.input_schema["required"] == ["a"]
    assert tool.input_schema["properties"]["b"]["default"] == 1
    assert call("add", {"a": 2}).structured == {"result": 3}
    assert isinstance(add, ToolDefinition)
    assert add(2, b=3) == 5


def test_a_called_decorator_overrides(server: Server) -> None:
    @server.tool(
        name="plus",
        title="Plus",
        description="Adds.",
        icons=[ICON],
        read_only=True,
        destructive=False,
        idempotent=True,
        open_world=False,
        meta={"example.com/kind": "sum"},
    )
    async def add(a: int, b: int) -> int:
        """Not shown."""
        return a + b

    tool = only_tool()
    assert (tool.name, tool.title, tool.description) == ("plus", "Plus", "Adds.")
    assert tool.icons[0].model_dump(mode="json", by_alias=True, exclude_none=True) == ICON
    assert tool.annotations.model_dump(by_alias=True, exclude_none=True) == {
        "readOnlyHint": True,
        "destructiveHint": False,
        "idempotentHint": True,
        "openWorldHint": False,
    }
    assert tool.meta == {"example.com/kind": "sum"}
    assert call("plus", {"a": 1, "b": 2}).text == "3"


def test_hints_that_were_not_given_are_not_claimed(server: Server) -> None:
    server.tool(name="plain")(lambda: "")
    assert only_tool().annotations is None
    server.tool(name="safe", read_only=True)(lambda: "")
    annotations = Client(server="tested").list_tools()[1].annotations
    assert annotations is not None
    assert annotations.model_dump(exclude_none=True) == {"read_only_hint": True}


def test_a_method_of_an_object_and_a_callable_object_are_served(server: Server) -> None:
    class Counter:
        def __init__(self) -> None:
            self.count = 0

        def step(self, by: int) -> int:
            """Step."""
            self.count += by
            return self.count

        async def __call__(self) -> int:
            return self.count

    counter = Counter()
    server.tool(counter.step)
    server.tool(name="count")(counter)
    assert call("step", {"by": 2}).text == "2"
    assert call("count").text == "2"


@pytest.mark.parametrize("language", ["de", "fr"])
def test_lazy_texts_are_in_the_language_of_the_request(server: Server, language: str) -> None:
    @server.tool(title=_("Yes"), description=_("No"))
    def answer() -> str:
        return str(_("Yes"))

    expected = {"de": ("Ja", "Nein"), "fr": ("Oui", "Non")}[language]
    headers = {"Accept-Language": language}
    tool = only_tool(headers=headers)
    assert (tool.title, tool.description) == expected
    assert call("answer", headers=headers).text == expected[0]
    assert (only_tool().title, call("answer").text) == ("Yes", "Yes")


def test_an_async_tool_speaks_the_language_of_the_request(server: Server) -> None:
    @server.tool
    async def answer() -> str:
        return str(_("Yes"))

    assert call("answer", headers={"Accept-Language": "de"}).text == "Ja"
    assert call("answer").text == "Yes"


def test_a_prefix_of_the_server_comes_before_tools_and_prompts(settings: Any) -> None:
    with defined("tested", prefix="ops_") as server:
        server.tool(name="stop")(lambda: "stopped")
        server.prompt(name="ask")(lambda: "Ask")
        client = Client(server="tested")
        assert [tool.name for tool in client.list_tools()] == ["ops_stop"]
        assert [prompt.name for prompt in client.list_prompts()] == ["ops_ask"]
        assert client.call("ops_stop").text == "stopped"


def test_a_prefix_of_the_app_comes_before_its_tools(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    from django.apps import apps

    def count() -> int:
        return 0

    count.__module__ = "demo_project.desk.mcp_tools"
    monkeypatch.setattr(apps.get_app_config("desk"), "mcp_prefix", "desk_", raising=False)
    server.tool(count)
    assert only_tool().name == "desk_count"


def test_two_tools_of_one_name_are_an_error_that_names_both_places(server: Server) -> None:
    @server.tool(name="same")
    def first() -> str:
        return ""

    @server.tool(name="same")
    def second() -> str:
        return ""

    with pytest.raises(RegistryError) as caught:
        Client(server="tested").list_tools()
    assert first.where in str(caught.value)
    assert caught.value.where == second.where
    assert "test_tools.py:" in first.where != second.where
    assert caught.value.remedy == "rename one, or give its app a prefix."


def test_two_servers_of_one_name_are_an_error(server: Server) -> None:
    with pytest.raises(RegistryError, match="two MCP servers are named 'tested'"):
        Server("tested")


def test_servers_do_not_see_each_other(server: Server) -> None:
    server.tool(name="shared")(lambda: "here")
    with defined("other", version="7", title="The other", instructions="Ask.") as other:
        other.tool(name="shared")(lambda: "there")
        assert call("shared").text == "here"
        there = Client(server="other")
        assert there.call("shared").text == "there"
        discovered = there.request("server/discover").raw
    assert discovered["instructions"] == "Ask."
    info = discovered["_meta"]["io.modelcontextprotocol/serverInfo"]
    assert (info["name"], info["version"], info["title"]) == ("other", "7", "The other")


def test_a_definition_can_be_taken_out_again(server: Server) -> None:
    kept = server.tool(name="kept")(lambda: "")
    gone = server.tool(name="gone")(lambda: "")
    assert len(Client(server="tested").list_tools()) == 2
    server.remove(gone)
    assert [tool.name for tool in Client(server="tested").list_tools()] == [kept.name]
    server.tool(name="new")(lambda: "")
    assert [tool.name for tool in Client(server="tested").list_tools()] == ["kept", "new"]


@pytest.mark.parametrize("name", ["with space", "", "x" * 129, "ä"])
def test_a_name_that_clients_refuse_does_not_load(server: Server, name: str) -> None:
    server.tool(name=name)(lambda: "")
    with pytest.raises(RegistryError, match="which clients refuse"):
        compiled(server)


def test_what_cannot_be_a_tool_is_refused_at_once(server: Server) -> None:
    with pytest.raises(RegistryError, match="is not a function; decorate a function, and give its name by name="):
        server.tool(Point)
    with pytest.raises(RegistryError, match="is not a function"):
        server.tool(name="text")("text")  # type: ignore[arg-type]


def test_a_signature_that_gives_no_schema_is_told_with_its_place(server: Server) -> None:
    class Opaque:
        pass

    @server.tool
    def odd(value: Opaque) -> str:
        return ""

    with pytest.raises(RegistryError) as caught:
        compiled(server)
    assert caught.value.where == odd.where
    assert str(caught.value).startswith(f"{odd.where}: tool 'odd' has a signature that gives no schema")
    assert "dataclasses, pydantic models, enums" in caught.value.remedy


def test_positional_parameters_and_unknown_names_are_told(server: Server) -> None:
    @server.tool
    def positional(value: int, /) -> str:
        return ""

    @server.tool
    def unknown(value: "Nowhere") -> str:  # type: ignore[name-defined] # noqa: F821
        return ""

    found = {str(error) for error in compile_all()}
    assert any("has the positional parameter 'value'" in error and positional.where in error for error in found)
    assert any("cannot be evaluated" in error and unknown.where in error for error in found)


def test_one_bad_definition_leaves_the_others_out_of_trouble(server: Server) -> None:
    server.tool(name="good")(lambda: "fine")

    @server.tool
    def bad(value: int, /) -> str:
        return ""

    errors = compile_all()
    assert [error.where for error in errors] == [bad.where]
    assert call("good").text == "fine"


# Arguments


def test_arguments_of_every_kind(server: Server) -> None:
    @server.tool(structured=False)
    def take(
        point: Point,
        place: Place,
        person: Person,
        colour: Colour,
        size: Literal["s", "m"],
        when: datetime.datetime,
        price: decimal.Decimal,
        key: uuid.UUID,
        many: list[Point],
        least: Annotated[int, Field(ge=3, description="At least three")] = 3,
    ) -> str:
        return repr((point, place, person.born, colour, size, when.year, price, str(key)[:4], many, least))

    arguments = {
        "point": {"x": 1},
        "place": {"name": "Bar", "open": True},
        "person": {"name": "Eve", "born": "2001-02-03"},
        "colour": "blue",
        "size": "m",
        "when": "2026-01-02T03:04:05Z",
        "price": "1.10",
        "key": "12345678-1234-5678-1234-567812345678",
        "many": [{"x": 2, "y": 3}],
    }
    result = call("take", arguments)
    assert result.text == repr(
        (
            Point(1),
            {"name": "Bar", "open": True},
            datetime.date(2001, 2, 3),
            Colour.BLUE,
            "m",
            2026,
            decimal.Decimal("1.10"),
            "1234",
            [Point(2, 3)],
            3,
        )
    )
    schema = only_tool().input_schema
    assert schema["properties"]["least"] | {"title": ""} == {
        "type": "integer",
        "minimum": 3,
        "default": 3,
        "description": "At least three",
        "title": "",
    }
    assert schema["$defs"]["Colour"]["enum"] == ["red", "blue"]
    assert schema["$defs"]["Person"]["properties"]["name"]["description"] == "As in the passport"
    assert schema["properties"]["size"]["enum"] == ["s", "m"]


def test_bad_arguments_are_a_result_that_says_which_and_not_what(server: Server) -> None:
    @server.tool
    def take(person: Person, least: Annotated[int, Field(ge=3)]) -> str:
        return ""

    result = call("take", {"person": {"name": "secret-value"[:1]}, "least": 1})
    assert result.is_error
    assert result.text == (
        "Invalid arguments: person.name: String should have at least 2 characters; "
        "least: Input should be greater than or equal to 3"
    )
    assert call("take").text == "Invalid arguments: person: Field required; least: Field required"


def test_a_schema_of_its_own(server: Server) -> None:
    schema = {
        "type": "object",
        "properties": {"kind": {"enum": ["a", "b"]}, "size": {"type": "integer"}},
        "if": {"properties": {"kind": {"const": "a"}}},
        "then": {"required": ["size"]},
        "additionalProperties": False,
    }

    @server.tool(input_schema=schema)
    def own(**arguments: Any) -> str:
        return repr(sorted(arguments.items()))

    assert only_tool().input_schema == schema
    assert call("own", {"kind": "a", "size": 3}).text == "[('kind', 'a'), ('size', 3)]"
    assert call("own", {"kind": "a"}).text == "Invalid arguments: $: 'size' is a required property"
    assert call("own", {"kind": "c"}).is_error
    assert call("own", {"kind": "b", "more": 1}).is_error
    assert "more than 10000 values" in call("own", {"kind": "b", "size": list(range(20_000))}).text


@pytest.mark.parametrize(
    ("schema", "problem"),
    [
        ({"type": "nothing"}, 'has an input_schema without "type": "object"'),
        ({"type": "object", "properties": {"a": {"type": "nothing"}}}, "has an unusable input_schema"),
    ],
)
def test_an_invalid_schema_of_its_own_does_not_load(server: Server, schema: dict[str, Any], problem: str) -> None:
    server.tool(name="own", input_schema=schema)(lambda **arguments: "")
    with pytest.raises(RegistryError, match=problem):
        compiled(server)


def test_an_argument_is_mirrored_in_a_header(server: Server) -> None:
    @server.tool
    def route(region: Annotated[str, ParamHeader("Region")], count: Annotated[int, ParamHeader("Count")] = 1) -> str:
        return f"{region} {count}"

    assert only_tool().input_schema["properties"]["region"]["x-mcp-header"] == "Region"
    assert call("route", {"region": "north", "count": 2}).text == "north 2"
    assert call("route", {"region": "Zürich"}).text == "Zürich 1"
    with pytest.raises(MCPClientError) as caught:
        call("route", {"region": "north"}, headers={"Mcp-Param-Region": "south"})
    assert (caught.value.code, caught.value.status) == (-32020, 400)


def test_a_header_for_what_is_no_scalar_does_not_load(server: Server) -> None:
    @server.tool
    def route(regions: Annotated[list[str], ParamHeader("Regions")]) -> str:
        return ""

    with pytest.raises(RegistryError, match="has an invalid ParamHeader"):
        compiled(server)


# Results


def test_structured_output_of_every_shape(server: Server) -> None:
    @server.tool
    def dataclass() -> Point:
        return Point(1, 2)

    @server.tool
    def typed_dict() -> Place:
        return {"name": "Bar", "open": False}

    @server.tool
    def model() -> Person:
        return Person(name="Eve", born=datetime.date(2001, 2, 3))

    @server.tool
    def rows() -> list[Point]:
        return [Point(1), Point(2)]

    @server.tool
    def mapping() -> dict[str, int]:
        return {"a": 1}

    @server.tool
    def colour() -> Colour:
        return Colour.RED

    @server.tool
    async def maybe() -> Person | None:
        return None

    tools = {tool.name: tool for tool in Client(server="tested").list_tools()}
    assert call("dataclass").structured == {"x": 1, "y": 2}
    assert call("typed_dict").structured == {"name": "Bar", "open": False}
    assert call("model").structured == {"name": "Eve", "born": "2001-02-03"}
    assert call("rows").structured == {"result": [{"x": 1, "y": 0}, {"x": 2, "y": 0}]}
    assert call("mapping").structured == {"a": 1}
    assert call("colour").structured == {"result": "red"}
    assert call("maybe").structured == {"result": None}
    assert set((tools["dataclass"].output_schema or {})["properties"]) == {"x", "y"}
    assert (tools["model"].output_schema or {})["properties"]["name"]["description"] == "As in the passport"
    assert all((tool.output_schema or {}).get("type") == "object" for tool in tools.values())


def test_structured_output_can_be_forced_and_forbidden(server: Server) -> None:
    @server.tool(structured=False)
    def plain() -> dict[str, int]:
        return {"a": 1}

    assert only_tool().output_schema is None
    assert (call("plain").structured, call("plain").text) == (None, '{\n  "a": 1\n}')

    @server.tool(structured=True)
    def nothing():  # type: ignore[no-untyped-def]
        return {"a": 1}

    with pytest.raises(RegistryError, match="has a signature that gives no schema"):
        compiled(server)


def test_an_output_schema_of_its_own_is_served(server: Server) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}

    @server.tool(output_schema=schema)
    def own() -> dict[str, int]:
        return {"a": 1}

    assert only_tool().output_schema == schema
    assert call("own").structured == {"a": 1}


def test_a_result_that_breaks_its_word_is_an_error(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    @server.tool
    def liar() -> Point:
        return "secret"  # type: ignore[return-value]

    result = call("liar")
    assert (result.is_error, result.text) == (True, "The tool 'liar' failed.")
    assert "liar" in caplog.text


def test_a_generator_sends_progress_and_returns_its_last_value(server: Server) -> None:
    @server.tool
    def yields() -> Iterator[str]:
        yield "one"
        yield "two"
        yield "three"

    @server.tool
    async def yields_async() -> Any:
        yield "one"
        yield "two"

    @server.tool
    def returns() -> Any:
        yield "working"
        return {"done": True}

    result = call("yields")
    assert [(heard.progress, heard.message) for heard in result.progress] == [(1, "one"), (2, "two"), (3, "three")]
    assert result.text == "three"
    result = call("yields_async")
    assert ([heard.message for heard in result.progress], result.text) == (["one", "two"], "two")
    result = call("returns")
    assert [heard.message for heard in result.progress] == ["working"]
    assert '"done": true' in result.text


def test_a_generator_that_fails_in_the_middle_is_an_error(server: Server) -> None:
    @server.tool
    def fails() -> Iterator[str]:
        yield "one"
        raise ToolError("in the middle")

    result = call("fails")
    assert (result.is_error, result.text, len(result.progress)) == (True, "in the middle", 1)


# Failures


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_errors_that_are_meant_for_the_client(server: Server, kind: str) -> None:
    errors: dict[str, Exception] = {
        "tool": ToolError("Out of stock"),
        "validation": ValidationError(["Too long.", "Too late."]),
        "denied": PermissionDenied("not for the client"),
    }

    if kind == "sync":

        @server.tool(name="fail")
        def fail(which: str) -> str:
            raise errors[which]
    else:

        @server.tool(name="fail")
        async def fail_async(which: str) -> str:
            raise errors[which]

    texts = {which: call("fail", {"which": which}).text for which in errors}
    assert texts == {
        "tool": "Out of stock",
        "validation": "Too long. Too late.",
        "denied": "Permission denied.",
    }
    assert all(call("fail", {"which": which}).is_error for which in errors)


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_an_unexpected_error_is_logged_and_not_told(
    server: Server, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    if kind == "sync":

        @server.tool(name="crash")
        def crash() -> str:
            raise LookupError("secret")
    else:

        @server.tool(name="crash")
        async def crash_async() -> str:
            raise LookupError("secret")

    result = call("crash")
    assert (result.is_error, result.text) == (True, "The tool 'crash' failed.")
    assert "secret" not in str(result.raw)
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert record.name == "django_mcp.tools"
    assert record.exc_info is not None
    assert "secret" in str(record.exc_info[1])


def test_an_unknown_tool_is_a_protocol_error(server: Server) -> None:
    with pytest.raises(MCPClientError, match="Unknown tool: nothing"):
        call("nothing")


# Results that are too large


@pytest.mark.django_db
@pytest.mark.parametrize("mode", ["modern", "legacy"])
def test_a_large_result_becomes_a_link_that_the_same_caller_reads(
    server: Server, settings: Any, django_user_model: Any, mode: str
) -> None:
    settings.DJANGO_MCP = {"MAX_RESULT_BYTES": 1_000}

    @server.tool(structured=False)
    def big(size: int) -> str:
        return "ä" * size

    alice, bob = (django_user_model.objects.create_user(name) for name in ("alice", "bob"))
    client = Client(alice, server="tested", mode=mode)
    assert client.call("big", {"size": 300}).text == "ä" * 300
    result = client.call("big", {"size": 3_000})
    note, link = result.content
    assert not result.is_error
    assert "The tool succeeded, but its result of" in result.text
    assert link.type == "resource_link"
    assert (link.mime_type, link.size) == ("text/plain", 6_000)
    uri = str(link.uri)
    assert uri in note.text  # type: ignore[union-attr]
    read = client.read(uri)
    assert (read.text, read.mime_type) == ("ä" * 3_000, "text/plain")
    assert Client(alice, server="tested").read(uri).text == "ä" * 3_000
    strangers = (
        Client(bob, server="tested", mode=mode),
        Client(server="tested", mode=mode),
        Client(alice, server="tested", mode=mode, tenant="other"),
    )
    for stranger in strangers:
        with pytest.raises(MCPClientError, match="Resource not found") as caught:
            stranger.read(uri)
        assert caught.value.data == {"uri": uri}


@pytest.mark.django_db
def test_a_large_structured_result_is_kept_as_json(server: Server, settings: Any) -> None:
    settings.DJANGO_MCP = {"MAX_RESULT_BYTES": 1_000}

    @server.tool
    def big() -> list[int]:
        return list(range(1_000))

    client = Client(server="tested")
    result = client.call("big")
    assert result.is_error
    assert result.structured is None
    (link,) = [block for block in result.content if block.type == "resource_link"]
    read = client.read(str(link.uri))
    assert read.mime_type == "application/json"
    assert read.text.startswith('{"result":[0,1,2')


def test_the_registry_of_the_tests_is_as_it_was() -> None:
    assert "tested" not in servers


def test_context_is_not_in_the_schema(server: Server) -> None:
    @server.tool
    def look(ctx: Context, maybe: Context | None = None) -> str:
        return ctx.protocol_version

    assert "ctx" not in only_tool().input_schema.get("properties", {})
    assert call("look").text == "2026-07-28"

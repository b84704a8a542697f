"""Headers that mirror the body, and the annotations that ask for them (basic/transports/streamable-http)."""

import base64
from collections.abc import Mapping
from typing import Annotated, Any

import pytest
from mcp_types import JSONRPCError
from pydantic import BaseModel

from django_mcp import ParamHeader, Server
from django_mcp.exceptions import RegistryError
from django_mcp.server.compile import compiled
from tests.servers import defined
from tests.spec.modern.wire import PREFIX, Answer, call, post, request

MISMATCH = -32020
SAFE = 2**53 - 1


@pytest.fixture
def routed(server: Server) -> Server:
    """Define a tool whose arguments are mirrored, and something under a name that no header can hold."""

    @server.tool
    async def look(
        region: Annotated[str, ParamHeader("Region")] = "",
        shard: Annotated[int, ParamHeader("Shard")] = 0,
        dry: Annotated[bool, ParamHeader("Dry-Run")] = False,
        note: str = "",
    ) -> str:
        return f"{region} {shard} {dry}"

    @server.resource("note://{name}")
    async def note(name: str) -> str:
        return name

    @server.prompt
    async def plan() -> str:
        return "Plan."

    return server


def encoded(text: str | bytes) -> str:
    data = text.encode() if isinstance(text, str) else text
    return f"=?base64?{base64.b64encode(data).decode()}?="


async def look(arguments: Mapping[str, Any], headers: Mapping[str, Any]) -> Answer:
    return await post(call("look", arguments), headers)


def check_mismatch(answer: Answer, request_id: Any = None) -> None:
    assert answer.status == 400
    assert answer.media_type == "application/json"
    assert answer.error["code"] == MISMATCH
    assert JSONRPCError.model_validate(answer.last).id == (request_id or answer.last["id"])
    assert "header" in answer.error["message"]


REQUIRED = {
    "tools/call": ({"name": "look", "arguments": {}}, ["mcp-protocol-version", "mcp-method", "mcp-name"]),
    "resources/read": ({"uri": "note://a"}, ["mcp-protocol-version", "mcp-method", "mcp-name"]),
    "prompts/get": ({"name": "plan"}, ["mcp-protocol-version", "mcp-method", "mcp-name"]),
    "tools/list": ({}, ["mcp-protocol-version", "mcp-method"]),
    "server/discover": ({}, ["mcp-protocol-version", "mcp-method"]),
}
EACH_REQUIRED = [(method, params, name) for method, (params, names) in REQUIRED.items() for name in names]
WRONG_VALUES = {
    "mcp-protocol-version": ["2025-11-25", "2099-01-01", "", "2026-07-28, 2026-07-28"],
    "mcp-method": ["tools/destroy", "TOOLS/CALL", "", encoded("tools/call")],
    "mcp-name": ["other", "LOOK", "", encoded("other")],
}


@pytest.mark.parametrize(("method", "params", "name"), EACH_REQUIRED)
async def test_a_missing_standard_header_is_refused(
    routed: Server, method: str, params: dict[str, Any], name: str
) -> None:
    assert (await post(request(method, params))).status == 200
    check_mismatch(await post(request(method, params, id="mine"), {name: ...}), "mine")


@pytest.mark.parametrize(("method", "params", "name"), EACH_REQUIRED)
async def test_a_standard_header_unlike_the_body_is_refused(
    routed: Server, method: str, params: dict[str, Any], name: str
) -> None:
    for value in WRONG_VALUES[name]:
        check_mismatch(await post(request(method, params, id=7), {name: value}), 7)


async def test_a_version_header_unlike_the_body_is_refused_before_either_is_looked_up(routed: Server) -> None:
    unknown = request("tools/list", meta={f"{PREFIX}protocolVersion": "2099-01-01"})
    check_mismatch(await post(unknown))
    check_mismatch(await post(unknown, {"mcp-protocol-version": "2098-01-01"}))


@pytest.mark.parametrize("name", ["look", "plan"])
async def test_an_encoded_name_is_decoded_before_it_is_compared(routed: Server, name: str) -> None:
    message = call("look") if name == "look" else request("prompts/get", {"name": "plan"})
    assert (await post(message, {"mcp-name": encoded(name)})).status == 200
    check_mismatch(await post(message, {"mcp-name": encoded(name + " ")}))


@pytest.mark.parametrize("uri", ["note://café", "note://%C3%A9", "note://a%3F%3D", "note://a"])
async def test_an_encoded_uri_is_decoded_before_it_is_compared(routed: Server, uri: str) -> None:
    message = request("resources/read", {"uri": uri})
    assert (await post(message, {"mcp-name": encoded(uri)})).result["contents"][0]["uri"] == uri
    check_mismatch(await post(message, {"mcp-name": encoded(uri + "x")}))


@pytest.mark.parametrize("region", ["eu", "Hello, \u4e16\u754c", " padded ", "line1\nline2", "=?base64?literal?=", ""])
async def test_an_encoded_parameter_is_decoded_before_it_is_compared(routed: Server, region: str) -> None:
    assert (await look({"region": region}, {"mcp-param-region": encoded(region)})).text == f"{region} 0 False"
    check_mismatch(await look({"region": region}, {"mcp-param-region": encoded(f"{region}.")}))


@pytest.mark.parametrize(
    "header",
    [
        "=?BASE64?ZXU=?=",
        "=?Base64?ZXU=?=",
        "=?base64?ZXU=",
        "=?base64?ZXU?=",
        "=?base64?!!!!?=",
        "=?base64?/w==?=",
        "base64?ZXU=",
        "ZXU=",
    ],
)
async def test_the_markers_and_the_encoding_are_exact(routed: Server, header: str) -> None:
    assert (await look({"region": "eu"}, {"mcp-param-region": "=?base64?ZXU=?="})).status == 200
    check_mismatch(await look({"region": "eu"}, {"mcp-param-region": header}))


async def test_what_only_looks_like_a_marker_is_the_value_itself(routed: Server) -> None:
    literal = "=?BASE64?ZXU=?="
    assert (await look({"region": literal}, {"mcp-param-region": literal})).text == f"{literal} 0 False"


@pytest.mark.parametrize("value", ["\u00e9", "e\x01u", "e\x7fu", "\u00ff", "a\u00a0b"])
async def test_a_header_with_invalid_characters_is_refused(routed: Server, value: str) -> None:
    answer = await look({"region": value}, {"mcp-param-region": value})
    check_mismatch(answer)
    assert answer.error["message"] == "Mcp-Param-Region header contains invalid characters"
    check_mismatch(await post(call(value), {"mcp-name": value}))


@pytest.mark.parametrize(
    ("arguments", "headers"),
    [
        ({"region": "eu"}, {"mcp-param-region": "us"}),
        ({"region": "eu"}, {"mcp-param-region": "EU"}),
        ({"region": "eu"}, {"mcp-param-region": ""}),
        ({"shard": 42}, {"mcp-param-shard": "43"}),
        ({"shard": 42}, {"mcp-param-shard": "42.5"}),
        ({"shard": 42}, {"mcp-param-shard": "4.2e1"}),
        ({"shard": 42}, {"mcp-param-shard": "0x2a"}),
        ({"dry": True}, {"mcp-param-dry-run": "True"}),
        ({"dry": True}, {"mcp-param-dry-run": "1"}),
        ({"dry": False}, {"mcp-param-dry-run": "true"}),
        ({"region": "eu", "shard": 1}, {"mcp-param-region": "eu", "mcp-param-shard": "2"}),
    ],
)
async def test_a_parameter_header_unlike_the_body_is_refused(
    routed: Server, arguments: dict[str, Any], headers: dict[str, str]
) -> None:
    check_mismatch(await look(arguments, headers))


@pytest.mark.parametrize(
    ("arguments", "headers", "text"),
    [
        ({"region": "eu"}, {"mcp-param-region": "eu"}, "eu 0 False"),
        ({"shard": 42}, {"mcp-param-shard": "42"}, " 42 False"),
        ({"shard": 42}, {"mcp-param-shard": "42.0"}, " 42 False"),
        ({"shard": -7}, {"mcp-param-shard": "-7"}, " -7 False"),
        ({"dry": True}, {"mcp-param-dry-run": "true"}, " 0 True"),
        ({"note": "x"}, {}, " 0 False"),
    ],
)
async def test_a_parameter_header_like_the_body_is_accepted(
    routed: Server, arguments: dict[str, Any], headers: dict[str, str], text: str
) -> None:
    assert (await look(arguments, headers)).text == text


@pytest.mark.parametrize("arguments", [{"region": "eu"}, {"shard": 0}, {"dry": False}, {"region": ""}])
async def test_a_value_without_its_header_is_refused(routed: Server, arguments: dict[str, Any]) -> None:
    check_mismatch(await look(arguments, {}))


async def test_no_header_is_expected_for_a_parameter_that_is_absent(routed: Server) -> None:
    assert (await look({}, {})).text == " 0 False"
    check_mismatch(await look({}, {"mcp-param-region": "eu"}))


async def test_no_header_is_expected_for_a_parameter_that_is_null(server: Server) -> None:
    schema = {"type": "object", "properties": {"region": {"type": "string", "x-mcp-header": "Region"}}}

    @server.tool(input_schema={**schema, "$comment": "null is refused as an argument, not as a header"})
    async def look(**given: Any) -> str:
        return "looked"

    answer = await post(call("look", {"region": None}))
    assert (answer.status, answer.result["isError"]) == (200, True)
    check_mismatch(await post(call("look", {"region": None}), {"mcp-param-region": "null"}))


async def test_header_names_are_compared_without_case_and_values_with_it(routed: Server) -> None:
    message = call("look", {"region": "eu"})
    upper = {
        "mcp-protocol-version": ...,
        "mcp-method": ...,
        "mcp-name": ...,
        "MCP-PROTOCOL-VERSION": "2026-07-28",
        "MCP-METHOD": "tools/call",
        "Mcp-NAME": "look",
        "mCP-pARAM-rEGION": "eu",
    }
    assert (await post(message, upper)).text == "eu 0 False"
    check_mismatch(await post(message, {**upper, "MCP-METHOD": "Tools/Call"}))
    check_mismatch(await post(message, {**upper, "mCP-pARAM-rEGION": "Eu"}))


@pytest.mark.parametrize("shard", [SAFE, -SAFE])
async def test_a_mirrored_integer_is_one_that_every_party_holds_exactly(routed: Server, shard: int) -> None:
    assert (await look({"shard": shard}, {"mcp-param-shard": str(shard)})).text == f" {shard} False"
    beyond = shard + (1 if shard > 0 else -1)
    answer = await look({"shard": beyond}, {"mcp-param-shard": str(beyond)})
    check_mismatch(answer)
    assert answer.error["message"] == f"Mcp-Param-Shard header mirrors an integer beyond {SAFE}"


# The annotations, as a tool's author writes them.


class Place(BaseModel):
    region: Annotated[str, ParamHeader("Region")]


def reason_against(*parameters: Any, schema: dict[str, Any] | None = None) -> str:
    """Return why a tool with these parameters, or this schema, is not served; empty when it is."""
    with defined("annotated") as server:

        async def take(**given: Any) -> None:
            pass

        if schema is None:

            async def two(first: Any = None, second: Any = None) -> None:
                pass

            two.__annotations__ |= dict(zip(("first", "second"), parameters, strict=False))
            server.tool(two)
        else:
            server.tool(input_schema=schema)(take)
        try:
            compiled(server)
        except RegistryError as error:
            return error.problem if error.where.startswith(__file__) else f"somewhere else: {error}"
    return ""


def region(**more: Any) -> dict[str, Any]:
    return {"type": "string", "x-mcp-header": "Region", **more}


def under(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties}


def test_a_plain_annotation_is_served() -> None:
    assert reason_against(Annotated[str, ParamHeader("Region")], Annotated[int, ParamHeader("Shard")]) == ""
    assert reason_against(Annotated[bool, ParamHeader("!#$%&'*+-.^_`|~09azAZ")]) == ""
    assert reason_against(schema=under(place=under(region=region()))) == ""


@pytest.mark.parametrize("name", ["", " ", "a b", "a:b", "a\r", "a\nb", "a\x00", "\u00e9", "(a)", "a/b", "a,b"])
def test_an_annotation_is_a_field_name_token(name: str) -> None:
    assert "is not an RFC 9110 token" in reason_against(Annotated[str, ParamHeader(name)])
    assert "is not an RFC 9110 token" in reason_against(schema=under(a=region() | {"x-mcp-header": name}))


@pytest.mark.parametrize("name", [7, None, ["Region"], True])
def test_an_annotation_is_a_text(name: Any) -> None:
    assert "must be a string" in reason_against(schema=under(a=region() | {"x-mcp-header": name}))


@pytest.mark.parametrize("other", ["Region", "region", "REGION"])
def test_annotations_are_unique_without_regard_to_case(other: str) -> None:
    both = Annotated[str, ParamHeader("Region")], Annotated[str, ParamHeader(other)]
    assert "duplicates property" in reason_against(*both)
    nested = under(a=region(), place=under(b=region() | {"x-mcp-header": other}))
    assert "duplicates property" in reason_against(schema=nested)


@pytest.mark.parametrize("annotation", [float, list[str], dict[str, str], str | None, int | str, Any, Place])
def test_only_integers_strings_and_booleans_are_mirrored(annotation: Any) -> None:
    assert reason_against(Annotated[annotation, ParamHeader("Region")])


@pytest.mark.parametrize(
    "kind", [{"type": "number"}, {"type": "array"}, {"type": "object"}, {"type": ["string", "null"]}, {"enum": ["a"]}]
)
def test_only_these_three_types_are_mirrored(kind: dict[str, Any]) -> None:
    assert "only permitted on" in reason_against(schema=under(a={**kind, "x-mcp-header": "Region"}))


@pytest.mark.parametrize(
    "schema",
    [
        under(a={"type": "array", "items": region()}),
        under(a={"type": "array", "prefixItems": [region()]}),
        under(a={"type": "array", "contains": region()}),
        *(under(a={keyword: [region()]}) for keyword in ("oneOf", "anyOf", "allOf")),
        *(under(a={keyword: region()}) for keyword in ("not", "if", "then", "else")),
        under() | {"allOf": [under(a=region())]},
        under() | {"if": under(a=region()), "then": {}},
        under() | {"patternProperties": {"a": region()}},
        under() | {"additionalProperties": region()},
        under() | {"dependentSchemas": {"a": under(b=region())}},
        under(a={"$ref": "#/$defs/place"}) | {"$defs": {"place": under(region=region())}},
        under(a={"$ref": "#/$defs/region"}) | {"$defs": {"region": region()}},
        under() | {"x-mcp-header": "Region"},
    ],
)
def test_an_annotated_property_is_reached_through_properties_alone(schema: dict[str, Any]) -> None:
    assert "not reachable via a pure `properties` chain" in reason_against(schema=schema)


def test_a_model_of_pydantic_is_a_reference_and_so_out_of_reach() -> None:
    assert "not reachable via a pure `properties` chain" in reason_against(Place)

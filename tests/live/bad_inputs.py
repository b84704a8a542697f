"""The table of bad inputs: what is sent, and what every door answers.

A string in angle brackets stands for a value that the test makes: `<session>`, `<batching>` (a session of 2025-03-26),
`<ended>`, `<foreign>` (another tenant's), and the states of rounds that were begun otherwise.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from tests.live.server import Kind
from tests.live.wire import BATCHING, HANDSHAKE, MODERN

Era = Literal["modern", "handshake"]

PARSE_ERROR: Final = -32700
INVALID_REQUEST: Final = -32600
METHOD_NOT_FOUND: Final = -32601
INVALID_PARAMS: Final = -32602
INTERNAL_ERROR: Final = -32603
HEADER_MISMATCH: Final = -32020
CAPABILITY_MISSING: Final = -32021
VERSION_UNSUPPORTED: Final = -32022

SESSION_NOT_FOUND: Final = "Session not found"
STATE_REFUSED: Final = "Invalid or expired requestState"
MAX_BODY_BYTES: Final = 4_194_304

CONSUMER_METHODS: Final = "GET, POST, DELETE, OPTIONS"
VIEW_METHODS: Final = "POST, OPTIONS"

_META: Final = "io.modelcontextprotocol/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """An answer; `code` None is a tool's own error, `text` the whole message, `note` why another door differs."""

    status: int
    code: int | None = INVALID_REQUEST
    text: str | None = None
    reason: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    has_body: bool = True
    is_json: bool = True
    serves: bool = False
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class BadInput:
    """One row. `headers` change those of a good request (None takes one away); `extra` are added as they are."""

    name: str
    era: Era
    expected: Expected
    method: str = "POST"
    headers: Mapping[str, str | None] = field(default_factory=dict)
    extra: tuple[tuple[str, str], ...] = ()
    body: Any = b""
    host: str | None = ""
    declared: int | None = None
    chunked: bool = False
    logs: bool = False
    """Whether the server may write a traceback into its log."""
    elsewhere: Mapping[Kind, Expected] = field(default_factory=dict)

    def expected_of(self, kind: Kind) -> Expected:
        return self.elsewhere.get(kind, self.expected)


# What rows are made of.


def modern(method: str = "tools/call", *, meta: Mapping[str, Any] | None = None, **params: Any) -> dict[str, Any]:
    """Return a modern request; in `meta`, None takes a key away."""
    envelope: dict[str, Any] = {
        f"{_META}protocolVersion": MODERN,
        f"{_META}clientInfo": {"name": "table", "version": "1"},
        f"{_META}clientCapabilities": {"sampling": {}, "elicitation": {}, "roots": {}},
        **{f"{_META}{name}": value for name, value in (meta or {}).items()},
    }
    kept = {name: value for name, value in envelope.items() if value is not None}
    return {"jsonrpc": "2.0", "id": 7, "method": method, "params": {**params, "_meta": kept}}


def handshake(method: str = "tools/call", **params: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 7, "method": method, "params": params}


def bare(**members: Any) -> dict[str, Any]:
    """Return a call of the simplest tool with other members; ... takes one away."""
    message = {**GOOD_HANDSHAKE, **members}
    return {name: value for name, value in message.items() if value is not ...}


def modern_bare(**members: Any) -> dict[str, Any]:
    message = {**GOOD_MODERN, **members}
    return {name: value for name, value in message.items() if value is not ...}


TOOL: Final = "test_simple_text"
GOOD_MODERN: Final = modern(name=TOOL, arguments={})
GOOD_HANDSHAKE: Final = handshake(name=TOOL, arguments={})


def headers_of(row: BadInput) -> dict[str, str]:
    """Return the headers of a good request in the row's place."""
    headers = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
    if row.era == "handshake":
        return headers | {"Mcp-Session-Id": "<session>", "MCP-Protocol-Version": HANDSHAKE}
    headers["MCP-Protocol-Version"] = MODERN
    message = row.body if isinstance(row.body, dict) else GOOD_MODERN
    if isinstance(method := message.get("method"), str):
        headers["Mcp-Method"] = method
    params = message.get("params")
    if isinstance(params, dict):
        name = params.get("name", params.get("uri"))
        if isinstance(name, str):
            headers["Mcp-Name"] = name
    return headers


def encoded(body: Any) -> bytes:
    return body if isinstance(body, bytes) else json.dumps(body).encode()


def everywhere(expected: Expected, *kinds: Kind) -> Mapping[Kind, Expected]:
    return dict.fromkeys(kinds, expected)


VIEWS: Final = (Kind.VIEW_ASGI, Kind.VIEW_WSGI)
_JOINED: Final = "Django joins repeated headers before a view sees them"


# The request head, the same in both eras.


def _head_rows() -> list[BadInput]:
    good = encoded(GOOD_MODERN)

    def row(name: str, expected: Expected, **changes: Any) -> BadInput:
        return BadInput(name=name, era="modern", expected=expected, **{"body": good, **changes})

    def joined(status: int, code: int = INVALID_REQUEST) -> Mapping[Kind, Expected]:
        return everywhere(Expected(status=status, code=code, note=_JOINED), *VIEWS)

    refused = Expected(status=400)
    not_allowed = Expected(status=405, headers={"allow": CONSUMER_METHODS})
    view_not_allowed = everywhere(Expected(status=405, headers={"allow": VIEW_METHODS}), *VIEWS)
    post_only = Expected(status=405, headers={"allow": VIEW_METHODS})
    too_large = Expected(status=413)
    big = b" " * (MAX_BODY_BYTES - len(good) + 1) + good
    no_chunks = Expected(
        status=400, code=PARSE_ERROR, note="wsgiref knows no chunked bodies: the view is given an empty one"
    )
    return [
        row("foreign host", Expected(status=421), host="evil.example"),
        row("host of another name that ends alike", Expected(status=421), host="evil-localhost:80"),
        row(
            "no host",
            Expected(status=421),
            host=None,
            elsewhere=everywhere(
                Expected(status=200, serves=True, note="Django takes the name that the server has of itself"), *VIEWS
            ),
        ),
        row("two hosts", refused, host="127.0.0.1", extra=(("Host", "evil.example"),), elsewhere=joined(421)),
        row("malformed host", Expected(status=421), host="127.0.0.1:80:80"),
        row("foreign origin", Expected(status=403), headers={"Origin": "https://evil.example"}),
        row("opaque origin", Expected(status=403), headers={"Origin": "null"}),
        row("origin of another port", Expected(status=403), headers={"Origin": "http://127.0.0.1:1"}),
        row(
            "two origins",
            refused,
            extra=(("Origin", "http://127.0.0.1"), ("Origin", "https://evil.example")),
            elsewhere=joined(403),
        ),
        row("PUT", not_allowed, method="PUT", elsewhere=view_not_allowed),
        row("PATCH", not_allowed, method="PATCH", elsewhere=view_not_allowed),
        row(
            "a method that does not exist",
            not_allowed,
            method="BREW",
            elsewhere={
                **view_not_allowed,
                **everywhere(
                    Expected(status=400, is_json=False, note="uvicorn's parser answers itself: no HTTP"),
                    Kind.UVICORN,
                    Kind.VIEW_ASGI,
                ),
            },
        ),
        row(
            "HEAD",
            Expected(status=405, headers={"allow": CONSUMER_METHODS}, has_body=False),
            method="HEAD",
            body=b"",
            elsewhere=everywhere(Expected(status=405, headers={"allow": VIEW_METHODS}, has_body=False), *VIEWS),
        ),
        row("GET in the modern era", post_only, method="GET", body=b""),
        row("DELETE in the modern era", post_only, method="DELETE", body=b""),
        row("a body one byte over the bound", too_large, body=big),
        row(
            "a chunked body one byte over the bound",
            too_large,
            body=big,
            chunked=True,
            elsewhere={Kind.VIEW_WSGI: no_chunks},
        ),
        row("no content type", Expected(status=415), headers={"Content-Type": None}),
        row("content type of a form", Expected(status=415), headers={"Content-Type": "text/plain"}),
        row(
            "content type with a suffix",
            Expected(status=415),
            headers={"Content-Type": "application/json-patch+json"},
        ),
        row(
            "another charset",
            Expected(status=415),
            headers={"Content-Type": "application/json; charset=iso-8859-1"},
        ),
        row("a compressed body", Expected(status=415), headers={"Content-Encoding": "gzip"}),
        row(
            "two content types",
            refused,
            extra=(("Content-Type", "text/plain"),),
            elsewhere={
                **joined(415),
                Kind.VIEW_WSGI: Expected(status=200, serves=True, note="wsgiref gives the first alone"),
            },
        ),
        row("no accept", Expected(status=406), headers={"Accept": None}),
        row("accept of JSON alone", Expected(status=406), headers={"Accept": "application/json"}),
        row("accept of events alone", Expected(status=406), headers={"Accept": "text/event-stream"}),
        row(
            "accept that rules events out",
            Expected(status=406),
            headers={"Accept": "application/json, text/event-stream;q=0"},
        ),
        row(
            "two authorizations",
            refused,
            extra=(("Authorization", "Bearer mcp_a"), ("Authorization", "Bearer mcp_b")),
            elsewhere=joined(401),
        ),
        row(
            "two protocol versions",
            refused,
            extra=(("MCP-Protocol-Version", MODERN),),
            elsewhere=joined(400, HEADER_MISMATCH),
        ),
        row("two methods", refused, extra=(("Mcp-Method", "tools/call"),), elsewhere=joined(400, HEADER_MISMATCH)),
        row("two names", refused, extra=(("Mcp-Name", TOOL),), elsewhere=joined(400, HEADER_MISMATCH)),
        row(
            "two mirrored parameters",
            refused,
            body=modern(name="test_x_mcp_header", arguments={"region": "eu"}),
            extra=(("Mcp-Param-Region", "eu"), ("Mcp-Param-Region", "us")),
            elsewhere=joined(400, HEADER_MISMATCH),
        ),
        row("an unknown token", _unauthenticated(), extra=(("Authorization", "Bearer mcp_unknown"),)),
        row("a token of another kind", _unauthenticated(), extra=(("Authorization", "Bearer eyJ"),)),
        row("another scheme", _unauthenticated(), extra=(("Authorization", "Basic dTpw"),)),
    ]


def _unauthenticated() -> Expected:
    return Expected(
        status=401, text="Authentication required", headers={"www-authenticate": 'Bearer realm="everything"'}
    )


# The body as JSON, and as one message.

_NESTED: Final = b'{"jsonrpc":"2.0","id":7,"method":"ping","params":{"x":'
MALFORMED: Final[Mapping[str, bytes]] = {
    "an empty body": b"",
    "blanks": b" \n",
    "words": b"hello",
    "half an object": b'{"jsonrpc": "2.0", "id": 7',
    "something behind the object": encoded(GOOD_HANDSHAKE) + b"x",
    "single quotes": b"{'jsonrpc': '2.0'}",
    "a form": b"jsonrpc=2.0&id=7",
    "invalid UTF-8": b'{"jsonrpc":"2.0","id":7,"method":"\xff\xfe"}',
    "an overlong UTF-8 sequence": b'{"jsonrpc":"2.0","id":7,"method":"\xc0\xaf"}',
    "a surrogate in UTF-8": b'{"jsonrpc":"2.0","id":7,"method":"\xed\xa0\x80"}',
    "UTF-16": json.dumps(GOOD_HANDSHAKE).encode("utf-16"),
    "a byte order mark": b"\xef\xbb\xbf" + encoded(GOOD_HANDSHAKE),
    "a zero byte": b"\x00" + encoded(GOOD_HANDSHAKE),
    "a raw line break in a string": b'{"jsonrpc":"2.0","id":7,"method":"a\nb"}',
    "NaN": _NESTED + b"NaN}}",
    "Infinity": _NESTED + b"Infinity}}",
    "minus Infinity": _NESTED + b"-Infinity}}",
    "a number out of range": _NESTED + b"1e999}}",
    "an integer of 5,000 digits": _NESTED + b"1" * 5_000 + b"}}",
    "a repeated key": b'{"jsonrpc":"2.0","id":7,"id":8,"method":"ping"}',
    "a repeated key deep inside": _NESTED + b'{"a":1,"a":1}}}',
    "10,000 brackets": _NESTED + b"[" * 10_000 + b"]" * 10_000 + b"}}",
    "10,000 braces": _NESTED + b'{"a":' * 10_000 + b"1" + b"}" * 10_000 + b"}}",
    "10,000 open brackets": b"[" * 10_000,
    "100,000 open brackets": b"[" * 100_000,
    "65 levels": _NESTED + b"[" * 63 + b"]" * 63 + b"}}",
}

NO_MESSAGE: Final[Mapping[str, Any]] = {
    "a number": b"7",
    "a string": b'"ping"',
    "null": b"null",
    "true": b"true",
    "an empty object": {},
    "no version of JSON-RPC": {"jsonrpc": ...},
    "another version of JSON-RPC": {"jsonrpc": "1.0"},
    "a version that is a number": {"jsonrpc": 2.0},
    "no method": {"method": ...},
    "a method that is a number": {"method": 7},
    "a method that is null": {"method": None},
    "an id that is null": {"id": None},
    "an id that is a boolean": {"id": True},
    "an id that is a fraction": {"id": 1.5},
    "an id that is a whole float": {"id": 7.0},
    "an id that is an object": {"id": {}},
    "an id that is an array": {"id": [7]},
    "params that are an array": {"params": [TOOL]},
    "params that are a string": {"params": TOOL},
    "params that are null": {"params": None},
    "a request with a result": {"result": {}},
    "a request with an error": {"error": {"code": 1, "message": "no"}},
    "a result and an error": {"method": ..., "params": ..., "result": {}, "error": {"code": 1, "message": "no"}},
    "a result without an id": {"id": ..., "method": ..., "params": ..., "result": {}},
}


def _body_rows() -> list[BadInput]:
    rows = []
    for era in ("modern", "handshake"):
        wrong: Era = "modern" if era == "modern" else "handshake"
        rows += [
            BadInput(name=name, era=wrong, body=body, expected=Expected(status=400, code=PARSE_ERROR))
            for name, body in MALFORMED.items()
        ]
        make = modern_bare if era == "modern" else bare
        rows += [
            BadInput(
                name=name,
                era=wrong,
                body=make(**changes) if isinstance(changes, dict) and changes else encoded(changes),
                expected=Expected(status=400),
            )
            for name, changes in NO_MESSAGE.items()
        ]
    return rows


# The modern era.


def _modern_rows() -> list[BadInput]:
    def row(name: str, expected: Expected, **changes: Any) -> BadInput:
        return BadInput(name=name, era="modern", expected=expected, **{"body": GOOD_MODERN, **changes})

    envelope = Expected(status=400, code=INVALID_PARAMS)
    unknown = Expected(status=404, code=METHOD_NOT_FOUND)
    mismatch = Expected(status=400, code=HEADER_MISMATCH)
    params = Expected(status=400, code=INVALID_PARAMS)
    capability = Expected(status=400, code=CAPABILITY_MISSING)
    state = Expected(status=400, code=INVALID_PARAMS, text=STATE_REFUSED)
    question = "test_input_required_result_elicitation"
    return [
        row("an array", Expected(status=400), body=[GOOD_MODERN]),
        row("an empty array", Expected(status=400), body=[]),
        row("no params", envelope, body=modern_bare(params=...)),
        row("no _meta", envelope, body={**GOOD_MODERN, "params": {"name": TOOL}}),
        row("a _meta that is a string", envelope, body={**GOOD_MODERN, "params": {"name": TOOL, "_meta": "x"}}),
        row("no version in _meta", envelope, body=modern(name=TOOL, meta={"protocolVersion": None})),
        row("no capabilities in _meta", envelope, body=modern(name=TOOL, meta={"clientCapabilities": None})),
        row("capabilities that are a string", envelope, body=modern(name=TOOL, meta={"clientCapabilities": "all"})),
        row("client info that is a string", envelope, body=modern(name=TOOL, meta={"clientInfo": "me"})),
        row("an unknown method", unknown, body=modern("tools/destroy")),
        row("an empty method", unknown, body=modern("")),
        row("initialize", unknown, body=modern("initialize")),
        row("ping", unknown, body=modern("ping")),
        row("logging/setLevel", unknown, body=modern("logging/setLevel", level="debug")),
        row("resources/subscribe", unknown, body=modern("resources/subscribe", uri="test://watched-resource")),
        row("no version header", mismatch, headers={"MCP-Protocol-Version": None}),
        row("a version header of the other era", mismatch, headers={"MCP-Protocol-Version": HANDSHAKE}),
        row("a version in _meta that is no string", mismatch, body=modern(name=TOOL, meta={"protocolVersion": 7})),
        row("no method header", mismatch, headers={"Mcp-Method": None}),
        row("another method in the header", mismatch, headers={"Mcp-Method": "tools/list"}),
        row("a method header in capitals", mismatch, headers={"Mcp-Method": "TOOLS/CALL"}),
        row("no name header", mismatch, headers={"Mcp-Name": None}),
        row("another name in the header", mismatch, headers={"Mcp-Name": "crash"}),
        row("a name header that only claims to be encoded", mismatch, headers={"Mcp-Name": "=?base64?!!!?="}),
        row(
            "another URI in the header",
            mismatch,
            body=modern("resources/read", uri="test://static-text"),
            headers={"Mcp-Name": "test://static-binary"},
        ),
        row(
            "another prompt in the header",
            mismatch,
            body=modern("prompts/get", name="test_simple_prompt"),
            headers={"Mcp-Name": "test_prompt_with_image"},
        ),
        row(
            "another mirrored parameter",
            mismatch,
            body=modern(name="test_x_mcp_header", arguments={"region": "eu"}),
            headers={"Mcp-Param-Region": "us"},
        ),
        row(
            "a mirrored parameter left out",
            mismatch,
            body=modern(name="test_x_mcp_header", arguments={"region": "eu"}),
        ),
        row(
            "an unknown version",
            Expected(status=400, code=VERSION_UNSUPPORTED),
            body=modern(name=TOOL, meta={"protocolVersion": "2099-01-01"}),
            headers={"MCP-Protocol-Version": "2099-01-01"},
        ),
        row(
            "an old version as an envelope",
            Expected(status=400, code=VERSION_UNSUPPORTED),
            body=modern(name=TOOL, meta={"protocolVersion": HANDSHAKE}),
            headers={"MCP-Protocol-Version": HANDSHAKE},
        ),
        row(
            "a capability that a tool demands",
            capability,
            body=modern(name="test_missing_capability", meta={"clientCapabilities": {}}),
        ),
        row(
            "a capability that a question needs",
            capability,
            body=modern(name="test_input_required_result_sampling", meta={"clientCapabilities": {}}),
        ),
        row("an unknown tool", params, body=modern(name="nothing")),
        row("no name of a tool", params, body=modern()),
        row("a name that is a number", mismatch, body=modern(name=7)),
        row("arguments that are an array", params, body=modern(name=TOOL, arguments=[])),
        row("a bad cursor", Expected(status=400, code=INVALID_PARAMS), body=modern("tools/list", cursor="bogus")),
        row("a cursor not of ASCII", params, body=modern("tools/list", cursor="é")),
        row("a cursor that is a number", params, body=modern("tools/list", cursor=7)),
        row("a cursor of nothing known", params, body=modern("prompts/list", cursor="bm90aGluZw==")),
        row("an unknown resource", params, body=modern("resources/read", uri="test://nothing")),
        row("a URI that is none", params, body=modern("resources/read", uri="::")),
        row("an unknown stored result", params, body=modern("resources/read", uri="mcp-result://nothing")),
        row("an unknown prompt", params, body=modern("prompts/get", name="nothing")),
        row("a prompt without its arguments", params, body=modern("prompts/get", name="test_prompt_with_arguments")),
        row(
            "completion for an unknown prompt",
            params,
            body=modern(
                "completion/complete",
                ref={"type": "ref/prompt", "name": "nothing"},
                argument={"name": "a", "value": ""},
            ),
        ),
        row(
            "completion for nothing",
            params,
            body=modern("completion/complete", ref={"type": "ref/nothing"}, argument={"name": "a", "value": ""}),
        ),
        row("arguments that do not fit", Expected(status=200, code=None), body=modern(name="season_of")),
        row(
            "an argument outside its enum",
            Expected(status=200, code=None),
            body=modern(name="season_of", arguments={"season": "winter"}),
        ),
        row(
            "a tool that raises",
            Expected(status=200, code=None, text="The tool 'crash' failed."),
            body=modern(name="crash"),
            logs=True,
        ),
        row(
            "a resource that raises",
            Expected(status=200, code=INTERNAL_ERROR),
            body=modern("resources/read", uri="ledger://crash"),
            logs=True,
        ),
        row("a state that is garbage", state, body=modern(name=question, requestState="garbage")),
        row("a state that is empty", state, body=modern(name=question, requestState="")),
        row("a state that is not of ASCII", state, body=modern(name=question, requestState="é\udc00")),
        row("a state that is a number", params, body=modern(name=question, requestState=7)),
        row("a tampered state", state, body=_round("<tampered-state>")),
        row("a state cut short", state, body=_round("<short-state>")),
        row("another tenant's state", state, body=_round("<foreign-state>")),
        row("the state of other arguments", state, body=_round("<state>", note="other")),
        row(
            "the state of another tool",
            state,
            body=modern(
                name="test_input_required_result_request_state", requestState="<state>", inputResponses=_CONSENT
            ),
        ),
        row(
            "the state of a tool, at a prompt",
            state,
            body=modern(
                "prompts/get",
                name="test_input_required_result_prompt",
                requestState="<state>",
                inputResponses=_CONSENT,
            ),
        ),
    ]


_CONSENT: Final = {"ask_consent": {"action": "accept", "content": {"ok": True}}}


def _round(state: str, note: str = "table") -> dict[str, Any]:
    return modern(name="write_entry", arguments={"note": note}, requestState=state, inputResponses=_CONSENT)


# The handshake era.


def _handshake_rows() -> list[BadInput]:
    def row(name: str, expected: Expected, **changes: Any) -> BadInput:
        return BadInput(name=name, era="handshake", expected=expected, **{"body": GOOD_HANDSHAKE, **changes})

    def get(name: str, expected: Expected, **changes: Any) -> BadInput:
        return row(name, expected, **{"method": "GET", "body": b"", "elsewhere": post_only, "headers": {}, **changes})

    post_only = everywhere(
        Expected(status=405, headers={"allow": VIEW_METHODS}, note="the view answers POST only"), *VIEWS
    )
    refused = Expected(status=400)
    missing = Expected(status=400, text="Missing session id")
    not_found = Expected(status=404, text=SESSION_NOT_FOUND)
    unknown = Expected(status=200, code=METHOD_NOT_FOUND)
    params = Expected(status=200, code=INVALID_PARAMS)
    bad_event = Expected(status=400, code=INVALID_PARAMS, reason="bad_event_id")
    batching = {"Mcp-Session-Id": "<batching>", "MCP-Protocol-Version": BATCHING}
    ping = {"jsonrpc": "2.0", "method": "ping"}
    initialize = handshake("initialize", protocolVersion=BATCHING, capabilities={}, clientInfo={})
    rows = [
        row("no session id", missing, headers={"Mcp-Session-Id": None}),
        row("a notification without a session id", missing, body=_INITIALIZED, headers={"Mcp-Session-Id": None}),
        get("GET without a session id", missing, headers={"Mcp-Session-Id": None}),
        get("DELETE without a session id", missing, method="DELETE", headers={"Mcp-Session-Id": None}),
        row("two session ids", refused, extra=(("Mcp-Session-Id", "other"),), elsewhere=_not_found_when_joined()),
        row("an array", refused, body=[GOOD_HANDSHAKE]),
        row("an empty array", refused, body=[]),
        row("an empty array where arrays are allowed", refused, body=[], headers=batching),
        row("21 messages", refused, body=[{**ping, "id": number} for number in range(21)], headers=batching),
        row("initialize in an array", refused, body=[initialize], headers=batching),
        row("an array in an array", refused, body=[[{**ping, "id": 1}]], headers=batching),
        row("an array with something else", refused, body=[{**ping, "id": 1}, 7], headers=batching),
        row("an unknown method", unknown, body=handshake("tools/destroy")),
        row("a method of the other era", unknown, body=handshake("server/discover")),
        row("subscriptions/listen", unknown, body=handshake("subscriptions/listen", notifications={})),
        row("an unknown version header", refused, headers={"MCP-Protocol-Version": "2099-01-01"}),
        row("an empty version header", refused, headers={"MCP-Protocol-Version": ""}),
        row(
            "an unknown version header at initialize",
            refused,
            body=initialize,
            headers={"Mcp-Session-Id": None, "MCP-Protocol-Version": "1.0"},
        ),
        row("initialize without params", params, body=_initialize(), headers=_NO_SESSION),
        row("initialize without a version", params, body=_initialize(capabilities={}), headers=_NO_SESSION),
        row(
            "initialize with capabilities that are a string",
            params,
            body=_initialize(protocolVersion=HANDSHAKE, capabilities="x", clientInfo={"name": "a", "version": "1"}),
            headers=_NO_SESSION,
        ),
        row(
            "initialize with a record that is too large",
            params,
            body=_initialize(
                protocolVersion=HANDSHAKE,
                capabilities={"experimental": {"x": {"y": "z" * 70_000}}},
                clientInfo={"name": "a", "version": "1"},
            ),
            headers=_NO_SESSION,
        ),
        row("an unknown tool", params, body=handshake(name="nothing")),
        row("no name of a tool", params, body=handshake()),
        row("arguments that are an array", params, body=handshake(name=TOOL, arguments=[])),
        row("a bad cursor", params, body=handshake("tools/list", cursor="bogus")),
        row("an unknown resource", params, body=handshake("resources/read", uri="test://nothing")),
        row("an unknown prompt", params, body=handshake("prompts/get", name="nothing")),
        row("a prompt without arguments", params, body=handshake("prompts/get", name="test_prompt_with_arguments")),
        row("an unknown level", params, body=handshake("logging/setLevel", level="loud")),
        row("arguments that do not fit", Expected(status=200, code=None), body=handshake(name="season_of")),
        row(
            "a tool that raises",
            Expected(status=200, code=None, text="The tool 'crash' failed."),
            body=handshake(name="crash"),
            logs=True,
        ),
        row(
            "a resource that raises",
            Expected(status=200, code=INTERNAL_ERROR),
            body=handshake("resources/read", uri="ledger://crash"),
            logs=True,
        ),
        get("GET without accepting events", Expected(status=406), headers={"Accept": "application/json"}),
        get("an event id that is garbage", bad_event, headers={"Last-Event-ID": "garbage"}),
        get("an event id that is empty", bad_event, headers={"Last-Event-ID": ""}),
        get("an event id of another session", bad_event, headers={"Last-Event-ID": "<foreign-event>"}),
        get("an event id with another number", bad_event, headers={"Last-Event-ID": "<tampered-event>"}),
        get("an event id not of ASCII", bad_event, headers={"Last-Event-ID": "\xff.1.\xff"}),
        get(
            "an event of which nothing is left",
            Expected(status=405, headers={"allow": "POST, DELETE, OPTIONS"}),
            headers={"Last-Event-ID": "<last-event>"},
        ),
    ]
    for which in SESSIONS_NOT_FOUND:
        named = {"Mcp-Session-Id": which}
        rows += [
            row(f"the session {which}", not_found, headers=named),
            row(f"a notification of the session {which}", not_found, body=_INITIALIZED, headers=named),
            row(f"an array of the session {which}", not_found, body=[GOOD_HANDSHAKE], headers=named),
            get(f"GET of the session {which}", not_found, headers=named),
            get(f"DELETE of the session {which}", not_found, method="DELETE", headers=named),
        ]
    return rows


SESSIONS_NOT_FOUND: Final = ("<unknown>", "<ended>", "<foreign>", "<long>", "<not-ascii>", "<empty>")
_NO_SESSION: Final = {"Mcp-Session-Id": None, "MCP-Protocol-Version": None}
_INITIALIZED: Final = {"jsonrpc": "2.0", "method": "notifications/initialized"}


def _initialize(**params: Any) -> dict[str, Any]:
    return handshake("initialize", **params)


def _not_found_when_joined() -> Mapping[Kind, Expected]:
    return everywhere(Expected(status=404, text=SESSION_NOT_FOUND, note=_JOINED), *VIEWS)


TABLE: Final = [*_head_rows(), *_body_rows(), *_modern_rows(), *_handshake_rows()]

"""The base protocol: messages, ids, results, errors, notifications, and that nothing is remembered (basic)."""

import ast
import asyncio
from pathlib import Path
from typing import Any

import pytest
from mcp.shared.exceptions import MCPError

from django_mcp import Context, Server
from tests.live.bad_inputs import MALFORMED, NO_MESSAGE, encoded, modern_bare
from tests.spec.modern.wire import EVERYTHING, PREFIX, REQUESTS, VERSION, call, post, request

PACKAGE = Path(__file__).parents[3] / "django_mcp"
CORE_RESULT_TYPES = {"complete", "input_required"}

every_method = pytest.mark.parametrize("method", REQUESTS)

#: Requests that are refused, each for a reason of its own.
REFUSED: dict[str, dict[str, Any]] = {
    "unknown method": request("tools/destroy"),
    "unknown tool": call("nothing"),
    "unknown resource": request("resources/read", {"uri": "note:nothing"}),
    "unknown prompt": request("prompts/get", {"name": "nothing"}),
    "bad cursor": request("tools/list", {"cursor": "bogus"}),
    "no envelope": {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}},
    "unknown version": request("tools/list", meta={f"{PREFIX}protocolVersion": "2099-01-01"}),
    "missing capability": call("ask", capabilities={}),
    "bad state": call("ask", params={"requestState": "garbage"}),
}


@pytest.mark.parametrize("body", MALFORMED.values(), ids=MALFORMED)
async def test_what_is_no_json_is_refused(full: Server, body: bytes) -> None:
    answer = await post(body)
    assert (answer.status, answer.error["code"], answer.last["id"]) == (400, -32700, None)


@pytest.mark.parametrize("wrong", NO_MESSAGE.values(), ids=NO_MESSAGE)
async def test_what_is_no_json_rpc_message_is_refused(full: Server, wrong: Any) -> None:
    answer = await post(modern_bare(**wrong) if isinstance(wrong, dict) and wrong else encoded(wrong))
    assert (answer.status, answer.error["code"]) == (400, -32600)


@every_method
async def test_a_result_answers_under_the_id_of_its_request(full: Server, method: str) -> None:
    for request_id in (7, 0, -1, 2**53, "7", "", "é"):
        answer = await post(request(method, REQUESTS[method], id=request_id))
        assert answer.status == 200
        assert (answer.last["jsonrpc"], answer.last["id"]) == ("2.0", request_id)
        assert type(answer.last["id"]) is type(request_id)
        assert answer.last.keys() == {"jsonrpc", "id", "result"}


@every_method
async def test_an_id_that_is_neither_a_string_nor_an_integer_is_refused(full: Server, method: str) -> None:
    wrong: list[Any] = [None, True, 1.5, 7.0, {}, [7]]
    for request_id in wrong:
        answer = await post(request(method, REQUESTS[method], id=request_id))
        assert (answer.status, answer.error["code"], answer.last["id"]) == (400, -32600, None)


@every_method
async def test_every_result_says_that_it_is_complete(full: Server, method: str) -> None:
    assert (await post(request(method, REQUESTS[method]))).result["resultType"] == "complete"


async def test_no_kind_of_result_goes_out_that_no_advertised_extension_adds(full: Server) -> None:
    asked = await post(call("ask"))
    discovered = await post(request("server/discover"))
    answers = [await post(request(method, params)) for method, params in REQUESTS.items()]
    assert {answer.result["resultType"] for answer in (asked, *answers)} == CORE_RESULT_TYPES
    assert "extensions" not in discovered.result["capabilities"]


@pytest.mark.parametrize("message", REFUSED.values(), ids=REFUSED)
@pytest.mark.parametrize("request_id", [7, "seven"])
async def test_an_error_has_a_code_a_message_and_the_id_of_its_request(
    full: Server, message: dict[str, Any], request_id: Any
) -> None:
    answer = await post({**message, "id": request_id})
    assert answer.status >= 400
    assert answer.last.keys() == {"jsonrpc", "id", "error"}
    assert answer.last["id"] == request_id
    assert type(answer.error["code"]) is int
    assert answer.error["message"]


@pytest.mark.parametrize("wrong", [{"jsonrpc": "1.0"}, {"params": [1]}, {"method": 7}, {"method": ...}])
async def test_a_malformed_request_is_refused_under_its_id_where_that_can_be_read(full: Server, wrong: Any) -> None:
    answer = await post(modern_bare(**wrong, id="readable"))
    assert (answer.status, answer.last["id"], answer.error["code"]) == (400, "readable", -32600)
    assert (await post(modern_bare(**wrong, id={}))).last["id"] is None


def test_no_code_of_the_legacy_range_is_made_up() -> None:
    written = {
        node.operand.value
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub) and isinstance(node.operand, ast.Constant)
    }
    legacy = {code for code in written if isinstance(code, int) and 32000 <= code <= 32019}
    # The retired code of an unknown resource is known, to be replaced.
    assert legacy == {32002}


@pytest.mark.parametrize(
    ("raised", "sent", "status"),
    [
        (-32002, -32602, 400),
        (-32042, -32603, 200),
        (-32023, -32603, 200),
        (-32099, -32603, 200),
        (-32021, -32021, 400),
        (7, 7, 200),
    ],
)
async def test_a_handler_sends_no_reserved_code_but_the_defined_ones(
    server: Server, raised: int, sent: int, status: int
) -> None:
    @server.tool
    async def fail() -> str:
        raise MCPError(raised, "on purpose", {"why": "test"})

    answer = await post(call("fail"))
    assert answer.status == status
    assert answer.error == {"code": sent, "message": "on purpose", "data": {"why": "test"}}


@pytest.mark.parametrize(
    "message",
    [
        {"method": "notifications/nothing"},
        {"method": "notifications/cancelled", "params": {"requestId": 7}},
        {"method": "notifications/cancelled", "params": {"requestId": {}}},
        {"method": "notifications/cancelled"},
        {"method": "tools/call", "params": {"name": "greet"}},
        {"method": "notifications/progress", "params": {"progressToken": None, "progress": "x"}},
    ],
)
async def test_an_accepted_notification_gets_202_and_nothing_else(full: Server, message: dict[str, Any]) -> None:
    answer = await post({"jsonrpc": "2.0", **message})
    assert (answer.status, answer.messages, answer.headers["content-length"]) == (202, [], "0")
    assert "content-type" not in answer.headers


@pytest.mark.parametrize(
    ("message", "headers", "status"),
    [
        ({"method": "notifications/x"}, {"mcp-protocol-version": "2099-01-01"}, 400),
        ({"method": "notifications/x", "params": [1]}, {}, 400),
        ({"method": "notifications/x"}, {"accept": "text/html"}, 406),
        ({"method": "notifications/x"}, {"content-type": "text/plain"}, 415),
        ({"method": "notifications/x"}, {"origin": "https://evil.example"}, 403),
    ],
)
async def test_a_notification_that_is_not_accepted_gets_an_error_status(
    full: Server, message: dict[str, Any], headers: dict[str, str], status: int
) -> None:
    answer = await post({"jsonrpc": "2.0", **message}, headers)
    assert answer.status == status
    assert answer.last["id"] is None
    assert answer.error["message"]


async def test_the_servers_notifications_have_no_id(full: Server) -> None:
    answer = await post(call("talk", meta={"progressToken": "t", f"{PREFIX}logLevel": "debug"}))
    methods = [message["method"] for message in answer.notifications]
    assert methods == ["notifications/progress", "notifications/message", "notifications/progress"]
    assert [message.keys() for message in answer.notifications] == [{"jsonrpc", "method", "params"}] * 3


async def test_nothing_of_an_earlier_request_counts_for_the_next(full: Server) -> None:
    @full.tool
    async def who(ctx: Context) -> str:
        return f"{ctx.client_info and ctx.client_info.name} {ctx.client_capabilities.sampling}"

    level = {f"{PREFIX}logLevel": "debug", "progressToken": 1}
    assert (await post(call("ask", meta=level))).result["resultType"] == "input_required"
    assert len((await post(call("talk", meta=level))).notifications) == 3

    # Each comes over the same connection, as far as the application can tell: without what was said before.
    assert (await post(call("ask", capabilities={}))).error["code"] == -32021
    assert (await post(call("talk"))).notifications == []
    assert (await post(call("who", capabilities={}, meta={f"{PREFIX}clientInfo": ...}))).text == "None None"
    unsaid = request("tools/list", meta={f"{PREFIX}protocolVersion": ..., f"{PREFIX}clientCapabilities": ...})
    assert (await post(unsaid)).error["code"] == -32602


async def test_a_round_that_names_no_state_begins_anew(full: Server) -> None:
    first = await post(call("ask"))
    answers = {"inputResponses": {"ask_consent": {"action": "accept", "content": {"ok": True}}}}
    begun_anew = await post(call("ask"))
    assert begun_anew.result["resultType"] == "input_required"
    assert begun_anew.result["requestState"] != first.result["requestState"]
    # Answers alone name no round: they are asked for again.
    assert (await post(call("ask", params=answers))).result["resultType"] == "input_required"
    named = answers | {"requestState": first.result["requestState"]}
    assert (await post(call("ask", params=named))).text == "asked: True"


async def test_requests_at_once_do_not_meet(full: Server) -> None:
    names = [f"caller {number}" for number in range(20)]
    answers = await asyncio.gather(*(post(call("greet", {"name": name}, id=name)) for name in names))
    assert [(answer.last["id"], answer.text) for answer in answers] == [(name, f"Hello, {name}!") for name in names]


async def test_discover_names_versions_capabilities_and_identity(full: Server) -> None:
    result = (await post(request("server/discover"))).result
    assert result["supportedVersions"] == [VERSION]
    assert result["capabilities"].keys() == {"tools", "resources", "prompts", "completions", "logging"}
    assert result["_meta"][f"{PREFIX}serverInfo"]["name"] == "tested"


async def test_an_unknown_version_is_refused_with_those_that_are_served(full: Server) -> None:
    for version in ("2099-01-01", "2025-11-25", "", "garbage"):
        message = request("tools/list", meta={f"{PREFIX}protocolVersion": version})
        answer = await post(message, {"mcp-protocol-version": version})
        assert answer.status == 400
        assert answer.error["code"] == -32022
        assert answer.error["data"] == {"supported": [VERSION], "requested": version}


async def test_a_client_with_extensions_that_are_not_here_gets_core_behaviour(full: Server) -> None:
    extended = {**EVERYTHING, "extensions": {"com.example/unheard-of": {"version": 9}}}
    for method, params in REQUESTS.items():
        answer = await post(request(method, params, capabilities=extended))
        assert answer.result["resultType"] == "complete"


@pytest.mark.parametrize("method", ["tasks/get", "com.example/anything", "initialize", "ping", "logging/setLevel"])
async def test_a_method_that_is_not_here_gets_404_and_its_code(full: Server, method: str) -> None:
    answer = await post(request(method))
    assert (answer.status, answer.error["code"]) == (404, -32601)

"""`_meta`: its required fields, its reserved keys, and how keys are named (basic)."""

from typing import Any

import pytest

from django_mcp import Context, Server
from django_mcp.exceptions import RegistryError
from django_mcp.server.call import QUESTION_META_KEY
from django_mcp.server.compile import compiled
from django_mcp.server.meta import is_meta_key
from tests.servers import defined
from tests.spec.modern.wire import PREFIX, REQUESTS, call, post, request

ODD_VALUES: list[Any] = [None, 0, "", "text", [1], {"a": {}}, True]


def keys_under_meta(value: Any) -> set[str]:
    """Return the keys of every `_meta` at any depth."""
    if isinstance(value, list):
        return set().union(*map(keys_under_meta, value))
    if not isinstance(value, dict):
        return set()
    return set(value.get("_meta", {})) | keys_under_meta(list(value.values()))


@pytest.mark.parametrize("missing", ["protocolVersion", "clientCapabilities"])
@pytest.mark.parametrize("method", REQUESTS)
async def test_a_request_without_a_required_field_is_refused(full: Server, method: str, missing: str) -> None:
    answer = await post(request(method, REQUESTS[method], meta={PREFIX + missing: ...}))
    assert (answer.status, answer.error["code"]) == (400, -32602)
    assert PREFIX + missing in answer.error["message"]


@pytest.mark.parametrize("params", [{}, {"_meta": {}}, {"_meta": "x"}, {"_meta": None}, {"_meta": []}])
async def test_a_request_without_an_envelope_is_refused(full: Server, params: dict[str, Any]) -> None:
    answer = await post({"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": params})
    assert (answer.status, answer.error["code"]) == (400, -32602)


async def test_a_client_need_not_say_what_it_is(full: Server) -> None:
    assert (await post(call("greet", meta={f"{PREFIX}clientInfo": ...}))).text == "Hello, you!"


@pytest.mark.parametrize("name", ["subscriptionId", "serverInfo", "related-task", "unheard-of"])
async def test_reserved_keys_of_any_type_change_nothing_where_they_mean_nothing(full: Server, name: str) -> None:
    plain = (await post(call("talk", meta={"progressToken": 1}))).messages[:-1]
    for value in ODD_VALUES:
        answer = await post(call("talk", meta={PREFIX + name: value, "progressToken": 1}))
        assert answer.text == "done"
        assert answer.messages[:-1] == plain


@pytest.mark.parametrize("name", ["logLevel", "clientInfo", "clientCapabilities"])
async def test_a_reserved_key_of_a_wrong_type_is_refused_and_not_believed(full: Server, name: str) -> None:
    for value in (0, [1], "text"):
        answer = await post(call("talk", meta={PREFIX + name: value}))
        assert (answer.status, answer.error["code"]) == (400, -32602)


async def test_every_key_that_goes_out_is_named_by_the_rules(full: Server) -> None:
    level = {f"{PREFIX}logLevel": "debug", "progressToken": 1}
    answers = [await post(request(method, params, meta=level)) for method, params in REQUESTS.items()]
    answers += [await post(call("ask")), await post(call("talk", meta=level))]
    sent = keys_under_meta([answer.messages for answer in answers]) | {QUESTION_META_KEY}
    assert sent == {f"{PREFIX}serverInfo", "org.django-mcp/question"}
    assert [key for key in sent if not is_meta_key(key)] == []


@pytest.mark.parametrize(
    ("key", "good"),
    [
        ("com.example/name", True),
        ("name", True),
        ("a-b.c1/", True),
        ("a.b/n-a_m.e1", True),
        ("1com/name", False),
        ("com-/name", False),
        ("com..example/name", False),
        (".com/name", False),
        ("/name", False),
        ("com.exa_mple/name", False),
        ("com.example/-name", False),
        ("com.example/name_", False),
        ("com/example/name", False),
        ("com.example/näme", False),
        ("a name", False),
    ],
)
def test_a_key_that_an_author_writes_is_named_by_the_rules(key: str, good: bool) -> None:
    assert is_meta_key(key) is good
    with defined("labelled") as labelled:

        async def label(day: str = "") -> str:
            return ""

        for decorate in (
            labelled.tool(meta={key: 1}),
            labelled.prompt(meta={key: 1}),
            labelled.resource("note://a", meta={key: 1}),
        ):
            definition = decorate(label)
            if good:
                compiled(labelled)
            else:
                with pytest.raises(RegistryError, match="in its meta; name keys like"):
                    compiled(labelled)
            labelled.remove(definition)


async def test_extensions_would_have_a_prefix(full: Server) -> None:
    capabilities = (await post(request("server/discover"))).result["capabilities"]
    names = [*capabilities.get("extensions", {}), *capabilities.get("experimental", {})]
    assert [name for name in names if "/" not in name or not is_meta_key(name)] == []


@pytest.mark.parametrize(
    "trace",
    [
        {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-01", "tracestate": "a=1"},
        {"traceparent": "garbage", "tracestate": "=", "baggage": "\x00"},
        {"traceparent": 7, "tracestate": {}, "baggage": [1]},
    ],
)
async def test_trace_context_is_served_whatever_it_is_and_none_is_sent(full: Server, trace: dict[str, Any]) -> None:
    @full.tool
    async def forward(ctx: Context) -> str:
        await ctx.aprogress(1)
        return "done"

    answer = await post(call("forward", meta={**trace, "progressToken": 1, f"{PREFIX}logLevel": "debug"}))
    assert answer.text == "done"
    assert keys_under_meta(answer.messages) == {f"{PREFIX}serverInfo"}

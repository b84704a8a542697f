"""The plain view beside Django's middleware and transactions, under WSGI and under ASGI."""

import gc
import json
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth.models import User
from django.db import connection
from django.http import HttpRequest, HttpResponseBase, StreamingHttpResponse
from django.test import AsyncClient, Client, override_settings

from django_mcp.core.sse import Decoder
from django_mcp.server import keeper
from tests.view_site import LONG_TEXT

Post = Callable[..., Any]
MODERN = "2026-07-28"
META = "io.modelcontextprotocol/"
PATHS = ("/mcp", "/mcp/")
USUAL = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.http.ConditionalGetMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]


@pytest.fixture(autouse=True)
def site() -> Iterator[None]:
    with override_settings(ROOT_URLCONF="tests.view_site", DJANGO_MCP={"ACCESS": "public"}):
        yield


@pytest.fixture(params=["wsgi", "asgi"])
def post(request: pytest.FixtureRequest) -> Post:
    """Post to the view under Django's handler for WSGI, or for ASGI."""
    return Client().post if request.param == "wsgi" else async_to_sync(AsyncClient().post)


def message(method: str, **params: Any) -> dict[str, Any]:
    meta = {f"{META}protocolVersion": MODERN, f"{META}clientCapabilities": {}, **params.pop("_meta", {})}
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": {**params, "_meta": meta}}


def terms(body: dict[str, Any], **headers: str) -> dict[str, Any]:
    """Return the arguments of `client.post`."""
    mirrored = {"Mcp-Method": body["method"], "MCP-Protocol-Version": MODERN}
    if "name" in body["params"]:
        mirrored["Mcp-Name"] = body["params"]["name"]
    accept = {"Accept": "application/json, text/event-stream"}
    return {
        "data": json.dumps(body),
        "content_type": "application/json",
        "headers": {**accept, **mirrored, **headers},
    }


def call(tool: str, **headers: str) -> dict[str, Any]:
    return terms(message("tools/call", name=tool, arguments={}), **headers)


def value_of(response: Any) -> Any:
    assert response.status_code == 200, response.content
    assert response.headers["Content-Type"] == "application/json"
    return json.loads(response.content)["result"]["structuredContent"]["result"]


def read_body(get_response: Callable[[HttpRequest], HttpResponseBase]) -> Callable[[HttpRequest], HttpResponseBase]:
    """Make a middleware that reads the body before the view does."""

    def middleware(request: HttpRequest) -> HttpResponseBase:
        assert isinstance(request.body, bytes)
        return get_response(request)

    return middleware


@pytest.mark.parametrize("path", PATHS)
def test_a_call_is_answered_by_json(post: Post, path: str) -> None:
    response = post(path, **call("caller_name"))
    assert value_of(response) == f"nobody at {path}"
    assert response.headers["Cache-Control"] == "no-store"


def test_what_would_be_streamed_is_left_out_under_wsgi() -> None:
    body = message("tools/call", name="count_up", arguments={}, _meta={"progressToken": "p"})
    assert value_of(Client().post("/mcp", **terms(body))) == "counted"


async def test_what_is_streamed_goes_as_events_under_asgi() -> None:
    body = message("tools/call", name="count_up", arguments={}, _meta={"progressToken": "p"})
    response: Any = await AsyncClient().post("/mcp", **terms(body))
    assert isinstance(response, StreamingHttpResponse)
    assert response.headers["Content-Type"].startswith("text/event-stream")
    messages = await messages_of(response)
    assert [sent.get("method", "result") for sent in messages] == [
        "notifications/progress",
        "notifications/progress",
        "result",
    ]
    assert messages[-1]["result"]["structuredContent"] == {"result": "counted"}


@pytest.mark.django_db(transaction=True)
async def test_where_no_client_can_come_back_for_the_rest_events_have_no_ids() -> None:
    accept = {"Accept": "application/json, text/event-stream"}

    async def post(body: dict[str, Any], **headers: str) -> Any:
        return await AsyncClient().post(
            "/mcp", json.dumps(body), content_type="application/json", headers={**accept, **headers}
        )

    client = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}
    begun = await post({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": client})
    params = {"name": "count_up", "arguments": {}, "_meta": {"progressToken": "p"}}
    call = {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": params}
    response = await post(call, **{"Mcp-Session-Id": begun.headers["Mcp-Session-Id"]})
    body = b"".join([frame async for frame in response])
    assert body.count(b"data: ") == 3
    assert b"id: " not in body
    assert b"retry: " not in body


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("method", ["get", "delete", "put", "patch"])
def test_other_methods_are_refused_with_those_that_are_not(method: str, path: str) -> None:
    accept = {"Accept": "text/event-stream"}
    response = getattr(Client(), method)(path, headers=accept)
    assert response.status_code == 405
    assert response.headers["Allow"] == "POST, OPTIONS"
    assert response.headers["Content-Type"] == "application/json"
    assert json.loads(response.content)["error"]["code"] == -32600


def test_options_tell_the_methods() -> None:
    response = Client().options("/mcp")
    assert (response.status_code, response.content) == (204, b"")
    assert response.headers["Allow"] == "POST, OPTIONS"


def test_subscriptions_are_neither_offered_nor_served(post: Post) -> None:
    response = post("/mcp", **terms(message("server/discover")))
    capabilities = json.loads(response.content)["result"]["capabilities"]
    assert set(capabilities) >= {"tools", "prompts", "resources"}
    offered = [flag for one in capabilities.values() for flag in ("listChanged", "subscribe") if one.get(flag)]
    assert offered == []
    refused = post("/mcp", **terms(message("subscriptions/listen", notifications={"toolsListChanged": True})))
    assert refused.status_code == 404
    assert json.loads(refused.content)["error"]["code"] == -32601


@pytest.mark.django_db
def test_a_session_is_told_of_no_changes_either() -> None:
    params = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "a", "version": "1"}}
    body = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params}
    accept = {"Accept": "application/json, text/event-stream"}
    response = Client().post("/mcp", data=json.dumps(body), content_type="application/json", headers=accept)
    assert response.headers["Mcp-Session-Id"]
    capabilities = json.loads(response.content)["result"]["capabilities"]
    assert capabilities["tools"] == {"listChanged": False}
    assert not capabilities["resources"].get("subscribe")


# Middleware. Each is shown to work on the page beside the view, so that the test can fail.


@pytest.mark.django_db
@override_settings(MIDDLEWARE=[*USUAL, "django.contrib.auth.middleware.LoginRequiredMiddleware"])
def test_login_required_middleware_leaves_the_credentials_to_the_view() -> None:
    assert Client().get("/page").status_code == 302
    assert value_of(Client().post("/mcp", **call("long_text"))) == LONG_TEXT
    with override_settings(DJANGO_MCP={"ACCESS": "required"}):
        refused = Client().post("/mcp", **call("long_text"))
    assert refused.status_code == 401
    assert refused.headers["WWW-Authenticate"].startswith("Bearer ")
    assert json.loads(refused.content)["error"]["message"] == "Authentication required"


@pytest.mark.django_db
@override_settings(MIDDLEWARE=USUAL)
def test_csrf_middleware_leaves_the_view_alone() -> None:
    client = Client(enforce_csrf_checks=True)
    assert client.post("/page").status_code == 403
    assert value_of(client.post("/mcp", **call("long_text"))) == LONG_TEXT


@pytest.mark.django_db
@override_settings(MIDDLEWARE=USUAL)
def test_the_login_of_a_browser_does_not_authenticate() -> None:
    client = Client()
    client.force_login(User.objects.create_user("ada"))
    assert value_of(client.post("/mcp", **call("caller_name"))) == "nobody at /mcp"


@override_settings(MIDDLEWARE=["django.middleware.gzip.GZipMiddleware"])
def test_gzip_middleware_never_compresses_an_answer(post: Post) -> None:
    zipped = {"Accept-Encoding": "gzip"}
    assert Client().get("/page", headers=zipped).headers["Content-Encoding"] == "gzip"
    assert value_of(post("/mcp", **call("long_text", **zipped))) == LONG_TEXT


@override_settings(MIDDLEWARE=["django.middleware.gzip.GZipMiddleware"])
async def test_gzip_middleware_never_compresses_a_stream() -> None:
    body = message("tools/call", name="count_up", arguments={}, _meta={"progressToken": "p"})
    response: Any = await AsyncClient().post("/mcp", **terms(body, **{"Accept-Encoding": "gzip"}))
    assert isinstance(response, StreamingHttpResponse)
    assert response.headers.get("Content-Encoding", "identity") == "identity"
    assert len(await messages_of(response)) == 3


@pytest.mark.django_db
@pytest.mark.parametrize("path", PATHS)
@override_settings(MIDDLEWARE=USUAL, APPEND_SLASH=True)
def test_the_usual_middleware_changes_nothing(post: Post, path: str) -> None:
    assert value_of(post(path, **call("long_text"))) == LONG_TEXT


@override_settings(MIDDLEWARE=["tests.test_views.read_body"])
def test_a_middleware_may_read_the_body_first(post: Post) -> None:
    assert value_of(post("/mcp", **call("long_text"))) == LONG_TEXT


@pytest.mark.django_db
def test_a_foreign_host_is_refused(post: Post) -> None:
    refused = post("/mcp", **call("long_text", Host="evil.example"))
    assert refused.status_code == 421
    assert json.loads(refused.content)["error"]["code"] == -32600


@pytest.mark.django_db
@override_settings(MIDDLEWARE=USUAL)
def test_a_foreign_host_is_for_the_middleware_to_refuse_where_it_looks_first(post: Post) -> None:
    refused = post("/mcp", **call("long_text", Host="evil.example"))
    assert refused.status_code == 400
    assert "application/json" not in refused.headers["Content-Type"]


# Event loops, of which each request has its own under WSGI.


@pytest.mark.django_db(transaction=True)
def test_what_keeps_calls_ends_with_its_event_loop() -> None:
    params = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "a", "version": "1"}}
    client = Client(headers={"Accept": "application/json, text/event-stream"})

    def post(session: str, **body: Any) -> Any:
        headers = {"Mcp-Session-Id": session} if session else {}
        text = json.dumps({"jsonrpc": "2.0", **body})
        return client.post("/mcp", data=text, content_type="application/json", headers=headers)

    session = post("", id=0, method="initialize", params=params).headers["Mcp-Session-Id"]
    before = len(keeper._keepers)
    for number in range(10):
        assert post(session, id=number, method="ping").status_code == 200
    gc.collect()
    assert len(keeper._keepers) - before < 5


# The database.


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("atomic", [False, True])
def test_atomic_requests_are_not_for_the_view(post: Post, atomic: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", atomic)
    assert value_of(post("/mcp", **call("is_in_transaction"))) is False


async def messages_of(response: StreamingHttpResponse) -> list[dict[str, Any]]:
    content: Any = response.streaming_content
    chunks: AsyncIterator[bytes] = content
    decoder = Decoder()
    return [json.loads(event.data) async for chunk in chunks for event in decoder.feed(chunk) if event.data]

"""The checks of a request head: each refusal, their order, and who the client is."""

import json
from typing import Any

import pytest
from pytest_django import Settings

from django_mcp.security import (
    POST_METHODS,
    Body,
    Head,
    Preflight,
    Refusal,
    client_address,
    cors_headers,
    examine,
    refusal,
    unauthenticated,
)

GOOD: dict[str, str] = {
    "host": "testserver",
    "content-type": "application/json",
    "accept": "application/json, text/event-stream",
}


def ask(method: str = "POST", *extra: tuple[str, str], **changes: str | None) -> Head | Refusal | Preflight:
    fields = {**GOOD, **{name.replace("_", "-"): value for name, value in changes.items()}}
    pairs = [(name, value) for name, value in fields.items() if value is not None] + list(extra)
    return examine(method, [(name.encode(), value.encode("latin-1")) for name, value in pairs], client="192.0.2.1")


def refused(answer: Head | Refusal | Preflight) -> tuple[int, str]:
    assert isinstance(answer, Refusal), answer
    return answer.status, answer.message


def header(answer: Any, name: str) -> str | None:
    return next((value.decode() for key, value in answer.all_headers if key == name.encode()), None)


def test_a_good_post_becomes_a_head() -> None:
    head = ask(content_length="17", mcp_name="  add\t")
    assert isinstance(head, Head)
    assert (head.method, head.host, head.origin, head.client, head.content_length) == (
        "POST",
        "testserver",
        None,
        "192.0.2.1",
        17,
    )
    assert head.get(b"mcp-name") == "add"
    assert head.get(b"mcp-method") is None


def test_a_refusal_is_a_json_rpc_error_without_an_id() -> None:
    answer = ask(host="evil.example")
    assert isinstance(answer, Refusal)
    assert json.loads(answer.body) == {
        "jsonrpc": "2.0",
        "id": None,
        "error": {"code": -32600, "message": "Host not allowed"},
    }
    assert header(answer, "content-type") == "application/json"
    assert header(answer, "content-length") == str(len(answer.body))


@pytest.mark.parametrize(
    "name",
    [
        "host",
        "origin",
        "authorization",
        "content-type",
        "content-length",
        "mcp-method",
        "mcp-name",
        "mcp-param-region",
    ],
)
def test_a_header_that_decides_may_come_once(name: str) -> None:
    answer = ask("POST", (name, "1"), (name, "1"))
    assert refused(answer) == (400, f"Duplicate header: {name}")


def test_other_headers_may_come_twice_and_are_joined() -> None:
    head = ask(
        "POST", ("cookie", "a=1"), ("cookie", "b=2"), ("x-forwarded-for", "1.1.1.1"), ("x-forwarded-for", "::1")
    )
    assert isinstance(head, Head)
    assert head.get(b"cookie") == "a=1; b=2"
    assert head.get(b"x-forwarded-for") == "1.1.1.1, ::1"


@pytest.mark.parametrize(
    "host", ["evil.example", "", "testserver.evil.example", "test server", "testserver:port", None]
)
def test_a_foreign_host_is_misdirected(host: str | None) -> None:
    assert refused(ask(host=host)) == (421, "Host not allowed")


@pytest.mark.parametrize("host", ["testserver", "TESTSERVER:8000", "testserver.", "127.0.0.1:1"])
def test_the_port_and_the_case_of_a_host_do_not_matter(host: str) -> None:
    assert isinstance(ask(host=host), Head)


def test_with_debug_and_no_allowed_hosts_the_loopback_names_are_allowed(settings: Settings) -> None:
    settings.ALLOWED_HOSTS = []
    assert refused(ask(host="localhost")) == (421, "Host not allowed")
    settings.DEBUG = True
    for host in ("localhost:8000", "app.localhost", "127.0.0.1", "[::1]:8000"):
        assert isinstance(ask(host=host), Head)
    assert refused(ask(host="testserver")) == (421, "Host not allowed")


def test_the_host_of_a_proxy_counts_only_where_django_says_so(settings: Settings) -> None:
    assert refused(ask(host="inner", x_forwarded_host="testserver")) == (421, "Host not allowed")
    settings.USE_X_FORWARDED_HOST = True
    assert isinstance(ask(host="inner", x_forwarded_host="testserver"), Head)
    assert refused(ask(x_forwarded_host="evil.example")) == (421, "Host not allowed")


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("http://testserver", "testserver"),
        ("https://testserver", "testserver"),
        ("https://TESTSERVER", "testserver:443"),
        ("http://testserver:8000", "testserver:8000"),
        ("http://127.0.0.1:8123", "127.0.0.1:8123"),
    ],
)
def test_a_page_of_the_same_host_and_port_may_call(origin: str, host: str) -> None:
    assert isinstance(ask(origin=origin, host=host), Head)


@pytest.mark.parametrize(
    "origin",
    [
        "null",
        "",
        "https://evil.example",
        "http://testserver:8001",
        "http://localhost",
        "http://testserver.evil.example",
        "http://testserver@evil.example",
        "ftp://testserver",
        "testserver",
    ],
)
def test_a_page_of_another_origin_may_not_call(origin: str) -> None:
    answer = ask(origin=origin)
    assert refused(answer) == (403, "Origin not allowed")
    assert header(answer, "access-control-allow-origin") is None


def test_listed_origins_may_call_and_read_the_answer(settings: Settings) -> None:
    settings.DJANGO_MCP = {"ALLOWED_ORIGINS": ["https://app.example.com", "http://localhost:6274"]}
    for origin in ("https://app.example.com", "http://localhost:6274"):
        assert isinstance(ask(origin=origin), Head)
        headers = dict(cors_headers(origin))
        assert headers[b"access-control-allow-origin"] == origin.encode()
        assert headers[b"vary"] == b"Origin"
        assert b"Mcp-Session-Id" in headers[b"access-control-expose-headers"]
        assert b"access-control-allow-credentials" not in headers
    assert refused(ask(origin="https://app.example.com:8443")) == (403, "Origin not allowed")
    assert cors_headers(None) == ()


def test_a_star_is_every_origin_but_null_and_never_sends_cookies(settings: Settings) -> None:
    settings.DJANGO_MCP = {
        "ALLOWED_ORIGINS": ["*", "https://app.example.com"],
        "AUTHENTICATION": ["django_mcp.authentication.LoginCookieAuthentication"],
    }
    assert isinstance(ask(origin="https://anywhere.example"), Head)
    assert refused(ask(origin="null")) == (403, "Origin not allowed")
    credentials = (b"access-control-allow-credentials", b"true")
    assert credentials not in cors_headers("https://anywhere.example")
    assert credentials in cors_headers("https://app.example.com")


@pytest.mark.parametrize("method", ["PUT", "PATCH", "HEAD", "TRACE", "get", ""])
def test_another_method_is_told_which_ones_there_are(method: str) -> None:
    answer = ask(method)
    assert refused(answer) == (405, "Method not allowed")
    assert header(answer, "allow") == "GET, POST, DELETE, OPTIONS"


def test_a_door_says_which_methods_it_has() -> None:
    answer = examine("GET", [(b"host", b"testserver")], methods=POST_METHODS)
    assert refused(answer) == (405, "Method not allowed")
    assert header(answer, "allow") == "POST, OPTIONS"


def test_a_preflight_allows_the_headers_of_the_protocol() -> None:
    answer = ask(
        "OPTIONS",
        origin="http://testserver",
        content_type=None,
        accept=None,
        access_control_request_method="POST",
        access_control_request_headers="authorization,Mcp-Param-Region, x-other",
    )
    assert isinstance(answer, Preflight)
    assert (answer.status, answer.body) == (204, b"")
    assert header(answer, "access-control-allow-origin") == "http://testserver"
    assert header(answer, "access-control-allow-methods") == "GET, POST, DELETE, OPTIONS"
    allowed = str(header(answer, "access-control-allow-headers")).split(", ")
    assert {"authorization", "content-type", "mcp-session-id", "mcp-protocol-version", "last-event-id"} <= set(allowed)
    assert "mcp-param-region" in allowed
    assert "x-other" not in allowed
    exposed = "Mcp-Session-Id, Mcp-Resumption-Token, MCP-Protocol-Version, WWW-Authenticate, Retry-After, Allow"
    assert header(answer, "access-control-expose-headers") == exposed


def test_options_without_an_origin_names_the_methods() -> None:
    answer = ask("OPTIONS")
    assert isinstance(answer, Preflight)
    assert answer.all_headers == ((b"allow", b"GET, POST, DELETE, OPTIONS"),)


def test_options_of_a_foreign_page_is_refused() -> None:
    assert refused(ask("OPTIONS", origin="https://evil.example")) == (403, "Origin not allowed")


def test_a_body_that_is_declared_too_large_is_refused_unread(settings: Settings) -> None:
    settings.DJANGO_MCP = {"MAX_BODY_BYTES": 10}
    assert isinstance(ask(content_length="10"), Head)
    assert refused(ask(content_length="11")) == (413, "The body is larger than 10 bytes")


@pytest.mark.parametrize("length", ["-1", "ten", "1.0", "", "9" * 30, "1_0"])
def test_a_length_that_is_no_number_is_refused(length: str) -> None:
    assert refused(ask(content_length=length)) == (400, "Content-Length is not a number")


def test_a_body_that_grows_too_large_is_refused_while_it_is_read(settings: Settings) -> None:
    settings.DJANGO_MCP = {"MAX_BODY_BYTES": 10}
    head = ask()
    assert isinstance(head, Head)
    body = Body(head)
    assert body.feed(b"12345") is None
    assert body.feed(b"67890") is None
    assert body.value() == b"1234567890"
    answer = body.feed(b"1")
    assert answer is not None
    assert refused(answer) == (413, "The body is larger than 10 bytes")
    assert body.value() == b""


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json; charset=utf-8",
        'Application/JSON;charset="UTF-8"',
        "application/json ; charset=utf8",
        "  application/json\t",
        "application/json;",
    ],
)
def test_json_in_utf_8_is_the_content_type(content_type: str) -> None:
    assert isinstance(ask(content_type=content_type), Head)


@pytest.mark.parametrize(
    "content_type",
    [
        None,
        "",
        "text/plain",
        "application/json-rpc",
        "application/jsonx",
        "application/json; charset=latin-1",
        "application/json; charset=utf-16",
        "application/json, text/plain",
        "multipart/form-data; boundary=application/json",
    ],
)
def test_another_content_type_is_refused(content_type: str | None) -> None:
    assert refused(ask(content_type=content_type)) == (415, "Content-Type must be application/json, in UTF-8")


def test_a_compressed_body_is_refused() -> None:
    assert refused(ask(content_encoding="gzip")) == (415, "Content-Encoding must be identity")
    assert isinstance(ask(content_encoding="identity"), Head)


@pytest.mark.parametrize(
    "accept",
    [
        "*/*",
        "text/event-stream, application/json",
        "application/*, text/*",
        "application/json;q=0.5, text/event-stream;q=0.9",
        "APPLICATION/JSON, Text/Event-Stream",
        "text/html, */*;q=0.1",
    ],
)
def test_both_forms_of_an_answer_must_be_accepted(accept: str) -> None:
    assert isinstance(ask(accept=accept), Head)


@pytest.mark.parametrize(
    "accept",
    [
        None,
        "",
        "application/json",
        "text/event-stream",
        "text/html",
        "application/json;q=0, text/event-stream",
        "application/json;q=0.000, */*",
        "application/jsonx, text/event-stream",
    ],
)
def test_one_form_of_an_answer_is_not_enough(accept: str | None) -> None:
    assert refused(ask(accept=accept)) == (
        406,
        "Client must accept both application/json and text/event-stream",
    )


def test_a_get_needs_only_the_stream_and_a_delete_nothing() -> None:
    assert isinstance(ask("GET", accept="text/event-stream", content_type=None), Head)
    assert refused(ask("GET", accept="application/json")) == (406, "Client must accept text/event-stream")
    assert isinstance(ask("DELETE", accept=None, content_type=None), Head)


def test_the_checks_come_in_their_order(settings: Settings) -> None:
    settings.DJANGO_MCP = {"MAX_BODY_BYTES": 1}
    wrong: dict[str, str | None] = {
        "host": "evil.example",
        "origin": "https://evil.example",
        "content_length": "2",
        "content_type": "text/plain",
        "accept": "text/html",
    }
    seen = [refused(ask("PUT", ("mcp-name", "a"), ("mcp-name", "a"), **wrong))[0]]
    seen.append(refused(ask("PUT", **wrong))[0])
    wrong["host"] = "testserver"
    seen.append(refused(ask("PUT", **wrong))[0])
    wrong["origin"] = None
    seen.append(refused(ask("PUT", **wrong))[0])
    seen.append(refused(ask("POST", **wrong))[0])
    wrong["content_length"] = "1"
    seen.append(refused(ask("POST", **wrong))[0])
    wrong["content_type"] = "application/json"
    seen.append(refused(ask("POST", **wrong))[0])
    assert seen == [400, 421, 403, 405, 413, 415, 406]


def test_a_page_can_read_why_it_was_refused() -> None:
    for answer in (
        ask("PUT", origin="http://testserver"),
        ask(origin="http://testserver", accept="text/html"),
        unauthenticated('Bearer realm="desk"', "http://testserver"),
        refusal(503, "Too many requests at once", code=-32603, origin="http://testserver", retry_after_seconds=5),
    ):
        assert header(answer, "access-control-allow-origin") == "http://testserver"


def test_missing_credentials_are_answered_with_a_challenge() -> None:
    answer = unauthenticated('Bearer realm="desk"')
    assert refused(answer) == (401, "Authentication required")
    assert header(answer, "www-authenticate") == 'Bearer realm="desk"'


def test_a_refusal_may_say_when_to_come_back() -> None:
    answer = refusal(503, "The store is unavailable", code=-32603, retry_after_seconds=5)
    assert (answer.status, answer.code, header(answer, "retry-after")) == (503, -32603, "5")


PROXIES = ["10.0.0.0/8", "2001:db8::/32"]


@pytest.mark.parametrize(
    ("peer", "forwarded", "address"),
    [
        ("192.0.2.1", "198.51.100.7", "192.0.2.1"),
        ("10.0.0.1", "198.51.100.7", "198.51.100.7"),
        ("10.0.0.1", "203.0.113.9, 198.51.100.7, 10.1.1.1", "198.51.100.7"),
        ("10.0.0.1", "198.51.100.7:4711", "198.51.100.7"),
        ("10.0.0.1", "[2001:db9::7]:4711", "2001:db9::7"),
        ("10.0.0.1", "2001:db9::7", "2001:db9::7"),
        ("2001:db8::1", "198.51.100.7", "198.51.100.7"),
        ("::ffff:10.0.0.1", "::ffff:198.51.100.7", "198.51.100.7"),
        ("10.0.0.1", "", "10.0.0.1"),
        ("10.0.0.1", "unknown", "10.0.0.1"),
        ("10.0.0.1", "198.51.100.7, garbage, 10.1.1.1", "10.1.1.1"),
        ("10.0.0.1", "10.2.2.2, 10.1.1.1", "10.2.2.2"),
        ("", "198.51.100.7", "198.51.100.7"),
    ],
)
def test_only_trusted_proxies_say_who_the_client_is(
    settings: Settings, peer: str, forwarded: str, address: str
) -> None:
    settings.DJANGO_MCP = {"TRUSTED_PROXIES": PROXIES}
    assert client_address(peer, [(b"x-forwarded-for", forwarded.encode())]) == address


def test_without_trusted_proxies_the_peer_is_the_client() -> None:
    assert client_address("10.0.0.1", [(b"x-forwarded-for", b"198.51.100.7")]) == "10.0.0.1"
    assert client_address("", [(b"x-forwarded-for", b"198.51.100.7")]) == ""


def test_the_head_has_the_address_of_the_client(settings: Settings) -> None:
    settings.DJANGO_MCP = {"TRUSTED_PROXIES": ["192.0.2.0/24"]}
    head = ask("POST", ("x-forwarded-for", "203.0.113.9"), ("x-forwarded-for", "198.51.100.7"))
    assert isinstance(head, Head)
    assert head.client == "198.51.100.7"

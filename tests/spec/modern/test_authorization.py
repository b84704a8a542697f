"""Access tokens: which ones count, what the others are told, and where a token goes (basic/authorization)."""

import base64
import json
from datetime import timedelta
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import User
from django.urls import get_resolver
from pytest_django import Settings

from django_mcp import Context, Server
from django_mcp.consumers import MCPConsumer
from django_mcp.models import MCPAccessToken
from django_mcp.server.request_state import SecretKeyCodec
from django_mcp.testing.asgi import stream
from tests.spec.modern.wire import SERVER, Answer, call, mirrored, post

pytestmark = pytest.mark.django_db(transaction=True)

CHALLENGE = 'Bearer realm="tests"'


@pytest.fixture(autouse=True)
def required(settings: Settings) -> None:
    settings.DJANGO_MCP = {"SERVER_NAME": "tests"}


@pytest.fixture
def secret(db: None) -> str:
    return MCPAccessToken.objects.issue(User.objects.create_user("alice"), "laptop")[1]


def jwt(**claims: Any) -> str:
    """Return a token in the form of another authorization server's."""
    parts: tuple[dict[str, Any], ...] = ({"alg": "HS256", "typ": "JWT"}, claims, {})
    return ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts)


async def sent(token: str | None, **headers: str) -> Answer:
    credentials = {} if token is None else {"authorization": f"Bearer {token}"}
    return await post(call("who"), {**credentials, **headers})


def check_unauthenticated(answer: Answer) -> None:
    assert answer.status == 401
    assert answer.headers["www-authenticate"] == CHALLENGE
    assert answer.messages == [
        {"jsonrpc": "2.0", "id": None, "error": {"code": -32600, "message": "Authentication required"}}
    ]


@pytest.fixture
def asked(server: Server) -> list[str]:
    """Define a tool that says who calls, and note that it ran."""
    asked: list[str] = []

    @server.tool
    async def who(ctx: Context) -> str:
        asked.append(str(ctx.user))
        return str(ctx.user)

    return asked


async def test_a_token_of_this_server_is_accepted_on_every_request(secret: str, asked: list[str]) -> None:
    assert (await sent(secret)).text == "alice"
    check_unauthenticated(await sent(None))
    assert (await sent(secret)).text == "alice"


@pytest.mark.parametrize("access", ["required", "public"])
@pytest.mark.parametrize("end", ["revoked", "expired", "inactive", "deleted", "altered", "cut short", "longer"])
async def test_an_invalid_token_gets_401_and_a_challenge(
    secret: str, asked: list[str], settings: Settings, end: str, access: str
) -> None:
    settings.DJANGO_MCP = {"SERVER_NAME": "tests", "ACCESS": access}

    @sync_to_async
    def spoil() -> str:
        match end:
            case "revoked":
                MCPAccessToken.objects.get().revoke()
            case "expired":
                return MCPAccessToken.objects.issue(User.objects.get(), "old", lifetime=timedelta(0))[1]
            case "inactive":
                User.objects.update(is_active=False)
            case "deleted":
                User.objects.all().delete()
            case "altered":
                return secret[:-1] + ("A" if secret[-1] != "A" else "B")
            case "cut short":
                return secret[:-1]
            case "longer":
                return secret + "A"
        return secret

    assert (await sent(secret)).text == "alice"
    check_unauthenticated(await sent(await spoil()))
    assert asked == ["alice"]


@pytest.mark.parametrize("access", ["required", "public"])
async def test_a_token_of_another_server_is_refused(
    secret: str, asked: list[str], settings: Settings, access: str
) -> None:
    settings.DJANGO_MCP = {"SERVER_NAME": "tests", "ACCESS": access}
    foreign = [
        jwt(iss="https://issuer.example", aud="https://other.example/mcp", sub="alice"),
        jwt(iss="https://issuer.example", aud="http://testserver/mcp", sub="alice"),
        "mcp_" + "x" * 43,
        "ghp_" + "x" * 36,
        SecretKeyCodec().seal(b"alice"),
        secret.removeprefix("mcp_"),
        await sync_to_async(lambda: MCPAccessToken.objects.get().key_digest)(),
    ]
    for token in foreign:
        check_unauthenticated(await sent(token))
    for header in (f"Basic {base64.b64encode(f'alice:{secret}'.encode()).decode()}", secret, "Bearer", "Token x"):
        check_unauthenticated(await post(call("who"), {"authorization": header}))
    assert asked == []


async def test_a_token_in_a_query_string_or_a_cookie_authenticates_nobody(secret: str, asked: list[str]) -> None:
    message = call("who")
    for name in ("access_token", "token", "authorization"):

        async def with_query(scope: Any, receive: Any, send: Any, name: str = name) -> None:
            await MCPConsumer(SERVER)({**scope, "query_string": f"{name}={secret}".encode()}, receive, send)

        check_unauthenticated(await post(message, application=with_query))
    check_unauthenticated(await sent(None, cookie=f"access_token={secret}"))
    assert asked == []


def test_no_address_of_ours_has_room_for_a_token() -> None:
    routes = [str(pattern.pattern) for pattern in get_resolver("django_mcp.urls").url_patterns]
    assert routes
    assert [route for route in routes if "<" in route or "(?P" in route] == []


async def test_errors_of_authorization_have_their_statuses(secret: str, server: Server, asked: list[str]) -> None:
    @server.tool(permission="auth.delete_user")
    async def erase() -> str:
        asked.append("erase")
        return ""

    check_unauthenticated(await sent(None))
    check_unauthenticated(await sent("mcp_" + "x" * 43))
    assert (await sent(secret, origin="https://evil.example")).status == 403

    async def twice(scope: Any, receive: Any, send: Any) -> None:
        pair = (b"authorization", f"Bearer {secret}".encode())
        await MCPConsumer(SERVER)({**scope, "headers": [*scope["headers"], pair]}, receive, send)

    malformed = await post(call("who"), {"authorization": f"Bearer {secret}"}, application=twice)
    assert (malformed.status, malformed.error["code"]) == (400, -32600)
    # What a caller lacks the permission for is not forbidden but not there.
    hidden = await post(call("erase"), {"authorization": f"Bearer {secret}"})
    assert (hidden.status, hidden.error["message"]) == (400, "Unknown tool: erase")
    assert asked == []


@pytest.mark.parametrize("method", ["POST", "GET", "DELETE"])
async def test_the_token_is_checked_before_anything_is_looked_at(asked: list[str], method: str) -> None:
    bodies = (b"", b"{", b"[]", json.dumps(call("nothing")).encode(), json.dumps(call("who")).encode())
    answers = set()
    for body in bodies:
        headers = mirrored(call("who")) | {"mcp-session-id": "x" * 43}
        async with stream(MCPConsumer(SERVER), method, "/mcp", headers=headers, body=body) as response:
            assert await response.started() == 401
            answers.add((response.headers["www-authenticate"], await response.read()))
    assert len(answers) == 1
    assert asked == []


async def test_a_token_is_kept_as_a_hash_and_shown_nowhere(
    secret: str, asked: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("DEBUG"):
        assert (await sent(secret)).text == "alice"
        check_unauthenticated(await sent(secret[:-1]))

    @sync_to_async
    def stored() -> str:
        return f"{list(MCPAccessToken.objects.values())} {list(MCPAccessToken.objects.all())}"

    for text in (await stored(), caplog.text):
        assert secret.removeprefix("mcp_")[:-1] not in text


async def test_the_token_is_passed_on_to_nobody(secret: str, server: Server, caplog: pytest.LogCaptureFixture) -> None:
    @server.tool
    async def look(ctx: Context) -> str:
        auth: Any = getattr(ctx.request, "auth", None)
        seen = {**vars(ctx.sdk), "auth": vars(auth), "client": ctx.client_info, "state": ctx.request_state}
        return repr({name: value for name, value in seen.items() if name not in ("request", "session")})

    with caplog.at_level("DEBUG"):
        answer = await post(call("look"), {"authorization": f"Bearer {secret}"})
    assert "laptop" in answer.text
    assert secret not in answer.text + caplog.text + json.dumps(dict(answer.headers))

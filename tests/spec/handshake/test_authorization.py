"""MCP 2025-11-25, basic/authorization, as far as it binds a server that accepts access tokens."""

import asyncio
import json
import logging
from datetime import timedelta
from typing import Any

import pytest
from django.apps import apps
from django.contrib.auth.models import User
from django.core import signing
from pytest_django import Settings

from django_mcp import Context, Server
from django_mcp.consumers import MCPConsumer
from django_mcp.models import MCPAccessToken
from django_mcp.testing.asgi import stream
from tests.spec.handshake.peer import EVENTS, JSON, SERVER, Answer, Peer

pytestmark = pytest.mark.django_db(transaction=True)

CHALLENGE = 'Bearer realm="tests"'


@pytest.fixture(autouse=True)
def required(public: None, settings: Settings) -> None:
    settings.DJANGO_MCP = {"ACCESS": "required"}


@pytest.fixture
def user() -> User:
    return User.objects.create_user("alice")


@pytest.fixture
def secret(user: User) -> str:
    return MCPAccessToken.objects.issue(user, "laptop")[1]


def bearer(secret: str) -> Peer:
    return Peer(headers={"authorization": f"Bearer {secret}"})


def check_refused(answer: Answer) -> None:
    assert answer.status == 401
    assert answer.headers["www-authenticate"] == CHALLENGE
    assert answer.message == {
        "jsonrpc": "2.0",
        "id": None,
        "error": {"code": -32600, "message": "Authentication required"},
    }


async def test_a_token_in_the_query_string_authenticates_nobody(server: Server, secret: str) -> None:
    async def with_query(scope: dict[str, Any], receive: Any, send: Any) -> None:
        await MCPConsumer(SERVER)({**scope, "query_string": f"access_token={secret}".encode()}, receive, send)

    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "ping"}).encode()
    headers = {"accept": f"{JSON}, {EVENTS}", "content-type": JSON}
    async with stream(with_query, "POST", "/mcp", headers=headers, body=body) as response:
        assert await response.started() == 401
        assert response.headers["www-authenticate"] == CHALLENGE


async def test_a_good_token_is_let_in(server: Server, secret: str) -> None:
    @server.tool
    async def who(ctx: Context) -> str:
        return str(ctx.user.username)

    assert (await (await bearer(secret).begin()).call("who")).text == "alice"


@pytest.mark.parametrize("end", ["expired", "revoked", "inactive", "deleted", "unknown", "half", "none"])
async def test_a_token_that_is_not_valid_gets_401_and_a_challenge(
    server: Server, user: User, secret: str, end: str
) -> None:
    peer = await bearer(secret).begin()
    used = secret
    match end:
        case "expired":
            _, used = await asyncio.to_thread(
                MCPAccessToken.objects.issue, user, "old", lifetime=timedelta(seconds=-1)
            )
        case "revoked":
            await asyncio.to_thread((await MCPAccessToken.objects.aget()).revoke)
        case "inactive":
            await User.objects.aupdate(is_active=False)
        case "deleted":
            await user.adelete()
        case "unknown":
            used = "mcp_" + "a" * 43
        case "half":
            used = secret[:-1]
        case "none":
            used = ""
    peer.headers["authorization"] = f"Bearer {used}"
    for message, method in (({"id": 1, "method": "ping"}, "POST"), (None, "GET"), (None, "DELETE")):
        check_refused(await peer.send(message, method=method))


async def test_a_token_that_was_not_issued_here_is_refused(
    server: Server, user: User, secret: str, settings: Settings
) -> None:
    peer = await bearer(secret).begin()
    _, elsewhere = await asyncio.to_thread(MCPAccessToken.objects.issue, user, "of another project")
    await MCPAccessToken.objects.filter(name="of another project").adelete()
    claims = {"iss": "https://login.example", "aud": "https://other.example/mcp", "sub": str(user.pk)}
    payload = signing.b64_encode(json.dumps(claims).encode()).decode()
    foreign = {
        "another project's token": elsewhere,
        "a JWT for another audience": f"eyJhbGciOiJub25lIn0.{payload}.",
        "a value signed by this project": signing.dumps(claims),
        "the id of a session": peer.session_id,
        "the hash that is kept of a token": (await MCPAccessToken.objects.aget()).key_digest,
        "that hash as a token": "mcp_" + (await MCPAccessToken.objects.aget()).key_digest,
    }
    for what, token in foreign.items():
        peer.headers["authorization"] = f"Bearer {token}"
        answer = await peer.send({"id": 1, "method": "ping"})
        assert answer.status == 401, what
        check_refused(answer)


async def test_authorization_errors_have_their_statuses(server: Server, user: User, secret: str) -> None:
    server.tool(name="hidden", permission="auth.delete_user")(lambda: "secret")
    peer = await bearer(secret).begin()
    check_refused(await Peer().send({"id": 1, "method": "ping"}))
    foreign = await peer.send({"id": 1, "method": "ping"}, origin="https://evil.example")
    assert foreign.status == 403
    assert await _status_with_authorizations(f"Bearer {secret}", "Bearer other") == 400
    # Who lacks a permission is told the same as of a tool that there is not.
    assert (await peer.call("hidden")).error == {"code": -32602, "message": "Unknown tool: hidden"}
    assert (await peer.call("nothing")).error == {"code": -32602, "message": "Unknown tool: nothing"}


async def _status_with_authorizations(*values: str) -> int:
    async def doubled(scope: dict[str, Any], receive: Any, send: Any) -> None:
        extra = [(b"authorization", value.encode()) for value in values]
        await MCPConsumer(SERVER)({**scope, "headers": [*scope["headers"], *extra]}, receive, send)

    headers = {"accept": f"{JSON}, {EVENTS}", "content-type": JSON}
    async with stream(doubled, "POST", "/mcp", headers=headers, body=b"{}") as response:
        return await response.started()


async def test_the_token_is_checked_before_anything_of_the_request(server: Server, secret: str) -> None:
    runs: list[str] = []
    server.tool(name="run")(lambda: runs.append("run"))
    session_id = (await bearer(secret).begin()).session_id
    strangers = [Peer(), Peer(session_id=session_id), Peer(session_id="x" * 43), bearer("mcp_" + "a" * 43)]
    for stranger in strangers:
        for message in (
            {"id": 1, "method": "tools/call", "params": {"name": "run"}},
            {"id": 1, "method": "tools/destroy"},
            {"id": None},
            b"{",
            b"",
        ):
            check_refused(await stranger.send(message))
        check_refused(await stranger.send({"id": 1, "method": "ping"}, mcp_protocol_version="1.0"))
    assert runs == []


async def test_the_token_of_a_call_is_kept_nowhere_and_sent_nowhere(
    server: Server, secret: str, caplog: pytest.LogCaptureFixture
) -> None:
    @server.tool
    def work(ctx: Context) -> str:
        return str(ctx.user.username)

    @server.tool
    def crash() -> str:
        raise RuntimeError("inside")

    with caplog.at_level(logging.DEBUG):
        peer = await bearer(secret).begin()
        answers = [await peer.call("work"), await peer.call("crash"), await peer.ask("tools/list")]
    sent = "".join(f"{answer.headers} {answer.body!r}" for answer in answers)
    kept = await asyncio.to_thread(_every_row)
    assert "alice" in sent
    assert "alice" in kept
    for text in (sent, caplog.text, kept):
        assert secret not in text
        assert secret.removeprefix("mcp_") not in text


def _every_row() -> str:
    return str([list(model._default_manager.values()) for model in apps.get_models()])

"""Permission and throttle classes of REST framework, on the endpoint at both doors and on single things it serves."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import User
from django.core.cache import caches
from django.core.exceptions import PermissionDenied
from django.test import AsyncClient, override_settings
from rest_framework.permissions import AllowAny, BasePermission, IsAdminUser, IsAuthenticated
from rest_framework.throttling import AnonRateThrottle, BaseThrottle, ScopedRateThrottle, UserRateThrottle

from django_mcp import Server
from django_mcp.checks import check_settings
from django_mcp.consumers import MCPConsumer
from django_mcp.models import MCPAccessToken
from django_mcp.testing import Client, MCPClientError
from django_mcp.testing.asgi import stream
from tests.servers import defined

HERE = __name__
MODERN = "2026-07-28"
META = {"io.modelcontextprotocol/protocolVersion": MODERN, "io.modelcontextprotocol/clientCapabilities": {}}
BOTH = {"accept": "application/json, text/event-stream", "content-type": "application/json", "host": "testserver"}
both_eras = pytest.mark.parametrize("mode", ["modern", "legacy"])
pytestmark = pytest.mark.django_db


class TwiceADay(UserRateThrottle):
    """Of users by their keys, of others by address."""

    rate = "2/day"
    scope = "guards"


class TwiceADayOfNobody(AnonRateThrottle):
    rate = "2/day"
    scope = "guards-anon"


class ByScope(ScopedRateThrottle):
    THROTTLE_RATES = {"mcp": "2/day", "scoped": "1/day"}


class Never(BaseThrottle):
    def allow_request(self, request: Any, view: Any) -> bool:
        return False


class Soon(Never):
    def wait(self) -> float:
        return 2.2


class Untouched(BasePermission):
    """Looks at whatever a permission may look at."""

    seen: list[Any] = []

    def has_permission(self, request: Any, view: Any) -> bool:
        self.seen.append((request.method, request.user, request.auth, request.data, dict(view.kwargs)))
        return True


def is_named(request: Any) -> bool:
    return bool(request.user.get_username())


def denies(request: Any) -> bool:
    raise PermissionDenied


EITHER = IsAdminUser | AllowAny


@dataclass
class Response:
    status: int
    headers: dict[str, str]
    body: Any


Send = Callable[..., Awaitable[Response]]


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    caches["default"].clear()
    Untouched.seen.clear()
    with override_settings(ROOT_URLCONF="tests.contrib.rest_framework.guarded_urls"):
        yield


@pytest.fixture
def server() -> Iterator[Server]:
    with defined("guarded") as server:
        server.tool(name="hello")(lambda: "hi")
        yield server


@pytest.fixture(params=["consumer", "view"])
def send(request: pytest.FixtureRequest, server: Server) -> Send:
    """Send a request to one of the doors."""

    async def to_consumer(method: str, headers: dict[str, str], body: bytes) -> Response:
        async with stream(MCPConsumer("guarded"), method, "/mcp", headers=headers, body=body) as response:
            await response.started()
            taken = b"" if response.headers["content-type"].startswith("text/") else await response.read()
            return Response(response.status, response.headers, json.loads(taken) if taken else None)

    async def to_view(method: str, headers: dict[str, str], body: bytes) -> Response:
        given = {name: value for name, value in headers.items() if name not in {"content-type", "host"}}
        answer: Any = await AsyncClient().generic(method, "/mcp", body, "application/json", headers=given)
        found = {name.lower(): value for name, value in answer.headers.items()}
        return Response(answer.status_code, found, json.loads(answer.content) if answer.content else None)

    return to_consumer if request.param == "consumer" else to_view


def calling(tool: str = "hello", *, token: str = "", **headers: str) -> tuple[str, dict[str, str], bytes]:
    params = {"name": tool, "arguments": {}, "_meta": META}
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    mirrored = {"mcp-protocol-version": MODERN, "mcp-method": "tools/call", "mcp-name": tool}
    bearer = {"authorization": f"Bearer {token}"} if token else {}
    return "POST", {**BOTH, **mirrored, **bearer, **headers}, json.dumps(body).encode()


def token_of(username: str, **options: Any) -> str:
    user = User.objects.create_user(username, **options)
    _, secret = MCPAccessToken.objects.issue(user, "test")
    return str(secret)


class TestTheEndpointsPermissions:
    @pytest.mark.django_db(transaction=True)
    @pytest.mark.parametrize(
        "permission",
        ["rest_framework.permissions.IsAuthenticated", f"{HERE}.is_named", f"{HERE}.denies", f"{HERE}.IsAdminUser"],
    )
    async def test_nobody_is_asked_for_credentials(self, send: Send, permission: str) -> None:
        with override_settings(DJANGO_MCP={"ACCESS": "public", "PERMISSIONS": [permission]}):
            answer = await send(*calling())
        assert answer.status == 401
        assert answer.headers["www-authenticate"].startswith("Bearer realm=")
        assert answer.body["error"]["message"] == "Authentication required"

    @pytest.mark.django_db(transaction=True)
    async def test_who_lacks_one_is_refused_by_403_in_json(self, send: Send) -> None:
        reader, admin = await sync_to_async(lambda: (token_of("reader"), token_of("admin", is_staff=True)))()
        paths = [f"{HERE}.EITHER", f"{HERE}.IsAuthenticated", f"{HERE}.IsAdminUser"]
        with override_settings(DJANGO_MCP={"PERMISSIONS": paths}):
            refused = await send(*calling(token=reader))
            assert refused.status == 403
            assert refused.headers["content-type"] == "application/json"
            assert refused.body == {
                "jsonrpc": "2.0",
                "id": None,
                "error": {"code": -32600, "message": "Permission refused"},
            }
            served = await send(*calling(token=admin))
            assert served.status == 200, served.body

    @pytest.mark.django_db(transaction=True)
    async def test_a_permission_sees_the_user_and_no_body(self, send: Send) -> None:
        secret = await sync_to_async(token_of)("reader")
        with override_settings(DJANGO_MCP={"ACCESS": "public", "PERMISSIONS": [f"{HERE}.Untouched"]}):
            assert (await send(*calling(token=secret))).status == 200
            assert (await send(*calling())).status == 200
        named, nobody = Untouched.seen
        assert (named[0], named[1].username, named[2].user.username, named[3]) == ("POST", "reader", "reader", {})
        assert (nobody[1].is_anonymous, nobody[2], nobody[3]) == (True, None, {})

    @pytest.mark.django_db(transaction=True)
    async def test_a_stream_is_not_negotiated(self, server: Server) -> None:
        classes = {"PERMISSIONS": [f"{HERE}.Untouched"], "THROTTLES": [f"{HERE}.Never"]}
        client = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "c", "version": "1"}}
        body = json.dumps({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": client}).encode()
        consumer = MCPConsumer("guarded")
        with override_settings(DJANGO_MCP={"ACCESS": "public"}):
            async with stream(consumer, "POST", "/mcp", headers=BOTH, body=body) as begun:
                await begun.started()
                session = begun.headers["mcp-session-id"]
        headers = {"accept": "text/event-stream", "host": "testserver", "mcp-session-id": session}
        with override_settings(DJANGO_MCP={"ACCESS": "public", **classes}):
            async with stream(MCPConsumer("guarded"), "GET", "/mcp", headers=headers) as response:
                assert await response.started() == 200
                assert response.headers["content-type"].startswith("text/event-stream")
        assert Untouched.seen[0][0] == "GET"


class TestTheEndpointsThrottles:
    @pytest.mark.django_db(transaction=True)
    @pytest.mark.parametrize("name", ["TwiceADay", "TwiceADayOfNobody", "ByScope"])
    async def test_a_post_too_many_is_429(self, send: Send, name: str) -> None:
        with override_settings(DJANGO_MCP={"ACCESS": "public", "THROTTLES": [f"{HERE}.{name}"]}):
            answers = [await send(*calling()) for _ in range(3)]
        assert [answer.status for answer in answers] == [200, 200, 429]
        assert 86_000 < int(answers[2].headers["retry-after"]) <= 86_400
        assert answers[2].headers["content-type"] == "application/json"
        assert answers[2].body["error"]["message"].startswith("Too many calls; come back in ")

    @pytest.mark.django_db(transaction=True)
    async def test_users_are_counted_apart(self, send: Send) -> None:
        ada, bob = await sync_to_async(lambda: (token_of("ada"), token_of("bob")))()
        with override_settings(DJANGO_MCP={"THROTTLES": [f"{HERE}.TwiceADay"]}):
            statuses = [(await send(*calling(token=token))).status for token in (ada, ada, ada, bob)]
        assert statuses == [200, 200, 429, 200]

    @pytest.mark.django_db(transaction=True)
    @pytest.mark.parametrize(("proxies", "last"), [([], 429), (["127.0.0.0/8"], 200)])
    async def test_an_address_is_believed_of_trusted_proxies_alone(
        self, send: Send, proxies: list[str], last: int
    ) -> None:
        given = {"ACCESS": "public", "THROTTLES": [f"{HERE}.TwiceADayOfNobody"], "TRUSTED_PROXIES": proxies}
        with override_settings(DJANGO_MCP=given):
            statuses = [
                (await send(*calling(**{"x-forwarded-for": f"192.0.2.{number}"}))).status for number in range(3)
            ]
        assert statuses == [200, 200, last]

    @pytest.mark.django_db(transaction=True)
    async def test_the_longest_wait_counts_in_whole_seconds(self, send: Send) -> None:
        with override_settings(DJANGO_MCP={"ACCESS": "public", "THROTTLES": [f"{HERE}.Never", f"{HERE}.Soon"]}):
            answer = await send(*calling())
        assert (answer.status, answer.headers["retry-after"]) == (429, "3")


class TestATool:
    @both_eras
    @pytest.mark.parametrize(
        "permission", [IsAdminUser, ~AllowAny | IsAdminUser, IsAuthenticated & IsAdminUser, [AllowAny, IsAdminUser]]
    )
    def test_is_there_for_those_whom_its_permission_lets_in(self, server: Server, mode: str, permission: Any) -> None:
        server.tool(name="secret", permission=permission)(lambda: "hi")
        reader = User.objects.create_user("reader")
        staff = User.objects.create_user("staff", is_staff=True)
        for user in (reader, None):
            client = Client(user, server="guarded", mode=mode)
            assert [tool.name for tool in client.list_tools()] == ["hello"]
            with pytest.raises(MCPClientError, match="Unknown tool: secret"):
                client.call("secret")
        client = Client(staff, server="guarded", mode=mode)
        assert [tool.name for tool in client.list_tools()] == ["hello", "secret"]
        assert client.call("secret").text == "hi"

    def test_a_list_mixes_what_a_permission_can_be(self, server: Server) -> None:
        mixed: list[Any] = [IsAuthenticated, is_named, "auth.view_group"]
        server.resource("guarded://one", permission=mixed)(lambda: "text")
        server.prompt(name="guarded", permission=mixed)(lambda: "text")
        root = User.objects.create_superuser("root")
        for user, count in ((User.objects.create_user("reader"), 0), (root, 1)):
            client = Client(user, server="guarded")
            assert len(client.list_resources()) == len(client.list_prompts()) == count

    @both_eras
    def test_is_throttled_before_anything_runs(self, server: Server, mode: str) -> None:
        ran: list[str] = []
        server.tool(name="rare", throttles=[TwiceADay])(lambda: ran.append("rare"))
        ada, bob = User.objects.create_user("ada"), User.objects.create_user("bob")
        client = Client(ada, server="guarded", mode=mode)
        client.call("rare")
        client.call("rare")
        client.call("hello")
        with pytest.raises(MCPClientError) as caught:
            client.call("rare")
        assert caught.value.status == 429
        assert ran == ["rare", "rare"]
        Client(bob, server="guarded", mode=mode).call("rare")

    def test_is_the_scope_of_a_scoped_throttle(self, server: Server) -> None:
        server.tool(name="scoped", throttles=[ByScope])(lambda: "hi")
        client = Client(server="guarded")
        client.call("scoped")
        with pytest.raises(MCPClientError, match="Too many calls"):
            client.call("scoped")

    @pytest.mark.django_db(transaction=True)
    async def test_says_when_to_come_back(self, send: Send, server: Server) -> None:
        server.tool(name="never", throttles=[Soon])(lambda: "hi")
        with override_settings(DJANGO_MCP={"ACCESS": "public"}):
            answer = await send(*calling("never"))
        assert (answer.status, answer.headers["retry-after"], answer.body["id"]) == (429, "3", 1)

    @pytest.mark.django_db(transaction=True)
    async def test_says_so_in_a_session_too(self, send: Send, server: Server) -> None:
        server.tool(name="never", throttles=[Soon])(lambda: "hi")
        client = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "c", "version": "1"}}
        begin = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": client}
        call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "never", "arguments": {}}}
        with override_settings(DJANGO_MCP={"ACCESS": "public"}):
            begun = await send("POST", BOTH, json.dumps(begin).encode())
            session = {"mcp-session-id": begun.headers["mcp-session-id"]}
            answer = await send("POST", {**BOTH, **session}, json.dumps(call).encode())
        assert (answer.status, answer.headers["retry-after"], answer.body["id"]) == (429, "3", 1)


def test_what_is_no_class_is_told_by_the_checks() -> None:
    given = {"PERMISSIONS": [f"{HERE}.MODERN", "no.such.Thing"], "THROTTLES": [f"{HERE}.is_named", "no.such.Thing"]}
    with override_settings(DJANGO_MCP=given):
        messages = check_settings(None)
    assert [message.id for message in messages] == ["django_mcp.E006"] * 4
    assert f"'{HERE}.MODERN', which is not callable" in messages[0].msg
    assert f"'{HERE}.is_named', which is no throttle class" in messages[2].msg

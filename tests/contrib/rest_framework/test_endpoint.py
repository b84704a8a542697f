"""Classes of REST framework at the endpoint: who is let in, what is refused how, and with which status."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.cache import cache
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest
from django.test import Client as HTTPClient
from pytest_django import Settings
from rest_framework.authentication import BaseAuthentication, TokenAuthentication
from rest_framework.authtoken.models import Token
from rest_framework.test import APIClient

from django_mcp import Server
from django_mcp.authentication import authenticate, challenge
from django_mcp.contrib.rest_framework import AccessTokenAuthentication
from django_mcp.exceptions import AuthenticationFailed
from django_mcp.models import MCPAccessToken
from django_mcp.testing import Client, MCPClientError
from tests.contrib.rest_framework.conftest import TOKENS

MODERN = "2026-07-28"
META = "io.modelcontextprotocol/"


class Ghost(BaseAuthentication):
    """Finds credentials, and nobody to whom they belong."""

    def authenticate(self, request: Any) -> Any:
        return None, "ghost"


def request(**headers: str) -> HttpRequest:
    made = HttpRequest()
    made.META = {f"HTTP_{name.upper()}": value for name, value in headers.items()}
    return made


def token_of(username: str) -> str:
    key: str = Token.objects.get_or_create(user=User.objects.get(username=username))[0].key
    return key


@pytest.fixture
def served(library: Server, settings: Settings) -> Any:
    """Post a call to the endpoint that serves the library."""
    settings.ROOT_URLCONF = "tests.contrib.rest_framework.library_urls"
    cache.clear()

    def call(name: str, arguments: dict[str, Any] | None = None, *, token: str = "") -> Any:
        meta = {f"{META}protocolVersion": MODERN, f"{META}clientCapabilities": {}}
        params = {"name": name, "arguments": arguments or {}, "_meta": meta}
        headers = {
            "accept": "application/json, text/event-stream",
            "mcp-method": "tools/call",
            "mcp-name": name,
            "mcp-protocol-version": MODERN,
            "host": "testserver",
        }
        if token:
            headers["authorization"] = f"Token {token}"
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params})
        return HTTPClient().post("/mcp", body, content_type="application/json", headers=headers)

    return call


class TestWhoIsLetIn:
    def test_the_user_of_a_token(self, library: Server) -> None:
        identity = authenticate(request(authorization=f"Token {token_of('reader')}"))
        assert identity.user == User.objects.get(username="reader")
        assert isinstance(identity.auth, Token)

    def test_nobody_with_a_token_that_is_unknown_or_of_an_inactive_user(self, library: Server) -> None:
        with pytest.raises(AuthenticationFailed):
            authenticate(request(authorization="Token unknown"))
        key = token_of("reader")
        User.objects.filter(username="reader").update(is_active=False)
        with pytest.raises(AuthenticationFailed):
            authenticate(request(authorization=f"Token {key}"))

    def test_nobody_with_credentials_that_have_no_user(self, settings: Settings) -> None:
        settings.DJANGO_MCP = {"AUTHENTICATION": [f"{__name__}.Ghost"]}
        with pytest.raises(AuthenticationFailed, match="without a user"):
            authenticate(request())

    def test_the_challenge_is_that_of_the_class(self, library: Server) -> None:
        assert challenge().startswith("Token realm=")

    @pytest.mark.parametrize("name", ["SessionAuthentication", "RemoteUserAuthentication"])
    def test_no_class_that_needs_middleware(self, settings: Settings, name: str) -> None:
        settings.DJANGO_MCP = {"AUTHENTICATION": [f"rest_framework.authentication.{name}"]}
        with pytest.raises(ImproperlyConfigured, match="LoginCookieAuthentication"):
            authenticate(request())


class TestAnswers:
    def test_a_call_is_made_by_the_user_of_the_token(self, served: Any) -> None:
        answer = served("ping_get", {"year": 1}, token=token_of("owner"))
        assert answer.json()["result"]["structuredContent"] == {"user": "owner", "year": 1, "query": {}}

    def test_a_bad_token_is_401_with_the_challenge(self, served: Any) -> None:
        answer = served("book_list", token="unknown")
        assert answer.status_code == 401
        assert answer["WWW-Authenticate"].startswith("Token realm=")

    def test_who_is_throttled_is_told_when_to_come_back(self, served: Any) -> None:
        token = token_of("reader")
        answers = [served("fortune_list", token=token) for _ in range(4)]
        assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
        assert 0 < int(answers[3]["Retry-After"]) <= 86_400
        assert "Request was throttled." in answers[3].json()["error"]["message"]

    def test_a_throttle_counts_what_came_by_rest_too(self, served: Any) -> None:
        client, token = APIClient(), token_of("reader")
        client.credentials(HTTP_AUTHORIZATION=f"Token {token}")
        assert [client.get("/api/fortunes/").status_code for _ in range(3)] == [200] * 3
        assert served("fortune_list", token=token).status_code == 429
        assert served("fortune_list", token=token_of("owner")).status_code == 200

    def test_a_throttled_call_leaves_its_idempotency_key_free(self, library: Server) -> None:
        cache.clear()
        client = Client(User.objects.get(username="reader"), server=library.name)
        for _ in range(3):
            assert not client.call("fortune_list").is_error
        with pytest.raises(MCPClientError, match="Request was throttled"):
            client.call("fortune_list", idempotency_key="k")
        cache.clear()
        assert client.call("fortune_list", idempotency_key="k").structured == {"result": ["You will read a book."]}

    def test_whom_the_endpoint_knows_by_another_class_is_nobody_to_the_view(
        self, served: Any, settings: Settings
    ) -> None:
        # The view names TokenAuthentication alone; an access token opens the endpoint, and not the view.
        settings.DJANGO_MCP = {
            "AUTHENTICATION": [TOKENS, "django_mcp.authentication.AccessTokenAuthentication"],
            "ACCESS": "public",
        }
        secret = MCPAccessToken.objects.issue(User.objects.get(username="owner"), "laptop")[1]
        client = HTTPClient()
        meta = {f"{META}protocolVersion": MODERN, f"{META}clientCapabilities": {}}
        headers = {
            "accept": "application/json, text/event-stream",
            "authorization": f"Bearer {secret}",
            "mcp-method": "tools/call",
            "mcp-name": "ping_get",
            "mcp-protocol-version": MODERN,
        }
        params = {"name": "ping_get", "arguments": {"year": 1}, "_meta": meta}
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params})
        result = client.post("/mcp", body, content_type="application/json", headers=headers).json()["result"]
        assert result["isError"]
        assert result["content"][0]["text"] == "Authentication credentials were not provided."


class TestAccessTokensOnRESTViews:
    def test_a_view_that_names_the_class_takes_them(self, library: Server) -> None:
        user = User.objects.get(username="owner")
        secret = MCPAccessToken.objects.issue(user, "laptop")[1]
        found = AccessTokenAuthentication().authenticate(_rest(f"Bearer {secret}"))
        assert found is not None
        assert found[0] == user

    def test_other_credentials_are_for_the_next_class(self) -> None:
        assert AccessTokenAuthentication().authenticate(_rest("Token other")) is None
        assert TokenAuthentication().authenticate_header(_rest("")) == "Token"


def _rest(authorization: str) -> Any:
    from rest_framework.request import Request

    return Request(request(authorization=authorization))


def test_a_project_without_rest_framework_imports_nothing_of_it() -> None:
    program = """
import sys
from django.conf import settings
settings.configure(
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "channels", "django_mcp"],
    ROOT_URLCONF="django_mcp.urls", SECRET_KEY="x" * 60, USE_TZ=True,
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
)
import django
django.setup()
from django.core.management import call_command
call_command("check")
import django_mcp.consumers, django_mcp.views
print([name for name in sys.modules if name.startswith(("rest_framework", "drf_spectacular"))])
"""
    root = Path(__file__).parents[3]
    done = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"

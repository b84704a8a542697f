"""Who sends a request: access tokens, login cookies, nobody; and when a thread is needed to know."""

from datetime import timedelta
from typing import Any

import pytest
from django.contrib import auth
from django.contrib.auth.models import AnonymousUser, User
from django.contrib.sessions.backends.db import SessionStore
from django.core.exceptions import ImproperlyConfigured
from django.db import OperationalError, connections
from django.http import HttpRequest
from django.test import RequestFactory
from pytest_django import DjangoAssertNumQueries, Settings

from django_mcp.authentication import (
    BaseAuthentication,
    Identity,
    authenticate,
    challenge,
    needs_database,
    principal_of,
)
from django_mcp.core.principal import ANONYMOUS, Principal
from django_mcp.exceptions import AuthenticationFailed, StoreUnavailable
from django_mcp.models import MCPAccessToken

ORIGIN = "https://app.example.com"
COOKIES: dict[str, Any] = {
    "AUTHENTICATION": [
        "django_mcp.authentication.AccessTokenAuthentication",
        "django_mcp.authentication.LoginCookieAuthentication",
    ],
    "ALLOWED_ORIGINS": [ORIGIN],
}


@pytest.fixture
def user(db: None) -> User:
    return User.objects.create_user("alice", password="one")


@pytest.fixture
def secret(user: User) -> str:
    return MCPAccessToken.objects.issue(user, "laptop")[1]


def request(cookie: str | None = None, **headers: str) -> HttpRequest:
    built = RequestFactory().post("/mcp", headers={name.replace("_", "-"): text for name, text in headers.items()})
    if cookie is not None:
        built.COOKIES["sessionid"] = cookie
    return built


def login(user: User) -> str:
    session = SessionStore()
    session[auth.SESSION_KEY] = str(user.pk)
    session[auth.BACKEND_SESSION_KEY] = "django.contrib.auth.backends.ModelBackend"
    session[auth.HASH_SESSION_KEY] = user.get_session_auth_hash()
    session.create()
    return str(session.session_key)


def refusal(built: HttpRequest) -> str:
    with pytest.raises(AuthenticationFailed) as caught:
        authenticate(built)
    return caught.value.reason


# Access tokens


@pytest.mark.parametrize("form", ["Bearer {}", "bearer {}", "BEARER   {}", "  Bearer {} \t"])
def test_an_access_token_authenticates_its_user(user: User, secret: str, form: str) -> None:
    identity = authenticate(request(authorization=form.format(secret)))
    assert identity.principal == Principal(kind="user", id=str(user.pk)) == principal_of(user)
    assert identity.user == user
    assert isinstance(identity.auth, MCPAccessToken)


@pytest.mark.parametrize("access", ["required", "public"])
@pytest.mark.parametrize("end", ["revoked", "expired", "inactive", "unknown"])
def test_a_bad_access_token_is_refused_however_open_the_server(
    user: User, secret: str, end: str, access: str, settings: Settings
) -> None:
    settings.DJANGO_MCP = {"ACCESS": access}
    if end == "revoked":
        MCPAccessToken.objects.get().revoke()
    elif end == "expired":
        secret = MCPAccessToken.objects.issue(user, "old", lifetime=timedelta(0))[1]
    elif end == "inactive":
        User.objects.update(is_active=False)
    else:
        secret = "mcp_" + "a" * 43
    message = "The access token is unknown, expired or revoked, or its user is inactive"
    assert refusal(request(authorization=f"Bearer {secret}")) == message


@pytest.mark.parametrize("access", ["required", "public"])
@pytest.mark.parametrize("authorization", ["Basic YTpi", "Bearer", "Bearer eyJ.x.y", "mcp_x", "Token mcp_x"])
def test_credentials_that_no_class_knows_are_refused(authorization: str, access: str, settings: Settings) -> None:
    settings.DJANGO_MCP = {"ACCESS": access}
    assert refusal(request(authorization=authorization)) == "No authentication class knows these credentials"


def test_without_credentials_access_is_refused_where_it_is_required() -> None:
    assert refusal(request()) == "No credentials"


def test_without_credentials_a_caller_of_a_public_server_is_anonymous(settings: Settings) -> None:
    settings.DJANGO_MCP = {"ACCESS": "public"}
    identity = authenticate(request(cookie="something"))
    assert identity.principal == ANONYMOUS
    assert isinstance(identity.user, AnonymousUser)
    assert identity.auth is None


def test_an_access_token_costs_one_query(secret: str, django_assert_num_queries: DjangoAssertNumQueries) -> None:
    authenticate(request(authorization=f"Bearer {secret}"))
    with django_assert_num_queries(1):
        authenticate(request(authorization=f"Bearer {secret}"))


# Login cookies


def test_a_login_cookie_counts_from_a_listed_origin(user: User, settings: Settings) -> None:
    settings.DJANGO_MCP = COOKIES
    identity = authenticate(request(cookie=login(user), origin=ORIGIN))
    assert (identity.principal, identity.user, identity.auth) == (principal_of(user), user, "login")


def test_a_login_cookie_does_not_count_by_default(user: User) -> None:
    assert refusal(request(cookie=login(user), origin=ORIGIN)) == "No credentials"


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"origin": "https://other.example.com"},
        {"origin": "null"},
        {"origin": "http://testserver"},
        {"origin": "*"},
        {"origin": ORIGIN, "sec_fetch_site": "cross-site"},
        {"origin": ORIGIN, "sec_fetch_site": "none"},
    ],
)
def test_a_login_cookie_does_not_count_from_anywhere_else(
    user: User, settings: Settings, headers: dict[str, str]
) -> None:
    settings.DJANGO_MCP = {**COOKIES, "ALLOWED_ORIGINS": [ORIGIN, "*"]}
    assert refusal(request(cookie=login(user), **headers)) == "No credentials"


@pytest.mark.parametrize("change", ["password", "inactive", "deleted", "backend", "logout", "forged"])
def test_a_login_that_django_would_not_accept_does_not_count(user: User, settings: Settings, change: str) -> None:
    settings.DJANGO_MCP = COOKIES
    cookie = login(user)
    if change == "password":
        user.set_password("two")
        user.save()
    elif change == "inactive":
        User.objects.update(is_active=False)
    elif change == "deleted":
        user.delete()
    elif change == "backend":
        settings.AUTHENTICATION_BACKENDS = ["django.contrib.auth.backends.RemoteUserBackend"]
    elif change == "logout":
        SessionStore(cookie).flush()
    else:
        cookie = "forged"
    assert refusal(request(cookie=cookie, origin=ORIGIN)) == "No credentials"


def test_a_login_under_a_former_secret_key_counts_and_stays_as_it_is(user: User, settings: Settings) -> None:
    settings.DJANGO_MCP = COOKIES
    cookie = login(user)
    settings.SECRET_KEY_FALLBACKS = [settings.SECRET_KEY]
    settings.SECRET_KEY = "a new secret key of the tests, as long as the former one was, or longer"
    before = dict(SessionStore(cookie).items())
    assert authenticate(request(cookie=cookie, origin=ORIGIN)).user == user
    assert dict(SessionStore(cookie).items()) == before


# Classes of one's own


class Always(BaseAuthentication):
    scheme = "Custom"

    def authenticate(self, request: HttpRequest) -> Identity | None:
        return Identity(principal=Principal(kind="oauth", id="subject"), user=AnonymousUser(), auth="mine")


def test_the_classes_are_tried_in_their_order(secret: str, settings: Settings) -> None:
    tokens, always = "django_mcp.authentication.AccessTokenAuthentication", f"{__name__}.Always"
    settings.DJANGO_MCP = {"AUTHENTICATION": [tokens, always]}
    assert authenticate(request(authorization=f"Bearer {secret}")).principal.kind == "user"
    assert authenticate(request()).principal.key == "oauth:subject"
    assert challenge() == 'Bearer realm="tests", Custom realm="tests"'
    settings.DJANGO_MCP = {"AUTHENTICATION": [always, tokens], "SERVER_NAME": "desk"}
    assert authenticate(request(authorization=f"Bearer {secret}")).principal.kind == "oauth"
    assert challenge() == 'Custom realm="desk", Bearer realm="desk"'


def test_the_challenge_of_the_default_is_bearer() -> None:
    assert challenge() == 'Bearer realm="tests"'


def test_a_class_that_is_none_is_named(settings: Settings) -> None:
    settings.DJANGO_MCP = {"AUTHENTICATION": ["os.path.join"]}
    with pytest.raises(ImproperlyConfigured, match=r"names 'os.path.join', which is no authentication class"):
        authenticate(request())


def test_a_database_that_is_down_is_no_bad_credential(user: User, settings: Settings) -> None:
    settings.DJANGO_MCP = COOKIES
    cookie = login(user)

    def down(*args: object) -> None:
        raise OperationalError("the server is gone")

    for built in (
        request(cookie=cookie, origin=ORIGIN),
        request(authorization="Bearer mcp_" + "a" * 43),
    ):
        with connections["default"].execute_wrapper(down), pytest.raises(StoreUnavailable):
            authenticate(built)


# Threads


@pytest.mark.parametrize(
    ("headers", "needed"),
    [
        ({}, False),
        ({b"cookie": b"sessionid=x"}, False),
        ({b"authorization": b"Basic YTpi"}, False),
        ({b"authorization": b"Bearer eyJ"}, False),
        ({b"authorization": b"bearer mcp_x"}, True),
    ],
)
def test_only_an_access_token_needs_the_database(headers: dict[bytes, bytes], needed: bool) -> None:
    assert needs_database(headers) is needed


def test_with_login_cookies_a_cookie_from_a_page_needs_it_too(settings: Settings) -> None:
    settings.DJANGO_MCP = COOKIES
    assert needs_database({b"cookie": b"a=1; sessionid=x", b"origin": ORIGIN.encode()})
    assert not needs_database({b"cookie": b"a=1; sessionid=x"})
    assert not needs_database({b"cookie": b"a=1", b"origin": ORIGIN.encode()})


def test_a_class_of_ones_own_is_asked_in_a_thread_unless_it_says_otherwise(settings: Settings) -> None:
    settings.DJANGO_MCP = {"AUTHENTICATION": [f"{__name__}.Always"]}
    assert needs_database({})


def test_a_caller_without_credentials_is_known_without_a_query(
    settings: Settings, django_assert_num_queries: DjangoAssertNumQueries, db: None
) -> None:
    settings.DJANGO_MCP = {**COOKIES, "ACCESS": "public"}
    with django_assert_num_queries(0):
        assert authenticate(request()).principal == ANONYMOUS

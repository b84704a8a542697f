"""Who sends a request. The classes of AUTHENTICATION are tried in order, on each request; nothing is remembered.

Stands at the doors: it reads a Django request and the models, and hands on an `Identity`. Runs in a thread, since it
may ask the database; `needs_database()` says beforehand when it will not.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar, Final

from django.conf import settings
from django.contrib import auth
from django.contrib.auth.models import AnonymousUser
from django.core.exceptions import ValidationError
from django.core.signals import setting_changed
from django.db import DEFAULT_DB_ALIAS
from django.http import HttpRequest
from django.utils.crypto import constant_time_compare
from django.utils.module_loading import import_string

from django_mcp.conf import mcp_settings
from django_mcp.core.principal import ANONYMOUS, Principal
from django_mcp.exceptions import AuthenticationFailed, ConfigurationError
from django_mcp.models import MCPAccessToken
from django_mcp.models.transactions import outages
from django_mcp.setting import SETTING

if TYPE_CHECKING:
    from django.contrib.auth.base_user import AbstractBaseUser

_ADAPTER: Final = "django_mcp.contrib.rest_framework.authentication.EndpointAuthentication"
"""Named and not imported: a project without Django REST framework has nothing of it."""
_TOKEN_START = "mcp_"  # noqa: S105 - how one is recognised, not one


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """The caller of one request: the principal, the Django user, and what authenticated it."""

    principal: Principal
    user: "AbstractBaseUser | AnonymousUser"
    auth: object | None = None
    authenticator: object | None = None
    """What authenticated the caller; None for the anonymous."""


class BaseAuthentication:
    """One way to authenticate. Make your own from it and name it in AUTHENTICATION."""

    scheme: ClassVar[str] = "Bearer"
    """The scheme of the WWW-Authenticate challenge; empty for none."""

    reads_cookies: ClassVar[bool] = False
    """Does it believe what a browser sends by itself?"""

    def is_addressed(self, headers: Mapping[bytes, bytes]) -> bool:
        """Say from the headers (lower-case names) alone whether `authenticate()` may find credentials."""
        return True

    def authenticate(self, request: HttpRequest) -> Identity | None:
        """Return who sent the request, or None if it carries no credentials of this kind.

        Raises AuthenticationFailed where it does and they are not good.
        """
        raise NotImplementedError("Define authenticate(request) in the subclass.")


class AccessTokenAuthentication(BaseAuthentication):
    """`Authorization: Bearer mcp_…`, an `MCPAccessToken`."""

    def is_addressed(self, headers: Mapping[bytes, bytes]) -> bool:
        return _access_token(headers.get(b"authorization", b"").decode("latin-1")) is not None

    def authenticate(self, request: HttpRequest) -> Identity | None:
        secret = _access_token(request.headers.get("authorization", ""))
        if secret is None:
            return None
        token = MCPAccessToken.objects.authenticate(secret)
        if token is None:
            raise AuthenticationFailed("The access token is unknown, expired or revoked, or its user is inactive")
        return Identity(principal=principal_of(token.user), user=token.user, auth=token)


class LoginCookieAuthentication(BaseAuthentication):
    """The cookie of Django's login, from a page of ALLOWED_ORIGINS only. `*` there does not count.

    The Django session is read and never written: a rotated key or an old hash does not move the browser's login.
    """

    scheme = ""
    reads_cookies = True

    def is_addressed(self, headers: Mapping[bytes, bytes]) -> bool:
        return settings.SESSION_COOKIE_NAME.encode() in headers.get(b"cookie", b"") and b"origin" in headers

    def authenticate(self, request: HttpRequest) -> Identity | None:
        origin = request.headers.get("origin", "").strip(" \t").lower()
        if origin == "*" or origin not in mcp_settings.ALLOWED_ORIGINS:
            return None
        if request.headers.get("sec-fetch-site", "same-site").strip(" \t") not in {"same-origin", "same-site"}:
            return None
        key = request.COOKIES.get(settings.SESSION_COOKIE_NAME)
        if not key:
            return None
        user = _logged_in(import_module(settings.SESSION_ENGINE).SessionStore(key), request)
        return None if user is None else Identity(principal=principal_of(user), user=user, auth="login")


def authenticate(request: HttpRequest) -> Identity:
    """Return who sent the request; the anonymous identity where ACCESS is public and no credentials came.

    Raises AuthenticationFailed for bad credentials, for an Authorization header that no class knows, and where ACCESS
    is required and there are none; StoreUnavailable where the database is down.
    """
    with outages(DEFAULT_DB_ALIAS):
        for one in endpoint_classes():
            identity = one.authenticate(request)
            if identity is not None:
                return replace(identity, authenticator=one)
    if request.headers.get("authorization", "").strip(" \t"):
        raise AuthenticationFailed("No authentication class knows these credentials")
    if mcp_settings.ACCESS != "public":
        raise AuthenticationFailed("No credentials")
    return Identity(principal=ANONYMOUS, user=AnonymousUser())


def needs_database(headers: Mapping[bytes, bytes]) -> bool:
    """Say whether `authenticate()` may ask more than these headers (lower-case names), and so needs a thread."""
    return any(one.is_addressed(headers) for one in endpoint_classes())


def challenge() -> str:
    """Return the WWW-Authenticate header of a 401 (RFC 9110, 11.6.1)."""
    schemes = dict.fromkeys(one.scheme for one in endpoint_classes() if one.scheme) or {"Bearer": None}
    return ", ".join(f'{scheme} realm="{mcp_settings.SERVER_NAME}"' for scheme in schemes)


def principal_of(user: "AbstractBaseUser") -> Principal:
    """Return the principal of a Django user."""
    return Principal(kind="user", id=str(user.pk))


@functools.cache
def endpoint_classes() -> tuple[BaseAuthentication, ...]:
    """Return what AUTHENTICATION names, in its order."""
    found = mcp_settings.imported("AUTHENTICATION")
    return tuple(
        endpoint_authentication(path, given) for path, given in zip(mcp_settings.AUTHENTICATION, found, strict=True)
    )


def endpoint_authentication(path: str, given: object) -> BaseAuthentication:
    """Return what an entry of AUTHENTICATION stands for. Raises ConfigurationError if it stands for nothing usable."""
    if isinstance(given, type):
        if issubclass(given, BaseAuthentication):
            return given()
        if is_of_rest_framework(given):
            adapter: type[BaseAuthentication] = import_string(_ADAPTER)
            return adapter(given)  # type: ignore[call-arg]
    raise ConfigurationError(
        f"{SETTING}['AUTHENTICATION'] names {path!r}, which is no authentication class, neither of this package nor "
        "of Django REST framework."
    )


def is_of_rest_framework(given: type) -> bool:
    """Say whether it is an authentication class of Django REST framework, without importing that."""
    return any(
        (one.__module__, one.__qualname__) == ("rest_framework.authentication", "BaseAuthentication")
        for one in given.__mro__
    )


def _access_token(authorization: str) -> str | None:
    scheme, _, secret = authorization.strip(" \t").partition(" ")
    secret = secret.strip(" ")
    return secret if scheme.lower() == "bearer" and secret.startswith(_TOKEN_START) else None


def _logged_in(session: Any, request: HttpRequest) -> "AbstractBaseUser | None":
    """Return the active user whose login a Django session holds; None without one, or after a password change."""
    path = session.get(auth.BACKEND_SESSION_KEY)
    if path not in settings.AUTHENTICATION_BACKENDS:
        return None
    try:
        pk = auth.get_user_model()._meta.pk.to_python(session[auth.SESSION_KEY])
    except (KeyError, ValidationError):
        return None
    user: Any = auth.load_backend(path).get_user(pk)
    if user is None or not user.is_active:
        return None
    stored = session.get(auth.HASH_SESSION_KEY, "")
    hashes = (user.get_session_auth_hash(), *user.get_session_auth_fallback_hash())
    return user if any(constant_time_compare(stored, one) for one in hashes) else None


def _forget(*, setting: str, **kwargs: object) -> None:
    if setting == SETTING:
        endpoint_classes.cache_clear()


setting_changed.connect(_forget, dispatch_uid="django_mcp.authentication")

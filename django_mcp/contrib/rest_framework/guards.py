"""Permission and throttle classes of Django REST framework on the endpoint and on what it serves.

They are shown a view that does nothing, and a request made for them: it has the method, path and headers of what was
sent, the user whom the endpoint authenticated, and no body. Nothing is negotiated, parsed or authenticated again.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from io import BytesIO
from typing import Any

from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest
from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import APIException
from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle
from rest_framework.views import APIView


class _Authenticated(BaseAuthentication):
    """Gives whom the endpoint has authenticated."""

    def __init__(self, source: HttpRequest) -> None:
        self._source = source

    def authenticate(self, request: Request) -> tuple[Any, Any] | None:
        user = getattr(self._source, "user", None)
        return (user, getattr(self._source, "auth", None)) if user is not None and user.is_authenticated else None


def has_permission(permission: Any, source: HttpRequest, address: str) -> bool:
    """Say whether a permission class, or a composition of some, lets the sender of a request in."""
    view = _view(source, address)
    try:
        return bool(permission().has_permission(view.request, view))
    except (APIException, Http404, PermissionDenied):
        return False


def seconds_to_wait(
    throttles: Sequence[type[BaseThrottle]], source: HttpRequest, address: str, scope: str
) -> float | None:
    """Ask all throttle classes; return after how many seconds the last of those that refuse will let a request in.

    Args:
        scope: of `ScopedRateThrottle`.
    """
    view: Any = _view(source, address)
    view.throttle_scope = scope
    refused = [one for one in (kind() for kind in throttles) if not one.allow_request(view.request, view)]
    return max((one.wait() or 1.0 for one in refused), default=None)


def _view(source: HttpRequest, address: str) -> APIView:
    view: Any = APIView()
    match = getattr(source, "resolver_match", None)
    view.args, view.kwargs = (), dict(match.kwargs) if match is not None else {}
    view.headers, view.format_kwarg = {}, None
    view.request = Request(_shown(source, address), authenticators=[_Authenticated(source)])
    made: APIView = view
    return made


def _shown(source: HttpRequest, address: str) -> HttpRequest:
    """Return a copy of a request, without its body, from an address that its headers cannot contradict."""
    # Whom REST framework takes the sender for is set on the copy alone.
    shown: Any = copy.copy(source)
    shown.__dict__.pop("headers", None)
    shown.META = {**source.META, "REMOTE_ADDR": address, "CONTENT_LENGTH": "0"}
    # The address is what TRUSTED_PROXIES believes of this header. Without NUM_PROXIES, REST framework believes it all.
    shown.META.pop("HTTP_X_FORWARDED_FOR", None)
    shown.resolver_match = getattr(source, "resolver_match", None)
    shown._body, shown._stream, shown._read_started = b"", BytesIO(), False
    made: HttpRequest = shown
    return made

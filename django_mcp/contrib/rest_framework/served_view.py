"""A view as its tools run it: the project's own class with the endpoint's caller, and nothing of it changed.

A subclass is made for each: it differs in who says who calls. Neither the class nor the callback of the URLconf is
touched, so the view's REST behaviour stays what it was.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from django.contrib.auth.models import AnonymousUser
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from rest_framework.authentication import BaseAuthentication
from rest_framework.request import Request
from rest_framework.views import APIView

from django_mcp.authentication import endpoint_classes
from django_mcp.contrib.rest_framework.authentication import same_authentication
from django_mcp.contrib.views.run import run_view

CALLER: Final = "mcp_caller"
"""The attribute of a request that says who calls it: `(user, auth)`, None for nobody."""
BEGAN: Final = "mcp_began"
"""The attribute that is true once the view has let the request in: what it did from there on may have had effects."""


class _Endpoint(BaseAuthentication):
    """Gives what the endpoint found; asks for credentials as the view's own first class does."""

    def __init__(self, first: BaseAuthentication | None) -> None:
        self._first = first

    def authenticate(self, request: Request) -> tuple[Any, Any] | None:
        caller: tuple[Any, Any] | None = getattr(request._request, CALLER)
        return caller

    def authenticate_header(self, request: Request) -> str | None:
        return None if self._first is None else self._first.authenticate_header(request)


class Unservable(Exception):
    """A view cannot be a tool; `remedy` says what to do instead."""

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(problem)
        self.remedy = remedy


class ServedView:
    """One callback of Django REST framework, as `View.as_view()` made it.

    Args:
        callback: of a route; nothing is wrapped around it.
        accepts_all: callers are taken for who the endpoint says they are, whatever the view's own classes.

    Raises Unservable.
    """

    def __init__(self, callback: Any, *, accepts_all: bool = False) -> None:
        self.kind: type[APIView] = callback.cls
        self.initkwargs: dict[str, Any] = dict(callback.initkwargs)
        self.actions: dict[str, str] | None = getattr(callback, "actions", None)
        self._accepts_all = accepts_all
        self.served: Any = type(self.kind.__name__, (_EndpointView, self.kind), _copied(self.kind, accepts_all))
        self._check_wrapping(callback)
        self.callback = self._made(self.served)
        self.own_authentication = self._own_authentication()
        self._check_authentication()

    def admit(self, source: HttpRequest, request: HttpRequest) -> None:
        """Let the caller of `source`, a request to the endpoint, call the view by `request`."""
        caller = self.caller_of(source)
        setattr(request, CALLER, caller)
        request.user = AnonymousUser() if caller is None else caller[0]

    def caller_of(self, request: HttpRequest) -> tuple[Any, Any] | None:
        """Return who calls the view by a request to the endpoint; None where the view itself would see nobody."""
        user = getattr(request, "user", None)
        if user is None or not user.is_authenticated:
            return None
        by = getattr(request, "authenticator", None)
        # In a test's process, or over stdio, no credentials were sent and the caller is given.
        if self._accepts_all or by is None or any(same_authentication(by, own) for own in self.own_authentication):
            return user, getattr(request, "auth", None)
        return None

    def run(self, request: HttpRequest, kwargs: Mapping[str, Any]) -> HttpResponseBase:
        """Answer a request as Django's handler does behind its middleware."""
        return run_view(self.callback, request, kwargs)

    def instance(self, request: HttpRequest) -> APIView:
        """Return the view as it stands before it looks at permissions, for a request to none of its objects."""
        view: Any = self.served(**self.initkwargs)
        view.args, view.kwargs = (), {}
        if self.actions is not None:
            view.action_map = self.actions
            for method, action in self.actions.items():
                setattr(view, method, getattr(view, action))
        view.request = view.initialize_request(request)
        view.headers, view.format_kwarg = {}, None
        made: APIView = view
        return made

    def handler(self, method: str) -> Any:
        """Return the function that answers a method: an action of a viewset, or the view's own."""
        return getattr(self.kind, self.actions[method.lower()] if self.actions is not None else method.lower())

    def _made(self, kind: Any) -> Any:
        if self.actions is not None:
            return kind.as_view(dict(self.actions), **self.initkwargs)
        return kind.as_view(**self.initkwargs)

    def _check_wrapping(self, callback: Any) -> None:
        """Refuse what is wrapped around `as_view()`: it would not run, and may be what guards the view."""
        plain = self._made(self.served)
        inner, expected = getattr(callback, "__wrapped__", None), plain.__wrapped__
        is_plain = getattr(callback, "__code__", None) is plain.__code__
        if not is_plain or getattr(inner, "__code__", None) is not expected.__code__:
            raise Unservable(
                f"{self.kind.__name__} has decorators around as_view(), which would not run",
                "put them on the class with method_decorator(…, name='dispatch')",
            )

    def _own_authentication(self) -> list[BaseAuthentication]:
        view: Any = self.kind(**self.initkwargs)
        view.request, view.args, view.kwargs, view.action = None, (), {}, None
        try:
            found: list[BaseAuthentication] = list(view.get_authenticators())
        except AttributeError:
            # It depends on the request; what the class names is what can be known of it.
            return [one() for one in view.authentication_classes]
        return found

    def _check_authentication(self) -> None:
        if self._accepts_all:
            return
        endpoint = endpoint_classes()
        foreign = [
            type(own).__name__
            for own in self.own_authentication
            if not any(same_authentication(one, own) for one in endpoint)
        ]
        if foreign:
            raise Unservable(
                f"{self.kind.__name__} authenticates by {', '.join(foreign)}, which the endpoint does not",
                "name the class in AUTHENTICATION, or register with accept_endpoint_authentication=True",
            )


class _EndpointView:
    """What is put before a view's class."""

    mcp_accepts_all = False

    def get_authenticators(self) -> list[BaseAuthentication]:
        own: list[BaseAuthentication] = super().get_authenticators()  # type: ignore[misc]
        if not own and not self.mcp_accepts_all:
            return []
        return [_Endpoint(own[0] if own else None)]

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)  # type: ignore[misc]
        setattr(request._request, BEGAN, True)


def _copied(kind: type, accepts_all: bool) -> dict[str, Any]:
    named = {"__doc__": kind.__doc__, "__module__": kind.__module__, "__qualname__": kind.__qualname__}
    return {**named, "mcp_accepts_all": accepts_all}

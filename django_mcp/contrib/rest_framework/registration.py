"""Views as tools: what a project writes in its `mcp_tools.py`.

register_router(router)                                      # what only reads
register_viewset(BookViewSet, include=["list", "create"])    # what is named
register_view(ReportView, route="reports/<int:year>/")

Nothing is exposed that is not named or only reads. The tools are made when the server is compiled, so a view that
cannot be served is reported there, by `manage.py check` too.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, Final, cast

from django.conf import settings
from django.urls import URLPattern, URLResolver, path
from rest_framework.routers import APIRootView, BaseRouter, SimpleRouter
from rest_framework.views import APIView
from rest_framework.viewsets import ViewSetMixin

from django_mcp.contrib.rest_framework.route import Route
from django_mcp.contrib.rest_framework.schema import operations
from django_mcp.contrib.rest_framework.served_view import ServedView, Unservable
from django_mcp.contrib.rest_framework.view_tool import ViewTool
from django_mcp.contrib.views.definition import ViewToolDefinition, registering
from django_mcp.contrib.views.operation import Operation
from django_mcp.exceptions import RegistryError
from django_mcp.registry.definition import Bundle, Definition, Permission
from django_mcp.registry.server import Server, default_server

READS: Final = frozenset({"GET"})
_METHODS: Final = ("GET", "POST", "PUT", "PATCH", "DELETE")
_SCHEMA_SETTINGS: Final = ("REST_FRAMEWORK", "SPECTACULAR_SETTINGS")
_FORMAT: Final = "(?P<format>"


def register_router(
    router: BaseRouter,
    *,
    include: Collection[str] | None = None,
    exclude: Collection[str] = (),
    namespace: str | None = None,
    server: Server = default_server,
    permission: Permission | None = None,
    accept_endpoint_authentication: bool = False,
) -> None:
    """Serve the actions of a router's viewsets as tools, each named `<basename>_<action>`.

    Args:
        include: actions (`"create"`) or tools (`"book_create"`) to serve; by default every action that is a GET.
        exclude: the same, not to serve.
        namespace: under which the URLconf has the router, where it is included more than once.
        permission: as for `tool()`, besides what the views themselves ask.
        accept_endpoint_authentication: whoever the endpoint has authenticated is that user to the views too, whatever
            classes they name. Without it a view is refused whose classes are not among those of AUTHENTICATION.
    """
    _register(
        lambda: _routes(router.urls),
        _Choice(include, exclude),
        namespace=namespace,
        server=server,
        permission=permission,
        accepts_all=accept_endpoint_authentication,
    )


def register_viewset(
    viewset: type[ViewSetMixin],
    *,
    basename: str | None = None,
    include: Collection[str] | None = None,
    exclude: Collection[str] = (),
    namespace: str | None = None,
    server: Server = default_server,
    permission: Permission | None = None,
    accept_endpoint_authentication: bool = False,
) -> None:
    """Serve the actions of one viewset as tools; see `register_router` for the arguments.

    Args:
        basename: what the names of the tools begin with, and the name that the URLconf knows the viewset by; by
            default that of its queryset's model.
    """

    def routes() -> Iterator[tuple[URLPattern, Any]]:
        router = SimpleRouter()
        name = basename if basename is not None else router.get_default_basename(viewset)
        router.register(name, viewset, basename=name)
        return _routes(router.urls)

    _register(
        routes,
        _Choice(include, exclude),
        namespace=namespace,
        server=server,
        permission=permission,
        accepts_all=accept_endpoint_authentication,
    )


def register_view(
    view: type[APIView] | Callable[..., Any],
    *,
    name: str | None = None,
    route: str = "",
    url_name: str | None = None,
    methods: Collection[str] = ("GET",),
    namespace: str | None = None,
    server: Server = default_server,
    permission: Permission | None = None,
    accept_endpoint_authentication: bool = False,
) -> None:
    """Serve the methods of one view of REST framework as tools.

    Args:
        view: a class, what its `as_view()` returned, or a function under `@api_view`.
        name: of the tool, by default the view's in snake case; more than one method adds its own: `report_post`.
        route: as in `path()`, for the parts of the URL that are arguments.
        url_name: the name that the URLconf has for it.
        methods: which to serve.
    """
    callback: Any = cast("Any", view).as_view() if isinstance(view, type) else view
    kind = getattr(callback, "cls", None)
    wanted = [method.upper() for method in methods]
    own_name = name or _snake(getattr(kind, "__name__", "view").removesuffix("View"))

    def routes() -> Iterator[tuple[URLPattern, Any]]:
        if kind is None:
            raise Unservable(f"{view!r} is no view of REST framework", "register it with django_mcp.contrib.views")
        names = {method: own_name if len(wanted) == 1 else f"{own_name}_{method.lower()}" for method in wanted}
        yield path(route, callback, name=url_name), names

    _register(
        routes,
        _Choice(None, (), methods=wanted),
        namespace=namespace,
        server=server,
        permission=permission,
        accepts_all=accept_endpoint_authentication,
    )


class _Choice:
    """Which tools were asked for."""

    def __init__(
        self, include: Collection[str] | None, exclude: Collection[str], *, methods: Sequence[str] | None = None
    ) -> None:
        for given in (include, exclude):
            if isinstance(given, str):
                raise TypeError("name the actions in a list")
        self._include = None if include is None else set(include)
        self._exclude = set(exclude)
        self._methods = methods
        self._met: set[str] = set()

    def takes(self, action: str, name: str, method: str) -> bool:
        names = {action, name}
        self._met |= names
        if names & self._exclude:
            return False
        if self._methods is not None:
            return method in self._methods
        return method in READS if self._include is None else bool(names & self._include)

    @property
    def unknown(self) -> set[str]:
        """What was named, and is not there."""
        return ((self._include or set()) | self._exclude) - self._met


def _register(
    routes: Callable[[], Iterator[tuple[URLPattern, Any]]],
    choice: _Choice,
    *,
    namespace: str | None,
    server: Server,
    permission: Permission | None,
    accepts_all: bool,
) -> None:
    known: dict[tuple[str, ...], dict[str, Operation]] = {}
    module, place = registering()

    def members() -> list[Definition[..., Any]]:
        try:
            made = list(_members())
            if choice.unknown:
                named = ", ".join(sorted(choice.unknown))
                raise Unservable(f"there is no action {named}", "name actions, or tools by their whole names")
        except Unservable as error:
            raise RegistryError(f"{error};", where=place, remedy=f"{error.remedy}.") from error
        return made

    def _members() -> Iterator[Definition[..., Any]]:
        for pattern, names in routes():
            callback: Any = pattern.callback
            chosen = {
                method: name
                for method, (action, name) in _named(callback, names).items()
                if choice.takes(action, name, method)
            }
            if not chosen:
                continue
            view = ServedView(callback, accepts_all=accepts_all)
            # A server is compiled anew when a setting changes; what a view takes and gives depends on these two.
            key = (str(pattern.pattern), *(repr(getattr(settings, name, None)) for name in _SCHEMA_SETTINGS))
            told = known[key] if key in known else known.setdefault(key, operations(view, pattern))
            route = Route(pattern, view.kind, namespace=namespace)
            for method, name in chosen.items():
                if method not in told:
                    raise Unservable(f"{view.kind.__name__} does not answer {method}", "name methods that it has")
                tool = ViewTool(view, told[method], route, module)
                yield _definition(name, tool, told[method], place, permission)

    server.add(Bundle(function=routes, name=place, members=members))


def _definition(
    name: str, tool: ViewTool, operation: Operation, place: str, permission: Permission | None
) -> ViewToolDefinition[..., Any]:
    return ViewToolDefinition(
        function=tool,
        name=name,
        description=operation.description,
        read_only=operation.method in READS,
        destructive=None if operation.method in READS else operation.method == "DELETE",
        idempotent=None if operation.method in READS else operation.method in {"PUT", "DELETE"},
        open_world=False,
        input_schema=operation.input_schema,
        output_schema=operation.output_schema,
        validates_itself=True,
        permission=permission,
        listed=tool.is_shown,
        place=place,
    )


def _routes(patterns: Sequence[URLPattern | URLResolver]) -> Iterator[tuple[URLPattern, Any]]:
    """Return the routes of a router's viewsets: neither its root nor the twins that end in a format."""
    for pattern in patterns:
        if not isinstance(pattern, URLPattern):
            raise Unservable(f"the router has routes below {pattern.pattern}", "register its viewsets one by one")
        kind = getattr(pattern.callback, "cls", None)
        if kind is None or issubclass(kind, APIRootView) or _FORMAT in str(pattern.pattern):
            continue
        yield pattern, None


def _named(callback: Any, names: dict[str, str] | None) -> dict[str, tuple[str, str]]:
    """Return, by method, the action and the tool's name."""
    if names is not None:
        return {method: (name, name) for method, name in names.items()}
    found: dict[str, tuple[str, str]] = {}
    basename = re.sub(r"\W", "_", callback.initkwargs.get("basename") or _snake(callback.cls.__name__))
    seen: set[str] = set()
    for method in _METHODS:
        action = callback.actions.get(method.lower())
        if action is not None and method.lower() in callback.cls.http_method_names:
            name = f"{basename}_{action}" if action not in seen else f"{basename}_{action}_{method.lower()}"
            seen.add(action)
            found[method] = (action, name)
    return found


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()

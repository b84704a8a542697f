"""Plain views as tools: what a project writes in its `mcp_tools.py`.

register_view("book-search", input_schema={"type": "object", "properties": {"text": {"type": "string"}}})
register_view(rename_book, route="books/<int:pk>/", method="POST", input_schema={…})

A name is that of the URLconf, and what runs is what stands there, with every decorator around it. No middleware runs.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final, Literal

from django.urls import path
from django.views import View

from django_mcp.contrib.views.definition import ViewToolDefinition, registering
from django_mcp.contrib.views.operation import FILE, RESULT, Operation, Query
from django_mcp.contrib.views.place import Named, Place, Routed
from django_mcp.contrib.views.plain_tool import PlainTool
from django_mcp.exceptions import RegistryError
from django_mcp.registry.definition import Bundle, Definition, Permission
from django_mcp.registry.server import Server, default_server

READS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_MEDIA_TYPES: Final = {"form": "application/x-www-form-urlencoded", "json": "application/json"}
_NOTHING: Final[Mapping[str, Any]] = {"type": "object", "properties": {}, "additionalProperties": False}


def register_view(
    view: str | type[View] | Callable[..., Any],
    *,
    name: str | None = None,
    description: str | None = None,
    route: str = "",
    method: str = "GET",
    input_schema: Mapping[str, Any] = _NOTHING,
    output_schema: Mapping[str, Any] | None = None,
    path_arguments: Collection[str] = (),
    query_arguments: Collection[str] = (),
    body: Literal["form", "json"] = "form",
    server: Server = default_server,
    permission: Permission | None = None,
) -> None:
    """Serve one method of a plain Django view as a tool.

    Args:
        view: the name that the URLconf has for it (`"books:search"`), or a function or class for `route`.
        name, description: of the tool; by default the view's name in snake case, and its docstring.
        route: as in `path()`, for a view that is given itself.
        method: how it is asked.
        input_schema: a JSON Schema of the arguments, which are validated against it. A property that is `FILE` is an
            uploaded file.
        output_schema: of the JSON that the view answers; one that is no object is given as `{"result": …}`.
        path_arguments: which arguments are parts of the URL; those of a `route` are known.
        query_arguments: which are in the query string; with GET all others.
        body: how the rest is sent otherwise.
        permission: as for `tool()`, besides what the view itself asks.

    Raises:
        RegistryError: when the server is compiled.
    """
    module, where = registering()
    asked = method.upper()
    tool_name = name or _name(view)

    def members() -> Sequence[Definition[..., Any]]:
        def wrong(problem: str, remedy: str) -> RegistryError:
            return RegistryError(f"the view {tool_name!r} {problem};", where=where, remedy=f"{remedy}.")

        properties = dict(input_schema.get("properties", {}))
        place = _place(view, route, wrong)
        in_path = frozenset(path_arguments) | place.names
        if missing := sorted((in_path | set(query_arguments)) - properties.keys()):
            raise wrong(f"has the argument {missing[0]!r}, which its schema has not", "describe it in input_schema")
        reads = asked in READS
        in_query = [one for one in properties if one not in in_path and (reads or one in set(query_arguments))]
        output = output_schema
        if output is not None and output.get("type") != "object":
            output = {"type": "object", "properties": {RESULT: output}, "required": [RESULT]}
        operation = Operation(
            method=asked,
            description=description if description is not None else place.description,
            input_schema={**input_schema, "properties": properties},
            output_schema=output,
            path=in_path,
            query=tuple(Query(name=one) for one in in_query),
            body="none" if reads else "fields",
            files=frozenset(one for one, schema in properties.items() if _is_file(schema)),
            media_type=_MEDIA_TYPES[body],
        )
        if reads and operation.files:
            raise wrong(f"takes files by {asked}", 'give method="POST"')
        return [
            ViewToolDefinition(
                function=PlainTool(place, operation, module),
                name=tool_name,
                description=operation.description,
                read_only=reads,
                destructive=None if reads else asked == "DELETE",
                idempotent=None if reads else asked in {"PUT", "DELETE"},
                open_world=False,
                input_schema=operation.input_schema,
                output_schema=operation.output_schema,
                permission=permission,
                place=where,
            )
        ]

    server.add(Bundle(function=members, name=where, members=members))


def _place(
    view: str | type[View] | Callable[..., Any], route: str, wrong: Callable[[str, str], RegistryError]
) -> Place:
    if isinstance(view, str):
        if route:
            raise wrong("has a name and a route", "leave out the route: the URLconf has it")
        return Named(view)
    kind: Any = view
    callback: Any = kind.as_view() if isinstance(view, type) else view
    if inspect.iscoroutinefunction(callback):
        raise wrong("is async", "write an async tool that calls what it calls")
    if hasattr(callback, "cls"):
        raise wrong("is one of REST framework", "register it with django_mcp.contrib.rest_framework")
    return Routed(path(route, callback))


def _name(view: Any) -> str:
    if isinstance(view, str):
        return re.sub(r"\W", "_", view)
    own = getattr(view, "view_class", view).__name__
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", own.removesuffix("View")).lower()


def _is_file(schema: Any) -> bool:
    return isinstance(schema, Mapping) and schema.get("properties") == FILE["properties"]

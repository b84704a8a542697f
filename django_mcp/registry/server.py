"""A server: a name, a version and the definitions served under one URL.

The decorators are its methods; `django_mcp.tool` and the others are those of the project's default server. Recording
is all that happens here, at import; mistakes in a signature are reported when `server/` compiles the list.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, ParamSpec, Protocol, TypeVar, overload

from django.utils.module_loading import import_string

from django_mcp.exceptions import RegistryError
from django_mcp.registry.definition import (
    CompletionDefinition,
    Definition,
    Permission,
    PromptDefinition,
    ResourceDefinition,
    Text,
    ToolDefinition,
)

P = ParamSpec("P")
R = TypeVar("R")

DEFAULT = "default"
SERIALIZED: Final = "django_mcp.contrib.rest_framework.serialized_tool.SerializedToolDefinition"
"""What records a tool with serializers: imported for one that has any."""


class Serializing(Protocol):
    """A serializer of Django REST framework, as far as it is known here."""

    @property
    def data(self) -> Any: ...

    def is_valid(self, *, raise_exception: bool = ...) -> bool: ...


class Server:
    """What is served at one URL.

    Args:
        name: names the server in `urls.py` (`{"server": name}`), in tokens and to clients.
        version: the version clients see.
        title, instructions: texts for people and models.
        prefix: put before the name of each tool and prompt.
        store: alias in the setting `STORES` of the store that keeps this server's records; by default the one that
            the setting `STORE` names.

    Raises:
        RegistryError: a server of that name exists.
    """

    def __init__(
        self,
        name: str,
        version: str = "",
        *,
        title: Text = "",
        instructions: Text = "",
        prefix: str = "",
        store: str = DEFAULT,
        website_url: str | None = None,
        icons: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        self.name = name
        self.version = version
        self.title = title
        self.instructions = instructions
        self.prefix = prefix
        self.store = store
        self.website_url = website_url
        self.icons = tuple(icons)
        self.definitions: list[Definition[..., Any]] = []
        self.revision = 0
        if name in servers:
            raise RegistryError(f"two MCP servers are named {name!r}", remedy="give each Server a name of its own.")
        servers[name] = self

    def __repr__(self) -> str:
        return f"<Server {self.name!r}: {len(self.definitions)} definitions>"

    def add(self, definition: Definition[P, R]) -> None:
        """Record one definition."""
        function: object = definition.function
        if not callable(function) or inspect.isclass(function):
            raise definition.error("is not a function", "decorate a function, and give its name by name=")
        self.definitions.append(definition)
        self.revision += 1

    def remove(self, definition: Definition[P, R]) -> None:
        """Take a definition out again."""
        self.definitions.remove(definition)
        self.revision += 1

    @overload
    def tool(self, function: Callable[P, R], /) -> ToolDefinition[P, R]: ...
    @overload
    def tool(
        self,
        *,
        name: str | None = None,
        title: Text | None = None,
        description: Text | None = None,
        icons: Sequence[Mapping[str, Any]] = (),
        read_only: bool | None = None,
        destructive: bool | None = None,
        idempotent: bool | None = None,
        open_world: bool | None = None,
        structured: bool | None = None,
        fields: Sequence[str] = (),
        input_schema: Mapping[str, Any] | None = None,
        output_schema: Mapping[str, Any] | None = None,
        serializer: type[Serializing] | Serializing | None = None,
        output_serializer: type[Serializing] | Serializing | None = None,
        stateful: bool = False,
        atomic: bool = False,
        rate: str | None = None,
        throttles: Sequence[type] = (),
        time_limit: float | None = None,
        concurrency: int | None = None,
        permission: Permission | None = None,
        meta: Mapping[str, Any] | None = None,
    ) -> Callable[[Callable[P, R]], ToolDefinition[P, R]]: ...
    def tool(self, function: Any = None, /, *, name: str | None = None, **options: Any) -> Any:  # type: ignore[misc]
        """Serve a function as a tool. Type hints are the schema, the docstring is the description.

        Args:
            name: the tool's name; by default the function's.
            title, description, icons: for people and models; lazy translations are rendered per request.
            read_only, destructive, idempotent, open_world: the protocol's hints. `read_only` and `idempotent` also say
                that a repeated call may run again.
            structured: force (True) or forbid (False) structured output; by default the return annotation decides.
            fields: the model fields that leave the tool when it returns a model or a queryset.
            input_schema: a JSON Schema served as it stands instead of one made from the type hints, of the dialect
                that its `$schema` names (2020-12 to draft-04; 2020-12 without one) and without remote references; the
                arguments are validated against it and passed by name.
            output_schema: a JSON Schema served for the structured result instead of one made from the annotation; a
                result that does not fit it is an error.
            serializer: a serializer of Django REST framework whose fields are the arguments and which validates them.
                The function's first parameter gets its `validated_data`, or the serializer itself where it is
                annotated with its class.
            output_serializer: one that what the function returns goes through; `BookOut(many=True)` for several.
            stateful: the tool keeps state in `ctx.state`, and gets the optional argument `handle`, by which a model
                goes on in a conversation. A parameter annotated `State` says the same.
            atomic: what a sync function does in the database, what it keeps in `ctx.state` and its recorded outcome
                are one transaction; a failure takes all of it back. The server's store must be in that database.
            rate: how often one principal may call it, like `"10/minute"`; over it the answer is 429, and nothing runs.
            throttles: throttle classes of Django REST framework, asked like `rate`.
            time_limit: seconds that the body may take, without those for which the client is asked; the result is then
                an error. An async body is cancelled. A sync one is told by `ctx.cancelled` and keeps its thread until
                it ends; its changes of `ctx.state`, and those of an atomic tool, are not kept.
            concurrency: bodies of it that may run at once in one process; for one more the answer is 503.
            permission: `"app.codename"`, a callable of the request, a permission class of Django REST framework or a
                composition of such, or a list of which all count; who lacks it neither sees nor calls the tool.
            meta: `_meta` of the tool in the list.

        Raises:
            RegistryError: when the server is compiled: an unusable signature, with file, line and remedy.
        """

        def record(function: Callable[..., Any]) -> ToolDefinition[..., Any]:
            options["fields"] = tuple(options.get("fields", ()))
            definition = kind(function=function, name=_name(function, name), **options)
            self.add(definition)
            return definition

        kind = ToolDefinition
        if options.get("serializer") is not None or options.get("output_serializer") is not None:
            kind = import_string(SERIALIZED)
        else:
            options = {key: value for key, value in options.items() if not key.endswith("serializer")}
        return record if function is None else record(function)

    def resource(
        self,
        uri: str,
        *,
        name: str | None = None,
        title: Text | None = None,
        description: Text | None = None,
        mime_type: str | None = None,
        icons: Sequence[Mapping[str, Any]] = (),
        annotations: Mapping[str, Any] | None = None,
        permission: Permission | None = None,
        meta: Mapping[str, Any] | None = None,
    ) -> Callable[[Callable[P, R]], ResourceDefinition[P, R]]:
        """Serve a function as a resource at `uri`, or as a template when the URI has `{variables}` (RFC 6570).

        The function returns text, bytes, a JSON-serialisable value, or a declared shape of a model.
        """

        def record(function: Callable[P, R]) -> ResourceDefinition[P, R]:
            definition = ResourceDefinition(
                function=function,
                name=_name(function, name),
                uri=uri,
                title=title,
                description=description,
                mime_type=mime_type,
                icons=icons,
                annotations=annotations,
                permission=permission,
                meta=meta,
            )
            self.add(definition)
            return definition

        return record

    @overload
    def prompt(self, function: Callable[P, R], /) -> PromptDefinition[P, R]: ...
    @overload
    def prompt(
        self,
        *,
        name: str | None = None,
        title: Text | None = None,
        description: Text | None = None,
        icons: Sequence[Mapping[str, Any]] = (),
        permission: Permission | None = None,
        meta: Mapping[str, Any] | None = None,
    ) -> Callable[[Callable[P, R]], PromptDefinition[P, R]]: ...
    def prompt(self, function: Any = None, /, *, name: str | None = None, **options: Any) -> Any:  # type: ignore[misc]
        """Serve a function as a prompt. Its parameters are the prompt's arguments, all of them text."""

        def record(function: Callable[..., Any]) -> PromptDefinition[..., Any]:
            definition = PromptDefinition(function=function, name=_name(function, name), **options)
            self.add(definition)
            return definition

        return record if function is None else record(function)

    def completion(
        self, argument: str, *, prompt: str | None = None, resource: str | None = None
    ) -> Callable[[Callable[P, R]], CompletionDefinition[P, R]]:
        """Suggest values for one argument of a prompt, or one variable of a resource template.

        The function takes what was typed so far (`value`), optionally the other arguments (`arguments`, a mapping of
        text to text) and a `Context`, and returns the suggestions, best first. At most 100 are sent.

        Raises:
            RegistryError: neither or both of `prompt` and `resource` are given.
        """

        def record(function: Callable[P, R]) -> CompletionDefinition[P, R]:
            definition = CompletionDefinition(
                function=function, name=_name(function, None), argument=argument, prompt=prompt, resource=resource
            )
            if (prompt is None) == (resource is None):
                raise definition.error("names no single target", "give either prompt= or resource=")
            self.add(definition)
            return definition

        return record


servers: dict[str, Server] = {}
"""Every server of the project by name; filled at import, read afterwards."""

default_server = Server(DEFAULT)

tool = default_server.tool
resource = default_server.resource
prompt = default_server.prompt
completion = default_server.completion


def _name(function: Callable[..., Any], name: str | None) -> str:
    return name if name is not None else getattr(function, "__name__", type(function).__name__)

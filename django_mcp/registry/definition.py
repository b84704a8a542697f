"""Definitions: what a decorator recorded about one function, and where.

Frozen values. Nothing is introspected here; `server/compile.py` does that once, when the apps are ready.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar

from django.utils.functional import Promise

from django_mcp.exceptions import RegistryError

if TYPE_CHECKING:
    from django.http import HttpRequest

P = ParamSpec("P")
R = TypeVar("R")

Permission = str | Callable[..., Any] | Sequence[str | Callable[..., Any]]
"""`"app.codename"`, a callable of the request, a permission class of Django REST framework or a composition of such;
of a list all count."""

Text = str | Promise
"""A text for people: plain, or a lazy translation rendered in the language of each request."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Definition(Generic[P, R]):
    """One registered function. Calling the definition calls the function, so it stays usable from Python."""

    function: Callable[P, R]
    name: str
    title: Text | None = None
    description: Text | None = None
    icons: Sequence[Mapping[str, Any]] = ()
    permission: Permission | None = None
    meta: Mapping[str, Any] | None = None
    place: str | None = None
    """`file:line` of what the function was made from, where it is not written down itself."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return self.function(*args, **kwargs)

    def __str__(self) -> str:
        return f"{self.kind} {self.name!r}"

    @property
    def kind(self) -> str:
        return type(self).__name__.removesuffix("Definition").lower()

    @property
    def doc(self) -> Text:
        """The description for clients: what was given, else the function's docstring."""
        return self.description if self.description is not None else inspect.getdoc(self.function) or ""

    @property
    def is_translated(self) -> bool:
        """Whether a text for people depends on the language of the request."""
        return isinstance(self.title, Promise) or isinstance(self.doc, Promise)

    @property
    def where(self) -> str:
        """`file:line` of the function, for messages."""
        if self.place is not None:
            return self.place
        code = getattr(inspect.unwrap(self.function), "__code__", None)
        return f"{code.co_filename}:{code.co_firstlineno}" if code is not None else repr(self.function)

    def error(self, problem: str, remedy: str) -> RegistryError:
        """Return the error that reports `problem` at this definition and how to mend it."""
        return RegistryError(f"{self} {problem};", where=self.where, remedy=f"{remedy}.")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ToolDefinition(Definition[P, R]):
    """A tool. The four hints are those of the protocol's tool annotations; None leaves the protocol's default."""

    read_only: bool | None = None
    destructive: bool | None = None
    idempotent: bool | None = None
    open_world: bool | None = None
    structured: bool | None = None
    fields: tuple[str, ...] = ()
    input_schema: Mapping[str, Any] | None = None
    output_schema: Mapping[str, Any] | None = None
    stateful: bool = False
    atomic: bool = False
    rate: str | None = None
    throttles: Sequence[type] = ()
    time_limit: float | None = None
    concurrency: int | None = None
    validates_itself: bool = False
    """Whether the function says itself, in its own words, what is wrong with its arguments."""
    listed: Callable[[HttpRequest], bool] | None = None
    """Who sees it in the list, where its own run decides who may call it."""

    @property
    def repeatable(self) -> bool:
        """Whether running the tool twice does no harm, by its own word."""
        return bool(self.read_only or self.idempotent)

    def served(self) -> ToolDefinition[..., Any]:
        """Return the definition that is compiled: itself, or what a kind of its own is made into for that."""
        return self


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Bundle(Definition[P, R]):
    """Definitions that are made of something else, such as the actions of a view, when the server is compiled.

    `members()` raises RegistryError where they cannot be.
    """

    members: Callable[[], Sequence[Definition[..., Any]]]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ResourceDefinition(Definition[P, R]):
    """A resource, or a template of resources when the URI has `{variables}` (RFC 6570)."""

    uri: str
    mime_type: str | None = None
    annotations: Mapping[str, Any] | None = None

    @property
    def is_template(self) -> bool:
        return "{" in self.uri


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PromptDefinition(Definition[P, R]):
    """A prompt."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CompletionDefinition(Definition[P, R]):
    """Suggestions for one argument of a prompt or one variable of a resource template."""

    argument: str
    prompt: str | None = None
    resource: str | None = None


@dataclass(frozen=True, slots=True)
class ParamHeader:
    """Mirror a tool argument in the header `Mcp-Param-<name>`, for routing by proxies (MCP 2026-07-28, transports).

    Use it in an annotation: `region: Annotated[str, ParamHeader("Region")] = ""`. Only for string, integer and boolean
    parameters.
    """

    name: str

    def __get_pydantic_json_schema__(self, core_schema: Any, handler: Any) -> dict[str, Any]:
        schema: dict[str, Any] = handler(core_schema)
        return {**schema, "x-mcp-header": self.name}

"""Rows of a model as resources: a template by primary key, whose values are suggested."""

from __future__ import annotations

from typing import Any, ClassVar, Final

from django.core.exceptions import ValidationError
from django.db import DataError, models
from django.http import HttpRequest

from django_mcp.contrib.models.access import ModelAccess
from django_mcp.contrib.models.columns import read_columns
from django_mcp.contrib.models.values import cleaned, compared_field, text_field
from django_mcp.exceptions import NotFound
from django_mcp.registry.context import Context
from django_mcp.registry.definition import CompletionDefinition, Definition, ResourceDefinition

MAX_SUGGESTIONS: Final = 100
_KEY: Final = "pk"


class ModelResources(ModelAccess):
    """One resource for each row of a model, as JSON of the listed fields.

    Attributes:
        uri: the template, with the variable `pk`; by default `app://<model>/{pk}`.
        search_fields: texts in which what was typed so far is looked for, beside the beginning of the key.
    """

    uri: ClassVar[str] = ""
    search_fields: ClassVar[tuple[str, ...]] = ()

    def __init__(self) -> None:
        super().__init__()
        self._searched = []
        for name in self.search_fields:
            column = self.column(name, "search_fields")
            if not column.is_text:
                raise self.refusal(f"has {name!r} in search_fields, which is no text", "search texts")
            self._searched.append(column.path)
        try:
            self._key = compared_field(self.exposed._meta.pk)
            (found,) = read_columns(self.exposed, [_KEY])
        except LookupError as error:
            raise self.refusal(
                f"has a model without a plain primary key ({error.args[0]})", "write a resource"
            ) from error
        self._keys = [] if isinstance(found.field, models.ForeignKey) else ["pk__startswith"]

    def definitions(self) -> list[Definition[..., Any]]:
        """Return the definitions of the template and of its completion."""
        uri = self.uri or f"app://{self.one.replace('_', '-')}/{{{_KEY}}}"
        return [
            ResourceDefinition(
                function=_Reading(self),
                name=self.one,
                uri=uri,
                mime_type="application/json",
                description=self.doc or f"One {self.one} by its primary key.",
                permission=lambda request: self.has_permission(request, "retrieve"),
                place=self.place(),
            ),
            CompletionDefinition(
                function=_Suggesting(self), name=f"{self.one}_{_KEY}", argument=_KEY, resource=uri, place=self.place()
            ),
        ]

    def read(self, request: HttpRequest, given: str) -> dict[str, Any]:
        """Return one row.

        Raises:
            NotFound: there is none of that key for the caller.
        """
        try:
            key = cleaned(self._key, given)
            row = next(iter(self.rows(request, "retrieve").filter(pk=key)[:1]), None)
        except (ValidationError, DataError, OverflowError) as error:
            raise NotFound from error
        if row is None or not self.has_permission(request, "retrieve", row):
            raise NotFound
        return self.shown(row)

    def suggest(self, request: HttpRequest, typed: str) -> list[str]:
        """Return the keys of rows that the caller may see, for what was typed so far."""
        try:
            text = cleaned(text_field(), typed) if typed else ""
        except ValidationError:
            return []
        rows = self.rows(request, "retrieve").order_by("pk")
        if text:
            lookups = [*self._keys, *(f"{path}__icontains" for path in self._searched)]
            if not lookups:
                return []
            rows = rows.filter(models.Q(*((lookup, text) for lookup in lookups), _connector=models.Q.OR))
        if self.asks_for_each(request, "retrieve"):
            found, _ = self.allowed(request, "retrieve", rows, MAX_SUGGESTIONS)
        else:
            found = [*rows[:MAX_SUGGESTIONS]]
        return [str(row.pk) for row in found]


class _Reading:
    """Reads a resource. Its module is that of the class."""

    def __init__(self, resources: ModelResources) -> None:
        self._resources = resources
        self.__module__ = type(resources).__module__

    def __call__(self, mcp_context: Context, pk: str) -> Any:
        return self._resources.read(mcp_context.request, pk)


class _Suggesting:
    """Completes the key of a resource."""

    def __init__(self, resources: ModelResources) -> None:
        self._resources = resources
        self.__module__ = type(resources).__module__

    def __call__(self, mcp_context: Context, value: str) -> list[str]:
        return self._resources.suggest(mcp_context.request, value)

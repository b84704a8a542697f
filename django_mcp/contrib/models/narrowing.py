"""Narrowing and ordering a list of rows by what the client gives: search, filters, order.

Only listed columns take part. What each argument does is settled when the server is compiled, its value is read by a
form field at the call.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from django import forms
from django.core.exceptions import ValidationError
from django.db import models

from django_mcp.contrib.models.columns import Column
from django_mcp.contrib.models.values import MAX_ITEMS, cleaned, compared_field, schema_of, text_field

if TYPE_CHECKING:
    from django_mcp.contrib.models.tools import ModelTools

MAX_TERMS: Final = 10
"""Words of a search; all of them have to be found."""

SEARCH_SCHEMA: Final[Mapping[str, Any]] = {"type": "string", "maxLength": 200}
RESERVED: Final = frozenset({"search", "ordering", "page", "page_size"})
_WORDS: Final[Mapping[str, str]] = {
    "exact": "is",
    "iexact": "is, in any case,",
    "in": "is one of",
    "gt": "is more than",
    "gte": "is at least",
    "lt": "is less than",
    "lte": "is at most",
    "isnull": "is empty (true) or not (false)",
    "contains": "contains",
    "icontains": "contains, in any case,",
    "startswith": "begins with",
    "istartswith": "begins, in any case, with",
}
_OF_TEXTS: Final = frozenset({"iexact", "contains", "icontains", "startswith", "istartswith"})


@dataclass(frozen=True, kw_only=True)
class Filter:
    """One argument that narrows."""

    name: str
    column: Column
    lookup: str
    field: forms.Field

    @property
    def schema(self) -> dict[str, Any]:
        schema = schema_of(self.field)
        if self.lookup == "in":
            schema = {"type": "array", "items": schema, "maxItems": MAX_ITEMS}
        return {**schema, "description": f"{self.column.name} {_WORDS[self.lookup]}"}

    def condition(self, value: Any) -> models.Q:
        """Return the condition.

        Raises:
            ValidationError: the value is not good; the message names the argument.
        """
        try:
            read = [cleaned(self.field, one) for one in value] if self.lookup == "in" else cleaned(self.field, value)
        except ValidationError as error:
            raise ValidationError([f"{self.name}: {message}" for message in error.messages]) from error
        return models.Q((f"{self.column.path}__{self.lookup}", read))


class Narrowing:
    """The search, the filters and the orders that a class of tools declares.

    Raises:
        RegistryError: it declares one that is not to be had.
    """

    def __init__(self, tools: ModelTools) -> None:
        self._searched = [self._searched_column(tools, name) for name in tools.search_fields]
        self._filters = {one.name: one for one in _filters(tools)}
        self._orders = {name: tools.column(name, "ordering_fields").path for name in tools.ordering_fields}
        self._text = text_field()

    @property
    def properties(self) -> dict[str, Any]:
        """The properties of the input schema."""
        made: dict[str, Any] = {}
        if self._searched:
            places = ", ".join(column.name for column in self._searched)
            made["search"] = {**SEARCH_SCHEMA, "description": f"Words to find, all of them, in {places}"}
        made |= {name: one.schema for name, one in self._filters.items()}
        if self._orders:
            names = [sign + name for name in self._orders for sign in ("", "-")]
            made["ordering"] = {"enum": names, "description": "What to order by; with `-` from the last to the first"}
        return made

    def apply(self, rows: models.QuerySet[Any], arguments: Mapping[str, Any]) -> models.QuerySet[Any]:
        """Return the rows that the arguments ask for, in an order that is the same for every page.

        Raises:
            ValidationError: a value is not good.
        """
        conditions = [one.condition(arguments[name]) for name, one in self._filters.items() if name in arguments]
        if arguments.get("search"):
            conditions.append(self.search(arguments["search"]))
        if conditions:
            rows = rows.filter(*conditions)
        if given := arguments.get("ordering"):
            sign = "-" if given.startswith("-") else ""
            return rows.order_by(f"{sign}{self._orders[given.removeprefix('-')]}", "pk")
        query = rows.query
        own = query.order_by or (rows.model._meta.ordering if query.default_ordering else ())
        return rows.order_by(*own, "pk") if not query.extra_order_by else rows

    def search(self, text: str) -> models.Q:
        """Return the condition that each word of a text is in one of the searched columns.

        Raises:
            ValidationError: no database takes the text.
        """
        words = cleaned(self._text, text).split()[:MAX_TERMS] if text.strip() else []
        condition = models.Q()
        for word in words:
            condition &= models.Q(
                *((f"{column.path}__icontains", word) for column in self._searched), _connector=models.Q.OR
            )
        return condition

    @staticmethod
    def _searched_column(tools: ModelTools, name: str) -> Column:
        column = tools.column(name, "search_fields")
        if not column.is_text:
            raise tools.refusal(f"has {name!r} in search_fields, which is no text", "search texts, filter the others")
        return column


def _filters(tools: ModelTools) -> list[Filter]:
    declared = tools.filter_fields
    lookups = declared if isinstance(declared, Mapping) else dict.fromkeys(declared, ("exact",))
    return [_filter(tools, name, lookup) for name, several in lookups.items() for lookup in several]


def _filter(tools: ModelTools, name: str, lookup: str) -> Filter:
    column = tools.column(name, "filter_fields")
    argument = name if lookup == "exact" else f"{name}__{lookup}"
    if lookup not in _WORDS or (lookup in _OF_TEXTS and not column.is_text):
        known = ", ".join(word for word in _WORDS if column.is_text or word not in _OF_TEXTS)
        raise tools.refusal(f"filters {name!r} by the lookup {lookup!r}", f"use one of {known}")
    if argument in RESERVED:
        raise tools.refusal(f"filters by {name!r}, an argument of every list", "leave it out")
    try:
        if lookup == "isnull":
            field: forms.Field = forms.NullBooleanField()
        elif lookup in _OF_TEXTS:
            field = text_field()
        else:
            field = compared_field(column.target)
    except LookupError as error:
        raise tools.refusal(f"filters by {name!r}, but {error.args[0]}", "leave it out") from error
    return Filter(name=argument, column=column, lookup=lookup, field=field)

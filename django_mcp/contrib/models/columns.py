"""Columns: the listed fields of a model, each with its place, its JSON Schema and its value.

A name is a field of the model, `pk`, or a path over single-valued relations (`author__name`). A relation is told by
its key. What has many values, and what is no column of the database, is refused.
"""

from __future__ import annotations

import datetime
import decimal
import math
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from django.conf import settings
from django.core.exceptions import FieldDoesNotExist
from django.db import models
from django.db.models.fields.files import FieldFile

_SCHEMAS: Final[tuple[tuple[type[models.Field[Any, Any]], dict[str, Any]], ...]] = (
    (models.BooleanField, {"type": "boolean"}),
    (models.IntegerField, {"type": "integer"}),
    (models.FloatField, {"type": "number"}),
    (models.DecimalField, {"type": "string"}),
    (models.DateTimeField, {"type": "string", "format": "date-time"}),
    (models.DateField, {"type": "string", "format": "date"}),
    # The formats "time" and "duration" are of RFC 3339: with an offset, without a sign or a fraction.
    (models.TimeField, {"type": "string"}),
    (models.DurationField, {"type": "string"}),
    (models.UUIDField, {"type": "string", "format": "uuid"}),
    (models.JSONField, {}),
    (models.CharField, {"type": "string"}),
    (models.TextField, {"type": "string"}),
    (models.FileField, {"type": "string"}),
    (models.FilePathField, {"type": "string"}),
    (models.GenericIPAddressField, {"type": "string"}),
    # Of another class only the field itself knows what it holds.
    (models.Field, {}),
)
_PLAIN: Final = (str, bool, int, type(None), dict, list)
_MADE_BY_PYDANTIC: Final = (datetime.date, datetime.time, datetime.timedelta, decimal.Decimal, uuid.UUID)


@dataclass(frozen=True, kw_only=True)
class Column:
    """One listed name.

    Attributes:
        relations: the relations on the way, outermost first.
        field: the field at the end.
    """

    name: str
    relations: tuple[models.ForeignKey[Any, Any], ...]
    field: models.Field[Any, Any]

    @property
    def path(self) -> str:
        """The name for the ORM."""
        return "__".join([*self._way, self.field.name])

    @property
    def joins(self) -> str:
        """What `select_related()` is to follow; nothing for a column of the model's own table."""
        return "__".join(self._way)

    @cached_property
    def _way(self) -> list[str]:
        return [relation.name for relation in self.relations]

    @cached_property
    def target(self) -> models.Field[Any, Any]:
        """The field whose values these are: of a relation, the one that it refers to."""
        field = self.field
        while isinstance(field, models.ForeignKey):
            field = field.target_field
        made = field.output_field if isinstance(field, models.GeneratedField) else field
        return made or field

    @property
    def is_text(self) -> bool:
        return isinstance(self.field, models.CharField | models.TextField)

    @property
    def schema(self) -> dict[str, Any]:
        """The JSON Schema of `value_of()`. It holds for what is stored, whatever its validators say today."""
        schema = dict(self._kind)
        is_nullable = any(part.null for part in (*self.relations, self.field))
        if isinstance(self.target, models.DateTimeField) and not settings.USE_TZ:
            del schema["format"]
        if "type" in schema and (is_nullable or isinstance(self.target, models.FloatField)):
            schema["type"] = [schema["type"], "null"]
        if self.field.help_text:
            schema["description"] = str(self.field.help_text)
        return schema

    @cached_property
    def _kind(self) -> dict[str, Any]:
        return next(schema for kind, schema in _SCHEMAS if isinstance(self.target, kind))

    def value_of(self, row: models.Model) -> Any:
        """Return the value in one row, of a kind that JSON or pydantic can write."""
        holder: Any = row
        for name in self._way:
            holder = getattr(holder, name)
            if holder is None:
                return None
        value = getattr(holder, self.field.attname)
        if isinstance(value, float):
            return value if math.isfinite(value) else None
        if isinstance(value, FieldFile):
            return value.name or ""
        if isinstance(value, int | dict | list) and self._kind.get("type") == "string":
            return str(value)
        return value if isinstance(value, (*_PLAIN, *_MADE_BY_PYDANTIC)) else str(value)


def read_columns(model: type[models.Model], names: Sequence[str]) -> tuple[Column, ...]:
    """Return the columns of the listed names.

    Raises:
        LookupError: a name is none; the text says why.
    """
    return tuple(_read(model, name) for name in names)


def _read(model: type[models.Model], name: str) -> Column:
    *way, last = name.split("__")
    relations: list[models.ForeignKey[Any, Any]] = []
    holder = model
    for part in way:
        relation = _field(holder, part, name)
        if not isinstance(relation, models.ForeignKey):
            raise LookupError(f"{name!r}: {part!r} of {holder.__name__} is no relation to one object")
        relations.append(relation)
        holder = relation.related_model
    field = _field(holder, last, name)
    if isinstance(field, models.BinaryField):
        raise LookupError(f"{name!r} is binary")
    return Column(name=name, relations=tuple(relations), field=field)


def _field(model: type[models.Model], part: str, name: str) -> models.Field[Any, Any]:
    try:
        field = model._meta.pk if part == "pk" else model._meta.get_field(part)
    except FieldDoesNotExist:
        raise LookupError(f"{name!r}: {model.__name__} has no field {part!r}") from None
    if not isinstance(field, models.Field) or field.many_to_many or field.column is None:
        raise LookupError(f"{name!r}: {part!r} of {model.__name__} has no column of its own")
    return field

"""Values that clients send, read by Django's form fields: their JSON Schemas, and what a database can take of them.

What fits the schema and is still wrong (a date that does not exist, a number that no column holds, a text that no
database stores) is a `ValidationError`, on every database alike.
"""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, cast

from django import forms
from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import models
from django.db.backends.base.operations import BaseDatabaseOperations
from django.utils import timezone
from django.utils.choices import BaseChoiceIterator
from django.utils.dateparse import parse_datetime

MAX_TEXT: Final = 1_000
"""Characters of a text to compare with, where its column has no limit of its own."""

MAX_ITEMS: Final = 100
"""Values in a list."""

INT64: Final = 2**63
_YEARS: Final = range(2, 9999)
_UNSTORABLE: Final = re.compile("[\x00\ud800-\udfff]")
_FORMATS: Final[tuple[tuple[type[forms.Field], str], ...]] = (
    (forms.DateTimeField, "date-time"),
    (forms.DateField, "date"),
    (forms.DurationField, "duration"),
    (forms.UUIDField, "uuid"),
    (forms.EmailField, "email"),
    (forms.URLField, "uri"),
)


def compared_field(field: models.Field[Any, Any]) -> forms.Field:
    """Return the form field that reads a value to compare with those of a column; a relation goes by its key.

    Raises:
        LookupError: such columns are not compared with what a client sends.
    """
    while isinstance(field, models.ForeignKey):
        field = field.target_field
    if field.column is None:
        raise LookupError(f"a {type(field).__name__} is several columns")
    if isinstance(field, models.JSONField | models.FileField | models.BinaryField):
        raise LookupError(f"a {type(field).__name__} is not compared")
    if isinstance(field, models.IntegerField):
        least, most = _integers(field)
        if field.choices:
            return forms.TypedChoiceField(choices=field.flatchoices, coerce=int)
        return forms.IntegerField(min_value=least, max_value=most)
    if isinstance(field, models.BooleanField):
        return forms.NullBooleanField()
    if isinstance(field, models.CharField | models.TextField | models.FilePathField) and not field.choices:
        return forms.CharField(max_length=field.max_length or MAX_TEXT, strip=False)
    found = field.formfield(required=True)
    if found is None:
        raise LookupError(f"a {type(field).__name__} has no form field")
    return found


def text_field() -> forms.CharField:
    """Return the form field that reads a part of a text."""
    return forms.CharField(max_length=MAX_TEXT, strip=False)


def schema_of(field: forms.Field) -> dict[str, Any]:
    """Return the JSON Schema of what `prepared` takes for a form field.

    Raises:
        LookupError: the field takes its value apart into several.
    """
    if isinstance(field, forms.MultiValueField):
        raise LookupError(f"a {type(field).__name__} takes several values")
    if isinstance(field, forms.ModelMultipleChoiceField | forms.MultipleChoiceField):
        return {"type": "array", "items": _one(field), "maxItems": MAX_ITEMS}
    return _one(field)


def nullable(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return a schema that takes null too."""
    made = dict(schema)
    if "type" in made:
        kinds = made["type"] if isinstance(made["type"], list) else [made["type"]]
        made["type"] = [*kinds, "null"]
    if "enum" in made and None not in made["enum"]:
        made["enum"] = [*made["enum"], None]
    return made


def prepared(field: forms.Field, value: Any) -> Any:
    """Return a value of JSON as the form field's `clean` takes it.

    Raises:
        ValidationError: no database takes it.
    """
    if any(_UNSTORABLE.search(text) for text in _texts(value)):
        raise ValidationError("The text has characters that cannot be stored.")
    if isinstance(field, forms.JSONField):
        return json.dumps(value)
    if isinstance(field, forms.DateTimeField) and isinstance(value, str):
        try:
            at = parse_datetime(value.strip())
        except ValueError:
            return value
        if at is not None and timezone.is_aware(at) and not settings.USE_TZ:
            return timezone.make_naive(storable(at), timezone.get_default_timezone())
    return value


def cleaned(field: forms.Field, value: Any) -> Any:
    """Return what a form field makes of a value of JSON.

    Raises:
        ValidationError: it is not good.
    """
    return storable(field.clean(prepared(field, value)))


def storable(value: Any) -> Any:
    """Return a value that every database takes.

    Raises:
        ValidationError: it is too far away.
    """
    if isinstance(value, datetime.datetime):
        if value.year not in _YEARS:
            raise ValidationError("The date is out of range.")
    elif isinstance(value, datetime.timedelta) and abs(value // datetime.timedelta(microseconds=1)) >= INT64:
        raise ValidationError("The duration is out of range.")
    return value


def _one(field: forms.Field) -> dict[str, Any]:
    """Return the schema of one value of a field."""
    if isinstance(field, forms.ModelChoiceField):
        model = field.queryset.model  # type: ignore[union-attr]
        key = model._meta.get_field(field.to_field_name) if field.to_field_name else model._meta.pk
        return _one(compared_field(key))
    if isinstance(field, forms.ChoiceField):
        return _choices(field)
    if isinstance(field, forms.JSONField):
        return {}
    if isinstance(field, forms.BooleanField | forms.NullBooleanField):
        return {"type": "boolean"}
    if isinstance(field, forms.DecimalField):
        return {"type": ["number", "string"], "format": "decimal"}
    if isinstance(field, forms.FloatField):
        return {"type": "number", **_bounds(field)}
    if isinstance(field, forms.IntegerField):
        return {"type": "integer", "minimum": -INT64, "maximum": INT64 - 1, **_bounds(field)}
    schema: dict[str, Any] = {"type": "string"}
    schema |= next(({"format": name} for kind, name in _FORMATS if isinstance(field, kind)), {})
    if isinstance(field, forms.CharField):
        if field.max_length is not None:
            schema["maxLength"] = field.max_length
        if field.required:
            schema["minLength"] = max(field.min_length or 0, 1)
    return schema


def _bounds(field: forms.IntegerField) -> dict[str, Any]:
    """Return the bounds that a field declares by values; those by callables are for its own word."""
    given = {"minimum": field.min_value, "maximum": field.max_value}
    return {word: bound for word, bound in given.items() if isinstance(bound, int | float)}


def _choices(field: forms.ChoiceField) -> dict[str, Any]:
    if isinstance(field.choices, BaseChoiceIterator):
        return {"type": ["string", "integer"]}
    values: list[Any] = []
    for value, label in cast("Iterable[tuple[Any, Any]]", field.choices):
        values += [inner for inner, _ in label] if isinstance(label, list | tuple) else [value]
    plain = [value for value in values if value not in ("", None)]
    if not plain or not all(isinstance(value, str | int) for value in plain):
        return {"type": "string"}
    # A member of an enumeration is written as the value that it is.
    return {"enum": [int(value) if isinstance(value, int) else str(value) for value in plain]}


def _integers(field: models.IntegerField[Any, Any]) -> tuple[int, int]:
    """Return the least and the greatest number that a column of any database holds."""
    ranges = BaseDatabaseOperations.integer_field_ranges
    return ranges.get(field.get_internal_type(), (-INT64, INT64 - 1))


def _texts(value: Any) -> Iterator[str]:
    stack = [value]
    while stack:
        node = stack.pop()
        if isinstance(node, str):
            yield node
        elif isinstance(node, Mapping):
            stack.extend(node)
            stack.extend(node.values())
        elif isinstance(node, list | tuple):
            stack.extend(node)

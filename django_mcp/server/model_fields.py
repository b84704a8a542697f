"""The schema of listed model fields: what `fields=(…)` promises to clients."""

from __future__ import annotations

import datetime
import decimal
import uuid
from typing import Any, Final

from django.core.exceptions import FieldDoesNotExist
from django.db import models
from pydantic import BaseModel, Field, create_model

_TYPES: Final[tuple[tuple[type[models.Field[Any, Any]], Any], ...]] = (
    (models.BooleanField, bool),
    (models.IntegerField, int),
    (models.FloatField, float),
    (models.DecimalField, decimal.Decimal),
    (models.DateTimeField, datetime.datetime),
    (models.DateField, datetime.date),
    (models.TimeField, datetime.time),
    (models.DurationField, datetime.timedelta),
    (models.UUIDField, uuid.UUID),
    (models.CharField, str),
    (models.TextField, str),
    (models.FileField, str),
    (models.GenericIPAddressField, str),
)


def fields_model(model: type[models.Model], names: tuple[str, ...]) -> type[BaseModel]:
    """Return a pydantic model of the listed fields of `model`, described by their help texts.

    Raises:
        LookupError: the model has no attribute of a listed name; the message names it.
    """
    columns: dict[str, Any] = {}
    for name in names:
        annotation, description = _column(model, name)
        columns[name] = (annotation, Field(description=description))
    return create_model(f"{model.__name__}Fields", **columns)


def _column(model: type[models.Model], name: str) -> tuple[Any, str | None]:
    try:
        field = model._meta.get_field(name)
    except FieldDoesNotExist:
        if name != "pk" and not hasattr(model, name):
            raise LookupError(f"{model.__name__} has no field {name!r}") from None
        return Any, None
    if field.one_to_many or field.many_to_many:
        return list[Any], None
    if not isinstance(field, models.Field):
        return Any, None
    target = field.target_field if isinstance(field, models.ForeignKey) else field
    annotation = next((python for kind, python in _TYPES if isinstance(target, kind)), Any)
    return (annotation | None if field.null and annotation is not Any else annotation), str(field.help_text) or None

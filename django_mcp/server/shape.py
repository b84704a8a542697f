"""What leaves a handler: declared shapes of models, content made of bytes and files, and nothing else.

A model or a queryset is never turned into text or JSON by itself: only the names that the return annotation (a
dataclass, a TypedDict, a pydantic model) or `fields=(…)` declares are read from it. Evaluation happens where this is
called, which is the handler's thread.
"""

from __future__ import annotations

import base64
import collections.abc
import dataclasses
import datetime
import decimal
import enum
import inspect
import itertools
import mimetypes
import types
import typing
import uuid
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, get_args, get_origin

from django.core.files import File
from django.db.models import Manager, Model, QuerySet
from django.db.models.fields.files import FieldFile
from mcp.server.mcpserver.utilities.types import Audio, Image
from mcp_types import AudioContent, BlobResourceContents, ContentBlock, EmbeddedResource, ImageContent
from pydantic import BaseModel, RootModel, create_model
from typing_extensions import TypeAliasType, is_typeddict

from django_mcp.conf import mcp_settings
from django_mcp.registry.definition import Definition
from django_mcp.server.model_fields import fields_model

_SEQUENCES = (list, tuple, set, frozenset, collections.abc.Sequence, collections.abc.Iterable)
_GENERATORS = (
    collections.abc.Generator,
    collections.abc.Iterator,
    collections.abc.AsyncGenerator,
    collections.abc.AsyncIterator,
)
PLAIN = frozenset({str, int, float, bool})
"""Values of one piece, which are looked into no further."""
_VALUES = (enum.Enum, datetime.date, datetime.time, datetime.timedelta, decimal.Decimal, uuid.UUID)
_ONE_PIECE = (str, bytes, int, float, type(None), *_VALUES)
_SIGNATURES = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF8", "image/gif"),
    (b"ID3", "audio/mpeg"),
    (b"OggS", "audio/ogg"),
)


class UndeclaredModel(TypeError):
    """A handler returned a model or a queryset without saying which fields of it may leave."""


class Rows:
    """Counts what a result cuts off."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.cut = False

    def take(self, values: Iterable[Any]) -> list[Any]:
        """Return the first `limit` of `values`, of which no more than one more is asked for."""
        if isinstance(values, QuerySet) and values._result_cache is None and not values.query.is_sliced:
            values = values[: self.limit + 1]
        rows = list(itertools.islice(values, self.limit + 1))
        if len(rows) > self.limit:
            self.cut = True
            del rows[self.limit :]
        return rows

    @property
    def note(self) -> str:
        return f"Only the first {self.limit} rows are shown; there are more. Narrow the request to see them."


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """How the value of one handler is brought into its declared form.

    Attributes:
        annotation: what is declared for one call, after generators; `inspect.Signature.empty` when nothing is.
        fields: names of model fields, when they were listed instead.
        is_generator: whether the value comes at the end of a generator.
    """

    annotation: Any
    fields: tuple[str, ...] = ()
    is_generator: bool = False

    @property
    def is_content(self) -> bool:
        """Whether the annotation declares content blocks rather than data."""
        return any(
            isinstance(arm, type) and issubclass(arm, (bytes, FieldFile, Image, Audio, *get_args(ContentBlock)))
            for arm in _arms(self.annotation)
        )

    def apply(self, value: Any, rows: Rows) -> Any:
        """Return `value` in the declared form.

        Raises:
            UndeclaredModel: a model appears where no shape is declared.
        """
        if self.fields:
            return _fields(self.fields, value, rows)
        if type(value) in PLAIN:
            return value
        return _shaped(self.annotation, value, rows)


def read_shape(definition: Definition[..., Any], returns: Any) -> Shape:
    """Return the shape that a handler declares.

    Raises:
        RegistryError: it returns a model or a queryset of models and names no fields.
    """
    fields: tuple[str, ...] = getattr(definition, "fields", ())
    function = inspect.unwrap(definition.function)
    is_generator = inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)
    if is_generator:
        returns = _last_value(returns)
    model = _model_in(returns)
    if model is not None and not fields:
        raise definition.error(
            f"returns {model.__name__}, a model, without saying which of its fields may leave",
            f"annotate a dataclass, a TypedDict or a pydantic model, or give fields=({_example(model)})",
        )
    return Shape(annotation=returns, fields=fields, is_generator=is_generator)


def schema_annotation(shape: Shape) -> Any:
    """Return the annotation to make the output schema from; `inspect.Signature.empty` for none.

    Raises:
        LookupError: `fields=(…)` lists a name that the annotated model does not have.
    """
    if shape.fields:
        model = _model_in(shape.annotation)
        if model is None or model is Model:
            return inspect.Signature.empty
        row = fields_model(model, shape.fields)
        arms = list(_arms(shape.annotation))
        face: Any = row if model in arms else list[row]  # type: ignore[valid-type]
        return face | None if None in arms or type(None) in arms else face
    if shape.is_content or shape.annotation is Any:
        return inspect.Signature.empty
    if isinstance(shape.annotation, type) and dataclasses.is_dataclass(shape.annotation):
        # The SDK reads a dataclass by its class attributes, which slots hide; pydantic reads it as it is.
        return create_model(shape.annotation.__name__, __base__=RootModel[shape.annotation])  # type: ignore[name-defined]
    if isinstance(shape.annotation, type) and issubclass(shape.annotation, _VALUES):
        # The SDK takes a class for a record of its attributes; behind an alias it is the value that it is.
        return TypeAliasType(shape.annotation.__name__, shape.annotation)
    return shape.annotation


def as_content(value: Any) -> Any:
    """Return `value` with bytes and files replaced by content blocks; other values as they are."""
    if type(value) in PLAIN:
        return value
    if isinstance(value, bytes | bytearray | memoryview):
        data = bytes(value)
        return _block(data, _sniff(data), "data:")
    if isinstance(value, FieldFile):
        mime_type = mimetypes.guess_type(value.name or "")[0] or "application/octet-stream"
        with value.open("rb") as file:
            return _block(file.read(), mime_type, f"file:///{value.name}")
    if isinstance(value, list | tuple):
        return [as_content(item) for item in value]
    return value


def touches_database(value: Any) -> bool:
    """Whether bringing `value` into shape may read from the database or a file, or meets a model."""
    if type(value) in PLAIN:
        return False
    if isinstance(value, Model | QuerySet | Manager | FieldFile | Iterator):
        return True
    return any(touches_database(item) for item in _inside(value))


def _inside(value: Any) -> Iterable[Any]:
    """Return what a value is made of; nothing for what is of one piece."""
    if isinstance(value, BaseModel):
        return [*value.__dict__.values(), *(value.model_extra or {}).values()]
    if isinstance(value, Mapping):
        return value.values()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return [getattr(value, field.name, None) for field in dataclasses.fields(value)]
    return value if _is_series(value) else ()


def _is_series(value: Any) -> bool:
    """Whether a value is a series of values; text, bytes and files are of one piece."""
    return isinstance(value, Iterable) and not isinstance(
        value, str | bytes | bytearray | memoryview | Mapping | BaseModel | File | type
    )


def _block(data: bytes, mime_type: str, uri: str) -> ContentBlock:
    text = base64.b64encode(data).decode("ascii")
    if mime_type.startswith("image/"):
        return ImageContent(type="image", data=text, mime_type=mime_type)
    if mime_type.startswith("audio/"):
        return AudioContent(type="audio", data=text, mime_type=mime_type)
    return EmbeddedResource(type="resource", resource=BlobResourceContents(uri=uri, mime_type=mime_type, blob=text))


def _sniff(data: bytes) -> str:
    for signature, mime_type in _SIGNATURES:
        if data.startswith(signature):
            return mime_type
    if data[:4] == b"RIFF" and data[8:12] in (b"WEBP", b"WAVE"):
        return "image/webp" if data[8:12] == b"WEBP" else "audio/wav"
    return "application/octet-stream"


def _shaped(annotation: Any, value: Any, rows: Rows) -> Any:
    if isinstance(value, Manager):
        value = value.all()
    if isinstance(value, Model):
        return _from_model(annotation, value, rows)
    if isinstance(value, QuerySet):
        inner = _item_annotation(annotation)
        return [_from_row(inner, item, rows) for item in rows.take(value)]
    if isinstance(value, Mapping):
        return _from_mapping(annotation, value, rows)
    if isinstance(value, BaseModel) or dataclasses.is_dataclass(value):
        return _from_record(value, rows)
    if not _is_series(value):
        return value
    inner = _item_annotation(annotation)
    if isinstance(value, Iterator) or any(isinstance(item, Model) for item in value):
        return [_shaped(inner, item, rows) for item in rows.take(value)]
    if isinstance(value, list | tuple | set | frozenset) and all(isinstance(item, _ONE_PIECE) for item in value):
        return value
    return [_shaped(inner, item, rows) for item in value]


def _from_model(annotation: Any, value: Model, rows: Rows) -> dict[str, Any]:
    names = _declared(annotation)
    if not names:
        raise _undeclared(f"the model {type(value).__name__}")
    return {key: _shaped(hint, getattr(value, name), rows) for name, (key, hint) in names.items()}


def _from_row(annotation: Any, value: Any, rows: Rows) -> Any:
    """Return a row of a queryset: a model, or what `values()` and `values_list()` make of one."""
    if isinstance(value, Mapping):
        names = _declared(annotation)
        if not names:
            raise _undeclared("a row of values()")
        return {key: _shaped(hint, value[name], rows) for name, (key, hint) in names.items() if name in value}
    if not isinstance(value, Model) and annotation in (Any, object, inspect.Signature.empty):
        raise _undeclared("a row of values_list()")
    return _shaped(annotation, value, rows)


def _from_mapping(annotation: Any, value: Mapping[Any, Any], rows: Rows) -> dict[Any, Any]:
    """Return a mapping; where all its names are declared it has no others."""
    arms = list(_arms(annotation))
    inner = next((get_args(arm)[1] for arm in arms if len(get_args(arm)) == 2), Any)
    hints: dict[Any, Any] = {}
    for names in map(_names, arms):
        hints |= {name: hint for name, (_, hint) in names.items()} | dict(names.values())
    is_open = inner is not Any or not hints or any(_allows_more(arm) for arm in arms)
    return {key: _shaped(hints.get(key, inner), item, rows) for key, item in value.items() if is_open or key in hints}


def _from_record(value: Any, rows: Rows) -> Any:
    """Return a dataclass or a pydantic model; one that holds rows becomes a mapping, so that they get their shape."""
    if isinstance(value, type) or not touches_database(value):
        return value
    names = _names(type(value))
    return {key: _shaped(hint, getattr(value, name), rows) for name, (key, hint) in names.items()}


def _fields(fields: tuple[str, ...], value: Any, rows: Rows) -> Any:
    if isinstance(value, Manager):
        value = value.all()
    if isinstance(value, Model):
        return {name: _plain(getattr(value, name)) for name in fields}
    if isinstance(value, Mapping):
        return {name: _plain(value[name]) for name in fields}
    if _is_series(value):
        return [_fields(fields, item, rows) for item in rows.take(value)]
    if value is None:
        return None
    raise UndeclaredModel(f"fields=(…) is for models and querysets; the handler returned a {type(value).__name__}")


def _undeclared(what: str) -> UndeclaredModel:
    return UndeclaredModel(
        f"the handler returned {what} where no shape is declared; annotate a dataclass, a TypedDict or a pydantic "
        "model, or give fields=(…)"
    )


def _plain(value: Any) -> Any:
    """Return a field's value; a related model is named by its primary key."""
    if isinstance(value, Model):
        return value.pk
    if isinstance(value, Manager):
        return [item.pk for item in value.all()]
    if isinstance(value, FieldFile):
        return value.name
    return value


def _declared(annotation: Any) -> dict[str, tuple[str, Any]]:
    """Return the names of the first shape among the alternatives of an annotation."""
    return next(filter(None, map(_names, _arms(annotation))), {})


def _names(shape: Any) -> dict[str, tuple[str, Any]]:
    """Return the names that a shape declares, each with its key and annotation; nothing for what is not a shape."""
    if not isinstance(shape, type) or issubclass(shape, Model):
        return {}
    if issubclass(shape, BaseModel):
        return {
            name: (field.validation_alias if isinstance(field.validation_alias, str) else name, field.annotation)
            for name, field in shape.model_fields.items()
        }
    if is_typeddict(shape):
        return {name: (name, hint) for name, hint in typing.get_type_hints(shape).items()}
    if dataclasses.is_dataclass(shape):
        hints = typing.get_type_hints(shape)
        return {field.name: (field.name, hints[field.name]) for field in dataclasses.fields(shape)}
    return {}


def _allows_more(shape: Any) -> bool:
    return isinstance(shape, type) and issubclass(shape, BaseModel) and shape.model_config.get("extra") == "allow"


def _arms(annotation: Any) -> Iterator[Any]:
    """Yield the alternatives of an annotation, without `Annotated` and aliases."""
    if get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    annotation = getattr(annotation, "__value__", annotation)
    if get_origin(annotation) in (typing.Union, types.UnionType):
        for arm in get_args(annotation):
            yield from _arms(arm)
    else:
        yield annotation


def _item_annotation(annotation: Any) -> Any:
    for arm in _arms(annotation):
        origin, arguments = get_origin(arm), get_args(arm)
        if origin in _SEQUENCES or (isinstance(origin, type) and issubclass(origin, QuerySet)):
            return arguments[0] if arguments else Any
    return Any


def _last_value(returns: Any) -> Any:
    """Return the annotation of what a generator returns, or of what it yields when it returns nothing."""
    for arm in _arms(returns):
        if get_origin(arm) in _GENERATORS:
            arguments = get_args(arm)
            if len(arguments) == 3 and arguments[2] not in (None, type(None)):
                return arguments[2]
            return arguments[0]
    return inspect.Signature.empty


def _model_in(annotation: Any) -> type[Model] | None:
    """Return the model that an annotation would let out, at any depth outside of declared shapes."""
    for arm in _arms(annotation):
        if isinstance(arm, type) and issubclass(arm, Model):
            return arm
        if isinstance(arm, type) and issubclass(arm, QuerySet | Manager):
            return Model
        origin = get_origin(arm)
        if isinstance(origin, type) and issubclass(origin, QuerySet | Manager):
            arguments = get_args(arm)
            found = _model_in(arguments[0]) if arguments else Model
            # A QuerySet of a declared shape is how a handler says what its rows look like.
            if found is not None or not arguments:
                return found
            continue
        for argument in get_args(arm):
            if (model := _model_in(argument)) is not None:
                return model
    return None


def _example(model: type[Model]) -> str:
    if model is Model:
        return '"id", …'
    return ", ".join(f'"{field.name}"' for field in model._meta.concrete_fields[:2]) + ", …"


def row_limit() -> Rows:
    """Return a fresh counter with the limit of the settings."""
    return Rows(mcp_settings.MAX_ROWS)

"""What of a model is exposed, and to whom: the part that tools and resources declare alike."""

from __future__ import annotations

import inspect
import re
from collections.abc import Sequence
from typing import Any, ClassVar, Final

from django.db import models
from django.http import HttpRequest
from django.utils import translation
from django.utils.text import slugify

from django_mcp.contrib.models.columns import Column, read_columns
from django_mcp.exceptions import RegistryError

PERMISSIONS: Final = {"list": "view", "retrieve": "view", "create": "add", "update": "change", "delete": "delete"}
"""The permission of Django that each action asks for."""

MAX_SCANNED: Final = 1_000
"""Rows that one call looks through where each is asked about."""


class ModelAccess:
    """The exposed fields of a model's rows, and who may reach which rows.

    Attributes:
        model, queryset: what is exposed; one of them, or both where `get_queryset` makes the queryset.
        fields: the names of what leaves, `author__name` for a field of a related object. By default the primary key
            alone, if it is a number or a UUID; any other has to be listed.
        object_permissions: also let in whoever has the permission for the object only, as a backend says that
            answers `has_perm(permission, obj)`.
        singular, plural: what one row and several are called in names; by default from the model's verbose names.
    """

    model: ClassVar[type[models.Model] | None] = None
    queryset: ClassVar[models.QuerySet[Any] | None] = None
    fields: ClassVar[Sequence[str]] = ()
    object_permissions: ClassVar[bool] = False
    singular: ClassVar[str] = ""
    plural: ClassVar[str] = ""

    def __init__(self) -> None:
        self.exposed = self._exposed()
        self.columns = self._columns()

    def get_queryset(self, request: HttpRequest) -> models.QuerySet[Any]:
        """Return the rows that the caller can reach at all; for everyone else they are not there."""
        if self.queryset is not None:
            return self.queryset.all()
        return self.exposed._default_manager.all()

    def has_permission(self, request: HttpRequest, action: str, obj: models.Model | None = None) -> bool:
        """Whether the caller may do `action`, or do it with `obj`.

        Asked without an object first: who is refused then does not see the tool.
        """
        user: Any = getattr(request, "user", None)
        if user is None:
            return False
        permission = self.permission_of(action)
        if user.has_perm(permission):
            return True
        if not self.object_permissions or action == "create":
            return False
        return obj is None or bool(user.has_perm(permission, obj))

    def permission_of(self, action: str) -> str:
        """Return the name of the permission that an action asks for, such as `books.view_book`."""
        meta = self.exposed._meta
        return f"{meta.app_label}.{PERMISSIONS[action]}_{meta.model_name}"

    def asks_for_each(self, request: HttpRequest, action: str) -> bool:
        """Whether rows of `get_queryset` may be refused to the caller one by one."""
        if type(self).has_permission is not ModelAccess.has_permission:
            return True
        return self.object_permissions and not request.user.has_perm(self.permission_of(action))

    def rows(self, request: HttpRequest, action: str) -> models.QuerySet[Any]:
        """Return the rows that the caller can reach, with what the columns need and, if possible, no more."""
        queryset = self.get_queryset(request)
        has_own = bool(queryset.query.select_related) or not queryset.query.deferred_loading[1]
        if joins := [column.joins for column in self.columns if column.joins]:
            queryset = queryset.select_related(*joins)
        if has_own or self.asks_for_each(request, action):
            return queryset
        return queryset.only("pk", *(column.path for column in self.columns))

    def allowed(
        self, request: HttpRequest, action: str, rows: models.QuerySet[Any], limit: int
    ) -> tuple[list[models.Model], bool]:
        """Return the first rows that the caller may act on, and whether no more than `MAX_SCANNED` had to be asked."""
        found: list[models.Model] = []
        for number, row in enumerate(rows[: MAX_SCANNED + 1]):
            if number == MAX_SCANNED:
                return found, False
            if self.has_permission(request, action, row):
                found.append(row)
                if len(found) == limit:
                    break
        return found, True

    def shown(self, row: models.Model) -> dict[str, Any]:
        """Return what leaves of a row."""
        return {column.name: column.value_of(row) for column in self.columns}

    @property
    def row_schema(self) -> dict[str, Any]:
        """The JSON Schema of `shown()`."""
        return {
            "type": "object",
            "properties": {column.name: column.schema for column in self.columns},
            "required": [column.name for column in self.columns],
            "additionalProperties": False,
        }

    @property
    def one(self) -> str:
        """What one row is called in names."""
        if self.singular:
            return self.singular
        with translation.override(None):
            return _snake(str(self.exposed._meta.verbose_name), self.exposed.__name__)

    @property
    def many(self) -> str:
        """What several rows are called in names."""
        if self.plural:
            return self.plural
        if self.singular:
            return f"{self.singular}s"
        with translation.override(None):
            return _snake(str(self.exposed._meta.verbose_name_plural), f"{self.exposed.__name__}s")

    @property
    def doc(self) -> str:
        """What the subclass itself says in its docstring."""
        return inspect.cleandoc(type(self).__dict__.get("__doc__") or "")

    @classmethod
    def place(cls) -> str:
        """Return `file:line` of the subclass."""
        try:
            return f"{inspect.getsourcefile(cls)}:{inspect.getsourcelines(cls)[1]}"
        except (OSError, TypeError):
            return f"{cls.__module__}.{cls.__qualname__}"

    def refusal(self, problem: str, remedy: str) -> RegistryError:
        """Return the error that reports a mistake of the subclass."""
        return RegistryError(f"{type(self).__name__} {problem};", where=self.place(), remedy=f"{remedy}.")

    def column(self, name: str, use: str) -> Column:
        """Return the column of a listed name.

        Raises:
            RegistryError: it is not listed. Whoever can search, compare or order by it learns what it is.
        """
        found = next((column for column in self.columns if column.name == name), None)
        if found is None:
            raise self.refusal(f"has {name!r} in {use} and not in fields", "list it in fields, or take it out there")
        return found

    def _exposed(self) -> type[models.Model]:
        found = self.model or (self.queryset.model if self.queryset is not None else None)
        if found is None:
            raise self.refusal("names no model", "give model= or queryset=")
        if self.queryset is not None and not issubclass(self.queryset.model, found):
            raise self.refusal(f"has a queryset of another model than {found.__name__}", "give one of them")
        return found

    def _columns(self) -> tuple[Column, ...]:
        names = self.fields
        if isinstance(names, str):
            raise self.refusal(f"has the text {names!r} for fields", "list the names of what may leave")
        key = self.exposed._meta.pk
        if not names:
            while isinstance(key, models.ForeignKey):
                key = key.target_field
            if not isinstance(key, models.IntegerField | models.UUIDField):
                raise self.refusal(
                    f"lists no fields, and the primary key of {self.exposed.__name__} is no mere number",
                    "list the names of what may leave in fields",
                )
            names = (self.exposed._meta.pk.name,)
        try:
            return read_columns(self.exposed, names)
        except LookupError as error:
            raise self.refusal(
                f"lists in fields {error.args[0]}",
                "list columns, and `relation__field` where a relation leads to one object",
            ) from error


def _snake(name: str, instead: str) -> str:
    """Return `name` as a name of a tool has it, or the name of a class where nothing is left of it."""
    made = slugify(name).replace("-", "_")
    return made or re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", instead).lower()

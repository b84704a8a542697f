"""Rows of a model as tools: list, retrieve and, where they are named, create, update and delete."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Final

from django import forms
from django.core.exceptions import ValidationError
from django.db import DataError, IntegrityError, models, router, transaction
from django.http import HttpRequest

from django_mcp.contrib.models.access import PERMISSIONS, ModelAccess
from django_mcp.contrib.models.narrowing import Narrowing
from django_mcp.contrib.models.values import cleaned, compared_field, schema_of
from django_mcp.contrib.models.writing import Writing
from django_mcp.exceptions import ToolError
from django_mcp.registry.context import Context
from django_mcp.registry.definition import ToolDefinition

MAX_PAGE: Final = 100_000
_METHODS: Final = {
    "list": "list_rows",
    "retrieve": "get_row",
    "create": "create_row",
    "update": "update_row",
    "delete": "delete_row",
}
_READS: Final = frozenset({"list", "retrieve"})
_NOT_FOUND: Final = "Not found."
_OUTSIDE: Final = "The object would be where you cannot reach it. Nothing was saved."
_CONFLICT: Final = "This conflicts with another object. Nothing was saved."
_IN_USE: Final = "Other objects need it. Nothing was deleted."
_OUT_OF_RANGE: Final = "A value is out of range."


class ModelTools(ModelAccess):
    """The tools of one model. A subclass declares; `register_models` serves it.

    Attributes:
        actions: the tools to serve, among `"list"`, `"retrieve"`, `"create"`, `"update"` and `"delete"`.
        search_fields: texts that `search` looks in.
        filter_fields: what a list is narrowed by: names (`exact`), or a mapping of names to lookups.
        ordering_fields: what a list can be ordered by.
        page_size, max_page_size: rows of a page, where the client does not say, and at most.
        count: whether a list tells how many rows there are, which costs a query.
        form_class: the `ModelForm` that creates and updates; its fields are the arguments.
        options: more options of `tool()` for each of the tools, such as `icons` and `meta`.

    All names are among `fields`: who compares with a field learns what is in it.
    """

    actions: ClassVar[Sequence[str]] = ("list", "retrieve")
    search_fields: ClassVar[Sequence[str]] = ()
    filter_fields: ClassVar[Mapping[str, Sequence[str]] | Sequence[str]] = ()
    ordering_fields: ClassVar[Sequence[str]] = ()
    page_size: ClassVar[int] = 20
    max_page_size: ClassVar[int] = 100
    count: ClassVar[bool] = False
    form_class: ClassVar[type[forms.ModelForm[Any]] | None] = None
    options: ClassVar[Mapping[str, Any]] = {}

    def __init__(self) -> None:
        super().__init__()
        if isinstance(self.actions, str) or (unknown := sorted(set(self.actions) - set(PERMISSIONS))):
            named = self.actions if isinstance(self.actions, str) else ", ".join(unknown)
            raise self.refusal(f"has the actions {named}", f"list some of {', '.join(PERMISSIONS)}")
        if not 1 <= self.page_size <= self.max_page_size:
            raise self.refusal("has a page_size that is not between 1 and max_page_size", "mend them")
        self.narrowing = Narrowing(self)
        try:
            self.key = compared_field(self.exposed._meta.pk)
        except LookupError as error:
            raise self.refusal(f"has a model without a plain primary key ({error.args[0]})", "write a tool") from error
        self.writing = Writing(self, self.form_class) if self.form_class is not None else None
        if self.writing is None and {"create", "update"} & set(self.actions):
            raise self.refusal("writes without a form_class", "give a ModelForm, or take the action out")

    def get_form(
        self, request: HttpRequest, data: dict[str, Any], instance: models.Model | None
    ) -> forms.ModelForm[Any]:
        """Return the bound form that writes. Narrow the querysets of its choices here where callers differ."""
        if self.form_class is None:
            raise TypeError(f"{type(self).__name__} has no form_class")
        return self.form_class(data=data, instance=instance)

    def definitions(self) -> list[ToolDefinition[..., Any]]:
        """Return the definitions of the tools that are served."""
        return [self._definition(action) for action in PERMISSIONS if action in self.actions]

    def list_rows(self, request: HttpRequest, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Return one page of the rows that the arguments ask for."""
        page, size = int(arguments.get("page", 1)), int(arguments.get("page_size", self.page_size))
        start, stop = (page - 1) * size, page * size
        queryset = self.narrowing.apply(self.rows(request, "list"), arguments)
        result: dict[str, Any] = {}
        if self.asks_for_each(request, "list"):
            # How many there are is not told: the others are not there.
            rows, result["complete"] = self.allowed(request, "list", queryset, stop + 1)
            rows = rows[start:]
            count = None
        else:
            rows = [*queryset[start : stop + 1]]
            count = queryset.count() if self.count else None
            result["complete"] = True
        result["next_page"] = page + 1 if len(rows) > size and page < MAX_PAGE else None
        if self.count:
            result["count"] = count
        result["rows"] = [self.shown(row) for row in rows[:size]]
        return result

    def get_row(self, request: HttpRequest, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Return one row."""
        return self.shown(self._find(request, "retrieve", self.rows(request, "retrieve"), arguments["pk"]))

    def create_row(self, request: HttpRequest, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Create a row and return it."""
        return self._save(request, arguments, None)

    def update_row(self, request: HttpRequest, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Change what is given of a row and return it."""
        given = {name: value for name, value in arguments.items() if name != "pk"}
        return self._save(request, given, self._locked(request, "update", arguments["pk"]))

    def delete_row(self, request: HttpRequest, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Delete a row."""
        try:
            self._locked(request, "delete", arguments["pk"]).delete()
        except (models.ProtectedError, models.RestrictedError) as error:
            raise ToolError(_IN_USE) from error
        return {"deleted": True}

    def run(self, request: HttpRequest, action: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Serve one call; what is written is one transaction.

        Raises:
            ToolError: there is no such row for the caller, or a value is not good.
        """
        work: Callable[..., dict[str, Any]] = getattr(self, _METHODS[action])
        try:
            if action in _READS:
                return work(request, arguments)
            with transaction.atomic(using=self._alias):
                return work(request, arguments)
        except ValidationError as error:
            raise ToolError("\n".join(error.messages)) from error
        except IntegrityError as error:
            # Some databases look only when the transaction ends.
            raise ToolError(_CONFLICT) from error
        except (DataError, OverflowError) as error:
            raise ToolError(_OUT_OF_RANGE) from error

    @property
    def _alias(self) -> str:
        return router.db_for_write(self.exposed)

    def _key(self, given: Any) -> Any:
        try:
            return cleaned(self.key, given)
        except ValidationError as error:
            raise ToolError(_NOT_FOUND) from error

    def _find(self, request: HttpRequest, action: str, queryset: models.QuerySet[Any], given: Any) -> models.Model:
        """Return a row by its key; one that the caller may not use is not there either."""
        key = self._key(given)
        row: models.Model | None = next(iter(queryset.filter(pk=key)[:1]), None)
        if row is None or not self.has_permission(request, action, row):
            raise ToolError(_NOT_FOUND)
        return row

    def _locked(self, request: HttpRequest, action: str, given: Any) -> models.Model:
        """Return a row that nobody else changes until the transaction ends."""
        key = self._key(given)
        # Before the row is read, for where a transaction reads what was there when it began; and by itself, for a lock
        # does not go with everything that a project's queryset may have.
        list(self.exposed._base_manager.using(self._alias).select_for_update().filter(pk=key).values_list("pk"))
        return self._find(request, action, self.get_queryset(request).using(self._alias), given)

    def _save(self, request: HttpRequest, arguments: Mapping[str, Any], row: models.Model | None) -> dict[str, Any]:
        if self.writing is None:
            raise TypeError(f"{type(self).__name__} has no form_class")
        saved = self.writing.save(request, arguments, row)
        action = "create" if row is None else "update"
        there = next(iter(self.rows(request, action).using(self._alias).filter(pk=saved.pk)[:1]), None)
        if there is None or not self.has_permission(request, action, there):
            raise ToolError(_OUTSIDE)
        return self.shown(there)

    def _definition(self, action: str) -> ToolDefinition[..., Any]:
        reads = action in _READS
        called = self.many if action == "list" else self.one
        made: dict[str, Any] = {
            "name": f"{_VERBS[action]}_{called}",
            "description": f"{_SENTENCES[action].format(called.replace('_', ' '))} {self.doc}".strip(),
            "read_only": reads,
            "destructive": None if reads else action != "create",
            "open_world": False,
            "input_schema": self._input_schema(action),
            "output_schema": self._output_schema(action),
            "permission": lambda request: self.has_permission(request, action),
            "place": self.place(),
        }
        if taken := made.keys() & self.options:
            raise self.refusal(f"has {', '.join(sorted(taken))} in options, which it makes itself", "take it out")
        try:
            return ToolDefinition(function=ModelTool(self, action), **made, **self.options)
        except TypeError as error:
            raise self.refusal("has options that no tool has", "give those of tool()") from error

    def _input_schema(self, action: str) -> dict[str, Any]:
        properties: dict[str, Any] = {}
        required: list[str] = []
        if action == "list":
            properties = self.narrowing.properties
            properties["page"] = {"type": "integer", "minimum": 1, "maximum": MAX_PAGE, "default": 1}
            size = {"minimum": 1, "maximum": self.max_page_size, "default": self.page_size}
            properties["page_size"] = {"type": "integer", **size}
        elif action in {"create", "update"} and self.writing is not None:
            declared = self.writing.schema(partial=action == "update")
            properties, required = declared["properties"], declared["required"]
        if action not in {"list", "create"}:
            if "pk" in properties:
                raise self.refusal("has a form with a field 'pk'", "give it another name")
            properties = {"pk": schema_of(self.key), **properties}
            required = ["pk", *required]
        return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}

    def _output_schema(self, action: str) -> dict[str, Any]:
        if action not in {"list", "delete"}:
            return self.row_schema
        if action == "delete":
            properties: dict[str, Any] = {"deleted": {"type": "boolean"}}
        else:
            properties = {
                "rows": {"type": "array", "items": self.row_schema, "maxItems": self.max_page_size},
                "next_page": {"type": ["integer", "null"], "description": "The page to ask for next, if there is one"},
                "complete": {
                    "type": "boolean",
                    "description": "Whether all rows were looked through; if not, ask for fewer by a filter",
                },
            }
            if self.count:
                properties["count"] = {"type": ["integer", "null"], "description": "How many rows there are"}
        return {
            "type": "object",
            "properties": properties,
            "required": [*properties],
            "additionalProperties": False,
        }


_VERBS: Final[Mapping[str, str]] = {"retrieve": "get"} | {name: name for name in PERMISSIONS if name != "retrieve"}
_SENTENCES: Final[Mapping[str, str]] = {
    "list": "List {}, a page at a time.",
    "retrieve": "Get one {} by its primary key.",
    "create": "Create a {}.",
    "update": "Change a {}; what is not given stays as it is.",
    "delete": "Delete a {}.",
}


class ModelTool:
    """What runs when a tool is called. Its module is that of the class, whose app gives the prefix."""

    def __init__(self, tools: ModelTools, action: str) -> None:
        self.tools = tools
        self.action = action
        self.__module__ = type(tools).__module__

    def __call__(self, mcp_context: Context, **arguments: Any) -> Any:
        return self.tools.run(mcp_context.request, self.action, arguments)

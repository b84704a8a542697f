"""Writing a row through a form of the project: its fields are the arguments, its words say what is wrong.

An argument that is not given stays what it is; of a new row it is the form's initial value. Files are left out. A
value goes into the form as it came in JSON, past the widget, which is made for a browser.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from django import forms
from django.core.exceptions import NON_FIELD_ERRORS, ValidationError
from django.db import models
from django.http import HttpRequest

from django_mcp.contrib.models.values import nullable, prepared, schema_of, storable
from django_mcp.exceptions import ToolError

if TYPE_CHECKING:
    from django_mcp.contrib.models.tools import ModelTools


class _Given(forms.Widget):
    """Hands a field what was given, as it is."""

    supports_microseconds = True

    def value_from_datadict(self, data: Any, files: Any, name: str) -> Any:
        return data.get(name)

    def value_omitted_from_data(self, data: Any, files: Any, name: str) -> bool:
        return name not in data


class Writing:
    """The form of a class of tools.

    Raises:
        RegistryError: the form cannot be filled by a client.
    """

    def __init__(self, tools: ModelTools, form_class: type[forms.ModelForm[Any]]) -> None:
        self._tools = tools
        if getattr(getattr(form_class, "_meta", None), "model", None) is not tools.exposed:
            raise tools.refusal(
                f"has {form_class.__name__}, which is no form of {tools.exposed.__name__}", "give its ModelForm"
            )
        self._fields: dict[str, forms.Field] = {}
        self._schemas: dict[str, dict[str, Any]] = {}
        self._needed: list[str] = []
        # An unbound form of no row: what it begins with is what a new row has where nothing is given.
        blank = form_class._meta.model()
        initial = forms.models.model_to_dict(blank)
        for name, field in form_class.base_fields.items():
            if isinstance(field, forms.FileField):
                if field.required:
                    raise tools.refusal(f"has a form that needs the file {name!r}", "take it out of the form")
                continue
            if field.disabled:
                continue
            self._add(name, field, initial.get(name, field.initial))

    def schema(self, *, partial: bool) -> dict[str, Any]:
        """Return the JSON Schema of the arguments.

        Args:
            partial: whether a row is there already, so that nothing has to be given.
        """
        return {"properties": dict(self._schemas), "required": [] if partial else list(self._needed)}

    def save(self, request: HttpRequest, arguments: Mapping[str, Any], row: models.Model | None) -> models.Model:
        """Write a row and return it.

        Raises:
            ToolError: the form refuses the values; the text has its messages by field.
        """
        form = self._tools.get_form(request, dict(arguments), row)
        if not form.is_bound:
            raise TypeError(f"get_form() of {type(self._tools).__name__} returned a form without its data")
        data: dict[str, Any] = {}
        problems: list[str] = []
        for name, field in list(form.fields.items()):
            if isinstance(field, forms.FileField):
                del form.fields[name]
                continue
            field.widget = _Given()
            try:
                if name in arguments and name in self._fields:
                    data[form.add_prefix(name)] = prepared(field, arguments[name])
                elif (kept := form.get_initial_for_field(field, name)) is not None:
                    data[form.add_prefix(name)] = _kept(field, kept)
            except ValidationError as error:
                problems += [f"{name}: {message}" for message in error.messages]
        form.data = data
        problems = problems or [*_problems(form)]
        if problems:
            raise ToolError("\n".join(problems))
        saved: models.Model = form.save()
        return saved

    def _add(self, name: str, field: forms.Field, initial: Any) -> None:
        try:
            schema = schema_of(field)
        except LookupError as error:
            raise self._tools.refusal(
                f"has a form whose field {name!r} cannot be given, because {error.args[0]}", "take it out of the form"
            ) from error
        if not field.required:
            schema = nullable(schema)
        if text := str(field.help_text or field.label or ""):
            schema["description"] = text
        self._fields[name] = field
        self._schemas[name] = schema
        if field.required and initial in field.empty_values:
            self._needed.append(name)


def _kept(field: forms.Field, value: Any) -> Any:
    """Return what a row has, as the field's `clean` takes it."""
    if isinstance(field, forms.ModelChoiceField | forms.JSONField):
        return field.prepare_value(value)
    return value


def _problems(form: forms.ModelForm[Any]) -> list[str]:
    found = [
        f"{name}: {message}" if name != NON_FIELD_ERRORS else str(message)
        for name, messages in form.errors.items()
        for message in messages
    ]
    for name, value in (form.cleaned_data if not found else {}).items():
        try:
            storable(value)
        except ValidationError as error:
            found += [f"{name}: {message}" for message in error.messages]
    return found

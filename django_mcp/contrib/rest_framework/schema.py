"""Operations from the routes of views, by drf-spectacular: serializers, filters, pagination, path, and their texts.

What it can only guess is left open: an extra action that declares no serializer, a method field without a type.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, cast

from django.urls import URLPattern
from drf_spectacular.drainage import GENERATOR_STATS
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.settings import patched_settings
from rest_framework import serializers
from rest_framework.parsers import FormParser, JSONParser, MultiPartParser
from rest_framework.settings import api_settings

from django_mcp.contrib.rest_framework.served_view import ServedView
from django_mcp.contrib.views.operation import BODY, FILE, RESULT, BodyKind, Operation, Query

JSON: Final = "application/json"
FORM: Final = "application/x-www-form-urlencoded"
MULTIPART: Final = "multipart/form-data"

SETTINGS: Final = {
    "OAS_VERSION": "3.1.0",
    "COMPONENT_SPLIT_REQUEST": True,
    "COMPONENT_SPLIT_PATCH": True,
    "SCHEMA_PATH_PREFIX": None,
    "SCHEMA_PATH_PREFIX_TRIM": False,
    "SCHEMA_PATH_PREFIX_INSERT": "",
    "PREPROCESSING_HOOKS": [],
    "POSTPROCESSING_HOOKS": [],
    "CAMELIZE_NAMES": False,
}
_REFERENCE: Final = "#/components/schemas/"


def operations(view: ServedView, pattern: URLPattern) -> dict[str, Operation]:
    """Return what each method of a route takes and gives, by method in capitals."""
    schema_class = _schema_class(view)
    kind: Any = type(view.kind.__name__, (view.served,), {"schema": schema_class(), "__doc__": view.kind.__doc__})
    callback = kind.as_view(dict(view.actions), **view.initkwargs) if view.actions else kind.as_view(**view.initkwargs)
    route = URLPattern(pattern.pattern, callback, pattern.default_args, pattern.name)
    # What it warns of belongs to the project's own run of it.
    with patched_settings(SETTINGS), GENERATOR_STATS.silence():
        generator: Any = _Generator(patterns=[route])  # type: ignore[no-untyped-call]
        document = generator.get_schema(public=True)
    components = document.get("components", {}).get("schemas", {})
    found = {}
    for path in document["paths"].values():
        for method, told in path.items():
            found[method.upper()] = _operation(view, method.upper(), told, components)
    return found


def _schema_class(view: ServedView) -> type[AutoSchema]:
    own = type(view.kind.schema)
    base: type[AutoSchema] = own if issubclass(own, AutoSchema) else AutoSchema
    return cast("type[AutoSchema]", type("ToolSchema", (_Open, base), {}))


class _Generator(SchemaGenerator):
    def coerce_path(self, path: str, method: str, view: Any) -> str:
        """Leave the parts of a path the names that the view knows them by."""
        return path


class _Open:
    """Says nothing of what drf-spectacular would guess to be a string."""

    def _map_serializer_field(self, field: Any, direction: Any, bypass_extensions: bool = False) -> Any:
        told = super()._map_serializer_field(field, direction, bypass_extensions)  # type: ignore[misc]
        if isinstance(field, serializers.SerializerMethodField) and not _is_typed(field):
            return {name: value for name, value in told.items() if name in {"readOnly", "description", "title"}}
        return told


def _is_typed(field: serializers.SerializerMethodField) -> bool:
    method = getattr(field.parent, field.method_name or "", None)
    return "return" in getattr(method, "__annotations__", {}) or hasattr(method, "_spectacular_annotation")


def _operation(view: ServedView, method: str, told: Mapping[str, Any], components: Mapping[str, Any]) -> Operation:
    is_declared = _is_declared(view, method)
    skipped = {api_settings.URL_FORMAT_OVERRIDE}
    parameters = [one for one in told.get("parameters", ()) if one["name"] not in skipped]
    path = [one for one in parameters if one["in"] == "path"]
    query = [one for one in parameters if one["in"] == "query"]
    properties = {one["name"]: _described(one) for one in (*path, *query)}
    required = [one["name"] for one in (*path, *query) if one.get("required")]
    kind, files, media_type = _body(view, method, told, components, properties, required, is_declared=is_declared)
    schema: dict[str, Any] = {"type": "object", "properties": properties, "additionalProperties": False}
    if required:
        schema["required"] = list(dict.fromkeys(required))
    output = _output(told, components) if is_declared else None
    if output is not None and output.get("type") != "object":
        output = {"type": "object", "properties": {RESULT: output}, "required": [RESULT]}
    return Operation(
        method=method,
        description=told.get("description") or told.get("summary") or "",
        input_schema=_whole(schema, components),
        output_schema=None if output is None else _whole(output, components),
        path=frozenset(one["name"] for one in path),
        query=tuple(Query(name=one["name"], explode=one.get("explode", True)) for one in query),
        body=kind,
        files=files,
        media_type=media_type,
    )


def _body(
    view: ServedView,
    method: str,
    told: Mapping[str, Any],
    components: Mapping[str, Any],
    properties: dict[str, Any],
    required: list[str],
    *,
    is_declared: bool,
) -> tuple[BodyKind, frozenset[str], str]:
    """Add what the body takes to the arguments."""
    if method not in {"POST", "PUT", "PATCH", "DELETE"}:
        return "none", frozenset(), JSON
    media_type = _media_type(view)
    if not is_declared:
        if method != "DELETE":
            properties[BODY] = {"description": "The body of the request."}
        return ("none" if method == "DELETE" else "whole"), frozenset(), media_type
    content = told.get("requestBody", {}).get("content", {})
    if not content:
        return "none", frozenset(), media_type
    schema = next((content[name]["schema"] for name in (JSON, MULTIPART, FORM) if name in content), None)
    schema = _resolved(schema if schema is not None else next(iter(content.values()))["schema"], components)
    fields = schema.get("properties")
    if fields is None or set(fields) & set(properties) or schema.get("type") != "object" or BODY in fields:
        properties[BODY] = schema
        if told["requestBody"].get("required"):
            required.append(BODY)
        return "whole", frozenset(), media_type
    files = {name for name, field in fields.items() if _is_file(_resolved(field, components))}
    properties.update({name: _filed(field) if name in files else field for name, field in fields.items()})
    required.extend(schema.get("required", ()))
    return "fields", frozenset(files), media_type


def _media_type(view: ServedView) -> str:
    """Return how a body without files is sent: the first that the view parses."""
    parsers = [type(one) for one in view.kind(**view.initkwargs).get_parsers()]
    for media_type, kind in ((JSON, JSONParser), (MULTIPART, MultiPartParser), (FORM, FormParser)):
        if any(issubclass(one, kind) for one in parsers):
            return media_type
    return JSON


def _is_declared(view: ServedView, method: str) -> bool:
    """Say whether what a method takes and gives is more than a guess: an extra action has to say so itself."""
    handler = view.handler(method)
    mapped = getattr(handler, "mapping", None)
    if mapped is None:
        return hasattr(view.kind, "get_serializer") or _is_annotated(view, handler)
    return "serializer_class" in handler.kwargs or _is_annotated(view, handler)


def _is_annotated(view: ServedView, handler: Any) -> bool:
    return "schema" in getattr(handler, "kwargs", {}) or "schema" in view.initkwargs


def _described(parameter: Mapping[str, Any]) -> dict[str, Any]:
    described = dict(parameter["schema"])
    if parameter.get("description"):
        described.setdefault("description", parameter["description"])
    return described


def _is_file(schema: Mapping[str, Any]) -> bool:
    return schema.get("format") == "binary" or schema.get("contentMediaType") == "application/octet-stream"


def _filed(schema: Mapping[str, Any]) -> dict[str, Any]:
    told = {name: schema[name] for name in ("title", "description") if name in schema}
    return {**FILE, **told}


def _output(told: Mapping[str, Any], components: Mapping[str, Any]) -> dict[str, Any] | None:
    for status, response in sorted(told.get("responses", {}).items()):
        if str(status).startswith("2"):
            content = response.get("content", {})
            schema = content.get(JSON, {}).get("schema")
            return None if schema is None else _resolved(schema, components)
    return None


def _resolved(schema: Mapping[str, Any], components: Mapping[str, Any]) -> dict[str, Any]:
    while "$ref" in schema:
        schema = components[schema["$ref"].removeprefix(_REFERENCE)]
    return dict(schema)


def _whole(schema: Mapping[str, Any], components: Mapping[str, Any]) -> dict[str, Any]:
    """Return a schema that stands by itself: what it refers to is among its `$defs`."""
    definitions: dict[str, Any] = {}
    root = _rewritten(schema, components, definitions)
    return {**root, "$defs": definitions} if definitions else root


def _rewritten(node: Any, components: Mapping[str, Any], definitions: dict[str, Any]) -> Any:
    if isinstance(node, list):
        return [_rewritten(one, components, definitions) for one in node]
    if not isinstance(node, dict):
        return node
    if isinstance(reference := node.get("$ref"), str):
        name = reference.removeprefix(_REFERENCE)
        if name not in definitions:
            definitions[name] = {}
            definitions[name] = _rewritten(components[name], components, definitions)
        rest = {key: value for key, value in node.items() if key != "$ref"}
        return {"$ref": f"#/$defs/{name}", **_rewritten(rest, components, definitions)}
    made = {key: _rewritten(value, components, definitions) for key, value in node.items()}
    if made.pop("nullable", False) and isinstance(made.get("type"), str):
        # A word of OpenAPI 3.0, in what paginators say of themselves.
        made["type"] = [made["type"], "null"]
    return made

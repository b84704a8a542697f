"""Arguments of a tool as they are typed: `name=value`, read by the tool's schema, or `name:=JSON`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from django.core.management.base import CommandError

HELP: Final = "An argument: NAME=VALUE, or NAME:=JSON."
_NAMES: Final = {"integer": "a whole number", "number": "a number", "boolean": "true or false"}


def read_arguments(given: Iterable[str], schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments, those of other types than text decoded as JSON.

    Raises:
        CommandError: one is not an argument, or does not fit its type; the message says what would.
    """
    arguments: dict[str, Any] = {}
    for name, text, is_json in map(_split, given):
        types = set(_types(schema.get("properties", {}).get(name, {}), schema))
        if is_json or (types and "string" not in types):
            arguments[name] = _decoded(name, text, types if not is_json else set())
        else:
            arguments[name] = text
    return arguments


def read_texts(given: Iterable[str]) -> dict[str, str]:
    """Return the arguments of a prompt, all of which are text."""
    return {name: text for name, text, _ in map(_split, given)}


def signature(schema: Mapping[str, Any]) -> str:
    """Return the parameters of a schema as `(name: type, other: type = default)`."""
    required = schema.get("required", ())
    parts = []
    for name, field in schema.get("properties", {}).items():
        part = f"{name}: {'|'.join(dict.fromkeys(_types(field, schema))) or 'any'}"
        if name not in required:
            part += f" = {json.dumps(field.get('default'), ensure_ascii=False)}"
        parts.append(part)
    return f"({', '.join(parts)})"


def _split(given: str) -> tuple[str, str, bool]:
    name, equals, text = given.partition("=")
    if not equals or not name.rstrip(":"):
        raise CommandError(f"{given!r} is not an argument; write NAME=VALUE, or NAME:=JSON.")
    return name.removesuffix(":"), text, name.endswith(":")


def _types(field: Mapping[str, Any], schema: Mapping[str, Any]) -> Iterator[str]:
    """Yield the JSON types that a field takes; nothing when it takes any."""
    if str(field.get("$ref", "")).startswith("#/$defs/"):
        name = field["$ref"].removeprefix("#/$defs/")
        field = schema.get("$defs", {}).get(name, {})
    for arm in field.get("anyOf", field.get("oneOf", ())):
        yield from _types(arm, schema)
    kind = field.get("type", ())
    yield from [kind] if isinstance(kind, str) else kind
    if "type" not in field:
        yield from ("string" for choice in field.get("enum", ()) if isinstance(choice, str))


def _decoded(name: str, text: str, types: set[str]) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        wanted = " or ".join(sorted(_NAMES.get(kind, f"JSON, {kind}") for kind in types - {"null"})) or "JSON"
        raise CommandError(f"{name}={text} does not fit; {name} takes {wanted}.") from None

"""Values that fit a JSON Schema, as far as the schemas of views go."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from hypothesis import strategies as st

_ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
_TEXTS: Mapping[str, st.SearchStrategy[str]] = {
    "date": st.dates().map(str),
    "date-time": st.datetimes().map(lambda at: f"{at.isoformat()}Z"),
    "decimal": st.decimals(allow_nan=False, allow_infinity=False, places=2, min_value=-9999, max_value=9999).map(str),
    "uri": st.just("http://testserver/api/books/1/"),
}


def fitting(schema: Mapping[str, Any], root: Mapping[str, Any] | None = None) -> st.SearchStrategy[Any]:
    """Return a strategy for values that fit."""
    root = schema if root is None else root
    if "$ref" in schema:
        return fitting(root["$defs"][schema["$ref"].removeprefix("#/$defs/")], root)
    for word in ("oneOf", "anyOf"):
        if word in schema:
            return st.one_of([fitting(one, root) for one in schema[word]])
    if "allOf" in schema:
        return fitting(schema["allOf"][0], root)
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    kind = schema.get("type")
    if isinstance(kind, list):
        return st.one_of([fitting({**schema, "type": one}, root) for one in kind])
    match kind:
        case "object":
            return _object(schema, root)
        case "array":
            return st.lists(fitting(schema.get("items", {}), root), max_size=3)
        case "string":
            return _text(schema)
        case "integer":
            return st.integers(schema.get("minimum"), schema.get("maximum"))
        case "number":
            return st.floats(schema.get("minimum"), schema.get("maximum"), allow_nan=False, allow_infinity=False)
        case "boolean":
            return st.booleans()
        case "null":
            return st.none()
    return _ANYTHING


def _object(schema: Mapping[str, Any], root: Mapping[str, Any]) -> st.SearchStrategy[Any]:
    required = set(schema.get("required", ()))
    properties = {name: fitting(one, root) for name, one in schema.get("properties", {}).items()}
    return st.fixed_dictionaries(
        {name: strategy for name, strategy in properties.items() if name in required},
        optional={name: strategy for name, strategy in properties.items() if name not in required},
    )


def _text(schema: Mapping[str, Any]) -> st.SearchStrategy[str]:
    if schema.get("contentEncoding") == "base64":
        return st.binary(max_size=50).map(lambda data: base64.b64encode(data).decode())
    if "pattern" in schema:
        return st.from_regex(schema["pattern"], fullmatch=True)
    if schema.get("format") in _TEXTS:
        return _TEXTS[schema["format"]]
    return st.text(min_size=schema.get("minLength", 0), max_size=min(schema.get("maxLength", 40), 200))

"""A JSON Schema that a tool serves: its dialect, its validity there, and what fits it (MCP 2026-07-28, basic).

A schema without `$schema` is read as 2020-12; the older drafts are read as what they say they are. Nothing is ever
fetched: a reference leads into the schema itself or to a published dialect.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final
from urllib.parse import urldefrag, urlsplit

import jsonschema
from jsonschema.protocols import Validator
from jsonschema_specifications import REGISTRY  # type: ignore[import-untyped]

_DEFAULT: Final = "https://json-schema.org/draft/2020-12/schema"
_DIALECTS: Final[Mapping[str, type[Validator]]] = {
    _DEFAULT: jsonschema.Draft202012Validator,
    "https://json-schema.org/draft/2019-09/schema": jsonschema.Draft201909Validator,
    "http://json-schema.org/draft-07/schema": jsonschema.Draft7Validator,
    "http://json-schema.org/draft-06/schema": jsonschema.Draft6Validator,
    "http://json-schema.org/draft-04/schema": jsonschema.Draft4Validator,
}


class UnusableSchema(Exception):
    """A schema cannot be served; the text says why."""


def read_schema(schema: Mapping[str, Any]) -> Validator:
    """Return what validates values against `schema`, in its own dialect and without the network.

    Raises:
        UnusableSchema: its dialect is unknown, it is not valid there, or it refers to a place outside of itself.
    """
    dialect = schema.get("$schema", _DEFAULT)
    found = _DIALECTS.get(str(dialect).removesuffix("#"))
    if found is None:
        raise UnusableSchema(f"the dialect {dialect!r} is not supported; there are {', '.join(_DIALECTS)}")
    try:
        found.check_schema(dict(schema))
    except jsonschema.SchemaError as error:
        raise UnusableSchema(error.message) from error
    own = {urldefrag(name)[0] for name in _strings(schema, "$id")}
    for reference in (*_strings(schema, "$ref"), *_strings(schema, "$dynamicRef")):
        place = urldefrag(reference)[0]
        if urlsplit(place).scheme and place not in own and place not in REGISTRY:
            raise UnusableSchema(f"it refers to {reference!r}, which is not part of it and is never fetched")
    return found(dict(schema), registry=REGISTRY)


def _strings(value: Any, keyword: str) -> Iterator[str]:
    """Yield the texts under `keyword` at any depth."""
    stack = [value]
    while stack:
        node = stack.pop()
        if isinstance(node, Mapping):
            if isinstance(text := node.get(keyword), str):
                yield text
            stack.extend(node.values())
        elif isinstance(node, list | tuple):
            stack.extend(node)

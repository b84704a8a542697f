"""What one method of one view takes and gives, as JSON Schemas: values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

BODY: Final = "body"
"""The argument that has the whole body, where its parts cannot be arguments of their own."""

RESULT: Final = "result"
"""Under which an answer stands that is no object: structured content is one."""

FILE: Final[Mapping[str, Any]] = {
    "type": "object",
    "description": "A file.",
    "properties": {
        "name": {"type": "string", "minLength": 1, "maxLength": 255, "description": "Its name."},
        "data": {"type": "string", "contentEncoding": "base64", "description": "What it holds, in Base64."},
        "media_type": {"type": "string", "maxLength": 100, "description": "Its media type; by default from its name."},
    },
    "required": ["name", "data"],
    "additionalProperties": False,
}
"""How a file is an argument."""

BodyKind = Literal["none", "fields", "whole"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """A parameter of the query string; an array is repeated, or (not `explode`) joined by commas."""

    name: str
    explode: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """How the arguments of a tool become a request, and what its answer looks like.

    Args:
        path, query: the arguments that go there.
        body: whether the other arguments are the fields of the body, `body` is the whole of it, or there is none.
        files: the names of those that are files.
        media_type: how the body is sent where no file is among it.
        output_schema: None where the view does not say.
    """

    method: str
    description: str
    input_schema: Mapping[str, Any]
    output_schema: Mapping[str, Any] | None
    path: frozenset[str]
    query: tuple[Query, ...] = ()
    body: BodyKind = "none"
    files: frozenset[str] = field(default=frozenset())
    media_type: str = "application/json"

"""How a conversation travels on the wire: what a request carries, and what its result is given.

In order of precedence: the token in `_meta`, the token in the header, the argument `handle` of a stateful tool, the
session. What a client brought or declared decides what it is given back.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from django_mcp.server.call import Call

EXTENSION: Final = "org.django-mcp/resumption"
META_KEY: Final = "org.django-mcp/resumptionToken"
HEADER: Final = "mcp-resumption-token"
HANDLE: Final = "handle"

_CLOSING: Final = {
    "allOf",
    "anyOf",
    "oneOf",
    "not",
    "if",
    "maxProperties",
    "propertyNames",
    "dependentSchemas",
    "$ref",
}
"""Keywords of a schema that may not allow one property more."""

HANDLE_TEXT: Final = 'To go on in this conversation, call with handle="{handle}".'
HANDLE_PROPERTY: Final[Mapping[str, Any]] = {
    "type": "string",
    "title": "Handle",
    "description": "Names the conversation to go on with. Leave it out to begin a new one; every result gives it.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Carried:
    """What names the conversation of a request."""

    meta_token: str | None = field(default=None, repr=False)
    header_token: str | None = field(default=None, repr=False)
    handle: str | None = field(default=None, repr=False)
    session: str | None = None
    declares: bool = False

    @property
    def tokens(self) -> tuple[str, ...]:
        """The tokens, the one that takes precedence first."""
        return tuple(token for token in (self.meta_token, self.header_token) if token is not None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Issued:
    """What a result is given.

    Args:
        in_meta: whether the client takes the token in `_meta`.
        in_structure: whether the tool's output schema has the property `handle`.
    """

    token: str = field(repr=False)
    handle: str | None = field(default=None, repr=False)
    in_meta: bool = False
    in_structure: bool = False

    @property
    def headers(self) -> tuple[tuple[bytes, bytes], ...]:
        """The header of an answer in JSON."""
        return ((HEADER.encode(), self.token.encode("ascii")),)

    def put(self, result: Mapping[str, Any]) -> dict[str, Any]:
        """Return a result with its carriers."""
        given = dict(result)
        if self.in_meta:
            given["_meta"] = {**(result.get("_meta") or {}), META_KEY: self.token}
        if self.handle is not None and "content" in result:
            text = HANDLE_TEXT.format(handle=self.handle)
            given["content"] = [*result["content"], {"type": "text", "text": text}]
            structured = result.get("structuredContent")
            if self.in_structure and isinstance(structured, dict):
                given["structuredContent"] = {**structured, HANDLE: self.handle}
        return given


def read_carried(call: Call) -> Carried:
    """Return what a request carries besides its arguments. What is there and no text is a token that is no good."""
    meta, headers = call.meta, call.arrival.headers
    token = meta.get(META_KEY)
    if token is not None and not isinstance(token, str):
        token = ""
    return Carried(
        meta_token=token,
        header_token=headers.get(HEADER),
        handle=call.handle,
        session=call.session_key,
        declares=_declares(call.client_capabilities),
    )


def with_handle_argument(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return the input schema of a stateful tool: with the argument that carries a handle."""
    return {**schema, "properties": {**schema.get("properties", {}), HANDLE: dict(HANDLE_PROPERTY)}}


def with_handle_result(schema: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return the output schema of a stateful tool with the property of the handle; None where it cannot have it."""
    properties = schema.get("properties") if schema is not None else None
    if schema is None or schema.get("type") != "object" or not isinstance(properties, Mapping):
        return None
    if HANDLE in properties or schema.keys() & _CLOSING:
        return None
    description = "Names this conversation; pass it to the next call to go on."
    return {**schema, "properties": {**properties, HANDLE: {**HANDLE_PROPERTY, "description": description}}}


def _declares(capabilities: Any) -> bool:
    """Whether the client takes tokens in `_meta`: `extensions` in the modern era, `experimental` in the handshake."""
    if capabilities is None:
        return False
    return EXTENSION in (capabilities.extensions or ()) or EXTENSION in (capabilities.experimental or ())

"""A state as one JSON document, to be kept elsewhere or brought to another project.

ASCII, one line per key, each value as it stands in the state, so that its type survives. What comes from outside is
not trusted: every value is read and written anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, fields
from typing import Any, Final

from . import strict_json
from .canonical import canonical
from .value import MAX_DEPTH, StateValueError, UnreadableValue, check_key, decode, to_bytes

FORMAT: Final = "django_mcp conversation"
VERSION: Final = 1

_NESTING: Final = 256
"""Arrays and objects inside each other: one level of a value takes three at most, and there are 64 at most."""


class UnreadableDocument(ValueError):
    """It is not a document that `write` made, or one whose values cannot be kept; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Whose state it was, and when in its life."""

    conversation: str
    kind: str
    server: str
    tenant: str
    principal: str
    generation: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """What was read: `values` are canonical bytes by key."""

    origin: Origin
    values: dict[str, bytes]


def write(origin: Origin, values: Iterable[tuple[str, bytes]]) -> Iterator[str]:
    """Give the document piece by piece; `values` are keys with their canonical bytes."""
    head = canonical({"format": FORMAT, "version": VERSION, **asdict(origin)}).decode("ascii")
    yield f'{head[:-1]},"state":{{'
    separator = "\n"
    for key, data in values:
        yield f"{separator}{canonical(key).decode('ascii')}:{data.decode('ascii')}"
        separator = ",\n"
    yield "\n}}\n"


def read(data: bytes, *, max_depth: int = MAX_DEPTH) -> Document:
    """Return what a document says, its values verified.

    Args:
        max_depth: levels of lists and mappings in one value.

    Raises:
        UnreadableDocument: it is damaged, something else, or of a version that this one does not know.
    """
    try:
        found = strict_json.decode(data, max_depth=_NESTING)
    except strict_json.InvalidJSON as error:
        raise UnreadableDocument(f"it is not JSON ({error})") from None
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise UnreadableDocument("it is not an exported conversation")
    if found.get("version") != VERSION:
        raise UnreadableDocument(f"its version is {found.get('version')!r}, and only {VERSION} can be read")
    terms = {
        field.name: _term(found, field.name, int if field.name == "generation" else str) for field in fields(Origin)
    }
    state = _term(found, "state", dict)
    return Document(
        origin=Origin(**terms), values={key: _verified(key, item, max_depth) for key, item in sorted(state.items())}
    )


def _term(found: dict[str, Any], name: str, kind: type) -> Any:
    term = found.get(name)
    if type(term) is not kind:
        raise UnreadableDocument(f"its {name!r} is missing or not of its kind")
    return term


def _verified(key: str, item: Any, max_depth: int) -> bytes:
    path = f"state[{key!a}]"
    try:
        check_key(key)
        return to_bytes(decode(item), path=path, max_depth=max_depth)
    except StateValueError as error:
        raise UnreadableDocument(str(error)) from None
    except UnreadableValue as error:
        raise UnreadableDocument(f"{path}: {error}") from None

"""What may stand in a state, and how it is kept as JSON without losing its type.

JSON's own types stand for themselves. Everything else is an object with the key `$`, which names the type:
`{"$": "decimal", "v": "1.50"}`. A mapping that itself has the key `$` is kept as its list of pairs, so nothing a user
stores is ever taken for a tag. Knows no state and no store: one value in, one value out.

Kept with equal value and type, nested anywhere: None, bool, int, float, str, list, dict with str keys, datetime, date,
time (naive, with a fixed offset or with a `ZoneInfo`; `fold` included), timedelta, Decimal, UUID, bytes. The order of
a mapping's keys is not kept: it is sorted, at once and not only when it is read again.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import math
import re
from collections.abc import Callable, Iterator
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from enum import Enum
from os import PathLike
from typing import Any, Final, Literal
from uuid import UUID
from zoneinfo import ZoneInfo

from .canonical import canonical

MAX_DEPTH: Final = 32
"""Levels of lists and mappings in one value, unless the caller says otherwise."""

MAX_KEY_CHARACTERS: Final = 255
"""Characters of the longest key of a state; a key inside a value may be of any length."""

_TAG: Final = "$"
_PLAIN: Final = frozenset({bool, type(None)})
_NESTING: Final = frozenset({dict, list})

# The interpreter refuses to convert longer decimal texts (`sys.set_int_max_str_digits`, 640 digits at least).
_LONG_INT_BITS: Final = 2048

# JSON cannot tell these two code points, side by side, from the one character that they encode in UTF-16.
_SURROGATE_PAIR: Final = re.compile("(?<=[\ud800-\udbff])(?=[\udc00-\udfff])")
_SURROGATE: Final = re.compile("[\ud800-\udfff]")


Bound = Literal["bytes", "depth", "keys"]

_BOUNDS: Final[dict[str, str]] = {
    "bytes": "larger than {} bytes",
    "depth": "nested deeper than {} levels",
    "keys": "more than {} keys",
}


class StateValueError(TypeError, ValueError):
    """A value cannot be kept: `path` says where it stands, `problem` what is wrong and what to do instead."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"{path}: {problem}")
        self.path = path
        self.problem = problem


class StateBoundExceeded(StateValueError):
    """A value or a state could be kept if it were smaller: `bound` is what it passes, `limit` how much is allowed."""

    def __init__(self, path: str, bound: Bound, limit: int) -> None:
        super().__init__(path, _BOUNDS[bound].format(limit))
        self.bound = bound
        self.limit = limit


class UnreadableValue(ValueError):
    """What was stored is not what this version writes, or names a time zone that this machine does not know."""


def encode(value: Any, *, path: str = "value", max_depth: int = MAX_DEPTH, max_bytes: int | None = None) -> Any:
    """Return `value` as fresh JSON types, for `canonical`.

    Args:
        path: the name of the value in messages, such as `state['draft']`.
        max_depth: levels of lists and mappings; a scalar has none.
        max_bytes: give up early on a value whose canonical bytes are certainly more. Only `to_bytes` is exact.

    Raises:
        StateValueError: something in it cannot be kept.
        StateBoundExceeded: too deep or too large.
    """
    walk = _Walk(math.inf if max_bytes is None else max_bytes)
    try:
        encoded = walk.encode(value, max_depth)
        if walk.room < 0:
            raise _OutOfRoom
    except _Refused as refused:
        raise _explained(refused, path, max_depth) from None
    except _OutOfRoom:
        raise StateBoundExceeded(path, "bytes", max_bytes or 0) from None
    return encoded


def decode(encoded: Any) -> Any:
    """Return the value that `encode` was given, made of fresh lists and mappings.

    Raises:
        UnreadableValue: `encoded` did not come from `encode`.
    """
    kind = type(encoded)
    if kind is dict:
        if _TAG in encoded:
            return _untag(encoded)
        return {key: decode(item) if type(item) in _NESTING else item for key, item in encoded.items()}
    if kind is list:
        return [decode(item) if type(item) in _NESTING else item for item in encoded]
    return encoded


def normalise(value: Any, *, path: str = "value", max_depth: int = MAX_DEPTH, max_bytes: int | None = None) -> Any:
    """Return what a later reader will get for `value`: a deep copy that shares nothing that can be changed.

    Raises: as `encode`.
    """
    if type(value) in _PLAIN:
        return value
    return decode(encode(value, path=path, max_depth=max_depth, max_bytes=max_bytes))


def to_bytes(value: Any, *, path: str = "value", max_depth: int = MAX_DEPTH, max_bytes: int | None = None) -> bytes:
    """Return the canonical ASCII bytes of `value`; two values have equal bytes when they are equal in value and type.

    Raises: as `encode`; `max_bytes` is exact here.
    """
    data = canonical(encode(value, path=path, max_depth=max_depth, max_bytes=max_bytes))
    if max_bytes is not None and len(data) > max_bytes:
        raise StateBoundExceeded(path, "bytes", max_bytes)
    return data


def from_bytes(data: bytes) -> Any:
    """Return the value whose bytes `to_bytes` made.

    Raises:
        UnreadableValue: they are not such bytes.
    """
    try:
        encoded = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise UnreadableValue(f"not the bytes of a value: {error}") from error
    return decode(encoded)


def check_key(key: Any, *, path: str = "state") -> str:
    """Return `key` when it may be the name of a value in a state.

    Raises:
        StateValueError: not a str, longer than `MAX_KEY_CHARACTERS`, or with a surrogate code point.
    """
    if type(key) is not str:
        raise StateValueError(path, f"the key {_shown(key)} is {_a(type(key))}; use a str")
    if len(key) > MAX_KEY_CHARACTERS:
        raise StateValueError(path, f"the key {_shown(key)} is longer than {MAX_KEY_CHARACTERS} characters")
    if not key.isascii() and _SURROGATE.search(key):
        raise StateValueError(path, f"the key {_shown(key)} holds a surrogate code point")
    return key


class _Refused(Exception):
    """Raised at the culprit; each container on the way out adds its place, so that only errors pay for paths."""

    def __init__(self, problem: str | None) -> None:
        super().__init__(problem)
        self.problem = problem  # None: too deep
        self.places: list[str] = []
        self.containers: list[int] = []

    def inside(self, container: object, place: str) -> None:
        self.places.append(place)
        self.containers.append(id(container))


class _OutOfRoom(Exception):
    pass


class _Walk:
    """One encoding. `room` counts down a lower bound of the canonical bytes, so that shared parts cannot explode."""

    __slots__ = ("room",)

    def __init__(self, room: float) -> None:
        self.room = room

    def encode(self, value: Any, levels: int) -> Any:
        kind = type(value)
        self.room -= 1
        if self.room < 0:
            raise _OutOfRoom
        if kind is str:
            self.room -= len(value)
            return value if value.isascii() else _text(value)
        if kind is int:
            return value if -(1 << 63) <= value < 1 << 63 else _integer(value)
        if kind in _PLAIN:
            return value
        if kind is float:
            if not math.isfinite(value):
                raise _Refused(f"{value} is not a finite number; use None")
            return value
        if kind is dict:
            return self._mapping(value, levels)
        if kind is list:
            return self._list(value, levels)
        tagged = _ENCODERS.get(kind)
        if tagged is None:
            raise _Refused(f"{_a(kind)} cannot be kept; {_remedy(value)}")
        encoded: dict[str, Any] = tagged(value)
        if kind is bytes:
            self.room -= len(value)
        return encoded

    def _list(self, value: list[Any], levels: int) -> list[Any]:
        if not levels:
            raise _Refused(None)
        encoded: list[Any] = []
        for item in value:
            try:
                encoded.append(self.encode(item, levels - 1))
            except _Refused as refused:
                refused.inside(value, f"[{len(encoded)}]")
                raise
        return encoded

    def _mapping(self, value: dict[Any, Any], levels: int) -> dict[str, Any]:
        if not levels:
            raise _Refused(None)
        plain = _TAG not in value
        for key in value:
            if type(key) is not str:
                raise _Refused(f"the key {_shown(key)} is {_a(type(key))}; use a str")
            self.room -= len(key)
            if not key.isascii() and _SURROGATE_PAIR.search(key):
                plain = False
        encoded: dict[str, Any] = {}
        for key in sorted(value):
            try:
                encoded[key] = self.encode(value[key], levels - 1)
            except _Refused as refused:
                refused.inside(value, f"[{_shown(key)}]")
                raise
        if plain:
            return encoded
        return {_TAG: "dict", "v": [[_text(key), item] for key, item in encoded.items()]}


def _explained(refused: _Refused, path: str, max_depth: int) -> StateValueError:
    # A value that holds itself ends at the depth limit, with one of its containers twice on the way.
    if len(set(refused.containers)) < len(refused.containers):
        return StateValueError(path, "it contains itself; use a value without cycles")
    if refused.problem is None:
        return StateBoundExceeded(path, "depth", max_depth)
    return StateValueError(path + "".join(reversed(refused.places)), refused.problem)


def _text(value: str) -> Any:
    if _SURROGATE_PAIR.search(value) is None:
        return value
    return {_TAG: "str", "v": _SURROGATE_PAIR.split(value)}


def _integer(value: int) -> Any:
    return value if value.bit_length() <= _LONG_INT_BITS else {_TAG: "int", "v": hex(value)}


def _decimal(value: Decimal) -> dict[str, Any]:
    if not value.is_finite():
        raise _Refused(f"Decimal {value} is not a finite number; use None")
    return {_TAG: "decimal", "v": str(value)}


def _timedelta(value: timedelta) -> dict[str, Any]:
    return {_TAG: "timedelta", "v": [value.days, value.seconds, value.microseconds]}


def _datetime(value: datetime) -> dict[str, Any]:
    return _moment("datetime", value, value.tzinfo)


def _time(value: time) -> dict[str, Any]:
    return _moment("time", value, value.tzinfo)


def _moment(tag: str, value: datetime | time, zone: tzinfo | None) -> dict[str, Any]:
    encoded: dict[str, Any] = {_TAG: tag}
    if value.fold:
        encoded["fold"] = 1
    if zone is None:
        encoded["v"] = value.isoformat()
    elif type(zone) is timezone:
        offset, name = zone.utcoffset(None), zone.tzname(None)
        if name != timezone(offset).tzname(None):
            encoded["name"] = _text(name)
        if offset.microseconds:
            # `fromisoformat` reads an offset of less than a second as UTC.
            encoded["offset"] = _timedelta(offset)["v"]
            value = value.replace(tzinfo=None)
        encoded["v"] = value.isoformat()
    else:
        encoded["zone"] = _zone_key(zone)
        encoded["v"] = value.replace(tzinfo=None).isoformat()
    return encoded


def _zone_key(zone: tzinfo) -> str:
    if type(zone) is not ZoneInfo:
        raise _Refused(f"the time zone {_shown(zone)} cannot be kept; use zoneinfo.ZoneInfo or datetime.timezone")
    try:
        return ZoneInfo(zone.key).key
    except (LookupError, OSError, TypeError, ValueError):
        raise _Refused(f"the time zone {_shown(zone)} has no name that can be looked up; use one that has") from None


_ENCODERS: Final[dict[type, Callable[[Any], dict[str, Any]]]] = {
    datetime: _datetime,
    date: lambda value: {_TAG: "date", "v": value.isoformat()},
    time: _time,
    timedelta: _timedelta,
    Decimal: _decimal,
    UUID: lambda value: {_TAG: "uuid", "v": str(value)},
    bytes: lambda value: {_TAG: "bytes", "v": base64.b64encode(value).decode("ascii")},
}


def _untag(encoded: dict[str, Any]) -> Any:
    try:
        return _DECODERS[encoded[_TAG]](encoded)
    except UnreadableValue:
        raise
    except (ArithmeticError, LookupError, OSError, TypeError, ValueError, AttributeError) as error:
        raise UnreadableValue(f"not a value that this version writes: {_shown(encoded)} ({error!r})") from error


def _read_moment(kind: type[Any]) -> Callable[[dict[str, Any]], Any]:
    def read(encoded: dict[str, Any]) -> Any:
        value = kind.fromisoformat(encoded["v"])
        if "zone" in encoded:
            value = value.replace(tzinfo=ZoneInfo(encoded["zone"]))
        elif "name" in encoded or "offset" in encoded:
            offset = timedelta(*encoded["offset"]) if "offset" in encoded else value.tzinfo.utcoffset(None)
            zone = timezone(offset, decode(encoded["name"])) if "name" in encoded else timezone(offset)
            value = value.replace(tzinfo=zone)
        return value.replace(fold=1) if encoded.get("fold") else value

    return read


_DECODERS: Final[dict[str, Callable[[dict[str, Any]], Any]]] = {
    "dict": lambda encoded: {decode(key): decode(item) for key, item in encoded["v"]},
    "str": lambda encoded: "".join(encoded["v"]),
    "int": lambda encoded: int(encoded["v"], 16),
    "datetime": _read_moment(datetime),
    "date": lambda encoded: date.fromisoformat(encoded["v"]),
    "time": _read_moment(time),
    "timedelta": lambda encoded: timedelta(*encoded["v"]),
    "decimal": lambda encoded: Decimal(encoded["v"]),
    "uuid": lambda encoded: UUID(encoded["v"]),
    "bytes": lambda encoded: base64.b64decode(encoded["v"], validate=True),
}

_INSTEAD: Final[list[tuple[type | tuple[type, ...], str]]] = [
    (Enum, "use its value"),
    ((tuple, set, frozenset, range, Iterator), "use a list"),
    ((bytearray, memoryview), "use bytes"),
    (PathLike, "use its text"),
    (type, "use its name"),
]


def _remedy(value: object) -> str:
    for kinds, remedy in _INSTEAD:
        if isinstance(value, kinds):
            return remedy
    for kind in (str, int, float, dict, list, *_ENCODERS):
        if isinstance(value, kind):
            return f"use a plain {kind.__name__}"
    if dataclasses.is_dataclass(value):
        return "use dataclasses.asdict"
    if hasattr(value, "pk"):
        return "use its primary key"
    return "use the plain data that it is made of"


def _a(kind: type) -> str:
    name = kind.__name__
    return f"{'an' if name[:1].lower() in {'a', 'e', 'i', 'o'} else 'a'} {name}"


def _shown(value: object) -> str:
    # `repr` escapes what is not printable, lone surrogates included, so that a message survives any log.
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."

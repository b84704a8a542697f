"""JSON as the wire allows it: UTF-8, finite numbers, no repeated keys, bounded nesting.

Pure: bytes in, values out. What a decoded value means is for others to say.
"""

from __future__ import annotations

import json
import math
from typing import Any


class InvalidJSON(ValueError):
    """The bytes are not JSON that this project accepts; the message says why."""


def decode(body: bytes, *, max_depth: int = 64) -> Any:
    """Decode `body` strictly.

    Raises:
        InvalidJSON: not UTF-8, not JSON, a non-finite number, a repeated key, an integer of more digits than the
            interpreter converts, or nesting deeper than `max_depth` arrays and objects.
    """
    try:
        value = _DECODER.decode(body.decode("utf-8"))
    except InvalidJSON:
        raise
    except UnicodeDecodeError:
        raise InvalidJSON("the body is not UTF-8") from None
    except RecursionError:
        raise InvalidJSON(f"nested deeper than {max_depth} levels") from None
    except ValueError as error:
        raise InvalidJSON(str(error)) from None
    # Only a body with that many brackets can nest that deep, so an ordinary message is never walked.
    if body.count(b"{") + body.count(b"[") > max_depth and _depth_exceeds(value, max_depth):
        raise InvalidJSON(f"nested deeper than {max_depth} levels")
    return value


def encode(value: Any) -> bytes:
    """Encode `value` compactly as UTF-8; a lone surrogate is escaped rather than refused.

    Raises:
        ValueError: the value holds a non-finite number.
        TypeError: the value is not made of JSON types.
    """
    text = _ENCODER.encode(value)
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError:
        return _ASCII_ENCODER.encode(value).encode("ascii")


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    mapping = dict(pairs)
    if len(mapping) != len(pairs):
        raise InvalidJSON("an object repeats a key")
    return mapping


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise InvalidJSON("a number is out of range")
    return number


def _no_constant(name: str) -> Any:
    raise InvalidJSON(f"{name} is not JSON")


def _depth_exceeds(value: Any, limit: int) -> bool:
    stack = [(value, 1)]
    while stack:
        node, depth = stack.pop()
        if isinstance(node, dict):
            children: Any = node.values()
        elif isinstance(node, list):
            children = node
        else:
            continue
        if depth > limit:
            return True
        stack.extend((child, depth + 1) for child in children)
    return False


_DECODER = json.JSONDecoder(object_pairs_hook=_pairs, parse_float=_finite, parse_constant=_no_constant)
_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False)
_ASCII_ENCODER = json.JSONEncoder(ensure_ascii=True, separators=(",", ":"), allow_nan=False)

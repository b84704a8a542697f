"""The one byte form of a JSON value, and its content address.

Canonical bytes are ASCII, sorted by key and without insignificant space, so that they survive any database column and
equal values have equal names.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

_ENCODER = json.JSONEncoder(ensure_ascii=True, sort_keys=True, separators=(",", ":"), allow_nan=False)


def canonical(value: Any) -> bytes:
    """Return the canonical JSON bytes of `value`.

    Raises:
        ValueError: a number is not finite.
        TypeError: the value is not made of JSON types.
    """
    return _ENCODER.encode(value).encode("ascii")


def digest(value: Any) -> str:
    """Return the SHA-256 of the canonical bytes of `value`, as 64 hexadecimal digits."""
    return hashlib.sha256(canonical(value)).hexdigest()

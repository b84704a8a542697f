"""How keys of `_meta` are named (MCP 2025-11-25 and 2026-07-28, basic)."""

from __future__ import annotations

import re
from typing import Final

_LABEL: Final = r"[A-Za-z](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
_NAME: Final = r"(?:[A-Za-z0-9](?:[A-Za-z0-9_.-]*[A-Za-z0-9])?)?"
_KEY: Final = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*/)?{_NAME}")


def is_meta_key(key: str) -> bool:
    """Whether `key` is a name, or dot-separated labels, a slash and a name."""
    return _KEY.fullmatch(key) is not None

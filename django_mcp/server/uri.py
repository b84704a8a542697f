"""What a resource URI looks like (RFC 3986), as far as it can be told without knowing the scheme."""

from __future__ import annotations

import re
from typing import Final

_DELIMITER: Final = r"""\x00-\x20\x7f-\x9f"<>\\^`{|}"""
_ANY: Final = re.compile(rf"[A-Za-z][A-Za-z0-9+.-]*:(?:[^%{_DELIMITER}]|%[0-9A-Fa-f]{{2}})*")
_EXPRESSION: Final = re.compile(r"\{[^{}]*\}")


def is_uri(text: str) -> bool:
    """Whether `text` is a URI with a scheme. Letters beyond ASCII are allowed: clients send them as they are."""
    return _ANY.fullmatch(text) is not None


def is_served_uri(template: str) -> bool:
    """Whether what a server lists is a URI, or a template whose expressions become parts of one. ASCII only."""
    return template.isascii() and is_uri(_EXPRESSION.sub("x", template)) and not _EXPRESSION.match(template)

"""One page of a list, and the cursor that names the next.

A cursor names the last entry of its page, so that a list which changes meanwhile repeats and skips nothing else.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Sequence
from typing import TypeVar

from mcp.shared.exceptions import MCPError
from mcp_types import INVALID_PARAMS

from django_mcp.conf import mcp_settings

T = TypeVar("T")


def page_of(entries: Sequence[T], cursor: str | None, name: Callable[[T], str]) -> tuple[Sequence[T], str | None]:
    """Return the entries behind `cursor`, `PAGE_SIZE` at most, and the cursor of the next page or None.

    Raises:
        MCPError: no page begins at `cursor` (-32602; MCP 2025-11-25 and 2026-07-28, server/utilities/pagination).
    """
    size = mcp_settings.PAGE_SIZE
    if cursor is None and len(entries) <= size:
        return entries, None
    start = 0
    if cursor is not None:
        last = _open(cursor)
        start = next((index for index, entry in enumerate(entries, 1) if name(entry) == last), 0)
        if not start:
            raise MCPError(INVALID_PARAMS, "Invalid cursor")
    page = entries[start : start + size]
    return page, _seal(name(page[-1])) if start + size < len(entries) else None


def _seal(name: str) -> str:
    return base64.urlsafe_b64encode(name.encode("utf-8", "surrogatepass")).decode("ascii")


def _open(cursor: str) -> str:
    try:
        return base64.urlsafe_b64decode(cursor.encode("ascii")).decode("utf-8", "surrogatepass")
    except (ValueError, binascii.Error):
        raise MCPError(INVALID_PARAMS, "Invalid cursor") from None

"""Blocks of content on a terminal: text as it is, everything else by what it is."""

from __future__ import annotations

import base64
from typing import Any


def block_text(block: Any) -> str:
    """Return a block of a tool's result, of a prompt's message or of a resource's contents as text."""
    if getattr(block, "text", None) is not None:
        return str(block.text)
    if getattr(block, "resource", None) is not None:
        return block_text(block.resource)
    if getattr(block, "type", "") == "resource_link":
        return f"[{block.uri}]"
    data = getattr(block, "data", None) or getattr(block, "blob", None) or ""
    kind = getattr(block, "mime_type", None) or "binary"
    return f"[{kind}, {len(base64.b64decode(data))} bytes]"

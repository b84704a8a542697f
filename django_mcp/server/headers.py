"""Headers that mirror the body, as far as the SDK does not check them (MCP 2026-07-28, transports)."""

from __future__ import annotations

import re
from typing import Final

from mcp.shared.inbound import InboundLadderRejection
from mcp_types import HEADER_MISMATCH

_INVALID: Final = re.compile(r"[^\t\x20-\x7e]")


def mismatch(message: str) -> InboundLadderRejection:
    """Return the refusal of a request whose headers are not those of its body."""
    return InboundLadderRejection(code=HEADER_MISMATCH, message=message)


def invalid(name: str, value: str) -> InboundLadderRejection | None:
    """Return the refusal of a header whose value is not plain ASCII: other values travel encoded."""
    return mismatch(f"{name} header contains invalid characters") if _INVALID.search(value) else None

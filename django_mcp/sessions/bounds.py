"""The bounds of a state, as the settings give them."""

from django_mcp.conf import mcp_settings
from django_mcp.core.draft import Bounds


def state_bounds() -> Bounds:
    """Return how large a state may be in this project."""
    return Bounds(
        max_bytes=mcp_settings.STATE_MAX_BYTES,
        max_keys=mcp_settings.STATE_MAX_KEYS,
        max_depth=mcp_settings.STATE_MAX_DEPTH,
        inline_bytes=mcp_settings.STATE_INLINE_BYTES,
    )

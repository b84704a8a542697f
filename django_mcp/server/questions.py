"""The vocabulary of questions: the SDK's own markers and outcomes, under our door."""

from mcp.server.elicitation import (
    AcceptedElicitation,
    CancelledElicitation,
    DeclinedElicitation,
    ElicitationResult,
)
from mcp.server.mcpserver.resolve import Elicit, ListRoots, Resolve, Sample
from mcp.server.mcpserver.utilities.types import Audio, Image

__all__ = [
    "AcceptedElicitation",
    "Audio",
    "CancelledElicitation",
    "DeclinedElicitation",
    "Elicit",
    "ElicitationResult",
    "Image",
    "ListRoots",
    "Resolve",
    "Sample",
]

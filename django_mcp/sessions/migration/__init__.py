"""Moving what one store keeps to another, while it is in use."""

from django_mcp.sessions.migration.conversations import ConversationPart
from django_mcp.sessions.migration.log_part import LogPart
from django_mcp.sessions.migration.part import Outcome, Part, Progress

__all__ = ["ConversationPart", "LogPart", "Outcome", "Part", "Progress"]

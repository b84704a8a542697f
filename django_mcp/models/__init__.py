"""What the database keeps. One noun per file; queries live on the query sets, transitions are verbs on the models."""

from django_mcp.models.access_token import MCPAccessToken
from django_mcp.models.blob import Blob
from django_mcp.models.blob_object import BlobObject
from django_mcp.models.call import Call
from django_mcp.models.change import Change, ChangeSequence
from django_mcp.models.claim import Claim
from django_mcp.models.conversation import Conversation
from django_mcp.models.event import Event
from django_mcp.models.outlet import Outlet
from django_mcp.models.past_call import PastCall
from django_mcp.models.question import Question
from django_mcp.models.session import MCPSession
from django_mcp.models.session_quota import SessionQuota
from django_mcp.models.snapshot import Snapshot
from django_mcp.models.stored_result import StoredResult
from django_mcp.models.stream import Stream

__all__ = [
    "Blob",
    "BlobObject",
    "Call",
    "Change",
    "ChangeSequence",
    "Claim",
    "Conversation",
    "Event",
    "MCPAccessToken",
    "MCPSession",
    "Outlet",
    "PastCall",
    "Question",
    "SessionQuota",
    "Snapshot",
    "StoredResult",
    "Stream",
]

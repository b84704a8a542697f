"""What a project tests its tools with: `from django_mcp.testing import Client`.

Stands above the server and beside the doors: a client here is a door of its own, in the process and on the thread of
the test.
"""

from django_mcp.testing.answers import Answer, Question, accept, cancel, decline
from django_mcp.testing.client import Client
from django_mcp.testing.errors import MCPClientError, UnansweredQuestion, UnusableAnswer
from django_mcp.testing.results import CallResult, Log, Progress, PromptResult, ReadResult, Reply, Suggestions

__all__ = [
    "Answer",
    "CallResult",
    "Client",
    "Log",
    "MCPClientError",
    "Progress",
    "PromptResult",
    "Question",
    "ReadResult",
    "Reply",
    "Suggestions",
    "UnansweredQuestion",
    "UnusableAnswer",
    "accept",
    "cancel",
    "decline",
]

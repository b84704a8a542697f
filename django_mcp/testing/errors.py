"""What a client raises. A tool that fails is no error here: its result says so (`is_error`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from django_mcp.testing.answers import Question


class MCPClientError(Exception):
    """The server answered with a protocol error.

    Attributes:
        code, message, data: of the JSON-RPC error.
        status: of the HTTP response that carried it.
    """

    def __init__(self, code: int, message: str, data: Any = None, status: int = 200) -> None:
        super().__init__(f"{message} (code {code}, HTTP status {status})")
        self.code = code
        self.message = message
        self.data = data
        self.status = status


class UnansweredQuestion(Exception):
    """The server asked something for which the test has no answer."""

    def __init__(self, question: Question) -> None:
        super().__init__(
            f"the server asked {question}; give answers={{{question.label!r}: …}}, or call with answer=False to look "
            "at the question"
        )
        self.question = question


class UnusableAnswer(TypeError):
    """The test's answer is of a kind that the question does not take."""

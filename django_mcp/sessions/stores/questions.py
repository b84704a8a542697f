"""The contract for questions: requests of the server to a client, put at one process and answered at any other.

A question waits until it is answered, withdrawn (cancelled) or past its time (expired), and then stays as it is: the
first answer counts, if it comes in time and from the session that was asked.
"""

import re
import secrets
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal

from asgiref.sync import sync_to_async

QuestionState = Literal["waiting", "answered", "expired", "cancelled"]

MAX_QUESTIONS_PER_SESSION: Final = 100

_ID: Final = re.compile(r"q-[0-9a-f]{16}")


@dataclass(frozen=True, slots=True, kw_only=True)
class QuestionRecord:
    """A question as it was read. `answer` is the JSON value that the client sent; None unless it is answered."""

    id: str
    session: str
    call: str
    key: str
    state: QuestionState
    answer: Any
    asked_at: datetime
    expires_at: datetime


def new_question_id() -> str:
    return f"q-{secrets.token_hex(8)}"


def is_question_id(text: str) -> bool:
    """Say whether it can be an id. Clients send it, and a database may take ids for equal that are not."""
    return _ID.fullmatch(text) is not None


class QuestionLog(ABC):
    """`session` is an `MCPSession.key` throughout."""

    @abstractmethod
    def ask(self, session: str, *, lifetime_seconds: float, call: str = "", key: str = "") -> str:
        """Record a question and return the id under which the client is asked.

        `call` and `key` (what the answer is for, at most 200 characters) let whoever takes the call over find it.

        Raises Overloaded where MAX_QUESTIONS_PER_SESSION wait.
        """

    @abstractmethod
    def answer(self, session: str, question: str, answer: Any) -> bool:
        """Record the answer, a JSON value; False, and nothing is changed, if it is not the first one in time."""

    @abstractmethod
    def withdraw(self, session: str, questions: Iterable[str]) -> int:
        """Cancel those of the questions that wait; return how many did."""

    @abstractmethod
    def read_questions(self, session: str, questions: Iterable[str]) -> dict[str, QuestionRecord]:
        """Return those of the questions that there are (still)."""

    @abstractmethod
    def questions_of(self, call: str) -> list[QuestionRecord]:
        """Return all questions that a call has put, in their order."""

    async def aask(self, session: str, *, lifetime_seconds: float, call: str = "", key: str = "") -> str:
        return await sync_to_async(self.ask)(session, lifetime_seconds=lifetime_seconds, call=call, key=key)

    async def aanswer(self, session: str, question: str, answer: Any) -> bool:
        return await sync_to_async(self.answer)(session, question, answer)

    async def awithdraw(self, session: str, questions: Iterable[str]) -> int:
        return await sync_to_async(self.withdraw)(session, questions)

    async def aread_questions(self, session: str, questions: Iterable[str]) -> dict[str, QuestionRecord]:
        return await sync_to_async(self.read_questions)(session, questions)

    async def aquestions_of(self, call: str) -> list[QuestionRecord]:
        return await sync_to_async(self.questions_of)(call)

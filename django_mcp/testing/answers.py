"""Questions that the server asks while it serves a request, and what a test answers to them."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from asgiref.sync import sync_to_async
from pydantic import BaseModel

from django_mcp.testing.errors import UnansweredQuestion, UnusableAnswer

Kind = Literal["elicitation", "sampling", "roots"]

_KINDS: Final[dict[str, Kind]] = {
    "elicitation/create": "elicitation",
    "sampling/createMessage": "sampling",
    "roots/list": "roots",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A question to the user, to the client's model or for the client's roots.

    Attributes:
        name: the function that asks (`Resolve(function)`); empty for a question in the body of a handler.
        method, params: as they travel.
    """

    name: str
    method: str
    params: Mapping[str, Any]

    def __str__(self) -> str:
        return f"the question {self.label!r} ({self.kind})" + (f": {self.message}" if self.message else "")

    @property
    def kind(self) -> Kind:
        return _KINDS[self.method]

    @property
    def message(self) -> str:
        """What the user or the model reads."""
        if self.kind == "sampling":
            blocks = [item.get("content") for item in self.params.get("messages", ())]
            return "\n".join(str(block.get("text", "")) for block in blocks if isinstance(block, Mapping))
        return str(self.params.get("message", ""))

    @property
    def schema(self) -> Mapping[str, Any]:
        """The JSON Schema of the fields that the user is asked for."""
        schema: Mapping[str, Any] = self.params.get("requestedSchema") or {}
        return schema

    @property
    def label(self) -> str:
        """What to answer it by: its name, or else its text, or else its kind."""
        return self.name or self.message or self.kind

    @property
    def labels(self) -> tuple[str, ...]:
        """Everything that it can be answered by, the most specific first."""
        return tuple(label for label in (self.name, self.message, self.kind) if label)


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer as it travels."""

    result: Mapping[str, Any]


Replier = Callable[[Question], Any]
Answers = Mapping[str, Any] | Replier
Respond = Callable[[Question], Awaitable[dict[str, Any]]]


def accept(content: Mapping[str, Any] | BaseModel | None = None, **fields: Any) -> Answer:
    """The user accepts, with these fields."""
    given = content.model_dump(mode="json", by_alias=True) if isinstance(content, BaseModel) else dict(content or {})
    return Answer({"action": "accept", "content": {**given, **fields}})


def decline() -> Answer:
    """The user says no."""
    return Answer({"action": "decline"})


def cancel() -> Answer:
    """The user closes the question without an answer."""
    return Answer({"action": "cancel"})


class AnswerBook:
    """The answers that a client has ready."""

    def __init__(self, answers: Answers | None = None) -> None:
        self._replier: Replier | None = answers if callable(answers) else None
        self._ready: dict[str, Any] = {} if answers is None or callable(answers) else dict(answers)

    def add(self, name: str, answer: Any) -> None:
        self._ready[name] = answer

    def with_more(self, answers: Answers | None) -> AnswerBook:
        """Return a book in which `answers` come first."""
        book = AnswerBook(answers)
        book._replier = book._replier or self._replier
        book._ready = {**self._ready, **book._ready}
        return book

    async def respond(self, question: Question) -> dict[str, Any]:
        """Return the answer as it travels. A callable is run on the thread of the test, or awaited.

        Raises:
            UnansweredQuestion: there is none.
        """
        found: Any = next((self._ready[label] for label in question.labels if label in self._ready), self._replier)
        if found is None:
            raise UnansweredQuestion(question)
        if callable(found) and not isinstance(found, BaseModel):
            found = await (found(question) if inspect.iscoroutinefunction(found) else sync_to_async(found)(question))
            if found is None:
                raise UnansweredQuestion(question)
        return _wire(question, found)

    async def reply(self, question: Question) -> Answer:
        """Return the answer; for a client that is to answer from this book."""
        return Answer(await self.respond(question))


def _wire(question: Question, answer: Any) -> dict[str, Any]:
    if isinstance(answer, Answer):
        return dict(answer.result)
    match question.kind:
        case "elicitation" if isinstance(answer, Mapping | BaseModel):
            return dict(accept(answer).result)
        case "sampling" if isinstance(answer, str):
            return {"role": "assistant", "content": {"type": "text", "text": answer}, "model": "test"}
        case "roots" if isinstance(answer, Sequence) and not isinstance(answer, str):
            return {"roots": [{"uri": root} if isinstance(root, str) else dict(root) for root in answer]}
        case _ if isinstance(answer, BaseModel):
            return answer.model_dump(mode="json", by_alias=True, exclude_none=True)
        case _ if isinstance(answer, Mapping):
            return dict(answer)
    raise UnusableAnswer(
        f"{answer!r} is no answer to {question}; give a mapping of fields for an elicitation, a text for sampling, a "
        "list of URIs for roots, or accept(), decline() or cancel()"
    )

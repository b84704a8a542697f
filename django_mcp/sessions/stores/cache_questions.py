"""Questions on Redis, under the hash tag of the session that was asked."""

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Final, cast

from django_mcp.exceptions import Overloaded
from django_mcp.models.session import RETRY_AFTER_SECONDS
from django_mcp.sessions.stores.cache_places import (
    DAY,
    Place,
    Places,
    decode,
    encode,
    milliseconds,
    plain,
    session_tag,
)
from django_mcp.sessions.stores.log_step import LogStep
from django_mcp.sessions.stores.questions import (
    MAX_QUESTIONS_PER_SESSION,
    QuestionLog,
    QuestionRecord,
    QuestionState,
    is_question_id,
    new_question_id,
)
from django_mcp.sessions.stores.redis_link import RedisLink
from django_mcp.sessions.stores.streams import KEPT_SECONDS

CALL_LIFE: Final = 2 * DAY
"""Milliseconds for which what a call asked is kept after its time, for whoever takes the call over."""

_ASK: Final = LogStep("ask")
_SETTLE: Final = LogStep("settle_questions")
_READ: Final = LogStep("read_questions", writes=False)


class CacheQuestions(QuestionLog):
    link: RedisLink
    places: Places

    def ask(self, session: str, *, lifetime_seconds: float, call: str = "", key: str = "") -> str:
        question, tag = new_question_id(), session_tag(session)
        lifetime = milliseconds(lifetime_seconds)
        kept = lifetime + (CALL_LIFE if call else milliseconds(KEPT_SECONDS))
        asked = [("SET", self._asked_by(call), tag, "PX", kept)] if call else []
        self.link.send([*self.places.pointers([Place(tag=tag, id=question)]), *asked])
        keys = (f"question:{question}", "waiting", "questions", f"asked:{plain(call)}")
        args = (question, encode(session), encode(call), encode(key), lifetime, kept, MAX_QUESTIONS_PER_SESSION)
        if not self.link.run(_ASK, tag, keys, args):
            raise Overloaded(RETRY_AFTER_SECONDS, "principal", message="Too many questions at once")
        return question

    def answer(self, session: str, question: str, answer: Any) -> bool:
        text = json.dumps(answer, separators=(",", ":"), allow_nan=False)
        return self._settle(session, [question], "answered", text) == 1

    def withdraw(self, session: str, questions: Iterable[str]) -> int:
        return self._settle(session, questions, "cancelled", "")

    def read_questions(self, session: str, questions: Iterable[str]) -> dict[str, QuestionRecord]:
        names = sorted(set(filter(is_question_id, questions)))
        return {record.id: record for record in self._read(session_tag(session), names)}

    def questions_of(self, call: str) -> list[QuestionRecord]:
        (text,) = self.link.send([("GET", self._asked_by(call))]) if call else (None,)
        if text is None:
            return []
        tag = text.decode()
        (found,) = self.link.send([("LRANGE", self.link.key(tag, f"asked:{plain(call)}"), 0, -1)])
        return self._read(tag, [name.decode() for name in found])

    def _asked_by(self, call: str) -> str:
        """Return the key of what says under which tag a call has asked."""
        return self.link.key(f"a:{plain(call)}")

    def _settle(self, session: str, questions: Iterable[str], state: QuestionState, answer: str) -> int:
        names = sorted(set(filter(is_question_id, questions)))
        if not names:
            return 0
        keys = ("waiting", *(f"question:{name}" for name in names))
        count: int = self.link.run(_SETTLE, session_tag(session), keys, (state, answer, *names))
        return count

    def _read(self, tag: str, names: list[str]) -> list[QuestionRecord]:
        if not names:
            return []
        found = self.link.run(_READ, tag, [f"question:{name}" for name in names])
        return [_record(name, *row) for name, row in zip(names, found, strict=True) if row is not None]


def _record(name: str, fields: list[bytes], is_over: int | None) -> QuestionRecord:
    session, call, key, state, answer, asked, expires = fields[1:]
    standing = "expired" if is_over and state == b"waiting" else state.decode()
    return QuestionRecord(
        id=name,
        session=decode(session),
        call=decode(call),
        key=decode(key),
        state=cast("QuestionState", standing),
        answer=json.loads(answer) if standing == "answered" else None,
        asked_at=moment(asked),
        expires_at=moment(expires),
    )


def moment(text: bytes | int) -> datetime:
    """Return the time that a number of milliseconds since 1970 is."""
    return datetime.fromtimestamp(int(text) / 1_000, UTC)

"""Questions in the project's database: SQLite, PostgreSQL, MySQL or MariaDB."""

import json
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any, Final, cast

from django.db.models import Exists, OuterRef
from django.utils import timezone

from django_mcp.exceptions import Overloaded
from django_mcp.models import Call, Outlet, Question
from django_mcp.models.question import QuestionQuerySet
from django_mcp.models.question import QuestionState as State
from django_mcp.models.session import RETRY_AFTER_SECONDS
from django_mcp.models.transactions import transactional, translated
from django_mcp.sessions.stores.questions import (
    MAX_QUESTIONS_PER_SESSION,
    QuestionLog,
    QuestionRecord,
    QuestionState,
    is_question_id,
    new_question_id,
)
from django_mcp.sessions.stores.streams import KEPT_SECONDS

SWEEP_QUESTIONS: Final = 500


class DatabaseQuestions(QuestionLog):
    write_alias: str

    @transactional
    def ask(self, session: str, *, lifetime_seconds: float, call: str = "", key: str = "") -> str:
        outlets = Outlet.objects.using(self.write_alias)
        # Held, so that two that are asked at once both count.
        while not outlets.hold(session):
            outlets.ensure(session)
        now = timezone.now()
        waiting = self._questions().filter(session_id=session, state=State.WAITING, expires_at__gt=now)
        if waiting.count() >= MAX_QUESTIONS_PER_SESSION:
            raise Overloaded(RETRY_AFTER_SECONDS, "principal", message="Too many questions at once")
        question = Question(
            id=new_question_id(),
            session_id=session,
            call=call,
            key=key,
            asked_at=now,
            expires_at=now + timedelta(seconds=lifetime_seconds),
        )
        question.save(using=self.write_alias, force_insert=True)
        return question.pk

    @transactional
    def answer(self, session: str, question: str, answer: Any) -> bool:
        text = json.dumps(answer, separators=(",", ":"), allow_nan=False)
        return self._asked(session, [question]).settle(text, timezone.now())

    @transactional
    def withdraw(self, session: str, questions: Iterable[str]) -> int:
        now = timezone.now()
        return self._asked(session, questions).waiting(now).update(state=State.CANCELLED, ended_at=now)

    @translated
    def read_questions(self, session: str, questions: Iterable[str]) -> dict[str, QuestionRecord]:
        now = timezone.now()
        rows = self._asked(session, questions)
        return {row.pk: question_record(row, now) for row in rows}

    @translated
    def questions_of(self, call: str) -> list[QuestionRecord]:
        now = timezone.now()
        rows = self._questions().filter(call=call).order_by("asked_at", "pk") if call else ()
        return [question_record(row, now) for row in rows]

    @transactional
    def sweep_questions(self) -> int:
        """Delete questions whose time was over some time ago, unless their call still runs."""
        before = timezone.now() - timedelta(seconds=KEPT_SECONDS)
        running = Call.objects.using(self.write_alias).running().filter(pk=OuterRef("call"))
        over = self._questions().filter(~Exists(running), expires_at__lte=before).values_list("pk", flat=True)
        return self._questions().filter(pk__in=list(over[:SWEEP_QUESTIONS])).delete()[0]

    def _asked(self, session: str, questions: Iterable[str]) -> QuestionQuerySet:
        return self._questions().filter(pk__in=sorted(filter(is_question_id, questions)), session_id=session)

    def _questions(self) -> QuestionQuerySet:
        return Question.objects.using(self.write_alias)


def question_record(row: Question, now: datetime) -> QuestionRecord:
    is_late = row.state == State.WAITING and row.expires_at <= now
    return QuestionRecord(
        id=row.pk,
        session=row.session_id,
        call=row.call,
        key=row.key,
        state=cast("QuestionState", str(State.EXPIRED if is_late else row.state)),
        answer=json.loads(row.answer) if row.state == State.ANSWERED else None,
        asked_at=row.asked_at,
        expires_at=row.expires_at,
    )

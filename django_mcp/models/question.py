"""Questions: requests of the server to the client of a session, each answered once.

Written by the database store alone.
"""

from datetime import datetime
from typing import Any, ClassVar, Final

from django.db import models
from django.db.models import Value
from django.db.models.functions import Coalesce

from django_mcp.models.call import ID_LENGTH as CALL_ID_LENGTH
from django_mcp.models.session import MCPSession

ID_LENGTH: Final = 18


class QuestionState(models.TextChoices):
    WAITING = "waiting"
    ANSWERED = "answered"
    EXPIRED = "expired"
    CANCELLED = "cancelled"


class QuestionQuerySet(models.QuerySet["Question"]):
    def waiting(self, now: datetime) -> "QuestionQuerySet":
        """Return those that can still be answered, by a condition on their state that no index answers.

        So an update of rows that are named misses none on MariaDB (`CallQuerySet.unended`).
        """
        unanswered = self.alias(state_now=Coalesce("state", Value(""))).filter(state_now=QuestionState.WAITING)
        return unanswered.filter(expires_at__gt=now)

    def settle(self, answer: str, now: datetime) -> bool:
        """Record the answer, if it is the first in time; False where it is not."""
        return self.waiting(now).update(state=QuestionState.ANSWERED, answer=answer, ended_at=now) == 1


class Question(models.Model):
    id = models.CharField(max_length=ID_LENGTH, primary_key=True)
    session = models.ForeignKey(
        MCPSession,
        on_delete=models.CASCADE,
        db_constraint=False,
        db_index=False,
        related_name="+",
    )
    call = models.CharField(max_length=CALL_ID_LENGTH, blank=True)
    key = models.CharField(max_length=200, blank=True)
    state = models.CharField(max_length=9, choices=QuestionState.choices, default=QuestionState.WAITING)
    answer = models.TextField(blank=True, help_text="ASCII JSON text.")
    asked_at = models.DateTimeField()
    expires_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True, blank=True)

    objects = QuestionQuerySet.as_manager()

    class Meta:
        default_permissions = ()
        indexes: ClassVar[list[Any]] = [
            models.Index(fields=["session", "state"], name="django_mcp_question_session"),
            models.Index(fields=["call"], name="django_mcp_question_call"),
            models.Index(fields=["expires_at"], name="django_mcp_question_expires"),
        ]

    def __str__(self) -> str:
        return f"{self.id} {self.state}"

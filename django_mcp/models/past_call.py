"""Calls of a conversation that left no generation: they failed, or changed nothing. For people and `ctx.calls`."""

from typing import Any, ClassVar, Final

from django.db import models
from django.utils import timezone

from django_mcp.models.conversation import Conversation

NAME_LENGTH: Final = 128


class PastCall(models.Model):
    id = models.BigAutoField(primary_key=True)
    conversation = models.ForeignKey(Conversation, on_delete=models.CASCADE, db_index=False, related_name="past_calls")
    name = models.CharField(max_length=NAME_LENGTH)
    outcome = models.CharField(max_length=16)
    milliseconds = models.BigIntegerField(null=True)
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        default_permissions = ()
        indexes: ClassVar[list[Any]] = [
            models.Index(fields=["conversation", "id"], name="django_mcp_past_call"),
        ]

    def __str__(self) -> str:
        return f"{self.name} {self.outcome}"

"""Calls of the handshake era: each one execution of a tool, with the process that owns it, its lease and its fence.

Written by the database store alone.
"""

from datetime import datetime
from typing import Any, ClassVar, Final

from django.db import models
from django.db.models import F, Q, Value
from django.db.models.functions import Coalesce

from django_mcp.models.session import MCPSession
from django_mcp.models.stream import NAME_LENGTH

ID_LENGTH: Final = 32


class CallState(models.TextChoices):
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    INPUT_REQUIRED = "input_required"
    INTERRUPTED = "interrupted"


class CallQuerySet(models.QuerySet["Call"]):
    def running(self) -> "CallQuerySet":
        return self.filter(state=CallState.RUNNING)

    def unended(self) -> "CallQuerySet":
        """Return the running ones by a condition that no index answers, to update rows that are named.

        MariaDB looks an update up by an index where that seems cheap, waits for whoever holds the row, and misses it
        where they moved it in that index.
        """
        return self.alias(state_now=Coalesce("state", Value(""))).filter(state_now=CallState.RUNNING)

    def held(self, call: str, fence: int) -> "CallQuerySet":
        """Return the call if it still runs under this fence, to update it."""
        return self.unended().filter(pk=call, fence=fence)

    def abandoned(self, call: "Call", now: datetime) -> "CallQuerySet":
        """Return the call if its lease is over and it is what it was when it was read, to update it."""
        return (
            self.held(call.pk, call.fence)
            .alias(lease_now=Coalesce("lease_until", F("begun_at")))
            .filter(lease_now__lte=now, body_began=call.body_began, cancel_requested=call.cancel_requested)
        )

    def due(self, now: datetime) -> "CallQuerySet":
        """Return the running ones whose lease is over, the longest over first."""
        return self.running().filter(lease_until__lte=now).order_by("lease_until")

    def keep(self) -> bool:
        """Lock the call until the transaction ends; False where this is not true of the call any more."""
        return self.update(fence=F("fence")) == 1

    def take(self, owner: str, lease_until: datetime) -> bool:
        """Make `owner` the owner under a higher fence; False where this is not true of the call any more."""
        return self.update(owner=owner, fence=F("fence") + 1, lease_until=lease_until) == 1

    def end(self, state: CallState, now: datetime) -> bool:
        """End the call, whose arguments nobody needs any more; False where this is not true of it any more."""
        return self.update(state=state, ended_at=now, payload="") == 1

    def progress_to(self, progress: float) -> bool:
        """Note progress that is greater than all before; False where it is not."""
        return self.filter(Q(progress__isnull=True) | Q(progress__lt=progress)).update(progress=progress) == 1


class Call(models.Model):
    id = models.CharField(max_length=ID_LENGTH, primary_key=True)
    session = models.ForeignKey(
        MCPSession,
        null=True,
        blank=True,
        on_delete=models.CASCADE,
        db_constraint=False,
        db_index=False,
        related_name="+",
    )
    server = models.CharField(max_length=100)
    scope = models.CharField(max_length=64)
    stream = models.CharField(max_length=NAME_LENGTH, blank=True)
    request_id = models.TextField(help_text="ASCII JSON text.")
    request_digest = models.CharField(max_length=64)
    is_first = models.BooleanField(help_text="Is it the one that its request id names while it runs?")
    digest = models.CharField(max_length=64, blank=True)
    payload = models.TextField(blank=True, help_text="Sealed by the caller; empty once the call has ended.")
    is_repeatable = models.BooleanField(default=False)
    owner = models.CharField(max_length=100)
    fence = models.BigIntegerField(default=1)
    lease_until = models.DateTimeField()
    body_began = models.BooleanField(default=False)
    cancel_requested = models.BooleanField(default=False)
    progress = models.FloatField(null=True, blank=True)
    state = models.CharField(max_length=14, choices=CallState.choices, default=CallState.RUNNING)
    begun_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True, blank=True)

    objects = CallQuerySet.as_manager()

    class Meta:
        default_permissions = ()
        indexes: ClassVar[list[Any]] = [
            models.Index(fields=["session", "request_digest"], name="django_mcp_call_request"),
            models.Index(fields=["server", "scope", "state"], name="django_mcp_call_scope"),
            models.Index(fields=["state", "lease_until"], name="django_mcp_call_due"),
            models.Index(fields=["ended_at"], name="django_mcp_call_ended"),
        ]

    def __str__(self) -> str:
        return f"{self.id[:8]} {self.state}"

"""Single-use claims: who may do a thing once, and what came of it. Written by the database store alone."""

from datetime import datetime
from typing import Any, ClassVar

from django.db import models


class ClaimState(models.TextChoices):
    FREE = "free"
    RUNNING = "running"
    DONE = "done"


class Claim(models.Model):
    id = models.BigAutoField(primary_key=True)
    server = models.CharField(max_length=100)
    scope = models.CharField(max_length=64)
    key_digest = models.CharField(max_length=64)
    # Processes of the version before know no such column, and claim while a deploy is under way.
    digest = models.CharField(
        max_length=64, blank=True, default="", db_default="", help_text="Of the request that the key is for."
    )
    state = models.CharField(max_length=8, choices=ClaimState.choices, default=ClaimState.RUNNING)
    fence = models.BigIntegerField()
    owner = models.CharField(max_length=100, blank=True)
    outcome = models.TextField(blank=True)
    lease_until = models.DateTimeField()
    created_at = models.DateTimeField()
    expires_at = models.DateTimeField()

    class Meta:
        default_permissions = ()
        constraints: ClassVar[list[Any]] = [
            models.UniqueConstraint(fields=["server", "scope", "key_digest"], name="django_mcp_claim_unique"),
        ]
        indexes: ClassVar[list[Any]] = [models.Index(fields=["expires_at"], name="django_mcp_claim_expires")]

    def __str__(self) -> str:
        return f"{self.key_digest[:8]} {self.state}"

    def is_held(self, now: datetime) -> bool:
        """Say whether its owner is at work as far as anybody knows."""
        return self.state == ClaimState.RUNNING and self.lease_until > now

    def is_abandoned(self, now: datetime) -> bool:
        """Say whether its owner was lost at work."""
        return self.state == ClaimState.RUNNING and self.lease_until <= now

    def is_free(self, now: datetime) -> bool:
        """Say whether it is anybody's, for whatever request."""
        return self.state == ClaimState.FREE or self.is_over(now)

    def is_over(self, now: datetime) -> bool:
        """Say whether nobody may ask for its outcome any more."""
        return self.expires_at <= now and not self.is_held(now)

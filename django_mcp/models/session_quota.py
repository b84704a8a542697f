"""The row that serialises the begin of an owner's sessions, or conversations, so that a cap holds among processes."""

from typing import Any, ClassVar

from django.db import models
from django.db.models import F
from django.utils import timezone


class SessionQuotaQuerySet(models.QuerySet["SessionQuota"]):
    def hold(self, owner_digest: str) -> None:
        """Lock the owner's row until the transaction ends; make it where there is none."""
        while not self.filter(owner_digest=owner_digest).update(begun=F("begun") + 1, touched_at=timezone.now()):
            self.bulk_create([self.model(owner_digest=owner_digest)], ignore_conflicts=True)


class SessionQuota(models.Model):
    id = models.BigAutoField(primary_key=True)
    owner_digest = models.CharField(max_length=64)
    begun = models.BigIntegerField(default=0)
    touched_at = models.DateTimeField(default=timezone.now)

    objects = SessionQuotaQuerySet.as_manager()

    class Meta:
        default_permissions = ()
        constraints: ClassVar[list[Any]] = [
            models.UniqueConstraint(fields=["owner_digest"], name="django_mcp_quota_owner_unique"),
        ]
        indexes: ClassVar[list[Any]] = [models.Index(fields=["touched_at"], name="django_mcp_quota_touched")]

    def __str__(self) -> str:
        return self.owner_digest[:8]

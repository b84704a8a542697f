"""Results that were too large to send: kept for a while under a random name, for one principal."""

from typing import Any, ClassVar

from django.db import models
from django.utils import timezone

from django_mcp.core.principal import MAX_KEY_LENGTH


class StoredResult(models.Model):
    id = models.BigAutoField(primary_key=True)
    name_digest = models.CharField(max_length=64)
    server = models.CharField(max_length=100)
    tenant = models.CharField(max_length=100, blank=True)
    principal = models.CharField(max_length=MAX_KEY_LENGTH)
    scope = models.CharField(max_length=64)
    mime_type = models.CharField(max_length=200)
    body = models.BinaryField()
    created_at = models.DateTimeField(default=timezone.now)
    expires_at = models.DateTimeField()

    class Meta:
        default_permissions = ()
        constraints: ClassVar[list[Any]] = [
            models.UniqueConstraint(fields=["name_digest"], name="django_mcp_result_name_unique"),
        ]
        indexes: ClassVar[list[Any]] = [
            models.Index(fields=["server", "scope", "id"], name="django_mcp_result_scope"),
            models.Index(fields=["expires_at"], name="django_mcp_result_expires"),
        ]

    def __str__(self) -> str:
        return f"{self.name_digest[:8]} {self.mime_type}"

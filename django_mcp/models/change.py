"""Notices that a list or a resource changed, numbered per server so that no reader misses one.

The number is taken by an update of the server's sequence row in the transaction that inserts the notice: numbers
become visible in their order, which an auto-increment does not promise.
"""

from typing import Any, ClassVar

from django.db import models
from django.db.models import F
from django.utils import timezone


class ChangeSequenceQuerySet(models.QuerySet["ChangeSequence"]):
    def take(self, server: str) -> int:
        """Return the next number of `server`; its row stays locked until the transaction ends."""
        while not self.filter(server=server).update(last=F("last") + 1):
            self.bulk_create([self.model(server=server)], ignore_conflicts=True)
        return self.values_list("last", flat=True).get(server=server)


class ChangeSequence(models.Model):
    id = models.BigAutoField(primary_key=True)
    server = models.CharField(max_length=100)
    last = models.BigIntegerField(default=0)

    objects = ChangeSequenceQuerySet.as_manager()

    class Meta:
        default_permissions = ()
        constraints: ClassVar[list[Any]] = [
            models.UniqueConstraint(fields=["server"], name="django_mcp_sequence_server_unique"),
        ]

    def __str__(self) -> str:
        return f"{self.server} {self.last}"


class Change(models.Model):
    id = models.BigAutoField(primary_key=True)
    server = models.CharField(max_length=100)
    number = models.BigIntegerField()
    kind = models.CharField(max_length=16)
    uri = models.TextField(blank=True, help_text="ASCII JSON text of the resource's URI; empty for a list.")
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        default_permissions = ()
        constraints: ClassVar[list[Any]] = [
            models.UniqueConstraint(fields=["server", "number"], name="django_mcp_change_number_unique"),
        ]
        indexes: ClassVar[list[Any]] = [
            models.Index(fields=["server", "created_at"], name="django_mcp_change_created"),
        ]

    def __str__(self) -> str:
        return f"{self.server} {self.number} {self.kind}"

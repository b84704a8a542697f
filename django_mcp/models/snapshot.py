"""Snapshots: one immutable manifest per generation of a conversation. Written once, deleted later, never changed."""

from typing import Any, ClassVar

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from django_mcp.models.conversation import DIGEST_LENGTH, Conversation


class Snapshot(models.Model):
    id = models.BigAutoField(primary_key=True)
    conversation = models.ForeignKey(
        Conversation,
        on_delete=models.CASCADE,
        db_index=False,
        related_name="snapshots",
        verbose_name=_("conversation"),
    )
    number = models.BigIntegerField(_("generation"))
    address = models.CharField(_("content address"), max_length=DIGEST_LENGTH, blank=True)
    manifest = models.BinaryField()
    size = models.BigIntegerField(_("bytes"), help_text=_("What this generation added: its manifest and its blobs."))
    copied_from = models.BigIntegerField(_("copied from generation"), null=True, blank=True)
    call = models.TextField(_("call"), blank=True)
    created_at = models.DateTimeField(_("created"), default=timezone.now)

    class Meta:
        verbose_name = _("snapshot")
        verbose_name_plural = _("snapshots")
        default_permissions = ("view",)
        constraints: ClassVar[list[Any]] = [
            models.UniqueConstraint(fields=["conversation", "number"], name="django_mcp_snapshot_number_unique"),
        ]

    def __str__(self) -> str:
        return f"{self.conversation_id[:8]}… {self.number}"

"""Logged calls. A row refers to no other row, so that it outlives what it tells of, in whatever database it is."""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any, ClassVar, Final

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from django_mcp.conf import mcp_settings
from django_mcp.core.principal import MAX_KEY_LENGTH
from django_mcp.models.transactions import outages, transact
from django_mcp.server.finished_call import DIGEST_LENGTH, MAX_CLIENT_LENGTH, FinishedCall

SWEEP_ROWS: Final = 500


class CallEra(models.TextChoices):
    HANDSHAKE = "handshake", _("handshake")
    MODERN = "modern", _("modern")


class LoggedOutcome(models.TextChoices):
    OK = "ok", _("ok")
    INPUT_REQUIRED = "input_required", _("input required")
    FAILED = "failed", _("failed")
    REFUSED = "refused", _("refused")
    LIMITED = "limited", _("limited")
    CANCELLED = "cancelled", _("cancelled")
    UNAVAILABLE = "unavailable", _("unavailable")
    LOST = "lost", _("lost")
    ERROR = "error", _("error")


class LoggedCallQuerySet(models.QuerySet["LoggedCall"]):
    @property
    def write_alias(self) -> str:
        return self.select_for_update().db

    def log(self, calls: Sequence[FinishedCall]) -> None:
        """Keep `calls`, all or none. Raises StoreUnavailable where the database is down."""
        alias = self.write_alias
        rows = [self.model(created=values.pop("ended_at"), **values) for values in map(asdict, calls)]
        transact(lambda: self.using(alias).bulk_create(rows), using=alias)

    def over(self, now: datetime) -> "LoggedCallQuerySet":
        """Return those whose time is over."""
        return self.filter(created__lte=now - timedelta(days=mcp_settings.CALL_LOG_DAYS))

    def count_over(self) -> int:
        """Return how many `sweep()` would delete in all."""
        with outages(self.write_alias):
            return self.using(self.write_alias).over(timezone.now()).count()

    def sweep(self) -> int:
        """Delete the oldest of those whose time is over, SWEEP_ROWS at most; return how many."""
        rows = self.using(self.write_alias)
        oldest = rows.over(timezone.now()).order_by("created").values_list("pk", flat=True)[:SWEEP_ROWS]
        return transact(lambda: rows.filter(pk__in=list(oldest.all())).delete()[0], using=self.write_alias)


class LoggedCall(models.Model):
    created = models.DateTimeField(_("ended"))
    server = models.CharField(_("server"), max_length=100)
    tool = models.CharField(_("tool"), max_length=128, blank=True)
    principal = models.CharField(_("principal"), max_length=MAX_KEY_LENGTH, blank=True)
    tenant = models.CharField(_("tenant"), max_length=100, blank=True)
    era = models.CharField(_("era"), max_length=10, choices=CallEra.choices)
    protocol_version = models.CharField(_("protocol version"), max_length=32, blank=True)
    client_name = models.CharField(_("client"), max_length=MAX_CLIENT_LENGTH, blank=True)
    client_version = models.CharField(_("client version"), max_length=MAX_CLIENT_LENGTH, blank=True)
    arguments_digest = models.CharField(
        _("digest of the arguments"),
        max_length=DIGEST_LENGTH,
        blank=True,
        help_text=_("The same for the same arguments of a tool; it tells nothing else about them."),
    )
    outcome = models.CharField(_("outcome"), max_length=20, choices=LoggedOutcome.choices)
    milliseconds = models.PositiveBigIntegerField(_("milliseconds"))
    session = models.CharField(_("session"), max_length=8, blank=True)
    conversation = models.CharField(_("conversation"), max_length=8, blank=True)
    is_repeat = models.BooleanField(_("repeat"), default=False)
    is_takeover = models.BooleanField(_("taken over"), default=False)

    objects = LoggedCallQuerySet.as_manager()

    class Meta:
        verbose_name = _("logged call")
        verbose_name_plural = _("logged calls")
        default_permissions = ("view",)
        indexes: ClassVar[list[Any]] = [
            models.Index(fields=["created"], name="mcp_call_log_created"),
            models.Index(fields=["server", "created"], name="mcp_call_log_server"),
            models.Index(fields=["principal", "created"], name="mcp_call_log_principal"),
        ]

    def __str__(self) -> str:
        return f"{self.tool or '-'} by {self.principal or '-'}: {self.outcome}"

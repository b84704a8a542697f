"""Streams of the handshake era: each one SSE response, whose events are numbered from 1.

The numbers are taken by an update of the stream's row in the transaction that inserts the events: they become visible
in their order and without a gap, which an auto-increment does not promise. A stream is named by its primary key alone,
and nothing that changes while it is written stands in an index.

What refers to a session here does so without a constraint of the database: the store may be in another database than
the sessions, and no write of a stream locks its session. Written by the database store alone.
"""

from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar, Final

from django.db import models
from django.db.models import F, FilteredRelation, Q

from django_mcp.models.session import MCPSession

NAME_LENGTH: Final = 17


class StreamKind(models.TextChoices):
    POST = "post"
    STANDALONE = "standalone"


class StreamQuerySet(models.QuerySet["Stream"]):
    def take_numbers(self, count: int, size: int, **changes: Any) -> bool:
        """Give the next `count` numbers to the caller's transaction; False where no such stream is open.

        The row stays locked until the transaction ends.
        """
        return self.filter(is_open=True).update(last=F("last") + count, size=F("size") + size, **changes) == 1

    def take_reader(self) -> int | None:
        """Return the number of the stream's newest reader, which the caller is now; None where there is no stream."""
        if not self.update(reader=F("reader") + 1):
            return None
        return self.values_list("reader", flat=True).get()

    def with_events(self, after: int) -> "StreamQuerySet":
        """Read the events behind a place along, one in each row, in order; a stream without any is one row.

        It is one statement, so that they are what the stream's row says.
        """
        behind: dict[str, Any] = {"behind": FilteredRelation("events", condition=Q(events__sequence__gt=after))}
        columns: dict[str, Any] = {"sequence": F("behind__sequence"), "body": F("behind__body")}
        return self.annotate(**behind).annotate(**columns).order_by(F("behind__sequence"))


class Stream(models.Model):
    name = models.CharField(max_length=NAME_LENGTH, primary_key=True)
    session = models.ForeignKey(
        MCPSession, on_delete=models.CASCADE, db_constraint=False, db_index=False, related_name="+"
    )
    kind = models.CharField(max_length=10, choices=StreamKind.choices)
    first = models.BigIntegerField(default=1)
    last = models.BigIntegerField(default=0)
    size = models.BigIntegerField(default=0)
    reader = models.BigIntegerField(default=0)
    is_open = models.BooleanField(default=True)
    kept_seconds = models.FloatField()
    opened_at = models.DateTimeField()
    written_at = models.DateTimeField()
    expires_at = models.DateTimeField(null=True, blank=True)

    if TYPE_CHECKING:
        sequence: int | None
        body: bytes | None

    objects = StreamQuerySet.as_manager()

    class Meta:
        default_permissions = ()
        indexes: ClassVar[list[Any]] = [
            models.Index(fields=["session"], name="django_mcp_stream_session"),
            models.Index(fields=["opened_at"], name="django_mcp_stream_opened"),
            models.Index(fields=["expires_at"], name="django_mcp_stream_expires"),
        ]

    def __str__(self) -> str:
        return f"{self.name} {self.first}–{self.last}"

    def is_over(self, now: datetime) -> bool:
        """Say whether nobody may read it any more."""
        return self.expires_at is not None and self.expires_at <= now

"""Events: the messages of a stream, as bytes, each under its number. Written by the database store alone."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any, ClassVar, Final

from django.db import models

from django_mcp.models.stream import Stream

INSERT_BYTES: Final = 1_048_576
"""About what one INSERT has, since the largest packet of a server is not ours to choose."""
INSERT_ROWS: Final = 150


class EventQuerySet(models.QuerySet["Event"]):
    def insert(self, stream: str, first: int, bodies: Iterable[bytes], now: datetime) -> None:
        """Insert events numbered from `first`, in as many statements as their bytes need."""
        self.add(stream, ((sequence, body, now) for sequence, body in enumerate(bodies, first)))

    def add(self, stream: str, events: Iterable[tuple[int, bytes, datetime]]) -> None:
        """Insert events, each with its number and its time, in as many statements as their bytes need."""
        batch: list[Event] = []
        size = 0
        for sequence, body, at in events:
            if batch and (size + len(body) > INSERT_BYTES or len(batch) == INSERT_ROWS):
                self.bulk_create(batch)
                batch, size = [], 0
            batch.append(self.model(stream_id=stream, sequence=sequence, body=body, size=len(body), created_at=at))
            size += len(body)
        if batch:
            self.bulk_create(batch)


class Event(models.Model):
    id = models.BigAutoField(primary_key=True)
    stream = models.ForeignKey(Stream, on_delete=models.CASCADE, db_index=False, related_name="events")
    sequence = models.BigIntegerField()
    body = models.BinaryField()
    size = models.BigIntegerField()
    created_at = models.DateTimeField()

    objects = EventQuerySet.as_manager()

    class Meta:
        default_permissions = ()
        constraints: ClassVar[list[Any]] = [
            models.UniqueConstraint(fields=["stream", "sequence"], name="django_mcp_event_sequence_unique"),
        ]

    def __str__(self) -> str:
        return f"{self.stream_id} {self.sequence}"

"""Blobs: large values and pages of manifests, each under its SHA-256, shared by a conversation and its forks alone.

A blob is a row for each PART_BYTES of it, since the largest packet of a server is not ours to choose.
"""

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any, ClassVar, Final

from django.db import connections, models

from django_mcp.models.conversation import DIGEST_LENGTH, Conversation

PART_BYTES: Final = 1_048_576
"""The most that one row has, and about what one INSERT has."""
INSERT_ROWS: Final = 150


class BlobQuerySet(models.QuerySet["Blob"]):
    def keep(self, family: str, bodies: Mapping[str, bytes], now: datetime) -> None:
        """Insert what is not there yet. What is there counts as young again, so that no collection takes it.

        The rows go in the order of their names: two transactions that keep the same blobs wait, they do not deadlock.
        """
        targeted = connections[self.db].features.supports_update_conflicts_with_target
        for batch in _batches(bodies):
            self.bulk_create(
                [
                    self.model(family_id=family, digest=digest, part=part, body=body, size=len(body), touched_at=now)
                    for digest, part, body in batch
                ],
                update_conflicts=True,
                update_fields=["touched_at"],
                unique_fields=["family", "digest", "part"] if targeted else None,
            )

    def bodies(self, family: str, digests: Iterable[str]) -> dict[str, bytes]:
        """Return what is there under these names, whole and not verified."""
        rows = self.filter(family_id=family, digest__in=list(digests)).order_by("digest", "part")
        parts: dict[str, list[bytes]] = {}
        for digest, body in rows.values_list("digest", "body"):
            parts.setdefault(digest, []).append(bytes(body))
        return {digest: b"".join(found) for digest, found in parts.items()}


class Blob(models.Model):
    id = models.BigAutoField(primary_key=True)
    family = models.ForeignKey(Conversation, on_delete=models.CASCADE, db_index=False, related_name="blobs")
    digest = models.CharField(max_length=DIGEST_LENGTH)
    part = models.IntegerField(default=0)
    body = models.BinaryField()
    size = models.BigIntegerField()
    touched_at = models.DateTimeField()

    objects = BlobQuerySet.as_manager()

    class Meta:
        default_permissions = ()
        constraints: ClassVar[list[Any]] = [
            models.UniqueConstraint(fields=["family", "digest", "part"], name="django_mcp_blob_unique"),
        ]

    def __str__(self) -> str:
        return f"{self.digest[:8]}… {self.part}"


def _batches(bodies: Mapping[str, bytes]) -> Iterator[list[tuple[str, int, bytes]]]:
    batch: list[tuple[str, int, bytes]] = []
    size = 0
    for row in _parts(bodies):
        if batch and (size + len(row[2]) > PART_BYTES or len(batch) == INSERT_ROWS):
            yield batch
            batch, size = [], 0
        batch.append(row)
        size += len(row[2])
    if batch:
        yield batch


def _parts(bodies: Mapping[str, bytes]) -> Iterator[tuple[str, int, bytes]]:
    for digest in sorted(bodies):
        body = bodies[digest]
        for part, start in enumerate(range(0, max(len(body), 1), PART_BYTES)):
            yield digest, part, body[start : start + PART_BYTES]

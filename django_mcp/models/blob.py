"""Blobs: large values and pages of manifests, each under its SHA-256, shared by a conversation and its forks alone.

A blob is a row for each PART_BYTES of it, since the largest packet of a server is not ours to choose, or one row that
names the object in a file storage that has all of it.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar, Final

from django.db import connections, models

from django_mcp.models.blob_object import BlobObject
from django_mcp.models.conversation import DIGEST_LENGTH, Conversation

PART_BYTES: Final = 1_048_576
"""The most that one row has, and about what one INSERT has."""
INSERT_ROWS: Final = 142


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """The object that a blob is kept in, and the alias of its storage."""

    storage: str
    name: str


class BlobQuerySet(models.QuerySet["Blob"]):
    def keep(self, family: str, bodies: Mapping[str, bytes], now: datetime) -> None:
        """Insert what is not there yet. What is there counts as young again, so that no collection takes it.

        The rows go in the order of their names: two transactions that keep the same blobs wait, they do not deadlock.
        """
        for batch in _batches(bodies):
            self._add_or_touch(
                [
                    self.model(family_id=family, digest=digest, part=part, body=body, size=len(body), touched_at=now)
                    for digest, part, body in batch
                ]
            )

    def refer(self, family: str, places: Mapping[str, tuple[Place, int]], now: datetime) -> set[str]:
        """Do what `keep()` does with objects of so many bytes, by digest; return the names that were taken.

        A blob that is there already stays where it is.
        """
        self._add_or_touch(
            [
                self.model(
                    family_id=family,
                    digest=digest,
                    body=b"",
                    size=size,
                    kept_in_id=place.name,
                    touched_at=now,
                )
                for digest, (place, size) in sorted(places.items())
            ]
        )
        names = {place.name for place, _ in places.values()}
        rows = self.filter(family_id=family, digest__in=list(places), part=0)
        return names & set(rows.values_list("kept_in_id", flat=True))

    def touch(self, family: str, digests: Collection[str], now: datetime) -> bool:
        """Count blobs that are in objects as young again; False if one of them is not there any more."""
        rows = self.filter(family_id=family, digest__in=list(digests), part=0, kept_in__isnull=False)
        return rows.update(touched_at=now) == len(digests)

    def _add_or_touch(self, blobs: list["Blob"]) -> None:
        targeted = connections[self.db].features.supports_update_conflicts_with_target
        self.bulk_create(
            blobs,
            batch_size=INSERT_ROWS,
            update_conflicts=True,
            update_fields=["touched_at"],
            unique_fields=["family", "digest", "part"] if targeted else None,
        )

    def find(self, family: str, digests: Iterable[str]) -> tuple[dict[str, bytes], dict[str, Place]]:
        """Return what is there under these names, not verified: bodies, and the places of those that are elsewhere."""
        rows = self.filter(family_id=family, digest__in=list(digests)).order_by("digest", "part")
        parts: dict[str, list[bytes]] = {}
        places: dict[str, Place] = {}
        for digest, body, storage, name in rows.values_list("digest", "body", "kept_in__storage", "kept_in_id"):
            if name:
                places[digest] = Place(storage=storage, name=name)
            parts.setdefault(digest, []).append(bytes(body))
        return {digest: b"".join(found) for digest, found in parts.items() if digest not in places}, places


class Blob(models.Model):
    id = models.BigAutoField(primary_key=True)
    family = models.ForeignKey(Conversation, on_delete=models.CASCADE, db_index=False, related_name="blobs")
    digest = models.CharField(max_length=DIGEST_LENGTH)
    part = models.IntegerField(default=0)
    body = models.BinaryField()
    size = models.BigIntegerField()
    touched_at = models.DateTimeField()
    kept_in = models.ForeignKey(BlobObject, null=True, on_delete=models.DO_NOTHING, related_name="blobs")

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

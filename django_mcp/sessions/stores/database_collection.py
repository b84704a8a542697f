"""Collection of conversations that are kept in the database, whole."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from django.db.models import Q, QuerySet
from django.utils import timezone

from django_mcp.models import Blob, Conversation, Snapshot
from django_mcp.models.conversation import ConversationState
from django_mcp.sessions.stores.collection import ROWS, Collection, KeptBlob, chunks
from django_mcp.sessions.stores.database_blobs import DatabaseBlobs
from django_mcp.sessions.stores.state import References

BlobName = tuple[int, str | None]
"""The primary key of a row, and the name of the object it refers to."""


class DatabaseCollection(Collection[BlobName, int]):
    def __init__(self, using: str, blobs: DatabaseBlobs, references: References, *, limit: int, is_dry: bool) -> None:
        super().__init__(using, references, limit=limit, is_dry=is_dry)
        self._kept = blobs

    def _forget_history(self, row: Conversation) -> None:
        mine = self._snapshots_of().filter(conversation_id=row.pk)
        if self._is_dry:
            self._snapshots += mine.count()
            return
        for chunk in chunks(list(mine.values_list("pk", flat=True)), ROWS):
            self._snapshots += self._delete(mine.filter(pk__in=chunk))

    def _kept_blobs(self, family: str) -> tuple[datetime, list[KeptBlob[BlobName]]]:
        blobs = Blob.objects.using(self._using).filter(family_id=family)
        rows = blobs.order_by("pk").values_list("pk", "kept_in_id", "digest", "part", "size", "touched_at")
        kept: list[KeptBlob[BlobName]] = [
            KeptBlob(name=(pk, name), digest=digest, size=size, touched_at=touched_at, is_first=part == 0)
            for pk, name, digest, part, size, touched_at in rows
        ]
        return timezone.now(), kept

    def _drop(self, family: str, names: Sequence[BlobName], cutoff: datetime) -> set[BlobName]:
        gone = self._kept.forget(family, dict(names), cutoff)
        return {name for name in names if name[0] in gone}

    def _delete_objects(self, limit: int) -> int:
        return self._kept.delete_objects(limit)

    def _listed(self, family: str) -> Mapping[str, int]:
        is_family = Q(conversation_id=family) | Q(conversation__root_id=family)
        kept = self._snapshots_of().filter(is_family, conversation__state=ConversationState.ACTIVE)
        return dict(kept.values_list("address", "pk"))

    def _manifests(self, chosen: Sequence[int]) -> list[tuple[str, bytes]]:
        rows = self._snapshots_of().filter(pk__in=chosen).values_list("address", "manifest")
        return [(address, bytes(manifest)) for address, manifest in rows]

    def _bodies(self, family: str, digest: str) -> bytes | None:
        return self._kept.read(family, [digest])[digest]

    def _snapshots_of(self) -> "QuerySet[Snapshot]":
        return Snapshot.objects.using(self._using)

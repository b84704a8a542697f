"""One round of collection in the database: what is over ends, what nothing needs goes, a bounded number at once.

It takes no lock that a commit waits for. The snapshots of a family are listed by one statement; once every listed one
was read, all that any later generation can reference is either marked or was kept anew by the commit that needs it,
which makes it younger than the grace. So a blob goes by a DELETE that asks again for its age.
"""

import hashlib
import logging
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Final, TypeVar

from django.db.models import Exists, OuterRef, Q, QuerySet
from django.utils import timezone

from django_mcp.conf import mcp_settings
from django_mcp.core.entry import CorruptManifest
from django_mcp.exceptions import CorruptBlob
from django_mcp.models import Blob, Conversation, Snapshot
from django_mcp.models.conversation import ConversationQuerySet, ConversationState
from django_mcp.models.transactions import transact
from django_mcp.sessions.stores.state import GRACE_SECONDS, Collected, References

logger = logging.getLogger(__name__)

ROWS: Final = 100
"""Rows of one DELETE: what holds locks holds them for a moment."""
MANIFESTS: Final = 20
CACHED_PAGES: Final = 256
MARK_ROUNDS: Final = 10

T = TypeVar("T")


class Collection:
    def __init__(self, using: str, references: References, *, limit: int, is_dry: bool) -> None:
        self._using = using
        self._references = references
        self._limit = limit
        self._is_dry = is_dry
        self._now = timezone.now()
        self._grace = timedelta(seconds=GRACE_SECONDS)
        self._is_complete = True
        self._snapshots = self._blobs = self._bytes = 0

    def run(self) -> Collected:
        expired = self._expire()
        looks = self._garbage()
        for row, _ in looks:
            if row.state != ConversationState.ACTIVE:
                self._forget_history(row)
        after = {family: self._sweep(family) for family in dict.fromkeys(row.family_id for row, _ in looks)}
        for row, lease in looks:
            self._look_again(row, lease, after[row.family_id])
        return Collected(
            expired=expired,
            conversations=self._bury(),
            snapshots=self._snapshots,
            blobs=self._blobs,
            bytes=self._bytes,
            is_complete=self._is_complete,
        )

    def _expire(self) -> int:
        if self._is_dry:
            return self._rows().due(self._now)[: self._limit].count()
        expired = self._rows().expire(self._limit)
        self._is_complete = expired < self._limit
        return expired

    def _garbage(self) -> list[tuple[Conversation, datetime]]:
        """Return conversations of which something may be garbage, each leased to this process for the grace."""
        due = self._rows().filter(garbage_at__lte=timezone.now()).order_by("garbage_at", "pk")
        found = list(due[: self._limit])
        if len(found) == self._limit:
            self._is_complete = False
        if self._is_dry:
            return [(row, self._now) for row in found]
        lease = timezone.now() + self._grace
        return [(row, lease) for row in found if self._reschedule(row, row.garbage_at, lease)]

    def _reschedule(self, row: Conversation, expected: datetime | None, at: datetime | None) -> bool:
        seen = self._rows().filter(pk=row.pk, garbage_at=expected)
        return transact(lambda: seen.update(garbage_at=at), using=self._using) == 1

    def _look_again(self, row: Conversation, lease: datetime, at: datetime | None) -> None:
        """Say when the next look is due, unless a commit said so meanwhile."""
        if not self._is_dry:
            self._reschedule(row, lease, at)

    def _forget_history(self, row: Conversation) -> None:
        """Delete the snapshots of a conversation that has ended."""
        mine = self._all_snapshots().filter(conversation_id=row.pk)
        if self._is_dry:
            self._snapshots += mine.count()
            return
        for chunk in _chunks(list(mine.values_list("pk", flat=True)), ROWS):
            self._snapshots += self._delete(mine.filter(pk__in=chunk))

    def _sweep(self, family: str) -> datetime | None:
        """Delete the blobs of a family that nothing needs; return when to look at it again, None if for nothing."""
        later = timezone.now() + self._grace
        cutoff = timezone.now() - self._grace
        blobs = Blob.objects.using(self._using).filter(family_id=family)
        try:
            marked = self._marked(family)
        except (CorruptBlob, CorruptManifest) as error:
            logger.error("Family %s… keeps all its blobs, since a manifest cannot be read: %s", family[:8], error)
            return later
        if marked is None:
            return timezone.now()
        rows = blobs.order_by("pk").values_list("pk", "digest", "part", "size", "touched_at")
        unneeded = [
            (pk, part == 0, size, touched_at) for pk, digest, part, size, touched_at in rows if digest not in marked
        ]
        old = [(pk, (is_first, size)) for pk, is_first, size, touched_at in unneeded if touched_at <= cutoff]
        for chunk in _chunks(old[: self._limit], ROWS):
            gone = dict(chunk)
            if not self._is_dry:
                self._delete(blobs.filter(pk__in=list(gone), touched_at__lte=cutoff))
                for pk in blobs.filter(pk__in=list(gone)).values_list("pk", flat=True):
                    del gone[pk]
            self._blobs += sum(is_first for is_first, _ in gone.values())
            self._bytes += sum(size for _, size in gone.values())
        if len(old) > self._limit:
            self._is_complete = False
            return timezone.now()
        return later if len(old) < len(unneeded) else None

    def _marked(self, family: str) -> set[str] | None:
        """Return the digests of all blobs that the family's generations need; None if they changed too fast to tell.

        Raises CorruptBlob where a manifest or a page of it is not there or not what it was, CorruptManifest where
        this version does not read it.
        """
        is_family = Q(conversation_id=family) | Q(conversation__root_id=family)
        kept = self._all_snapshots().filter(is_family, conversation__state=ConversationState.ACTIVE)
        fetch = self._fetch(family)
        marked: set[str] = set()
        read: set[str] = {""}
        for _ in range(MARK_ROUNDS):
            listed = {address: pk for pk, address in kept.values_list("pk", "address") if address not in read}
            for chunk in _chunks(sorted(listed.values()), MANIFESTS):
                rows = self._all_snapshots().filter(pk__in=chunk).values_list("address", "manifest")
                for address, manifest in rows:
                    if hashlib.sha256(manifest).hexdigest() != address:
                        raise CorruptBlob(address)
                    marked |= self._references(bytes(manifest), fetch)
                    read.add(address)
            if listed.keys() <= read:
                return marked
        return None

    def _fetch(self, family: str) -> Callable[[str], bytes]:
        blobs = Blob.objects.using(self._using)

        @lru_cache(maxsize=CACHED_PAGES)
        def fetch(digest: str) -> bytes:
            body = blobs.bodies(family, [digest]).get(digest)
            if body is None:
                raise CorruptBlob(digest, "is missing")
            if hashlib.sha256(body).hexdigest() != digest:
                raise CorruptBlob(digest)
            return body

        return fetch

    def _bury(self) -> int:
        """Delete conversations that ended so long ago that no token of theirs is left, and that have no forks."""
        before = self._now - timedelta(seconds=2 * mcp_settings.TOKEN_SECONDS)
        forks = self._rows().filter(root_id=OuterRef("pk"))
        over = self._rows().filter(~Exists(forks), ended_at__lte=before, garbage_at=None).order_by("ended_at")
        found = list(over.values_list("pk", flat=True)[: self._limit])
        if len(found) == self._limit:
            self._is_complete = False
        if self._is_dry:
            return len(found)
        return sum(
            self._delete(self._rows().filter(pk__in=chunk, ended_at__lte=before)) for chunk in _chunks(found, ROWS)
        )

    def _delete(self, rows: "QuerySet[Blob] | QuerySet[Conversation] | QuerySet[Snapshot]") -> int:
        """Delete rows in a transaction of their own; return how many of their own kind there were."""
        return transact(lambda: rows.delete()[1].get(rows.model._meta.label, 0), using=self._using)

    def _rows(self) -> ConversationQuerySet:
        return Conversation.objects.using(self._using)

    def _all_snapshots(self) -> "QuerySet[Snapshot]":
        return Snapshot.objects.using(self._using)


def _chunks(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    return (items[start : start + size] for start in range(0, len(items), size))

"""One round of collection: what is over ends, what nothing needs goes, a bounded number at once.

It takes no lock that a commit waits for. The snapshots of a family are listed by one statement; once every listed one
was read, all that any later generation can reference is either marked or was kept anew by the commit that needs it,
which makes it younger than the grace. So a blob goes by one step that asks again for its age.
"""

import hashlib
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Final, Generic, TypeVar

from django.db.models import Exists, Model, OuterRef, QuerySet
from django.utils import timezone

from django_mcp.conf import mcp_settings
from django_mcp.core.entry import CorruptManifest
from django_mcp.exceptions import CorruptBlob
from django_mcp.models import Conversation
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
N = TypeVar("N", bound=Hashable)
S = TypeVar("S")
R = TypeVar("R", bound=Model)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptBlob(Generic[N]):
    """A blob, or a part of one, under the name that deletes it; `touched_at` is when a commit last had it along."""

    name: N
    digest: str
    size: int
    touched_at: datetime
    is_first: bool = True


class Collection(ABC, Generic[N, S]):
    """Collect of the store `store` ("": that of the database), whose rows are in the database `using`."""

    def __init__(self, using: str, references: References, *, limit: int, is_dry: bool, store: str = "") -> None:
        self._using = using
        self._store = store
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
        conversations = self._bury()
        if not self._is_dry and self._delete_objects(self._limit) == self._limit:
            self._is_complete = False
        return Collected(
            expired=expired,
            conversations=conversations,
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

    @abstractmethod
    def _forget_history(self, row: Conversation) -> None:
        """Delete, and count, the snapshots of a conversation that has ended."""

    @abstractmethod
    def _kept_blobs(self, family: str) -> tuple[datetime, list[KeptBlob[N]]]:
        """Return the time by the clock that blobs have, and those of the family."""

    @abstractmethod
    def _drop(self, family: str, names: Sequence[N], cutoff: datetime) -> set[N]:
        """Delete of these what is not younger than `cutoff`; return which are gone."""

    @abstractmethod
    def _listed(self, family: str) -> Mapping[str, S] | None:
        """Return every snapshot of the family's active conversations by its address, as one statement sees them.

        None if they change too fast to tell.
        """

    @abstractmethod
    def _manifests(self, chosen: Sequence[S]) -> list[tuple[str, bytes]]:
        """Return the addresses and manifests of the snapshots that are still there."""

    @abstractmethod
    def _bodies(self, family: str, digest: str) -> bytes | None:
        """Return a blob, not verified; None if it is not there."""

    def _delete_objects(self, limit: int) -> int:
        """Delete what the store keeps elsewhere and no blob needs, `limit` at most; return how many."""
        return 0

    def _sweep(self, family: str) -> datetime | None:
        """Delete the blobs of a family that nothing needs; return when to look at it again, None if for nothing."""
        later = timezone.now() + self._grace
        now, blobs = self._kept_blobs(family)
        cutoff = now - self._grace
        if not blobs:
            return None
        try:
            marked = self._marked(family)
        except (CorruptBlob, CorruptManifest) as error:
            logger.error("Family %s… keeps all its blobs, since a manifest cannot be read: %s", family[:8], error)
            return later
        if marked is None:
            return timezone.now()
        unneeded = [blob for blob in blobs if blob.digest not in marked]
        old = [blob for blob in unneeded if blob.touched_at <= cutoff]
        for chunk in chunks(old[: self._limit], ROWS):
            names = [blob.name for blob in chunk]
            gone = set(names) if self._is_dry else self._drop(family, names, cutoff)
            self._blobs += sum(blob.is_first for blob in chunk if blob.name in gone)
            self._bytes += sum(blob.size for blob in chunk if blob.name in gone)
        if len(old) > self._limit:
            self._is_complete = False
            return timezone.now()
        return later if len(old) < len(unneeded) else None

    def _marked(self, family: str) -> set[str] | None:
        """Return the digests of all blobs that the family's generations need; None if they changed too fast to tell.

        Raises CorruptBlob where a manifest or a page of it is not there or not what it was, CorruptManifest where
        this version does not read it.
        """
        fetch = self._fetch(family)
        marked: set[str] = set()
        read: set[str] = {""}
        for _ in range(MARK_ROUNDS):
            found = self._listed(family)
            if found is None:
                return None
            listed = {address: snapshot for address, snapshot in found.items() if address not in read}
            for chunk in chunks(list(listed.values()), MANIFESTS):
                for address, manifest in self._manifests(chunk):
                    if hashlib.sha256(manifest).hexdigest() != address:
                        raise CorruptBlob(address)
                    marked |= self._references(manifest, fetch)
                    read.add(address)
            if listed.keys() <= read:
                return marked
        return None

    def _fetch(self, family: str) -> Callable[[str], bytes]:
        @lru_cache(maxsize=CACHED_PAGES)
        def fetch(digest: str) -> bytes:
            body = self._bodies(family, digest)
            if body is None:
                raise CorruptBlob(digest, "is missing")
            if hashlib.sha256(body).hexdigest() != digest:
                raise CorruptBlob(digest)
            return body

        return fetch

    def _bury(self) -> int:
        """Delete conversations that ended so long ago that no token of theirs is left, and that have no forks."""
        before = self._now - timedelta(seconds=2 * mcp_settings.TOKEN_SECONDS)
        # Of any store: they go with the row of their root.
        forks = Conversation.objects.using(self._using).filter(root_id=OuterRef("pk"))
        over = self._rows().filter(~Exists(forks), ended_at__lte=before, garbage_at=None).order_by("ended_at")
        found = list(over.values_list("pk", flat=True)[: self._limit])
        if len(found) == self._limit:
            self._is_complete = False
        if self._is_dry:
            return len(found)
        return sum(
            self._delete(self._rows().filter(pk__in=chunk, ended_at__lte=before)) for chunk in chunks(found, ROWS)
        )

    def _delete(self, rows: "QuerySet[R]") -> int:
        """Delete rows in a transaction of their own; return how many of their own kind there were."""
        return transact(lambda: rows.delete()[1].get(rows.model._meta.label, 0), using=self._using)

    def _rows(self) -> ConversationQuerySet:
        return Conversation.objects.using(self._using).kept_by(self._store)


def chunks(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    return (items[start : start + size] for start in range(0, len(items), size))

"""The blobs of families in the project's database: rows, and rows that name objects in a file storage.

An object is written before the transaction that refers to it, under a row of its own that comes first. A commit keeps
what it needs by conditions that the database holds: a blob that is there is touched, a new object is adopted, and
where either was given up meanwhile the transaction fails and all of it is done anew, under new names. So no object
that is ever deleted can be the one that a row refers to. Nothing here calls a storage within a transaction of ours;
within one of the caller's, blobs stay rows.
"""

import hashlib
import re
import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from django.db import IntegrityError, connections
from django.utils import timezone

from django_mcp.exceptions import CorruptBlob
from django_mcp.models import Blob, BlobObject
from django_mcp.models.blob import BlobQuerySet, Place
from django_mcp.models.blob_object import BlobObjectQuerySet
from django_mcp.models.transactions import outages, transact
from django_mcp.sessions.stores.blob_storage import BlobStorage
from django_mcp.sessions.stores.state import GRACE_SECONDS

BLOBS_AT_ONCE: Final = 500
DELETED_AT_ONCE: Final = 100

_DIGEST = re.compile(r"[0-9a-f]{64}")


class GivenUp(Exception):
    """Something that a commit counted on was collected before it could say so: do all of it anew."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """What a transaction has to write so that a family keeps some blobs."""

    family: str
    rows: Mapping[str, bytes] = field(repr=False)
    known: Collection[str] = ()
    """What is in objects already."""
    new: Mapping[str, tuple[Place, int]] = field(default_factory=dict)
    """What was put into objects for this one, with their sizes in bytes."""


class DatabaseBlobs:
    """The blobs in one database.

    Args:
        storage: the alias in `STORAGES` for those of at least `from_bytes` bytes; None if all are rows. What is in
            another one is still read there.
    """

    def __init__(self, using: str, *, storage: str | None = None, from_bytes: int = 0) -> None:
        self._using = using
        self._alias = storage
        self._from_bytes = from_bytes
        self._storages: dict[str, BlobStorage] = {}

    # Keep

    def large(self, bodies: Mapping[str, bytes]) -> dict[str, bytes]:
        """Return those that are kept in objects: none inside a transaction of the caller."""
        if self._alias is None or connections[self._using].in_atomic_block:
            return {}
        return {digest: body for digest, body in bodies.items() if len(body) >= self._from_bytes}

    def prepare(self, family: str, bodies: Mapping[str, bytes]) -> Prepared:
        """Write the objects that are not there yet.

        Raises StoreUnavailable, GivenUp where that took longer than a grace or the family was deleted.
        """
        large = self.large(bodies)
        if self._alias is None or not large:
            return Prepared(family=family, rows=bodies)
        with outages(self._using):
            present = self._present(family, large)
        rows = {digest: body for digest, body in bodies.items() if digest not in large or present.get(digest) == ""}
        storage = self._storage(self._alias)
        new = {
            digest: Place(storage=self._alias, name=storage.new_name(family, digest))
            for digest in large
            if digest not in present
        }
        if new:
            began = time.monotonic()
            due = timezone.now() + timedelta(seconds=GRACE_SECONDS)
            objects = [
                BlobObject(name=place.name, storage=place.storage, family_id=family, garbage_at=due)
                for place in new.values()
            ]
            try:
                transact(lambda: self._objects().bulk_create(objects, batch_size=BLOBS_AT_ONCE), using=self._using)
            except IntegrityError as error:
                raise GivenUp from error
            storage.put({place.name: large[digest] for digest, place in new.items()})
            if time.monotonic() - began >= GRACE_SECONDS:
                # What wrote them down may have been collected before they were there.
                storage.delete(place.name for place in new.values())
                raise GivenUp
        return Prepared(
            family=family,
            rows=rows,
            known=[digest for digest in large if present.get(digest)],
            new={digest: (place, len(large[digest])) for digest, place in new.items()},
        )

    def keep(self, prepared: Prepared, now: datetime) -> None:
        """Write what was prepared, within the transaction that needs it.

        Raises GivenUp where that must not commit, since something was collected meanwhile.
        """
        blobs = self._blobs()
        blobs.keep(prepared.family, prepared.rows, now)
        if prepared.known and not blobs.touch(prepared.family, prepared.known, now):
            raise GivenUp
        if not prepared.new:
            return
        names = {place.name for place, _ in prepared.new.values()}
        if not self._objects().adopt(names):
            raise GivenUp
        unused = names - blobs.refer(prepared.family, prepared.new, now)
        if unused:
            self._objects().abandon(unused, now)

    def discard(self, prepared: Prepared) -> None:
        """Delete the objects of a transaction that did not commit, whose own rows may be gone by now.

        Raises StoreUnavailable.
        """
        for place, _ in prepared.new.values():
            self._storage(place.storage).delete([place.name])

    def _present(self, family: str, digests: Iterable[str]) -> dict[str, str]:
        """Return the names of the objects that blobs are in, "" for one in rows, by digest."""
        names = sorted(digests)
        found: dict[str, str | None] = {}
        for start in range(0, len(names), BLOBS_AT_ONCE):
            rows = self._blobs().filter(family_id=family, digest__in=names[start : start + BLOBS_AT_ONCE], part=0)
            found |= dict(rows.values_list("digest", "kept_in_id"))
        return {digest: name or "" for digest, name in found.items()}

    # Read

    def read(self, family: str, digests: Iterable[str]) -> dict[str, bytes]:
        """Return blobs by digest. Raises CorruptBlob for the first that is missing or is not what its name says."""
        wanted = list(dict.fromkeys(digests))
        bodies, places = self._find(family, wanted)
        objects = self._fetch(places)
        gone = places.keys() - objects.keys()
        if gone:
            # Collected since the row was read, and perhaps kept anew.
            again, moved = self._find(family, gone)
            bodies |= again
            objects |= self._fetch({digest: place for digest, place in moved.items() if place != places[digest]})
        for digest in wanted:
            if digest in objects:
                continue
            if digest not in bodies:
                raise CorruptBlob(digest, "is missing")
            if hashlib.sha256(bodies[digest]).hexdigest() != digest:
                raise CorruptBlob(digest)
        return {digest: objects[digest] if digest in objects else bodies[digest] for digest in wanted}

    def _find(self, family: str, digests: Iterable[str]) -> tuple[dict[str, bytes], dict[str, Place]]:
        names = [digest for digest in digests if _DIGEST.fullmatch(digest)]
        bodies: dict[str, bytes] = {}
        places: dict[str, Place] = {}
        with outages(self._using):
            for start in range(0, len(names), BLOBS_AT_ONCE):
                found, elsewhere = self._blobs().find(family, names[start : start + BLOBS_AT_ONCE])
                bodies |= found
                places |= elsewhere
        return bodies, places

    def _fetch(self, places: Mapping[str, Place]) -> dict[str, bytes]:
        found: dict[str, bytes] = {}
        for alias in sorted({place.storage for place in places.values()}):
            names = {digest: place.name for digest, place in places.items() if place.storage == alias}
            found |= self._storage(alias).get(names)
        return found

    # Collect

    def forget(self, family: str, rows: Mapping[int, str | None], cutoff: datetime) -> set[int]:
        """Delete rows that nobody touched since `cutoff`, by primary key; return which are gone.

        Args:
            rows: the names of the objects they refer to, None for none. Those are garbage from the same moment on.
        """
        mine = self._blobs().filter(family_id=family, pk__in=list(rows))

        def delete() -> set[int]:
            mine.filter(touched_at__lte=cutoff).delete()
            gone = rows.keys() - set(mine.values_list("pk", flat=True))
            names = [name for pk in gone if (name := rows[pk])]
            if names:
                self._objects().abandon(names, timezone.now())
            return gone

        return transact(delete, using=self._using)

    def delete_objects(self, limit: int) -> int:
        """Delete objects that no blob needs, `limit` at most; return how many. Raises StoreUnavailable.

        Each is given up first, so that no commit adopts it any more. One that a process leaves there when it dies is
        due again after the grace.
        """
        with outages(self._using):
            due = list(self._objects().due(timezone.now()).order_by("garbage_at", "name")[:limit])
        taken = [found for found in due if self._give_up(found)]
        for start in range(0, len(taken), DELETED_AT_ONCE):
            chunk = taken[start : start + DELETED_AT_ONCE]
            for alias in sorted({found.storage for found in chunk}):
                self._storage(alias).delete(found.name for found in chunk if found.storage == alias)
            rows = self._objects().filter(name__in=[found.name for found in chunk], is_given_up=True)
            transact(rows.delete, using=self._using)
        return len(due)

    def _give_up(self, found: BlobObject) -> bool:
        """Take an object to delete, unless a commit has adopted it or another process takes it."""
        seen = self._objects().filter(name=found.name, garbage_at=found.garbage_at)
        lease = timezone.now() + timedelta(seconds=GRACE_SECONDS)
        return transact(lambda: seen.update(is_given_up=True, garbage_at=lease), using=self._using) == 1

    def _storage(self, alias: str) -> BlobStorage:
        return self._storages.setdefault(alias, BlobStorage(alias))

    def _blobs(self) -> BlobQuerySet:
        return Blob.objects.using(self._using)

    def _objects(self) -> BlobObjectQuerySet:
        return BlobObject.objects.using(self._using)

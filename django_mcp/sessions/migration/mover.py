"""One conversation goes from one store to another while calls change it (`django_mcp.sessions.stores.moves`).

What is copied is compared before the row is updated, by what the other store has: every manifest and every blob by its
hash, history and notes line by line. A commit on the way makes the update fail, and only what is new is copied then.
Of one that is changed all the time commits wait at last: they are sealed off, or held up by the row.
"""

import hashlib
import json
import random
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from typing import Final, Literal

from django_mcp.exceptions import ConversationNotFound, CorruptBlob
from django_mcp.models import Conversation
from django_mcp.models.conversation import ConversationQuerySet
from django_mcp.models.transactions import outages, transact
from django_mcp.sessions.stores.collection import CACHED_PAGES, MANIFESTS, chunks
from django_mcp.sessions.stores.database_generations import record_of
from django_mcp.sessions.stores.image import Image
from django_mcp.sessions.stores.state import References, StateStore

TRIES: Final = 12
PATIENT_TRIES: Final = 3
"""After so many nothing may come in between any more."""
BLOBS: Final = 16
MOST_PAUSE_SECONDS: Final = 1.0

Result = Literal["moved", "gone", "busy"]


class Damaged(Exception):
    """Something of a conversation cannot be read where it is kept; it stays there."""


@dataclass(slots=True)
class Luggage:
    """What of one family the other store has by now, read back and found good.

    It was written less than a collection's grace ago: a run is done with a family long before.
    """

    blobs: set[str] = field(default_factory=set)
    manifests: dict[str, frozenset[str]] = field(default_factory=dict)
    """What each needs, by its address."""
    bytes: int = 0


class Mover:
    """Moves conversations from `source` to `target`, whose rows are in one database."""

    def __init__(self, source: StateStore, target: StateStore, references: References) -> None:
        self.source = source
        self.target = target
        self._references = references

    def rows(self) -> ConversationQuerySet:
        """Return what is to be moved."""
        return Conversation.objects.using(self.source.write_alias).kept_by(self.source.keeper).active()

    def members(self, family: str) -> list[str]:
        with outages(self.source.write_alias):
            return list(self.rows().of_families([family]).order_by("pk").values_list("pk", flat=True))

    def move(self, conversation: str, luggage: Luggage) -> Result:
        """Move one conversation. Raises Damaged, StoreUnavailable."""
        above: datetime | None = None
        for attempt in range(TRIES):
            with outages(self.source.write_alias):
                row = self.rows().filter(pk=conversation).first()
            if row is None:
                return "gone"
            began = time.monotonic()
            step = _Step(self, row, luggage, above)
            is_firm = attempt >= PATIENT_TRIES
            try:
                if is_firm and self.source.supports_transactions:
                    is_moved = transact(step.run, using=self.source.write_alias)
                else:
                    is_moved = step.run(seals_first=is_firm)
            except ConversationNotFound:
                continue
            above = step.above
            if is_moved:
                self._open(row)
                return "moved"
            # As long as a try takes, so that two movers do not take the claim from each other for ever.
            pause = min(MOST_PAUSE_SECONDS, (time.monotonic() - began) * attempt)
            time.sleep(random.uniform(0, pause))  # noqa: S311 - only jitter
        return "busy"

    def _open(self, row: Conversation) -> None:
        kept = Conversation.objects.using(self.target.write_alias).kept_by(self.target.keeper)
        with outages(self.target.write_alias):
            moved = kept.filter(pk=row.pk).first()
        if moved is not None:
            self.target.open(moved)


class _Step:
    """One try. After it `above` is what the ticket of the next one has to be later than."""

    def __init__(self, mover: Mover, row: Conversation, luggage: Luggage, above: datetime | None) -> None:
        self._source, self._target = mover.source, mover.target
        self._references = mover._references
        self._rows = mover.rows
        self._row = row
        self._record = record_of(row)
        self._luggage = luggage
        self.above = above

    def run(self, *, seals_first: bool = False) -> bool:
        """Move it, and say whether that was done; False if something came in between."""
        source, target, row, record = self._source, self._target, self._row, self._record
        ticket = self._rows().claim(row, above=self.above)
        if ticket is None:
            return False
        image = source.image(record)
        if seals_first and not source.seal(record, image, ticket):
            return False
        try:
            needed = self._copy(image)
        except CorruptBlob as error:
            is_still = self._is_still(ticket)
            self._unseal(ticket)
            if is_still:
                raise Damaged(str(error)) from error
            return False
        standing = target.arrive(row, image, ticket)
        if standing is not None:
            self.above = min(standing, LATEST)
            self._unseal(ticket)
            return False
        if not self._is_there(image, needed) or not (seals_first or source.seal(record, image, ticket)):
            self._unseal(ticket)
            return False
        changes = {
            "generation": image.generation,
            "revoked_up_to": image.revoked_up_to,
            "revoked_tokens": json.dumps(sorted(image.revoked_tokens)),
            "has_blobs": bool(needed),
        }
        rows = self._rows()
        if source.supports_transactions:
            rows = rows.filter(generation=image.generation)
        if rows.move(row, ticket, target.keeper, changes):
            return True
        self._unseal(ticket)
        return False

    def _unseal(self, ticket: datetime) -> None:
        """Let it change where it is kept, which nobody can do who has an older ticket, from the claim on."""
        if self._source.supports_transactions:
            return
        with outages(self._source.write_alias):
            row = self._rows().filter(pk=self._row.pk).first()
        if row is not None and self._rows().claim(row) is not None:
            self._source.unseal(self._record, ticket)

    def _is_still(self, ticket: datetime) -> bool:
        with outages(self._source.write_alias):
            return self._rows().filter(pk=self._row.pk, last_used_at=ticket).exists()

    # Copy

    def _copy(self, image: Image) -> set[str]:
        """Bring what is not there yet; return the digests of all that the generations need.

        Raises CorruptBlob where it cannot be read.
        """
        needed: set[str] = set()
        for chunk in chunks(image.generations, MANIFESTS):
            manifests = self._manifests({line.number: line.snapshot for line in chunk})
            for line in chunk:
                needed |= self._needed_by(line.snapshot, manifests[line.number])
            self._target.bring(self._record, image, manifests)
            self._luggage.bytes += sum(map(len, manifests.values()))
        for names in chunks(sorted(needed - self._luggage.blobs), BLOBS):
            bodies = self._source.blobs_there(self._record, names)
            self._target.bring_blobs(self._record, bodies)
            self._luggage.bytes += sum(map(len, bodies.values()))
        return needed

    def _manifests(self, addresses: Mapping[int, str]) -> dict[int, bytes]:
        found = self._source.manifests(self._record, addresses)
        for number, address in addresses.items():
            if number not in found:
                raise CorruptBlob(address, "is missing")
            if not _is_named(found[number], address):
                raise CorruptBlob(address)
        return found

    def _needed_by(self, address: str, manifest: bytes) -> frozenset[str]:
        if not address:
            return frozenset()
        known = self._luggage.manifests.get(address)
        if known is None:
            known = frozenset(self._references(manifest, self._fetch()))
            self._luggage.manifests[address] = known
        return known

    def _fetch(self) -> Callable[[str], bytes]:
        return lru_cache(maxsize=CACHED_PAGES)(lambda digest: self._source.blobs_there(self._record, [digest])[digest])

    # Compare

    def _is_there(self, image: Image, needed: Collection[str]) -> bool:
        """Say whether the other store has all of it, by what it gives back."""
        there = self._target.read_back(self._record, image)
        if there is None or not there.is_like(image):
            return False
        for chunk in chunks(image.generations, MANIFESTS):
            manifests = self._target.manifests(self._record, [line.number for line in chunk])
            if not all(_is_named(manifests.get(line.number), line.snapshot) for line in chunk):
                return False
        return all(self._are_there(names) for names in _portions(needed, self._luggage.blobs))

    def _are_there(self, digests: Collection[str]) -> bool:
        try:
            self._target.blobs_there(self._record, digests)
        except CorruptBlob:
            return False
        self._luggage.blobs.update(digests)
        return True


LATEST: Final = datetime.fromisoformat("9999-01-01T00:00:00+00:00")
"""What no ticket comes near."""


def _portions(needed: Collection[str], known: Collection[str]) -> Iterator[Collection[str]]:
    return chunks(sorted(set(needed) - set(known)), BLOBS)


def _is_named(manifest: bytes | None, address: str) -> bool:
    """Say whether a manifest is what its address says; an empty state has neither."""
    if manifest is None:
        return False
    return not manifest if not address else hashlib.sha256(manifest).hexdigest() == address

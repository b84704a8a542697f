"""Conversations that leave or reach the tables of a database, while they are in use.

The row is in the same database, so whatever must not happen once the conversation has moved is done in a transaction
that holds the row. Lines of a conversation that another store keeps are shown to nobody.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import partial
from typing import Final

from django.db.models import F, QuerySet
from django.utils import timezone

from django_mcp.conf import mcp_settings
from django_mcp.exceptions import ConversationNotFound, StoreUnavailable
from django_mcp.models import Blob, Conversation, PastCall, Snapshot
from django_mcp.models.conversation import ConversationQuerySet
from django_mcp.models.transactions import outages, transact, translated
from django_mcp.sessions.stores.collection import chunks
from django_mcp.sessions.stores.database_blobs import GivenUp
from django_mcp.sessions.stores.database_generations import COMMIT_ROUNDS, DatabaseGenerations, call_text
from django_mcp.sessions.stores.image import Image, past_of
from django_mcp.sessions.stores.moves import Ticket
from django_mcp.sessions.stores.state import CallNote, ConversationRecord, Generation, NotedCall

ROWS: Final = 200


class DatabaseMoves(DatabaseGenerations):
    """What a state store in the database does to a conversation on its way."""

    # Out

    @translated
    def image(self, conversation: ConversationRecord) -> Image:
        row = self._rows().active().filter(pk=conversation.id).first()
        if row is None:
            raise ConversationNotFound
        return Image(
            generation=row.generation,
            revoked_up_to=row.revoked_up_to,
            revoked_tokens=frozenset(row.revoked_fingerprints),
            past=self._past(row.pk, row.generation),
        )

    def _past(self, conversation: str, head: int) -> tuple[Generation | NotedCall, ...]:
        """Return what the tables have up to a head, whoever keeps the conversation."""
        kept = Snapshot.objects.using(self.write_alias).filter(
            conversation_id=conversation, number__gt=head - mcp_settings.STATE_HISTORY, number__lte=head
        )
        placed: list[tuple[object, Generation | NotedCall]] = [
            (line.created, line) for line in self._lines(kept.order_by("number"))
        ]
        placed += [(note.created, note) for note in self._notes(conversation)]
        return past_of(placed)

    def _notes(self, conversation: str) -> list[NotedCall]:
        """Return the notes that are kept, in the order they came."""
        notes = PastCall.objects.using(self.write_alias).filter(conversation_id=conversation).order_by("-pk")
        return [
            NotedCall(
                call=CallNote(name=note.name, outcome=note.outcome, milliseconds=note.milliseconds),
                created=note.created_at,
            )
            for note in reversed(notes[: mcp_settings.CALL_NOTES])
        ]

    @translated
    def manifests(self, conversation: ConversationRecord, numbers: Collection[int]) -> dict[int, bytes]:
        found = self._snapshots().filter(conversation_id=conversation.id, number__in=list(numbers))
        return {number: bytes(manifest) for number, manifest in found.values_list("number", "manifest")}

    def seal(self, conversation: ConversationRecord, image: Image, ticket: Ticket) -> bool:
        return True

    def unseal(self, conversation: ConversationRecord, ticket: Ticket) -> None:
        """Nothing was sealed: the head is in the row."""

    @translated
    def remaining(self, rows: Sequence[Conversation]) -> list[Conversation]:
        names, families = [row.pk for row in rows], {row.family_id for row in rows}
        left = set(self._snapshots().filter(conversation_id__in=names).values_list("conversation_id", flat=True))
        notes = PastCall.objects.using(self.write_alias).filter(conversation_id__in=names)
        left.update(notes.values_list("conversation_id", flat=True))
        blobs = set(self._blob_rows().filter(family_id__in=families).values_list("family_id", flat=True))
        # Those of a family that has members here are needed, or collected.
        blobs -= {row.family_id for row in self._rows().of_families(blobs).only("id", "root_id")}
        return [row for row in rows if row.pk in left or row.family_id in blobs]

    @translated
    def late_notes(self, row: Conversation) -> Iterable[NotedCall]:
        return self._notes(row.pk)

    def leave(self, row: Conversation) -> bool:
        now = timezone.now()

        def delete() -> bool:
            if not self._elsewhere(row).update(store=F("store")):
                return False
            self._snapshots().filter(conversation_id=row.pk).delete()
            PastCall.objects.using(self.write_alias).filter(conversation_id=row.pk).delete()
            return True

        if not transact(delete, using=self.write_alias):
            return False
        family = row.family_id
        with outages(self.write_alias):
            kept = self._rows().of_families([family])
            if kept.exists():
                transact(lambda: kept.filter(garbage_at=None).update(garbage_at=now), using=self.write_alias)
                return True
            members = list(
                Conversation.objects.using(self.write_alias).of_families([family]).values_list("pk", flat=True)
            )
            if self._snapshots().filter(conversation_id__in=members).exists():
                return True
            blobs = list(self._blob_rows().filter(family_id=family).values_list("pk", "kept_in_id"))
        for chunk in chunks(blobs, ROWS):
            self._blobs.forget(family, dict(chunk), now)
        return True

    # In

    def bring(self, conversation: ConversationRecord, image: Image, manifests: Mapping[int, bytes]) -> None:
        made = [
            Snapshot(
                conversation_id=conversation.id,
                number=line.number,
                address=line.snapshot,
                manifest=manifests[line.number],
                size=line.bytes,
                call=call_text(line.call),
                copied_from=line.copied_from,
                created_at=line.created,
            )
            for line in image.generations
            if line.number in manifests
        ]
        transact(
            lambda: self._snapshots().bulk_create(made, batch_size=ROWS, ignore_conflicts=True),
            using=self.write_alias,
        )

    def bring_blobs(self, conversation: ConversationRecord, blobs: Mapping[str, bytes]) -> None:
        for _ in range(COMMIT_ROUNDS):
            try:
                prepared = self._blobs.prepare(conversation.family, blobs)
            except GivenUp:
                continue
            try:
                transact(partial(self._blobs.keep, prepared, timezone.now()), using=self.write_alias)
            except GivenUp:
                self._blobs.discard(prepared)
            else:
                return
        raise StoreUnavailable("What a conversation needs is collected again and again")

    def arrive(self, row: Conversation, image: Image, ticket: Ticket) -> Ticket | None:
        def write() -> Ticket | None:
            if not self._elsewhere(row).filter(last_used_at=ticket).update(last_used_at=ticket):
                return ticket
            notes = PastCall.objects.using(self.write_alias)
            notes.filter(conversation_id=row.pk).delete()
            notes.bulk_create(
                [
                    PastCall(
                        conversation_id=row.pk,
                        name=noted.call.name,
                        outcome=noted.call.outcome,
                        milliseconds=noted.call.milliseconds,
                        created_at=noted.created,
                    )
                    for noted in image.notes
                ],
                batch_size=ROWS,
            )
            return None

        return transact(write, using=self.write_alias)

    @translated
    def read_back(self, conversation: ConversationRecord, image: Image) -> Image | None:
        # What is revoked goes with the row.
        return Image(
            generation=image.generation,
            revoked_up_to=image.revoked_up_to,
            revoked_tokens=image.revoked_tokens,
            past=self._past(conversation.id, image.generation),
        )

    @translated
    def open(self, row: Conversation) -> bool:
        return self._rows().filter(pk=row.pk).exists()

    def _elsewhere(self, row: Conversation) -> ConversationQuerySet:
        return Conversation.objects.using(self.write_alias).filter(pk=row.pk).exclude(store="")

    def _snapshots(self) -> "QuerySet[Snapshot]":
        return Snapshot.objects.using(self.write_alias)

    def _blob_rows(self) -> "QuerySet[Blob]":
        return Blob.objects.using(self.write_alias)

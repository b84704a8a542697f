"""The generations of a conversation in the project's database: commits, history, and what was called.

A commit is one transaction: the head moves where its generation is still the expected one, which holds the row until
the blobs and the snapshot are there too. Nobody sees one without the others. Objects of a file storage are written
before it begins.
"""

import hashlib
import json
import secrets
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from datetime import datetime
from functools import partial
from typing import Any, Final, cast

from django.db.models import BigIntegerField, F, QuerySet
from django.utils import timezone

from django_mcp.conf import mcp_settings
from django_mcp.exceptions import ConversationNotFound, CorruptBlob, HeadMoved, StoreUnavailable
from django_mcp.models import Conversation, PastCall, Snapshot
from django_mcp.models.conversation import ConversationQuerySet, ConversationState
from django_mcp.models.past_call import NAME_LENGTH
from django_mcp.models.transactions import outages, transact, translated
from django_mcp.sessions.stores.database_blobs import DatabaseBlobs, GivenUp, Prepared
from django_mcp.sessions.stores.state import (
    HISTORY_AT_ONCE,
    CallNote,
    ConversationRecord,
    Generation,
    Head,
    Kind,
    NotedCall,
    StateStore,
    is_kept,
)

COMMIT_ROUNDS: Final = 5
TRIM_EVERY: Final = 10
"""History is cut in one commit of so many: the rows beyond it are never more, and are not kept to any reader."""


class DatabaseGenerations(StateStore):
    """What a state store in the database does to one conversation."""

    _blobs: DatabaseBlobs

    def commit(
        self,
        conversation: ConversationRecord,
        *,
        base_generation: int,
        manifest: bytes,
        snapshot: str,
        blobs: Mapping[str, bytes],
        call: CallNote | None = None,
    ) -> Head:
        if hashlib.sha256(manifest).hexdigest() != snapshot:
            raise ValueError("The snapshot's address is not the SHA-256 of its manifest.")
        number = base_generation + 1
        size = len(manifest) + sum(map(len, blobs.values()))

        def move(prepared: Prepared) -> bool:
            now = timezone.now()
            changes: dict[str, Any] = {"generation": number, "last_used_at": now}
            if blobs:
                changes["has_blobs"] = True
            expected = self._rows().unended().filter(pk=conversation.id, generation=base_generation)
            if not expected.update(**changes):
                return False
            self._blobs.keep(prepared, now)
            self._add(conversation.id, number, snapshot, manifest, now, size=size, call=call_text(call))
            return True

        if not self._move(conversation, base_generation, blobs, move):
            raise HeadMoved(self._standing(conversation))
        return Head(conversation=conversation, generation=number, snapshot=snapshot, manifest=manifest)

    def _move(
        self,
        conversation: ConversationRecord,
        base_generation: int,
        blobs: Mapping[str, bytes],
        move: Callable[[Prepared], bool],
    ) -> bool:
        """Run `move()` in one transaction, once what it keeps is prepared; False where the head is another one."""
        for _ in range(COMMIT_ROUNDS):
            if self._blobs.large(blobs) and not self._is_at(conversation, base_generation):
                return False
            try:
                prepared = self._blobs.prepare(conversation.family, blobs)
            except GivenUp:
                continue
            try:
                return transact(partial(move, prepared), using=self.write_alias)
            except GivenUp:
                self._blobs.discard(prepared)
        raise StoreUnavailable("What a commit needs is collected again and again")

    @translated
    def _is_at(self, conversation: ConversationRecord, generation: int) -> bool:
        return self._rows().unended().filter(pk=conversation.id, generation=generation).exists()

    def _add(
        self,
        conversation: str,
        number: int,
        address: str,
        manifest: bytes,
        now: datetime,
        *,
        size: int,
        call: str = "",
        copied_from: int | None = None,
    ) -> None:
        """Write the snapshot of a head that this transaction moved to `number`, and cut the history now and then."""
        snapshots = Snapshot.objects.using(self.write_alias)
        snapshots.create(
            conversation_id=conversation,
            number=number,
            address=address,
            manifest=manifest,
            size=size,
            call=call,
            copied_from=copied_from,
            created_at=now,
        )
        last = number - mcp_settings.STATE_HISTORY
        if number % TRIM_EVERY == 0 and last > 0:
            deleted, _ = snapshots.filter(conversation_id=conversation, number__lte=last).delete()
            if deleted:
                self._rows().filter(pk=conversation, has_blobs=True).update(garbage_at=now)

    @translated
    def _standing(self, conversation: ConversationRecord) -> Head:
        """Return the head as it is now. Raises ConversationNotFound if the conversation has ended."""
        row = self._rows().with_snapshot().filter(pk=conversation.id, state=ConversationState.ACTIVE).first()
        if row is None:
            raise ConversationNotFound
        return head_of(row, row.generation, conversation.handle)

    def blob(self, conversation: ConversationRecord, digest: str) -> bytes:
        return self.blobs(conversation, [digest])[digest]

    def blobs(self, conversation: ConversationRecord, digests: Iterable[str]) -> dict[str, bytes]:
        return self._blobs.read(conversation.family, digests)

    @translated
    def snapshot(self, conversation: ConversationRecord, generation: int) -> Head:
        check_number(generation)
        row = self._rows().with_snapshot(generation).filter(pk=conversation.id).first()
        if row is None:
            raise ConversationNotFound
        return self._kept(row, generation, row.generation, conversation.handle)

    @translated
    def history(self, conversation: ConversationRecord, limit: int = HISTORY_AT_ONCE) -> list[Generation]:
        kept = Snapshot.objects.using(self.write_alias).filter(
            conversation_id=conversation.id, number__gt=F("conversation__generation") - mcp_settings.STATE_HISTORY
        )
        return self._lines(kept.order_by("-number")[:limit])

    def _lines(self, snapshots: QuerySet[Snapshot]) -> list[Generation]:
        return [
            Generation(
                number=number,
                snapshot=address,
                created=created,
                bytes=size,
                call=CallNote(**json.loads(call)) if call else None,
                copied_from=copied_from,
            )
            for number, address, created, size, call, copied_from in snapshots.values_list(
                "number", "address", "created_at", "size", "call", "copied_from"
            )
        ]

    def note(self, conversation: ConversationRecord, call: CallNote, *, created: datetime | None = None) -> None:
        kept = mcp_settings.CALL_NOTES
        if not kept:
            return
        notes = PastCall.objects.using(self.write_alias).filter(conversation_id=conversation.id)

        def write() -> PastCall:
            return notes.create(
                conversation_id=conversation.id,
                name=call.name[:NAME_LENGTH],
                outcome=call.outcome,
                milliseconds=call.milliseconds,
                created_at=created or timezone.now(),
            )

        transact(write, using=self.write_alias)
        if secrets.randbelow(TRIM_EVERY) == 0:
            with outages(self.write_alias):
                over = list(notes.order_by("-pk").values_list("pk", flat=True)[kept : kept + 1])
            if over:
                transact(lambda: notes.filter(pk__lte=over[0]).delete(), using=self.write_alias)

    @translated
    def calls(self, conversation: ConversationRecord, limit: int = HISTORY_AT_ONCE) -> list[NotedCall]:
        found = [
            NotedCall(call=past.call, created=past.created, generation=past.number)
            for past in self.history(conversation, limit)
            if past.call is not None
        ]
        notes = PastCall.objects.using(self.write_alias).filter(conversation_id=conversation.id).order_by("-pk")
        found += [
            NotedCall(
                call=CallNote(name=note.name, outcome=note.outcome, milliseconds=note.milliseconds),
                created=note.created_at,
            )
            for note in notes[: min(limit, mcp_settings.CALL_NOTES)]
        ]
        return sorted(found, key=lambda noted: noted.created, reverse=True)[:limit]

    def rewind(self, conversation: ConversationRecord, generation: int) -> Head:
        check_number(generation)

        def move() -> Head:
            return self._copy_forward(conversation, self._held(conversation, generation), generation)

        return transact(move, using=self.write_alias)

    def _held(self, conversation: ConversationRecord, generation: int | None) -> Conversation:
        """Move the head on by one, which holds the row, and return the row with the snapshot of `generation`.

        The row says the number that the head had before.
        """
        rows = self._rows().filter(pk=conversation.id)
        if not rows.unended().update(generation=F("generation") + 1, last_used_at=timezone.now()):
            raise ConversationNotFound
        if generation is None:
            generation = rows.values_list("generation", flat=True).get() - 1
        row = rows.with_snapshot(generation).get()
        row.generation -= 1
        return row

    def _copy_forward(self, conversation: ConversationRecord, row: Conversation, generation: int) -> Head:
        """Make the head that `_held()` moved to as `generation` was."""
        past = self._kept(row, generation, row.generation, conversation.handle)
        number = row.generation + 1
        self._add(
            row.id,
            number,
            past.snapshot,
            past.manifest,
            timezone.now(),
            size=len(past.manifest),
            copied_from=generation,
        )
        return Head(conversation=past.conversation, generation=number, snapshot=past.snapshot, manifest=past.manifest)

    def _kept(self, row: Conversation, generation: int, head: int, handle: str | None = None) -> Head:
        """Return `generation` of the row that was read with it. Raises LookupError if it is not kept."""
        if not is_kept(generation, head=head, history=mcp_settings.STATE_HISTORY):
            raise LookupError(f"Generation {generation} is not kept.")
        if generation and row.chosen_address is None and generation != head:
            raise LookupError(f"Generation {generation} is not kept.")
        return head_of(row, generation, handle)

    def _rows(self) -> ConversationQuerySet:
        return Conversation.objects.using(self.write_alias).kept_by("")


def check_number(generation: int) -> None:
    """Raise LookupError for a number that no generation has, and that a column may not hold."""
    if not 0 <= generation <= BigIntegerField.MAX_BIGINT:
        raise LookupError(f"Generation {generation} is not kept.")


def record_of(row: Conversation, handle: str | None = None) -> ConversationRecord:
    """Return what the row of the index says, whether or not its state can be read."""
    return ConversationRecord(
        id=row.id,
        family=row.family_id,
        kind=cast("Kind", str(row.kind)),
        server=row.server,
        tenant=row.tenant,
        principal=row.principal,
        handle=handle,
        created_at=row.created_at,
        revoked_up_to=row.revoked_up_to,
        revoked_tokens=frozenset(row.revoked_fingerprints),
    )


def head_of(row: Conversation, generation: int, handle: str | None = None) -> Head:
    """Return the generation that `row` was read with. Raises CorruptBlob where it is not what it was."""
    address, manifest = row.chosen_address or "", bytes(row.chosen_manifest or b"")
    if generation and row.chosen_address is None:
        raise CorruptBlob("", f"of generation {generation} of {row.fingerprint}… is missing")
    if address and hashlib.sha256(manifest).hexdigest() != address:
        raise CorruptBlob(address)
    return Head(conversation=record_of(row, handle), generation=generation, snapshot=address, manifest=manifest)


def call_text(call: CallNote | None) -> str:
    return "" if call is None else json.dumps(asdict(call), separators=(",", ":"))

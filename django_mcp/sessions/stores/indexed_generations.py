"""The generations of conversations whose index is in the database and whose state is kept elsewhere.

A head moves by one step of the remote part. What that refuses for the sake of lost writes is settled here, by what
the index knows, and the step is sent again.
"""

import hashlib
import logging
import re
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Final, TypeVar, cast

from django.db import connections
from django.db.models import BigIntegerField, Q
from django.utils import timezone

from django_mcp.conf import mcp_settings
from django_mcp.exceptions import (
    ConversationNotFound,
    CorruptBlob,
    HeadMoved,
    LimitExceeded,
    StateLost,
    StoreUnavailable,
)
from django_mcp.models import Conversation
from django_mcp.models.conversation import ConversationState
from django_mcp.models.past_call import NAME_LENGTH
from django_mcp.models.session import TOUCH_INTERVAL
from django_mcp.sessions.stores.conversation_index import ConversationIndex
from django_mcp.sessions.stores.remote_state import (
    Change,
    Identity,
    Moving,
    Place,
    Refused,
    RemoteHead,
    RemoteState,
    Terms,
)
from django_mcp.sessions.stores.state import (
    HISTORY_AT_ONCE,
    MAX_REVOKED_TOKENS,
    CallNote,
    ConversationRecord,
    Generation,
    Head,
    Kind,
    NotedCall,
    StateStore,
    is_kept,
)

logger = logging.getLogger("django_mcp.stores")

T = TypeVar("T")

ROUNDS: Final = 10
LEEWAY: Final = timedelta(days=1)
"""How much longer the remote part keeps what is over by the clock, so that it ends in good order."""
MARGIN: Final = timedelta(seconds=5)
"""By how much a clock may go back."""

SEAL_SECONDS: Final = 3.0
"""How long a call waits for a conversation that is sealed, which takes whoever moves it some milliseconds."""
SEAL_POLL_SECONDS: Final = 0.02

_DIGEST: Final = re.compile(r"[0-9a-f]{64}")


class IndexedGenerations(StateStore):
    """What a state store with a remote part does to one conversation."""

    remote: RemoteState
    index: ConversationIndex

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
        place, change = place_of(conversation), Change(manifest=manifest, snapshot=snapshot, blobs=blobs, call=call)
        terms = terms_of(conversation)
        self._move(conversation, lambda: self.remote.commit(place, base_generation, change, terms))
        return Head(conversation=conversation, generation=base_generation + 1, snapshot=snapshot, manifest=manifest)

    def rewind(self, conversation: ConversationRecord, generation: int) -> Head:
        check_number(generation)
        place, terms = place_of(conversation), terms_of(conversation)
        moved = self._move(conversation, lambda: self.remote.copy(place, generation, terms), generation)
        return head_of(moved, conversation.handle)

    def snapshot(self, conversation: ConversationRecord, generation: int) -> Head:
        check_number(generation)
        place = place_of(conversation)
        found = self.remote.load(place, generation)
        if found is None:
            self._miss(place)
            found = self.remote.load(place, generation)
        if found is None:
            raise ConversationNotFound
        return self._kept(found, generation, conversation.handle)

    def _kept(self, found: RemoteHead, generation: int, handle: str | None = None) -> Head:
        """Return `generation`, which was read. Raises LookupError if it is not kept."""
        if not is_kept(generation, head=found.generation, history=mcp_settings.STATE_HISTORY):
            raise LookupError(f"Generation {generation} is not kept.")
        if generation and found.snapshot is None and generation != found.generation:
            raise LookupError(f"Generation {generation} is not kept.")
        return head_of(found, handle)

    def blob(self, conversation: ConversationRecord, digest: str) -> bytes:
        return self.blobs(conversation, [digest])[digest]

    def blobs(self, conversation: ConversationRecord, digests: Iterable[str]) -> dict[str, bytes]:
        wanted = list(dict.fromkeys(digests))
        names = [digest for digest in wanted if _DIGEST.fullmatch(digest)]
        found = self.remote.blobs(conversation.family, names) if names else {}
        for digest in wanted:
            if digest not in found:
                raise CorruptBlob(digest, "is missing")
            if hashlib.sha256(found[digest]).hexdigest() != digest:
                raise CorruptBlob(digest)
        return found

    def history(self, conversation: ConversationRecord, limit: int = HISTORY_AT_ONCE) -> list[Generation]:
        kept = self.remote.history(place_of(conversation), mcp_settings.STATE_HISTORY)
        return [past.line for past in kept[:limit]]

    def note(self, conversation: ConversationRecord, call: CallNote, *, created: datetime | None = None) -> None:
        kept = mcp_settings.CALL_NOTES
        if kept:
            short = CallNote(name=call.name[:NAME_LENGTH], outcome=call.outcome, milliseconds=call.milliseconds)
            self.remote.note(place_of(conversation), short, kept=kept, created=created)

    def calls(self, conversation: ConversationRecord, limit: int = HISTORY_AT_ONCE) -> list[NotedCall]:
        place = place_of(conversation)
        kept = self.remote.history(place, mcp_settings.STATE_HISTORY)[:limit]
        found = [
            (past.order, NotedCall(call=past.line.call, created=past.line.created, generation=past.line.number))
            for past in kept
            if past.line.call is not None
        ]
        notes = self.remote.notes(place, min(limit, mcp_settings.CALL_NOTES))
        found += [(note.order, NotedCall(call=note.call, created=note.created)) for note in notes]
        return [noted for _, noted in sorted(found, key=lambda pair: pair[0], reverse=True)][:limit]

    # What a step was refused for

    def _move(
        self, conversation: ConversationRecord, step: Callable[[], T | Refused], generation: int | None = None
    ) -> T:
        """Return what the step returns in the end; `generation` is what it copies."""
        for _ in range(ROUNDS):
            done = step()
            if not isinstance(done, Refused):
                return done
            self._make_way(conversation, done, generation)
        raise StoreUnavailable("The conversation is in doubt again and again")

    def _make_way(self, conversation: ConversationRecord, refused: Refused, generation: int | None) -> None:
        """Do what the step needs to be sent again. Raises what forbids it for good."""
        place, head = place_of(conversation), refused.head
        if refused.why == "missing" or head is None:
            self._miss(place)
        elif refused.why == "untouched":
            self._touch(head, is_foreseen=True)
        elif refused.why == "doubtful":
            self._settle(head)
        elif refused.why == "moving" and head.moving is not None:
            self._await_move(place, head.moving)
        elif refused.why == "moved":
            raise HeadMoved(head_of(head, conversation.handle))
        elif refused.why == "not kept":
            raise LookupError(f"Generation {generation} is not kept.")
        elif refused.why == "too many":
            raise LimitExceeded(f"More than {MAX_REVOKED_TOKENS} single tokens; revoke up to a generation")
        else:
            raise ConversationNotFound

    def _touch(self, head: RemoteHead, *, is_foreseen: bool = False) -> None:
        """Record the use in the index, and then that it is there. Raises ConversationNotFound if it has ended.

        Args:
            is_foreseen: a generation is about to be made.

        In a transaction of somebody else the record is as durable as that is.
        """
        place = head.identity.place
        generation = max(head.generation, 1) if is_foreseen else head.generation
        if not self.index.use(place.id, head.now, generation=generation, has_garbage=head.has_garbage):
            self.remote.end(place)
            raise ConversationNotFound
        self.remote.touch(place, head.now, terms_of(head.identity), is_foreseen=generation > 0)

    def _settle(self, head: RemoteHead) -> None:
        """Adopt what was written in another epoch if nothing of it can be lost; else it ends.

        Its last commit came within TOUCH_INTERVAL of the use that the index has.

        Raises ConversationNotFound if it has ended by now or before, StateLost once for what a user keeps.
        """
        place = head.identity.place
        row = self.index.find(Q(pk=place.id))
        if row is None:
            self.remote.end(place)
            raise ConversationNotFound
        survived = self.remote.survived_until(head.written_in)
        is_sound = survived is not None and row.last_used_at + TOUCH_INTERVAL + MARGIN < survived
        if row.generation and not is_sound:
            self._lose(row)
        self.remote.adopt(place, written_in=head.written_in, epoch=head.epoch)

    def _miss(self, place: Place) -> None:
        """Begin what is not there anew if nothing was ever kept of it.

        Raises ConversationNotFound if it is unknown, has ended, or is lost; StateLost once for what a user keeps.
        """
        row = self.index.find(Q(pk=place.id))
        if row is None or (row.is_due(timezone.now()) and self.index.end_due(row.pk)):
            raise ConversationNotFound
        if row.generation:
            self._lose(row)
        identity = identity_of(row)
        self.remote.begin(identity, terms_of(identity))

    def _await_move(self, place: Place, moving: Moving) -> None:
        """Wait for what is on its way, and take back the seal of who does not come on with it.

        Raises ConversationNotFound if another store keeps it, or if it has ended.
        """
        give_up_at = time.monotonic() + SEAL_SECONDS
        while True:
            row = self.index.find(Q(pk=place.id))
            if row is None:
                raise ConversationNotFound
            found = self.remote.load(place)
            if found is None or found.moving != moving:
                return
            if moving.is_arriving:
                if found.generation != row.generation:
                    self._lose(row)
                self.remote.open(place, moving)
                return
            if time.monotonic() >= give_up_at:
                break
            time.sleep(SEAL_POLL_SECONDS)
        if connections[self.write_alias].in_atomic_block:
            raise StoreUnavailable("The conversation is being moved to another store")
        # Whoever sealed it cannot move it any more, from here on; only then may it change again.
        if self.index.claim(row) is not None:
            self.remote.unseal(place, moving)

    def _lose(self, row: Conversation) -> None:
        is_news = self.index.lose(row.pk)
        self.remote.end(place_of(row))
        if is_news:
            logger.error(
                "The store %r lost commits: conversation %s… of %s, at generation %d or later, has ended for that",
                *(self.alias, row.fingerprint, row.principal, row.generation),
            )
            if row.kind == "user":
                raise StateLost
        raise ConversationNotFound

    def _end(self, conversation: ConversationRecord, state: ConversationState) -> bool:
        """End it in the index, then where it is kept. Again is not in vain: the second half may be missing."""
        is_news = self.index.end(conversation.id, state)
        if is_news or self.index.find_any(conversation.id, is_kept=True) is not None:
            self.remote.end(place_of(conversation))
        return is_news


def place_of(of: ConversationRecord | Conversation) -> Place:
    if isinstance(of, Conversation):
        return Place(family=of.family_id, id=of.pk)
    return Place(family=of.family, id=of.id)


def identity_of(row: Conversation) -> Identity:
    return Identity(
        place=place_of(row),
        kind=cast("Kind", str(row.kind)),
        server=row.server,
        tenant=row.tenant,
        principal=row.principal,
        user="" if row.user_id is None else str(row.user_id),
        created_at=row.created_at,
    )


def terms_of(of: ConversationRecord | Identity) -> Terms:
    """Return the settings as a step on this conversation needs them; what one user keeps has no clock."""
    history, touch = mcp_settings.STATE_HISTORY, TOUCH_INTERVAL.total_seconds()
    if of.kind == "user":
        return Terms(history=history, touch_seconds=touch, record_seconds=None, blob_seconds=None)
    age = (timezone.now() - of.created_at).total_seconds()
    left = max(0.0, mcp_settings.CONVERSATION_SECONDS - age)
    leeway = LEEWAY.total_seconds()
    return Terms(
        history=history,
        touch_seconds=touch,
        record_seconds=min(left, mcp_settings.CONVERSATION_IDLE_SECONDS) + leeway,
        blob_seconds=left + leeway,
    )


def check_number(generation: int) -> None:
    """Raise LookupError for a number that no generation has, and that nothing may hold."""
    if not 0 <= generation <= BigIntegerField.MAX_BIGINT:
        raise LookupError(f"Generation {generation} is not kept.")


def head_of(found: RemoteHead, handle: str | None = None) -> Head:
    """Return the generation that was read. Raises CorruptBlob where it is not what it was."""
    identity = found.identity
    if found.snapshot is None:
        raise CorruptBlob("", f"of generation {found.chosen} of {identity.place.id[:8]}… is missing")
    if found.snapshot and hashlib.sha256(found.manifest).hexdigest() != found.snapshot:
        raise CorruptBlob(found.snapshot)
    record = ConversationRecord(
        id=identity.place.id,
        family=identity.place.family,
        kind=identity.kind,
        server=identity.server,
        tenant=identity.tenant,
        principal=identity.principal,
        handle=handle,
        created_at=identity.created_at,
        revoked_up_to=found.revoked_up_to,
        revoked_tokens=found.revoked_tokens,
    )
    return Head(conversation=record, generation=found.chosen, snapshot=found.snapshot, manifest=found.manifest)

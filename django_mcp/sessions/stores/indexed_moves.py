"""Conversations that leave or reach a store with a remote part, while they are in use."""

from collections.abc import Collection, Iterable, Mapping, Sequence

from django_mcp.conf import mcp_settings
from django_mcp.exceptions import ConversationNotFound, StoreUnavailable
from django_mcp.models import Conversation
from django_mcp.models.transactions import outages
from django_mcp.sessions.stores.image import Image, past_of
from django_mcp.sessions.stores.indexed_finds import IndexedFinds
from django_mcp.sessions.stores.indexed_generations import ROUNDS, identity_of, place_of, terms_of
from django_mcp.sessions.stores.moves import Ticket
from django_mcp.sessions.stores.remote_state import (
    IN_USE,
    Arrival,
    Moving,
    Place,
    RemoteGeneration,
    RemoteHead,
    RemoteNote,
)
from django_mcp.sessions.stores.state import ConversationRecord, Generation, NotedCall


class IndexedMoves(IndexedFinds):
    """What a state store with a remote part does to a conversation on its way."""

    # Out

    def image(self, conversation: ConversationRecord) -> Image:
        place = place_of(conversation)
        for _ in range(ROUNDS):
            head = self.remote.load(place)
            if head is None:
                self._miss(place)
            elif head.is_ended:
                raise ConversationNotFound
            elif head.moving is not None and head.moving.is_arriving:
                self._await_move(place, head.moving)
            elif head.is_doubtful:
                self._settle(head)
            else:
                return self._image(place, head)
        raise StoreUnavailable("The conversation is in doubt again and again")

    def _image(self, place: Place, head: RemoteHead) -> Image:
        notes = self.remote.notes(place, mcp_settings.CALL_NOTES)
        placed: list[tuple[object, Generation | NotedCall]] = [
            (past.order, past.line)
            for past in self.remote.history(place, mcp_settings.STATE_HISTORY)
            if past.line.number <= head.generation
        ]
        placed += [(note.order, NotedCall(call=note.call, created=note.created)) for note in notes]
        return Image(
            generation=head.generation,
            revoked_up_to=head.revoked_up_to,
            revoked_tokens=head.revoked_tokens,
            past=past_of(placed),
        )

    def manifests(self, conversation: ConversationRecord, numbers: Collection[int]) -> dict[int, bytes]:
        place = place_of(conversation)
        found = self.remote.manifests((place, number) for number in numbers)
        return {number: manifest for (_, number), manifest in found.items()}

    def seal(self, conversation: ConversationRecord, image: Image, ticket: Ticket) -> bool:
        return self.remote.seal(place_of(conversation), image.generation, Moving(ticket, is_arriving=False))

    def unseal(self, conversation: ConversationRecord, ticket: Ticket) -> None:
        self.remote.unseal(place_of(conversation), Moving(ticket, is_arriving=False))

    def remaining(self, rows: Sequence[Conversation]) -> list[Conversation]:
        families = {row.family_id for row in rows}
        with outages(self.write_alias):
            kept = self.index.rows()
            inhabited = {row.family_id for row in kept.of_families(families).only("id", "root_id")}
        return [row for row in rows if self._has_rest(row, inhabited)]

    def _has_rest(self, row: Conversation, inhabited: Collection[str]) -> bool:
        if self.remote.load(place_of(row)) is not None:
            return True
        return row.family_id not in inhabited and bool(self.remote.kept_blobs(row.family_id)[1])

    def late_notes(self, row: Conversation) -> Iterable[NotedCall]:
        notes = self.remote.notes(place_of(row), mcp_settings.CALL_NOTES)
        return [NotedCall(call=note.call, created=note.created) for note in reversed(notes)]

    def leave(self, row: Conversation) -> bool:
        place = place_of(row)
        head = self.remote.load(place)
        # Read before the row is: under this very mark the conversation is never in use again.
        if self.index.find_any(row.pk, is_kept=True):
            return False
        if head is not None:
            if not head.is_ended and (head.moving is None or not self.remote.give_up(place, head.moving)):
                if not head.is_doubtful:
                    return False
                self.remote.end(place)
            self.remote.forget(place)
        with outages(self.write_alias):
            if self.index.rows().of_families([place.family]).exists():
                return True
        now, blobs = self.remote.kept_blobs(place.family)
        if blobs and self.remote.is_deserted(place.family):
            self.remote.drop_blobs(place.family, [blob.digest for blob in blobs], before=now)
        return True

    # In

    def bring(self, conversation: ConversationRecord, image: Image, manifests: Mapping[int, bytes]) -> None:
        lines = [
            RemoteGeneration(line=one, order=place)
            for place, one in enumerate(image.past, 1)
            if isinstance(one, Generation) and one.number in manifests
        ]
        self.remote.bring(place_of(conversation), lines, manifests, terms_of(conversation))

    def bring_blobs(self, conversation: ConversationRecord, blobs: Mapping[str, bytes]) -> None:
        self.remote.bring_blobs(conversation.family, blobs, terms_of(conversation))

    def arrive(self, row: Conversation, image: Image, ticket: Ticket) -> Ticket | None:
        identity = identity_of(row)
        first = image.generations[0].number if image.generations else image.generation + 1
        head = Arrival(
            generation=image.generation,
            cut=first - 1,
            order=len(image.past),
            revoked_up_to=image.revoked_up_to,
            revoked_tokens=image.revoked_tokens,
            touched_at=ticket,
        )
        notes = [
            RemoteNote(call=one.call, created=one.created, order=place)
            for place, one in enumerate(image.past, 1)
            if isinstance(one, NotedCall)
        ]
        there = self.remote.arrive(identity, Moving(ticket, is_arriving=True), head, notes, terms_of(identity))
        if there == IN_USE and not self.index.find_any(row.pk, is_kept=True):
            # A failure of the store took back that it was sealed when it left here.
            found = self.remote.load(identity.place)
            if found is not None and found.is_doubtful:
                self.remote.end(identity.place)
            return ticket
        return None if there is None else there.ticket

    def read_back(self, conversation: ConversationRecord, image: Image) -> Image | None:
        place = place_of(conversation)
        head = self.remote.load(place)
        if head is None or head.is_ended or head.is_doubtful:
            return None
        return self._image(place, head)

    def open(self, row: Conversation) -> bool:
        place = place_of(row)
        head = self.remote.load(place)
        if head is None or head.is_ended:
            return False
        kept = self.index.find_any(row.pk, is_kept=True)
        if kept is None:
            return False
        if head.moving is None or not head.moving.is_arriving:
            if head.is_doubtful:
                try:
                    self._settle(head)
                except ConversationNotFound:
                    return False
            return True
        if kept.generation != head.generation:
            return False
        self.remote.open(place, head.moving)
        self._point(row)
        return True

"""What every state store holds to where conversations leave it and arrive: it is both stores of a move here.

The row says `elsewhere` on the way, which no store is.
"""

import json
from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest

from django_mcp.exceptions import ConversationNotFound, CorruptBlob, HeadMoved
from django_mcp.models import Conversation
from django_mcp.models.conversation import ConversationQuerySet
from django_mcp.sessions.stores.image import Image
from django_mcp.sessions.stores.state import CallNote, ConversationRecord, Head, StateStore
from django_mcp.testing.state_steps import ALICE, StateSteps, manifest_of, sha256

ELSEWHERE = "elsewhere"
CHANGED = CallNote(name="change", call="17", milliseconds=12)


class MoveContract(StateSteps):
    # Steps

    def rows(self, store: StateStore, kept: str) -> ConversationQuerySet:
        return Conversation.objects.using(store.write_alias).kept_by(kept)

    def row(self, store: StateStore, record: ConversationRecord) -> Conversation:
        return Conversation.objects.using(store.write_alias).get(pk=record.id)

    def claim(self, store: StateStore, record: ConversationRecord, kept: str) -> datetime:
        ticket = self.rows(store, kept).claim(self.row(store, record))
        assert ticket is not None
        return ticket

    def move(
        self, store: StateStore, record: ConversationRecord, image: Image, ticket: datetime, kept: str, to: str
    ) -> bool:
        changes = {
            "generation": image.generation,
            "revoked_up_to": image.revoked_up_to,
            "revoked_tokens": json.dumps(sorted(image.revoked_tokens)),
        }
        rows = self.rows(store, kept).filter(generation=image.generation) if not kept else self.rows(store, kept)
        return rows.move(self.row(store, record), ticket, to, changes)

    def depart(self, store: StateStore, record: ConversationRecord) -> Image:
        """Let it be kept elsewhere."""
        ticket = self.claim(store, record, store.keeper)
        image = store.image(record)
        assert store.seal(record, image, ticket)
        assert self.move(store, record, image, ticket, store.keeper, ELSEWHERE)
        return image

    def bring(
        self,
        store: StateStore,
        record: ConversationRecord,
        image: Image,
        manifests: dict[int, bytes],
        blobs: dict[str, bytes],
    ) -> datetime:
        """Let it arrive whole; return the ticket."""
        ticket = self.claim(store, record, ELSEWHERE)
        store.bring(record, image, manifests)
        store.bring_blobs(record, blobs)
        assert store.arrive(self.row(store, record), image, ticket) is None
        return ticket

    def full(self, store: StateStore, server: str) -> tuple[ConversationRecord, dict[int, bytes], dict[str, bytes]]:
        """Begin a conversation with a bit of everything; return its manifests and blobs, too."""
        record = self.begin(store, server).conversation
        store.note(record, CallNote(name="look", outcome="failed", milliseconds=7))
        first, second = manifest_of(b"a large value", b"\0" * 100_000), manifest_of(b"another", a="\ud800")
        self.commit(store, record, 0, b"a large value", b"\0" * 100_000, call=CHANGED)
        self.commit(store, record, 1, b"another", a="\ud800")
        store.rewind(record, 0)
        store.rewind(record, 1)
        store.note(record, CallNote(name="look"))
        store.revoke_tokens(record, up_to_generation=1)
        store.revoke_tokens(record, fingerprint="abc")
        blobs = {sha256(body): body for body in (b"a large value", b"\0" * 100_000, b"another")}
        return record, {1: first, 2: second, 3: b"", 4: first, 5: first, 6: first}, blobs

    # What there is

    def test_an_image_has_all_of_a_conversation(self, store: StateStore, server: str) -> None:
        record, manifests, _ = self.full(store, server)
        image = store.image(record)
        assert (image.generation, image.revoked_up_to, image.revoked_tokens) == (6, 1, frozenset({"abc"}))
        assert list(image.generations) == store.history(record)[::-1]
        assert [line.copied_from for line in image.generations] == [None, None, 0, 1, 4, 5]
        assert [note.call.name for note in image.notes] == ["look", "look"]
        assert [note.call.outcome for note in image.notes] == ["failed", "succeeded"]
        assert store.manifests(record, range(10)) == manifests

    def test_of_what_has_ended_there_is_no_image(self, store: StateStore, server: str) -> None:
        record = self.begin(store, server).conversation
        store.revoke(record)
        with pytest.raises(ConversationNotFound):
            store.image(record)

    # Leave and arrive

    def test_what_leaves_and_arrives_is_as_it_was(self, store: StateStore, server: str) -> None:
        record, manifests, blobs = self.full(store, server)
        history, calls, head = store.history(record), store.calls(record), store.inspect(record.id)
        image = self.depart(store, record)
        row = self.row(store, record)
        assert store.remaining([row]) == [row]
        assert store.leave(row)
        assert store.remaining([row]) == []
        with pytest.raises(CorruptBlob, match="is missing"):
            store.blob(record, sha256(b"another"))
        assert store.leave(row)

        ticket = self.bring(store, record, image, manifests, blobs)
        back = store.read_back(record, image)
        assert back is not None
        assert back.is_like(image)
        assert store.manifests(record, range(10)) == manifests
        assert store.blobs_there(record, blobs) == blobs
        self.is_shown_to_nobody(store, server, record)
        assert self.move(store, record, image, ticket, ELSEWHERE, store.keeper)
        assert store.open(self.row(store, record))

        assert self.find(store, server, record.id).conversation.revoked_tokens == {"abc"}
        assert store.inspect(record.id) == head
        assert (store.history(record), store.calls(record)) == (history, calls)
        assert store.image(record).is_like(image)
        assert {number: store.snapshot(record, number).manifest for number in manifests} == manifests
        with pytest.raises(HeadMoved):
            self.commit(store, record, 5, n=1)
        assert self.commit(store, record, 6, b"another", supply=False).generation == 7
        store.note(record, CallNote(name="later"))
        assert store.calls(record)[0].call.name == "later"
        assert store.revoke_tokens(record).conversation.revoked_tokens == {"abc"}

    def is_shown_to_nobody(self, store: StateStore, server: str, record: ConversationRecord) -> None:
        caller: dict[str, Any] = {"server": server, "tenant": "", "principal": ALICE}
        uses: list[Callable[[], Head]] = [
            lambda: store.find(record.id, **caller),
            lambda: store.find_by_handle(str(record.handle), **caller),
            lambda: store.inspect(record.id),
            lambda: self.commit(store, record, 6, n=1),
            lambda: store.rewind(record, 1),
            lambda: store.fork(record),
            lambda: store.revoke_tokens(record),
        ]
        for use in uses:
            with pytest.raises(ConversationNotFound):
                use()
        assert not store.expire(record)

    def test_whoever_meets_what_has_arrived_opens_it(self, store: StateStore, server: str) -> None:
        caller: dict[str, Any] = {"server": server, "tenant": "", "principal": ALICE}
        uses: list[Callable[[ConversationRecord], Head]] = [
            lambda record: self.find(store, server, record.id),
            lambda record: store.find_by_handle(str(record.handle), **caller),
            lambda record: self.commit(store, record, 6, n=1),
            lambda record: store.fork(record),
            lambda record: store.revoke_tokens(record),
        ]
        for use in uses:
            record, manifests, blobs = self.full(store, server)
            image = self.depart(store, record)
            ticket = self.bring(store, record, image, manifests, blobs)
            assert self.move(store, record, image, ticket, ELSEWHERE, store.keeper)
            assert isinstance(use(record), Head)

    def test_a_conversation_that_kept_nothing_moves_too(self, store: StateStore, server: str) -> None:
        record = self.begin(store, server, name="name").conversation
        image = self.depart(store, record)
        store.leave(self.row(store, record))
        ticket = self.bring(store, record, image, {}, {})
        assert self.move(store, record, image, ticket, ELSEWHERE, store.keeper)
        assert self.begin(store, server, name="name").conversation.id == record.id
        assert self.commit(store, record, 0, a=1).generation == 1

    def test_a_name_is_taken_whoever_keeps_it(self, store: StateStore, server: str) -> None:
        record = self.begin(store, server, kind="user").conversation
        self.depart(store, record)
        with pytest.raises(ConversationNotFound):
            self.begin(store, server, kind="user")
        assert self.rows(store, store.keeper).filter(server=server).count() == 0

    def test_what_changed_since_the_image_does_not_move(self, store: StateStore, server: str) -> None:
        changes: list[Callable[[ConversationRecord], object]] = [
            lambda record: self.commit(store, record, 6, n=1),
            lambda record: store.rewind(record, 1),
            lambda record: store.revoke_tokens(record, fingerprint="another"),
            lambda record: store.revoke(record),
        ]
        for change in changes:
            record, _, _ = self.full(store, server)
            ticket = self.claim(store, record, store.keeper)
            image = store.image(record)
            change(record)
            is_moved = store.seal(record, image, ticket) and self.move(
                store, record, image, ticket, store.keeper, ELSEWHERE
            )
            assert not is_moved
            assert self.row(store, record).store == store.keeper

    def test_nothing_changes_once_it_has_moved(self, store: StateStore, server: str) -> None:
        record, _, _ = self.full(store, server)
        self.depart(store, record)
        self.is_shown_to_nobody(store, server, record)

    def test_who_lost_the_claim_does_nothing(self, store: StateStore, server: str) -> None:
        record, manifests, blobs = self.full(store, server)
        image = self.depart(store, record)
        early = self.bring(store, record, image, manifests, blobs)
        ticket = self.bring(store, record, image, manifests, blobs)
        assert store.arrive(self.row(store, record), image, early) is not None
        assert not self.move(store, record, image, early, ELSEWHERE, store.keeper)
        assert self.move(store, record, image, ticket, ELSEWHERE, store.keeper)
        assert store.open(self.row(store, record))
        assert store.arrive(self.row(store, record), image, early) is not None
        assert self.find(store, server, record.id).generation == 6

    def test_a_store_does_not_leave_what_it_keeps(self, store: StateStore, server: str) -> None:
        record, _, blobs = self.full(store, server)
        assert not store.leave(self.row(store, record))
        assert store.blobs(record, blobs) == blobs
        assert self.find(store, server, record.id).generation == 6

    def test_blobs_stay_while_one_of_the_family_does(self, store: StateStore, server: str) -> None:
        record, _, blobs = self.full(store, server)
        fork = store.fork(record).conversation
        for gone, stays in ((record, True), (fork, False)):
            self.depart(store, gone)
            assert store.leave(self.row(store, gone))
            if stays:
                assert store.blobs_there(fork, blobs) == blobs
            else:
                with pytest.raises(CorruptBlob):
                    store.blobs_there(fork, blobs)

    def test_a_call_that_is_noted_later_keeps_its_time(self, store: StateStore, server: str) -> None:
        record = self.begin(store, server).conversation
        at = record.created_at.replace(microsecond=123_456)
        store.note(record, CallNote(name="look"), created=at)
        assert [noted.created for noted in store.calls(record)] == [at]

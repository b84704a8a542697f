"""What every state store holds to, as tests that anybody's backend can run with pytest.

    class TestMyStore(StateStoreContract):
        @pytest.fixture
        def store(self):
            return MyStore("default", {"OPTIONS": {}})

Nothing here waits, so what takes time (expiry, collection of what is older than GRACE_SECONDS) and what takes real
processes or threads and a real server (races) are the backend's own tests. `manifest_of()` and `references()` stand
for a real manifest, which is opaque to a store.
"""

from collections.abc import Callable
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.db import connections
from django.test import override_settings

from django_mcp.core.principal import ANONYMOUS, Principal
from django_mcp.exceptions import ConversationNotFound, CorruptBlob, HeadMoved, LimitExceeded, Overloaded
from django_mcp.sessions.stores.state import CallNote, ConversationRecord, Head, StateStore
from django_mcp.testing.move_contract import MoveContract
from django_mcp.testing.state_steps import ALICE, BOB, manifest_of, references, sha256

__all__ = ["ALICE", "BOB", "StateStoreContract", "manifest_of", "references", "sha256"]


class StateStoreContract(MoveContract):
    """Subclass it in a test module and define the fixture `store`."""

    # Begin and find

    def test_a_conversation_begins_empty_and_is_found_by_its_id(self, store: StateStore, server: str) -> None:
        begun = self.begin(store, server, tenant="tenant")
        assert (begun.generation, begun.snapshot, begun.manifest) == (0, "", b"")
        record = begun.conversation
        assert len(record.id) == 32
        assert (record.server, record.tenant, record.principal) == (server, "tenant", ALICE.key)
        assert (record.kind, record.revoked_up_to, record.revoked_tokens) == ("conversation", -1, frozenset())
        found = self.find(store, server, record.id, tenant="tenant")
        assert (found.generation, found.snapshot, found.manifest) == (0, "", b"")
        assert found.conversation.id == record.id
        assert found.conversation.handle is None

    def test_a_conversation_is_found_by_its_handle_and_by_nothing_like_it(
        self, store: StateStore, server: str
    ) -> None:
        record = self.begin(store, server).conversation
        assert record.handle is not None
        assert len(record.handle) >= 22
        caller: dict[str, Any] = {"server": server, "tenant": "", "principal": ALICE}
        found = store.find_by_handle(record.handle, **caller)
        assert (found.conversation.id, found.conversation.handle) == (record.id, record.handle)
        for other in ("", record.id, record.handle[:-1], f"{record.handle} ", "\ud800", "\0", "x" * 10_000):
            with pytest.raises(ConversationNotFound, match=r"^Conversation not found$"):
                store.find_by_handle(other, **caller)
        for other in ("", record.handle, record.id.upper(), f"{record.id} ", "0" * 32, "\ud800", "\0", "x" * 10_000):
            with pytest.raises(ConversationNotFound, match=r"^Conversation not found$"):
                store.find(other, **caller)
            with pytest.raises(ConversationNotFound, match=r"^Conversation not found$"):
                store.inspect(other)

    @pytest.mark.parametrize(
        "other",
        [
            {"server": "other"},
            {"tenant": "other"},
            {"principal": BOB},
            {"principal": ANONYMOUS},
            {"principal": Principal(kind="oauth", id="1")},
        ],
    )
    def test_a_conversation_of_somebody_else_is_not_found(
        self, store: StateStore, server: str, other: dict[str, Any]
    ) -> None:
        record = self.begin(store, server, name="mine").conversation
        terms: dict[str, Any] = {"server": server, "tenant": "", "principal": ALICE, **other}
        with pytest.raises(ConversationNotFound, match=r"^Conversation not found$"):
            store.find(record.id, **terms)
        with pytest.raises(ConversationNotFound, match=r"^Conversation not found$"):
            store.find_by_handle(str(record.handle), **terms)
        with pytest.raises(ConversationNotFound, match=r"^Conversation not found$"):
            store.find_named("mine", **terms)
        assert self.find(store, server, record.id).generation == 0

    def test_a_named_conversation_is_one(self, store: StateStore, server: str) -> None:
        first = self.begin(store, server, name="session")
        self.commit(store, first.conversation, 0, a=1)
        again = self.begin(store, server, name="session")
        assert (again.conversation.id, again.generation) == (first.conversation.id, 1)
        others = [
            self.begin(store, server),
            self.begin(store, server, name="other"),
            self.begin(store, server, name="session", tenant="other"),
            self.begin(store, server, name="session", principal=BOB),
        ]
        assert len({first.conversation.id, *(other.conversation.id for other in others)}) == 5
        assert store.revoke(first.conversation)
        assert self.begin(store, server, name="session").conversation.id != first.conversation.id

    def test_the_state_of_a_user_is_one_and_is_begun_late(self, store: StateStore, server: str) -> None:
        caller: dict[str, Any] = {"server": server, "tenant": "", "principal": ALICE}
        with pytest.raises(ConversationNotFound):
            store.find_named(kind="user", **caller)
        first = self.begin(store, server, kind="user")
        assert first.conversation.handle is None
        self.commit(store, first.conversation, 0, a=1)
        found = store.find_named(kind="user", **caller)
        assert (found.conversation.id, found.conversation.kind, found.generation) == (
            first.conversation.id,
            "user",
            1,
        )
        assert self.begin(store, server, kind="user").conversation.id == first.conversation.id
        assert self.begin(store, server, kind="user", principal=BOB).conversation.id != first.conversation.id
        with pytest.raises(ValueError, match="The state of a user is not forked"):
            store.fork(first.conversation)
        for wrong in ({"principal": ANONYMOUS}, {"name": "name"}):
            with pytest.raises(ValueError, match="The state of a user has no name, and an anonymous caller has none"):
                self.begin(store, server, kind="user", **wrong)

    def test_over_the_cap_with_all_in_use_nobody_begins_another(self, store: StateStore, server: str) -> None:
        with override_settings(DJANGO_MCP={"MAX_CONVERSATIONS_PER_PRINCIPAL": 2}):
            first = self.begin(store, server)
            self.commit(store, first.conversation, 0, a=1)
            self.commit(store, self.begin(store, server).conversation, 0, a=1)
            begins: list[Callable[[], Head]] = [
                lambda: self.begin(store, server),
                lambda: store.fork(first.conversation),
            ]
            for refused in begins:
                with pytest.raises(Overloaded, match="Too many conversations") as caught:
                    refused()
                assert (caught.value.scope, caught.value.retry_after_seconds) == ("principal", 60)
            self.begin(store, server, principal=BOB)
            self.begin(store, server, tenant="other")
            self.begin(store, server, kind="user")
            store.expire(first.conversation)
            self.begin(store, server)

    def test_anonymous_callers_count_by_address(self, store: StateStore, server: str) -> None:
        with override_settings(DJANGO_MCP={"MAX_CONVERSATIONS_PER_PRINCIPAL": 1}):
            one = self.begin(store, server, principal=ANONYMOUS, address="192.0.2.1")
            self.begin(store, server, principal=ANONYMOUS, address="192.0.2.2")
            with pytest.raises(Overloaded, match="Too many conversations"):
                self.begin(store, server, principal=ANONYMOUS, address="192.0.2.1")
            assert self.find(store, server, one.conversation.id, principal=ANONYMOUS).generation == 0

    # Generations

    def test_a_commit_is_the_next_head(self, store: StateStore, server: str) -> None:
        record = self.begin(store, server).conversation
        first = self.commit(store, record, 0, a=1)
        assert (first.generation, first.manifest) == (1, manifest_of(a=1))
        second = self.commit(store, record, 1, a=2)
        found = self.find(store, server, record.id)
        assert (found.generation, found.snapshot, found.manifest) == (2, sha256(manifest_of(a=2)), manifest_of(a=2))
        assert (second.generation, second.snapshot, second.manifest) == (2, found.snapshot, found.manifest)
        assert store.inspect(record.id) == found

    def test_a_commit_from_an_old_generation_keeps_nothing_and_says_what_the_head_is(
        self, store: StateStore, server: str
    ) -> None:
        record = self.begin(store, server).conversation
        self.commit(store, record, 0, a=1)
        for base in (0, 2, -1):
            with pytest.raises(HeadMoved, match="The conversation is at generation 1 by now") as caught:
                self.commit(store, record, base, b"a large value", b=2)
            head = caught.value.head
            assert (head.generation, head.manifest) == (1, manifest_of(a=1))
            assert head.conversation.handle == record.handle
        with pytest.raises(CorruptBlob, match="is missing"):
            store.blob(record, sha256(b"a large value"))
        assert [line.number for line in store.history(record)] == [1]

    def test_of_many_commits_at_once_from_one_generation_one_is_kept(self, store: StateStore, server: str) -> None:
        record = self.begin(store, server).conversation
        outcomes = [self._outcome(store, record, number) for number in range(4)]
        assert sorted(outcomes, key=bool) == [False, False, False, True]

    def _outcome(self, store: StateStore, record: ConversationRecord, number: int) -> bool:
        try:
            return self.commit(store, record, 0, number=number).generation == 1
        except HeadMoved:
            return False

    def test_a_snapshot_under_a_false_name_is_refused(self, store: StateStore, server: str) -> None:
        record = self.begin(store, server).conversation
        with pytest.raises(ValueError, match="The snapshot's address is not the SHA-256 of its manifest"):
            store.commit(record, base_generation=0, manifest=b"{}", snapshot=sha256(b"{ }"), blobs={})
        assert self.find(store, server, record.id).generation == 0

    def test_blobs_come_back_as_they_were(self, store: StateStore, server: str) -> None:
        record = self.begin(store, server).conversation
        bodies = [
            b"",
            b"\0" * 10,
            bytes(range(256)) * 8_192,
            b"\0'" * 5_000_000,
            *(b"%d" % number for number in range(600)),
        ]
        self.commit(store, record, 0, *bodies)
        names = [sha256(body) for body in bodies]
        assert store.blobs(record, names) == dict(zip(names, bodies, strict=True))
        assert store.blob(record, names[2]) == bodies[2]
        assert store.blobs(record, []) == {}

    def test_a_blob_is_added_once_and_known_ones_are_fine(self, store: StateStore, server: str) -> None:
        record = self.begin(store, server).conversation
        self.commit(store, record, 0, b"one")
        self.commit(store, record, 1, b"one", b"two")
        self.commit(store, record, 2, b"one", b"two", supply=False, a=1)
        assert store.blobs(record, [sha256(b"two"), sha256(b"one")]) == {
            sha256(b"one"): b"one",
            sha256(b"two"): b"two",
        }

    def test_a_blob_that_is_not_what_its_name_says_is_corrupt(self, store: StateStore, server: str) -> None:
        record = self.begin(store, server).conversation
        manifest = manifest_of()
        store.commit(
            record,
            base_generation=0,
            manifest=manifest,
            snapshot=sha256(manifest),
            blobs={sha256(b"name"): b"body", sha256(b"good"): b"good"},
        )
        with pytest.raises(CorruptBlob, match="does not hash to its name") as caught:
            store.blob(record, sha256(b"name"))
        assert caught.value.digest == sha256(b"name")
        with pytest.raises(CorruptBlob):
            store.blobs(record, [sha256(b"good"), sha256(b"name")])
        for unknown in (sha256(b"unknown"), sha256(b"good").upper(), "", "\ud800", "x" * 10_000):
            with pytest.raises(CorruptBlob, match="is missing"):
                store.blob(record, unknown)

    def test_blobs_of_another_conversation_are_not_there(self, store: StateStore, server: str) -> None:
        mine, other = self.begin(store, server).conversation, self.begin(store, server).conversation
        self.commit(store, mine, 0, b"a large value")
        with pytest.raises(CorruptBlob, match="is missing"):
            store.blob(other, sha256(b"a large value"))

    # History

    def test_generations_of_the_past_are_read_as_they_were(self, store: StateStore, server: str) -> None:
        record = self.begin(store, server).conversation
        note = CallNote(name="book", outcome="né \ud800\0", call="17", milliseconds=12)
        self.commit(store, record, 0, a=1)
        self.commit(store, record, 1, b"a large value", call=note)
        newest, oldest = store.history(record)
        assert (newest.number, newest.call, newest.copied_from) == (2, note, None)
        assert newest.bytes == len(manifest_of(b"a large value")) + 13
        assert (oldest.number, oldest.snapshot, oldest.call) == (1, sha256(manifest_of(a=1)), None)
        assert store.history(record, 1) == [newest]
        past = store.snapshot(record, 1)
        assert (past.generation, past.manifest) == (1, manifest_of(a=1))
        assert (store.snapshot(record, 0).manifest, store.snapshot(record, 0).snapshot) == (b"", "")
        for unknown in (-1, 3, 2**100):
            with pytest.raises(LookupError, match=f"Generation {unknown} is not kept"):
                store.snapshot(record, unknown)

    def test_so_many_generations_are_kept_and_no_more(self, store: StateStore, server: str) -> None:
        record = self.begin(store, server).conversation
        with override_settings(DJANGO_MCP={"STATE_HISTORY": 3}):
            for base in range(25):
                self.commit(store, record, base, n=base)
                lines = [line.number for line in store.history(record)]
                assert lines == list(range(base + 1, max(0, base - 2), -1))
            assert store.snapshot(record, 23).manifest == manifest_of(n=22)
            for old in (0, 1, 22):
                with pytest.raises(LookupError, match=f"Generation {old} is not kept"):
                    store.snapshot(record, old)
                with pytest.raises(LookupError, match=f"Generation {old} is not kept"):
                    store.rewind(record, old)
                with pytest.raises(LookupError, match=f"Generation {old} is not kept"):
                    store.fork(record, old)
        assert self.find(store, server, record.id).generation == 25

    def test_a_rewind_is_a_new_generation_that_is_as_an_old_one_was(self, store: StateStore, server: str) -> None:
        record = self.begin(store, server).conversation
        self.commit(store, record, 0, b"a large value", a=1)
        self.commit(store, record, 1, a=2)
        head = store.rewind(record, 1)
        assert (head.generation, head.manifest) == (3, manifest_of(b"a large value", a=1))
        found = self.find(store, server, record.id)
        assert (found.generation, found.snapshot, found.manifest) == (3, head.snapshot, head.manifest)
        assert store.history(record)[0].copied_from == 1
        with pytest.raises(HeadMoved):
            self.commit(store, record, 2, a=3)
        empty = store.rewind(record, 0)
        assert (empty.generation, empty.snapshot, empty.manifest) == (4, "", b"")
        assert self.find(store, server, record.id).manifest == b""
        assert self.commit(store, record, 4, a=5).generation == 5
        for unknown in (-1, 6, 2**100):
            with pytest.raises(LookupError, match=f"Generation {unknown} is not kept"):
                store.rewind(record, unknown)
        assert self.find(store, server, record.id).generation == 5

    def test_a_fork_goes_its_own_way_and_shares_what_was(self, store: StateStore, server: str) -> None:
        record = self.begin(store, server).conversation
        self.commit(store, record, 0, b"a large value", a=1)
        self.commit(store, record, 1, a=2)
        fork = store.fork(record, 1)
        mine = fork.conversation
        assert (fork.generation, fork.manifest) == (1, manifest_of(b"a large value", a=1))
        assert mine.id != record.id
        assert mine.handle not in {None, record.handle}
        assert (mine.family, mine.server, mine.principal) == (record.family, server, ALICE.key)
        assert store.blob(mine, sha256(b"a large value")) == b"a large value"
        self.commit(store, mine, 1, b"another", a=3)
        assert self.find(store, server, record.id).manifest == manifest_of(a=2)
        assert self.find(store, server, mine.id).manifest == manifest_of(b"another", a=3)
        assert [line.copied_from for line in store.history(mine)] == [None, 1]
        grandchild = store.fork(mine)
        assert (grandchild.generation, grandchild.conversation.family) == (1, record.family)
        assert grandchild.manifest == manifest_of(b"another", a=3)
        caller: dict[str, Any] = {"server": server, "tenant": "", "principal": ALICE}
        assert store.find_by_handle(str(mine.handle), **caller).generation == 2

    def test_a_fork_of_nothing_is_empty(self, store: StateStore, server: str) -> None:
        record = self.begin(store, server).conversation
        assert store.fork(record).generation == 0
        self.commit(store, record, 0, a=1)
        fork = store.fork(record, 0)
        assert (fork.generation, fork.manifest) == (0, b"")
        assert self.commit(store, fork.conversation, 0, a=1).generation == 1

    # Calls

    def test_calls_are_listed_with_those_that_left_no_generation(self, store: StateStore, server: str) -> None:
        record = self.begin(store, server).conversation
        store.note(record, CallNote(name="look", outcome="failed", milliseconds=7))
        self.commit(store, record, 0, call=CallNote(name="change"), n=1)
        store.note(record, CallNote(name="look"))
        other = self.begin(store, server).conversation
        store.note(other, CallNote(name="other"))
        listed = [(noted.call.name, noted.call.outcome, noted.generation) for noted in store.calls(record)]
        assert listed == [("look", "succeeded", None), ("change", "succeeded", 1), ("look", "failed", None)]
        assert store.calls(record)[2].call.milliseconds == 7
        assert [noted.call.name for noted in store.calls(record, 2)] == ["look", "change"]

    def test_notes_of_calls_are_bounded(self, store: StateStore, server: str) -> None:
        record = self.begin(store, server).conversation
        with override_settings(DJANGO_MCP={"CALL_NOTES": 3}):
            for number in range(30):
                store.note(record, CallNote(name=f"call {number}"))
            assert [noted.call.name for noted in store.calls(record)] == ["call 29", "call 28", "call 27"]
        with override_settings(DJANGO_MCP={"CALL_NOTES": 0}):
            store.note(record, CallNote(name="unseen"))
            assert store.calls(record) == []

    # Ends

    @pytest.mark.parametrize("end", ["expire", "revoke"])
    def test_an_ended_conversation_is_not_found_and_stays_ended(
        self, store: StateStore, server: str, end: str
    ) -> None:
        record = self.begin(store, server).conversation
        self.commit(store, record, 0, a=1)
        assert getattr(store, end)(record)
        assert not store.expire(record)
        assert not store.revoke(record)
        caller: dict[str, Any] = {"server": server, "tenant": "", "principal": ALICE}
        uses: list[Callable[[], Head]] = [
            lambda: store.find(record.id, **caller),
            lambda: store.find_by_handle(str(record.handle), **caller),
            lambda: self.commit(store, record, 1, a=2),
            lambda: store.rewind(record, 1),
            lambda: store.fork(record),
            lambda: store.revoke_tokens(record),
        ]
        for use in uses:
            with pytest.raises(ConversationNotFound, match=r"^Conversation not found$"):
                use()
        assert store.inspect(record.id).generation == 1

    def test_revoked_tokens_are_those_up_to_a_generation(self, store: StateStore, server: str) -> None:
        record = self.begin(store, server).conversation
        for base in range(3):
            self.commit(store, record, base, n=base)
        head = store.revoke_tokens(record, up_to_generation=1)
        assert head.generation == 4
        assert [head.conversation.is_revoked(generation) for generation in (0, 1, 2, 4)] == [True, True, False, False]
        head = store.revoke_tokens(record)
        assert (head.generation, head.manifest) == (5, manifest_of(n=2))
        assert [head.conversation.is_revoked(generation) for generation in (4, 5)] == [True, False]
        assert store.revoke_tokens(record, up_to_generation=0).conversation.revoked_up_to == 4
        assert self.find(store, server, record.id).conversation.revoked_up_to == 4

    def test_one_token_is_revoked_by_its_fingerprint(self, store: StateStore, server: str) -> None:
        record = self.begin(store, server).conversation
        head = store.revoke_tokens(record, fingerprint="abc")
        assert head.generation == 1
        assert head.conversation.is_revoked(1, "abc")
        assert not head.conversation.is_revoked(1, "abd")
        assert not head.conversation.is_revoked(0)
        found = self.find(store, server, record.id).conversation
        assert found.revoked_tokens == {"abc"}
        for number in range(199):
            store.revoke_tokens(record, fingerprint=str(number))
        store.revoke_tokens(record, fingerprint="abc")
        with pytest.raises(LimitExceeded, match="More than 200 single tokens"):
            store.revoke_tokens(record, fingerprint="one more")
        both: dict[str, Any] = {"fingerprint": "a", "up_to_generation": 1}
        for wrong in ({"fingerprint": ""}, {"fingerprint": "x" * 65}, both):
            with pytest.raises(ValueError, match="Revoke tokens up to a generation, or one by its fingerprint"):
                store.revoke_tokens(record, **wrong)

    def test_a_call_under_way_learns_of_a_revoked_token_when_it_commits(self, store: StateStore, server: str) -> None:
        record = self.begin(store, server).conversation
        self.commit(store, record, 0, a=1)
        store.revoke_tokens(record, fingerprint="abc")
        with pytest.raises(HeadMoved) as caught:
            self.commit(store, record, 1, a=2)
        assert caught.value.head.conversation.is_revoked(1, "abc")

    def test_collection_leaves_what_is_needed(self, store: StateStore, server: str) -> None:
        record = self.begin(store, server).conversation
        page = manifest_of(b"in a page")
        self.commit(store, record, 0, b"old", b"in a page", pages=(page,))
        self.commit(store, record, 1, b"new")
        fork = store.fork(record, 1).conversation
        store.revoke(record)
        for is_dry in (True, False):
            store.collect(references, dry_run=is_dry)
            assert store.blobs(fork, map(sha256, (b"old", b"in a page", page))).keys() == {
                *map(sha256, (b"old", b"in a page", page))
            }
        assert self.find(store, server, fork.id).generation == 1

    # Twins

    async def test_the_async_twins_do_the_same(self, store: StateStore, server: str) -> None:
        caller: dict[str, Any] = {"server": server, "tenant": "", "principal": ALICE}
        try:
            record = (await store.abegin(**caller, name="name")).conversation
            manifest = manifest_of(b"body")
            head = await store.acommit(
                record,
                base_generation=0,
                manifest=manifest,
                snapshot=sha256(manifest),
                blobs={sha256(b"body"): b"body"},
            )
            assert head.generation == 1
            assert (await store.afind(record.id, **caller)).manifest == manifest
            assert (await store.afind_by_handle(str(record.handle), **caller)).generation == 1
            assert (await store.afind_named("name", **caller)).generation == 1
            assert (await store.ainspect(record.id)).generation == 1
            assert await store.ablob(record, sha256(b"body")) == b"body"
            assert await store.ablobs(record, [sha256(b"body")]) == {sha256(b"body"): b"body"}
            assert (await store.asnapshot(record, 1)).manifest == manifest
            assert [line.number for line in await store.ahistory(record)] == [1]
            assert (await store.arewind(record, 1)).generation == 2
            fork = await store.afork(record)
            assert (await store.arevoke_tokens(record)).generation == 3
            assert await store.arevoke(record)
            assert await store.aexpire(fork.conversation)
            assert (await store.acollect(references)).blobs == 0
        finally:
            await sync_to_async(connections.close_all)()

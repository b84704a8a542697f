"""What every log store holds to, as tests that anybody's backend can run with pytest.

    class TestMyStore(LogStoreContract):
        @pytest.fixture
        def store(self):
            return MyStore("default", {"OPTIONS": {}})

A lease or a lifetime of 0 seconds is over at once, so nothing here waits. Races need real processes or threads and
a real server: they are the backend's own tests.
"""

import secrets
from collections.abc import Callable
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.db import connections

from django_mcp.core.principal import ANONYMOUS, Principal, scope_digest
from django_mcp.sessions.stores.base import (
    EVERYTHING,
    Claimed,
    ClaimOutcome,
    Done,
    Interrupted,
    LogStore,
    Mismatched,
    Running,
)
from django_mcp.sessions.stores.calls import NewCall, Renewal
from django_mcp.testing.call_contract import CallLogContract
from django_mcp.testing.kept_contract import KeptLogContract
from django_mcp.testing.question_contract import QuestionLogContract
from django_mcp.testing.stream_contract import StreamLogContract

ALICE = Principal(kind="user", id="1")
BOB = Principal(kind="user", id="2")
SCOPE = scope_digest("", ALICE)


class LogStoreContract(StreamLogContract, CallLogContract, QuestionLogContract, KeptLogContract):
    """Subclass it in a test module and define the fixture `store`."""

    @pytest.fixture
    def store(self) -> LogStore:
        raise NotImplementedError("Define the fixture `store` in the subclass.")

    @pytest.fixture
    def server(self) -> str:
        """Return the name of a server that no other test uses, so that a store may outlive a test."""
        return f"server-{secrets.token_hex(6)}"

    @pytest.fixture
    def session(self) -> str:
        """Return the key of a session that no other test uses; the store asks nobody whether there is one."""
        return secrets.token_hex(32)

    def claim(
        self,
        store: LogStore,
        server: str,
        key: str = "key",
        *,
        scope: str = SCOPE,
        lease_seconds: float = 30,
        lifetime_seconds: float = 600,
        takeover: bool = False,
        digest: str = "",
    ) -> ClaimOutcome:
        return store.claim(
            server,
            scope,
            key,
            lease_seconds=lease_seconds,
            lifetime_seconds=lifetime_seconds,
            takeover=takeover,
            digest=digest,
        )

    def fence(self, store: LogStore, server: str, key: str = "key", **terms: Any) -> int:
        claimed = self.claim(store, server, key, **terms)
        assert isinstance(claimed, Claimed)
        return claimed.fence

    # What many wait for

    def test_a_glance_tells_what_there_is_and_when_it_changed(
        self, store: LogStore, server: str, session: str
    ) -> None:
        stream = store.open_stream(session, "post")
        hold = self.begin(store, server, session=session, stream=stream)
        question = store.ask(session, lifetime_seconds=300)

        def glance() -> dict[str, Any]:
            return dict(
                store.glance(
                    streams=[stream, "p" + "0" * 16, "no name"],
                    calls=[hold.id, "0" * 32],
                    questions=[question, "q-" + "0" * 16, "no id"],
                )
            )

        seen = [glance()]
        assert seen[0] == glance()
        assert seen[0].keys() == {stream, hold.id, question}
        changes: list[tuple[str, Callable[[], object]]] = [
            (stream, lambda: store.append(session, stream, [b"event"])),
            (stream, lambda: store.take_reader(session, stream)),
            (question, lambda: store.answer(session, question, {"result": {}})),
            (hold.id, lambda: store.request_cancel(session, "1")),
            (stream, lambda: store.append(session, stream, [], close=True)),
            (hold.id, lambda: store.finish_call(hold, "cancelled")),
        ]
        for name, change in changes:
            change()
            seen.append(glance())
            assert {key for key in seen[-1] if seen[-1][key] != seen[-2][key]} == {name}
        store.forget_session(session)
        assert glance() == {}
        assert store.glance() == {}

    def test_a_glance_at_very_many_is_one_of_all(self, store: LogStore, session: str) -> None:
        streams = [store.open_stream(session, "post") for _ in range(3)]
        unknown = [f"p{number:016x}" for number in range(2_000)]
        assert store.glance(streams=[*unknown, *streams]).keys() == set(streams)

    # Claims

    def test_the_first_claim_wins_and_the_second_finds_it_running(self, store: LogStore, server: str) -> None:
        assert isinstance(self.claim(store, server), Claimed)
        assert self.claim(store, server) == Running()
        assert store.peek(server, SCOPE, "key") == Running()

    def test_a_settled_claim_gives_its_outcome_to_everybody_who_asks(self, store: LogStore, server: str) -> None:
        outcome = {"text": "né \u0000 \ud800 🙂", "n": [1, 2.5, None, True], "deep": {"a": {}}}
        fence = self.fence(store, server)
        assert store.settle(server, SCOPE, "key", fence, outcome)
        assert self.claim(store, server) == Done(outcome=outcome)
        assert store.peek(server, SCOPE, "key") == Done(outcome=outcome)

    def test_a_claim_is_settled_once(self, store: LogStore, server: str) -> None:
        fence = self.fence(store, server)
        assert store.settle(server, SCOPE, "key", fence, "first")
        assert not store.settle(server, SCOPE, "key", fence, "second")
        assert not store.release(server, SCOPE, "key", fence)
        assert self.claim(store, server) == Done(outcome="first")

    def test_an_outcome_that_is_not_json_is_refused_and_not_recorded(self, store: LogStore, server: str) -> None:
        fence = self.fence(store, server)
        with pytest.raises(ValueError, match="not JSON compliant"):
            store.settle(server, SCOPE, "key", fence, float("nan"))
        assert self.claim(store, server) == Running()

    def test_an_unclaimed_key_has_no_standing(self, store: LogStore, server: str) -> None:
        assert store.peek(server, SCOPE, "key") is None
        assert not store.settle(server, SCOPE, "key", 1, "outcome")
        assert not store.renew(server, SCOPE, "key", 1, lease_seconds=30)
        assert not store.release(server, SCOPE, "key", 1)

    def test_a_released_claim_is_free_again_and_its_old_fence_is_dead(self, store: LogStore, server: str) -> None:
        fence = self.fence(store, server)
        assert store.release(server, SCOPE, "key", fence)
        assert store.peek(server, SCOPE, "key") is None
        again = self.fence(store, server)
        assert again != fence
        assert not store.settle(server, SCOPE, "key", fence, "late")
        assert store.settle(server, SCOPE, "key", again, "outcome")

    def test_a_lease_that_ran_out_is_interrupted_and_not_run_again(self, store: LogStore, server: str) -> None:
        self.fence(store, server, lease_seconds=0)
        assert self.claim(store, server) == Interrupted()
        assert store.peek(server, SCOPE, "key") == Interrupted()

    def test_an_owner_who_is_late_but_not_replaced_still_settles(self, store: LogStore, server: str) -> None:
        fence = self.fence(store, server, lease_seconds=0)
        assert self.claim(store, server) == Interrupted()
        assert store.settle(server, SCOPE, "key", fence, "late")
        assert self.claim(store, server) == Done(outcome="late")

    def test_a_takeover_has_a_higher_fence_and_shuts_the_old_owner_out(self, store: LogStore, server: str) -> None:
        fence = self.fence(store, server, lease_seconds=0)
        higher = self.fence(store, server, takeover=True)
        assert higher > fence
        assert not store.renew(server, SCOPE, "key", fence, lease_seconds=30)
        assert not store.settle(server, SCOPE, "key", fence, "old")
        assert not store.release(server, SCOPE, "key", fence)
        assert store.settle(server, SCOPE, "key", higher, "new")
        assert self.claim(store, server) == Done(outcome="new")

    def test_a_takeover_leaves_a_live_owner_and_a_done_claim_alone(self, store: LogStore, server: str) -> None:
        fence = self.fence(store, server)
        assert self.claim(store, server, takeover=True) == Running()
        assert store.settle(server, SCOPE, "key", fence, 1)
        assert self.claim(store, server, takeover=True) == Done(outcome=1)

    def test_a_renewed_lease_is_alive(self, store: LogStore, server: str) -> None:
        fence = self.fence(store, server, lease_seconds=0)
        assert store.renew(server, SCOPE, "key", fence, lease_seconds=30)
        assert self.claim(store, server) == Running()

    def test_after_its_lifetime_a_claim_is_free(self, store: LogStore, server: str) -> None:
        fence = self.fence(store, server, lifetime_seconds=0)
        assert store.settle(server, SCOPE, "key", fence, "outcome")
        assert store.peek(server, SCOPE, "key") is None
        assert self.fence(store, server) != fence

    def test_work_that_still_runs_after_its_lifetime_keeps_the_claim(self, store: LogStore, server: str) -> None:
        self.fence(store, server, lifetime_seconds=0)
        assert self.claim(store, server) == Running()

    def test_claims_of_other_keys_scopes_and_servers_are_others(self, store: LogStore, server: str) -> None:
        self.fence(store, server)
        self.fence(store, server, "KEY")
        self.fence(store, server, "key ")
        self.fence(store, server, "k" * 5_000)
        self.fence(store, server, scope=scope_digest("", BOB))
        self.fence(store, server, scope=scope_digest("tenant", ALICE))
        self.fence(store, f"{server}-2")

    def test_another_request_under_a_key_that_is_taken_is_a_mismatch(self, store: LogStore, server: str) -> None:
        fence = self.fence(store, server, digest="a" * 64)
        assert self.claim(store, server, digest="b" * 64) == Mismatched()
        assert self.claim(store, server) == Mismatched()
        assert self.claim(store, server, digest="a" * 64) == Running()
        assert store.settle(server, SCOPE, "key", fence, "outcome")
        assert self.claim(store, server, digest="b" * 64) == Mismatched()
        assert self.claim(store, server, digest="a" * 64) == Done(outcome="outcome")

    def test_a_key_is_compared_where_a_digest_is_given(self, store: LogStore, server: str) -> None:
        self.fence(store, server, digest="a" * 64)
        assert store.peek(server, SCOPE, "key", digest="b" * 64) == Mismatched()
        assert store.peek(server, SCOPE, "key", digest="") == Mismatched()
        assert store.peek(server, SCOPE, "key", digest="a" * 64) == Running()
        assert store.peek(server, SCOPE, "key") == Running()

    def test_a_takeover_is_of_the_same_request(self, store: LogStore, server: str) -> None:
        fence = self.fence(store, server, digest="a" * 64, lease_seconds=0)
        assert self.claim(store, server, digest="b" * 64, takeover=True) == Mismatched()
        assert self.claim(store, server, digest="a" * 64) == Interrupted()
        assert self.fence(store, server, digest="a" * 64, takeover=True) > fence

    def test_a_key_that_is_free_again_is_free_for_any_request(self, store: LogStore, server: str) -> None:
        assert store.release(server, SCOPE, "key", self.fence(store, server, digest="a" * 64))
        assert store.peek(server, SCOPE, "key", digest="b" * 64) is None
        fence = self.fence(store, server, digest="b" * 64, lifetime_seconds=0)
        assert self.claim(store, server, digest="a" * 64) == Mismatched()
        assert store.settle(server, SCOPE, "key", fence, "outcome")
        assert store.peek(server, SCOPE, "key", digest="a" * 64) is None
        self.fence(store, server, digest="c" * 64)
        assert self.claim(store, server, digest="c" * 64) == Running()
        assert self.claim(store, server, digest="b" * 64) == Mismatched()

    # Changes

    def test_a_server_without_changes_has_none(self, store: LogStore, server: str) -> None:
        cursor, changes = store.changes_since(server, None)
        assert changes == []
        assert store.changes_since(server, cursor) == (cursor, [])

    def test_changes_arrive_in_order_and_once(self, store: LogStore, server: str) -> None:
        cursor, _ = store.changes_since(server, None)
        store.publish_change(server, "tools")
        store.publish_change(server, "resource", "file:///né \ud800")
        cursor, changes = store.changes_since(server, cursor)
        assert changes == [("tools", ""), ("resource", "file:///né \ud800")]
        assert store.changes_since(server, cursor) == (cursor, [])
        store.publish_change(server, "prompts")
        cursor, changes = store.changes_since(server, cursor)
        assert changes == [("prompts", "")]

    def test_a_cursor_at_the_present_skips_what_was_before(self, store: LogStore, server: str) -> None:
        store.publish_change(server, "tools")
        cursor, changes = store.changes_since(server, None)
        assert changes == []
        store.publish_change(server, "prompts")
        assert store.changes_since(server, cursor)[1] == [("prompts", "")]

    def test_changes_of_another_server_are_not_seen(self, store: LogStore, server: str) -> None:
        cursor, _ = store.changes_since(server, None)
        store.publish_change(f"{server}-2", "tools")
        assert store.changes_since(server, cursor) == (cursor, [])

    def test_a_cursor_ahead_of_the_store_means_that_everything_changed(self, store: LogStore, server: str) -> None:
        store.publish_change(server, "tools")
        cursor, _ = store.changes_since(server, None)
        again, changes = store.changes_since(server, cursor + 1_000)
        assert again == cursor
        assert changes == list(EVERYTHING)

    def test_more_changes_than_one_answer_holds_come_with_the_next(self, store: LogStore, server: str) -> None:
        cursor, _ = store.changes_since(server, None)
        published = [f"file:///{number}" for number in range(1_005)]
        for uri in published:
            store.publish_change(server, "resource", uri)
        seen: list[str] = []
        while len(seen) < len(published):
            cursor, changes = store.changes_since(server, cursor)
            assert changes
            seen += [uri for _, uri in changes]
        assert seen == published

    @pytest.mark.parametrize(("kind", "uri"), [("tools", "file:///a"), ("resource", "")])
    def test_a_change_with_the_wrong_parts_is_refused(self, store: LogStore, server: str, kind: Any, uri: str) -> None:
        with pytest.raises(ValueError, match=f"A change of kind '{kind}' cannot have the URI '{uri}'"):
            store.publish_change(server, kind, uri)

    # Results

    def test_a_result_is_read_by_its_owner(self, store: LogStore, server: str) -> None:
        body = bytes(range(256)) * 5_000
        name = store.put_result(server, "tenant", ALICE, "application/json", body)
        assert len(name) >= 22
        found = store.get_result(name, server=server, tenant="tenant", principal=ALICE)
        assert found == ("application/json", body)

    def test_a_result_is_unknown_to_everybody_else(self, store: LogStore, server: str) -> None:
        name = store.put_result(server, "", ALICE, "text/plain", b"secret")
        assert store.get_result(name, server=server, tenant="", principal=BOB) is None
        assert store.get_result(name, server=server, tenant="", principal=ANONYMOUS) is None
        assert store.get_result(name, server=server, tenant="other", principal=ALICE) is None
        assert store.get_result(name, server=f"{server}-2", tenant="", principal=ALICE) is None
        assert store.get_result(name.swapcase(), server=server, tenant="", principal=ALICE) is None
        assert store.get_result("", server=server, tenant="", principal=ALICE) is None

    def test_equal_results_have_names_of_their_own(self, store: LogStore, server: str) -> None:
        assert store.put_result(server, "", ALICE, "text/plain", b"") != store.put_result(
            server, "", ALICE, "text/plain", b""
        )

    def test_a_result_is_gone_after_its_lifetime(self, store: LogStore, server: str) -> None:
        name = store.put_result(server, "", ALICE, "text/plain", b"body", lifetime_seconds=0)
        assert store.get_result(name, server=server, tenant="", principal=ALICE) is None

    # Bounds

    def test_a_sweep_takes_what_is_over_and_nothing_else(self, store: LogStore, server: str) -> None:
        fence = self.fence(store, server, "over", lifetime_seconds=0)
        store.settle(server, SCOPE, "over", fence, 1)
        self.fence(store, server, "running", lifetime_seconds=0)
        done = self.fence(store, server, "done")
        store.settle(server, SCOPE, "done", done, 2)
        store.put_result(server, "", ALICE, "text/plain", b"over", lifetime_seconds=0)
        kept = store.put_result(server, "", ALICE, "text/plain", b"kept")
        # How many it deletes is its own: of some stores the system underneath lets go of what is over.
        store.sweep()
        assert store.peek(server, SCOPE, "over") is None
        assert store.peek(server, SCOPE, "running") == Running()
        assert store.peek(server, SCOPE, "done") == Done(outcome=2)
        assert store.get_result(kept, server=server, tenant="", principal=ALICE) == ("text/plain", b"kept")

    def test_nothing_of_a_session_is_left_when_it_is_forgotten(
        self, store: LogStore, server: str, session: str
    ) -> None:
        other = secrets.token_hex(32)
        made = []
        for key in (session, other):
            stream = store.open_stream(key, "standalone")
            store.append(key, stream, [b"event"])
            terms: dict[str, Any] = {"owner": "one", "lease_seconds": 30, "session": key, "stream": stream}
            holds = store.begin_calls(server, SCOPE, [NewCall(request_id="1")], **terms)
            made.append((stream, holds, store.ask(key, lifetime_seconds=30)))
            store.feed_changes(key, after=None, upto=3, bodies=[])
        store.forget_session(session)
        for key, is_left, (stream, holds, question) in ((session, False, made[0]), (other, True, made[1])):
            assert (store.read_stream(key, stream) is not None) == is_left
            assert (store.push(key, [b"another"]) is not None) == is_left
            assert (store.change_cursor(key) is not None) == is_left
            assert (store.find_call(holds[0].id) is not None) == is_left
            assert (store.renew_calls("one", holds, lease_seconds=30) == Renewal()) == is_left
            assert bool(store.read_questions(key, [question])) == is_left

    # Twins

    async def test_the_async_twins_do_the_same(self, store: LogStore, server: str) -> None:
        try:
            claimed = await store.aclaim(server, SCOPE, "key", lease_seconds=30, lifetime_seconds=600)
            assert isinstance(claimed, Claimed)
            other = await store.aclaim(server, SCOPE, "key", lease_seconds=30, lifetime_seconds=600, digest="a")
            assert other == await store.apeek(server, SCOPE, "key", digest="a") == Mismatched()
            assert await store.arenew(server, SCOPE, "key", claimed.fence, lease_seconds=30)
            assert await store.asettle(server, SCOPE, "key", claimed.fence, "outcome")
            assert await store.apeek(server, SCOPE, "key") == Done(outcome="outcome")
            assert not await store.arelease(server, SCOPE, "key", claimed.fence)
            cursor, _ = await store.achanges_since(server, None)
            await store.apublish_change(server, "tools")
            assert (await store.achanges_since(server, cursor))[1] == [("tools", "")]
            name = await store.aput_result(server, "", ALICE, "text/plain", b"body")
            assert await store.aget_result(name, server=server, tenant="", principal=ALICE) == ("text/plain", b"body")
            await self._twins_of_a_session(store, server, secrets.token_hex(32))
        finally:
            await sync_to_async(connections.close_all)()

    async def _twins_of_a_session(self, store: LogStore, server: str, session: str) -> None:
        stream = await store.aopen_stream(session, "post")
        assert await store.aappend(session, stream, [b"1"]) == 1
        assert await store.atake_reader(session, stream) == 1
        page = await store.aread_stream(session, stream)
        assert page is not None
        assert (page.last, page.reader) == (1, 1)
        standalone = await store.aopen_stream(session, "standalone")
        assert await store.apush(session, [b"2"]) == standalone
        assert await store.afeed_changes(session, after=None, upto=1, bodies=[])
        assert await store.achange_cursor(session) == 1
        (hold,) = await store.abegin_calls(
            server, SCOPE, [NewCall(request_id="1")], owner="one", lease_seconds=30, session=session, stream=stream
        )
        assert await store.arenew_calls("one", [hold], lease_seconds=0) == Renewal()
        assert await store.arequest_cancel(session, "1")
        assert await store.abegin_body(hold)
        assert await store.anote_progress(hold, 1)
        found = await store.afind_running_call(session, "1")
        assert found is not None
        assert found == await store.afind_call(hold.id)
        question = await store.aask(session, lifetime_seconds=30, call=hold.id)
        assert await store.aanswer(session, question, 1)
        assert await store.awithdraw(session, [question]) == 0
        assert list((await store.aread_questions(session, [question])).values()) == await store.aquestions_of(hold.id)
        (ended,) = await store.atake_over_calls(server, "two", lease_seconds=30, interrupted=lambda _: b"")
        assert ended.state == "cancelled"
        assert not await store.afinish_call(hold, "succeeded", event=b"late")
        await store.aforget_session(session)
        assert await store.aread_stream(session, stream) is None

"""What every store holds to about calls, as tests; part of `LogStoreContract`."""

import secrets
from typing import Any

import pytest

from django_mcp.exceptions import FenceLost, Overloaded
from django_mcp.sessions.stores import CallHold, CallRecord, CallState, LogStore, NewCall, Renewal
from django_mcp.sessions.stores.calls import MAX_CALLS_PER_SCOPE, MAX_CALLS_PER_SESSION
from django_mcp.sessions.stores.streams import MAX_EVENTS

ENDS: tuple[CallState, ...] = ("succeeded", "failed", "cancelled", "input_required", "interrupted")


def _worker_lost(call: CallRecord) -> bytes:
    return b"worker_lost " + call.request_id.encode()


class CallLogContract:
    """Needs the fixtures `store`, `server` and `session`."""

    def begin(
        self,
        store: LogStore,
        server: str,
        request_id: str = "1",
        *,
        owner: str = "one",
        scope: str = "scope",
        lease_seconds: float = 30,
        session: str | None = None,
        stream: str = "",
        **terms: Any,
    ) -> CallHold:
        (hold,) = store.begin_calls(
            server,
            scope,
            [NewCall(request_id=request_id, **terms)],
            owner=owner,
            lease_seconds=lease_seconds,
            session=session,
            stream=stream,
        )
        return hold

    def take_over(self, store: LogStore, server: str, owner: str = "two", **terms: Any) -> list[CallRecord]:
        return store.take_over_calls(
            server, owner, lease_seconds=terms.pop("lease_seconds", 30), interrupted=_worker_lost, **terms
        )

    def record(self, store: LogStore, hold: CallHold) -> CallRecord:
        record = store.find_call(hold.id)
        assert record is not None
        return record

    def events(self, store: LogStore, session: str, stream: str) -> tuple[list[bytes], bool]:
        page = store.read_stream(session, stream, limit=10_000)
        assert page is not None
        return [event.body for event in page.events], page.is_closed

    # Begin

    def test_a_call_is_recorded_as_it_was_begun(self, store: LogStore, server: str, session: str) -> None:
        hold = self.begin(
            store,
            server,
            '"n\\u00e9 \\ud800"',
            session=session,
            stream="p0123456789abcdef",
            digest="d" * 64,
            payload="sealed" * 50_000,
            is_repeatable=True,
        )
        record = self.record(store, hold)
        assert record.hold == hold
        assert (record.server, record.scope, record.owner) == (server, "scope", "one")
        assert (record.session, record.stream) == (session, "p0123456789abcdef")
        assert (record.request_id, record.digest, record.payload) == (
            '"n\\u00e9 \\ud800"',
            "d" * 64,
            "sealed" * 50_000,
        )
        assert (record.is_repeatable, record.body_began, record.cancel_requested) == (True, False, False)
        assert (record.progress, record.state, record.ended_at) == (None, "running", None)
        assert store.find_call("0" * 32) is None

    def test_the_requests_of_one_post_are_recorded_together(self, store: LogStore, server: str, session: str) -> None:
        calls = [NewCall(request_id=str(number)) for number in range(3)]
        holds = store.begin_calls(server, "scope", calls, owner="one", lease_seconds=30, session=session)
        assert [self.record(store, hold).request_id for hold in holds] == ["0", "1", "2"]
        assert len({hold.id for hold in holds}) == 3

    def test_a_session_has_so_many_calls_at_once(self, store: LogStore, server: str, session: str) -> None:
        calls = [NewCall(request_id=str(number)) for number in range(MAX_CALLS_PER_SESSION - 1)]
        holds = store.begin_calls(server, "scope", calls, owner="one", lease_seconds=30, session=session)
        with pytest.raises(Overloaded, match="Too many calls at once") as caught:
            store.begin_calls(
                server,
                "scope",
                [NewCall(request_id='"a"'), NewCall(request_id='"b"')],
                owner="one",
                lease_seconds=30,
                session=session,
            )
        assert caught.value.scope == "principal"
        assert store.find_running_call(session, '"a"') is None
        self.begin(store, server, session=session)
        with pytest.raises(Overloaded):
            self.begin(store, server, session=session)
        self.begin(store, server)
        store.finish_call(holds[0], "succeeded")
        self.begin(store, server, session=session)

    def test_a_scope_has_so_many_calls_at_once_whatever_their_sessions(self, store: LogStore, server: str) -> None:
        for _ in range(4):
            calls = [NewCall(request_id=str(number)) for number in range(MAX_CALLS_PER_SCOPE // 4)]
            session = secrets.token_hex(32)
            store.begin_calls(server, "scope", calls, owner="one", lease_seconds=30, session=session)
        with pytest.raises(Overloaded):
            self.begin(store, server)
        self.begin(store, server, scope="another")
        self.begin(store, f"{server}-2")

    # Request ids

    def test_a_running_call_is_found_by_its_request_id_in_its_session_alone(
        self, store: LogStore, server: str, session: str
    ) -> None:
        hold = self.begin(store, server, '"A"', session=session)
        found = store.find_running_call(session, '"A"')
        assert found is not None
        assert found.hold == hold
        for other in ('"a"', '"A" ', "1"):
            assert store.find_running_call(session, other) is None
        assert store.find_running_call(secrets.token_hex(32), '"A"') is None
        store.finish_call(hold, "succeeded")
        assert store.find_running_call(session, '"A"') is None

    def test_a_repeated_request_id_is_another_call_that_the_id_does_not_name(
        self, store: LogStore, server: str, session: str
    ) -> None:
        first = self.begin(store, server, session=session)
        second = self.begin(store, server, session=session)
        found = store.find_running_call(session, "1")
        assert found is not None
        assert found.hold == first != second
        store.finish_call(first, "succeeded")
        assert store.find_running_call(session, "1") is None
        assert self.record(store, second).state == "running"
        third = self.begin(store, server, session=session)
        found = store.find_running_call(session, "1")
        assert found is not None
        assert found.hold == third

    # Leases

    def test_an_owner_renews_all_its_calls_at_once(self, store: LogStore, server: str) -> None:
        holds = [self.begin(store, server, lease_seconds=0) for _ in range(5)]
        assert store.renew_calls("one", holds, lease_seconds=30) == Renewal()
        assert self.take_over(store, server) == []
        assert store.renew_calls("one", [], lease_seconds=30) == Renewal()

    def test_an_owner_that_renews_learns_what_it_lost_and_what_is_to_stop(
        self, store: LogStore, server: str, session: str
    ) -> None:
        kept = self.begin(store, server, "1", session=session)
        cancelled = self.begin(store, server, "2", session=session)
        ended = self.begin(store, server, "3", session=session)
        foreign = self.begin(store, server, "4", owner="two", session=session)
        taken = self.begin(store, server, "5", session=session, lease_seconds=0)
        self.take_over(store, server)
        store.finish_call(ended, "succeeded")
        assert store.request_cancel(session, "2")
        unknown = CallHold(id="0" * 32, fence=1)
        renewal = store.renew_calls("one", [kept, cancelled, ended, foreign, taken, unknown], lease_seconds=30)
        assert renewal == Renewal(lost=frozenset({ended, foreign, taken, unknown}), cancelled=frozenset({cancelled}))

    def test_an_old_fence_is_lost_though_its_owner_took_the_call_again(self, store: LogStore, server: str) -> None:
        hold = self.begin(store, server, lease_seconds=0)
        (taken,) = self.take_over(store, server, "one")
        renewal = store.renew_calls("one", [hold, taken.hold], lease_seconds=30)
        assert renewal == Renewal(lost=frozenset({hold}))

    def test_an_owner_who_is_late_but_not_replaced_goes_on(self, store: LogStore, server: str) -> None:
        hold = self.begin(store, server, lease_seconds=0)
        assert store.begin_body(hold)
        assert store.note_progress(hold, 1)
        assert store.finish_call(hold, "succeeded")

    # Cancellation

    def test_a_call_is_cancelled_from_anywhere_and_by_its_session_alone(
        self, store: LogStore, server: str, session: str
    ) -> None:
        hold = self.begin(store, server, session=session)
        assert not store.request_cancel(secrets.token_hex(32), "1")
        assert not store.request_cancel(session, '"1"')
        assert not self.record(store, hold).cancel_requested
        assert store.request_cancel(session, "1")
        assert self.record(store, hold).cancel_requested
        assert self.record(store, hold).state == "running"
        store.finish_call(hold, "cancelled")
        assert not store.request_cancel(session, "1")

    # Progress

    def test_progress_only_grows(self, store: LogStore, server: str) -> None:
        hold = self.begin(store, server)
        assert [store.note_progress(hold, value) for value in (0, 1.5, 1.5, 1, 2)] == [True, True, False, False, True]
        assert self.record(store, hold).progress == 2
        store.finish_call(hold, "succeeded")
        with pytest.raises(FenceLost):
            store.note_progress(hold, 3)

    # Ends

    @pytest.mark.parametrize("state", ENDS)
    def test_a_call_ends_once_and_keeps_no_arguments(self, store: LogStore, server: str, state: CallState) -> None:
        hold = self.begin(store, server, payload="sealed")
        assert store.finish_call(hold, state)
        for again in ENDS:
            assert not store.finish_call(hold, again)
        record = self.record(store, hold)
        assert (record.state, record.payload) == (state, "")
        assert record.ended_at is not None
        assert not store.begin_body(hold)

    def test_a_call_does_not_end_as_running(self, store: LogStore, server: str) -> None:
        hold = self.begin(store, server)
        with pytest.raises(ValueError, match="A call does not end as running"):
            store.finish_call(hold, "running")

    def test_the_terminal_event_closes_the_stream_of_a_call(self, store: LogStore, server: str, session: str) -> None:
        stream = store.open_stream(session, "post")
        hold = self.begin(store, server, session=session, stream=stream)
        store.append(session, stream, [b"progress"], hold=hold)
        assert store.finish_call(hold, "succeeded", event=b"result")
        assert self.events(store, session, stream) == ([b"progress", b"result"], True)
        assert not store.finish_call(hold, "failed", event=b"again")
        assert self.events(store, session, stream) == ([b"progress", b"result"], True)

    def test_a_stream_closes_with_the_last_of_its_calls(self, store: LogStore, server: str, session: str) -> None:
        stream = store.open_stream(session, "post")
        calls = [NewCall(request_id=str(number)) for number in range(3)]
        holds = store.begin_calls(
            server, "scope", calls, owner="one", lease_seconds=30, session=session, stream=stream
        )
        store.finish_call(holds[1], "succeeded", event=b"1")
        store.finish_call(holds[0], "cancelled")
        assert self.events(store, session, stream) == ([b"1"], False)
        store.finish_call(holds[2], "failed", event=b"2")
        assert self.events(store, session, stream) == ([b"1", b"2"], True)

    def test_there_is_always_room_for_a_terminal_event(self, store: LogStore, server: str, session: str) -> None:
        stream = store.open_stream(session, "post")
        calls = [NewCall(request_id=str(number)) for number in range(20)]
        holds = store.begin_calls(
            server, "scope", calls, owner="one", lease_seconds=30, session=session, stream=stream
        )
        store.append(session, stream, [b"x"] * (MAX_EVENTS - 1))
        for hold in holds:
            assert store.finish_call(hold, "succeeded", event=b"result")
        bodies, is_closed = self.events(store, session, stream)
        assert (len(bodies), is_closed) == (MAX_EVENTS + 19, True)

    def test_a_call_whose_stream_is_closed_ends_all_the_same(self, store: LogStore, server: str, session: str) -> None:
        stream = store.open_stream(session, "post")
        hold = self.begin(store, server, session=session, stream=stream)
        store.append(session, stream, [], close=True)
        assert store.finish_call(hold, "succeeded", event=b"result")
        assert self.record(store, hold).state == "succeeded"
        assert self.events(store, session, stream) == ([], True)

    def test_a_call_is_found_by_the_id_that_its_caller_chose(self, store: LogStore, server: str) -> None:
        chosen = secrets.token_hex(16)
        assert self.begin(store, server, id=chosen) == CallHold(id=chosen, fence=1)
        assert self.record(store, CallHold(id=chosen, fence=1)).request_id == "1"

    # Take-over

    def test_a_call_that_began_with_its_body_is_not_run_again(self, store: LogStore, server: str) -> None:
        self.begin(store, server, lease_seconds=0, body_began=True)
        (ended,) = self.take_over(store, server)
        assert ended.state == "interrupted"

    def test_a_call_whose_owner_is_alive_is_not_taken(self, store: LogStore, server: str) -> None:
        hold = self.begin(store, server)
        ended = self.begin(store, server, lease_seconds=0)
        store.finish_call(ended, "succeeded")
        assert self.take_over(store, server) == []
        assert self.record(store, hold).owner == "one"

    @pytest.mark.parametrize("terms", [{}, {"is_repeatable": True}], ids=["before the body", "repeatable"])
    def test_an_abandoned_call_goes_on_elsewhere_under_a_higher_fence(
        self, store: LogStore, server: str, session: str, terms: dict[str, Any]
    ) -> None:
        stream = store.open_stream(session, "post")
        hold = self.begin(
            store, server, lease_seconds=0, session=session, stream=stream, payload="sealed", digest="d", **terms
        )
        store.note_progress(hold, 7)
        if terms:
            assert store.begin_body(hold)
        (taken,) = self.take_over(store, server)
        assert (taken.id, taken.owner, taken.state) == (hold.id, "two", "running")
        assert taken.fence > hold.fence
        assert (taken.payload, taken.digest, taken.progress) == ("sealed", "d", 7)
        assert taken == self.record(store, hold)
        assert self.take_over(store, server, "three") == []
        for refused in (
            store.begin_body(hold),
            store.finish_call(hold, "succeeded", event=b"late"),
            store.renew_calls("one", [hold], lease_seconds=30) == Renewal(),
        ):
            assert not refused
        assert store.begin_body(taken.hold)
        assert store.finish_call(taken.hold, "succeeded", event=b"result")
        assert self.events(store, session, stream) == ([b"result"], True)

    def test_an_abandoned_call_that_may_have_had_effects_is_interrupted_and_says_so(
        self, store: LogStore, server: str, session: str
    ) -> None:
        stream = store.open_stream(session, "post")
        hold = self.begin(store, server, '"id"', lease_seconds=0, session=session, stream=stream, payload="sealed")
        store.begin_body(hold)
        (ended,) = self.take_over(store, server)
        assert (ended.id, ended.state, ended.payload) == (hold.id, "interrupted", "")
        assert self.events(store, session, stream) == ([b'worker_lost "id"'], True)
        assert self.take_over(store, server, "three") == []
        assert not store.finish_call(hold, "succeeded", event=b"late")
        assert self.events(store, session, stream) == ([b'worker_lost "id"'], True)

    def test_an_abandoned_call_that_was_cancelled_ends_without_an_event(
        self, store: LogStore, server: str, session: str
    ) -> None:
        stream = store.open_stream(session, "post")
        hold = self.begin(store, server, lease_seconds=0, session=session, stream=stream)
        store.begin_body(hold)
        store.request_cancel(session, "1")
        (ended,) = self.take_over(store, server)
        assert ended.state == "cancelled"
        assert self.events(store, session, stream) == ([], True)

    def test_a_call_without_a_session_is_taken_over_too(self, store: LogStore, server: str) -> None:
        before = self.begin(store, server, lease_seconds=0)
        within = self.begin(store, server, lease_seconds=0)
        store.begin_body(within)
        found = {record.id: record.state for record in self.take_over(store, server)}
        assert found == {before.id: "running", within.id: "interrupted"}

    def test_so_many_are_taken_at_once_and_of_this_server_alone(self, store: LogStore, server: str) -> None:
        holds = [self.begin(store, server, lease_seconds=0) for _ in range(5)]
        self.begin(store, f"{server}-2", lease_seconds=0)
        first = self.take_over(store, server, limit=3)
        second = self.take_over(store, server, limit=3)
        assert (len(first), len(second)) == (3, 2)
        assert {record.id for record in first + second} == {hold.id for hold in holds}

    def test_a_call_that_was_taken_may_be_abandoned_again(self, store: LogStore, server: str) -> None:
        hold = self.begin(store, server, lease_seconds=0)
        (second,) = self.take_over(store, server, "two", lease_seconds=0)
        (third,) = self.take_over(store, server, "three")
        assert hold.fence < second.fence < third.fence
        assert not store.finish_call(second.hold, "succeeded")
        assert store.finish_call(third.hold, "succeeded")

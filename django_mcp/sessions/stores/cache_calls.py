"""Calls on Redis, under the hash tag of their session; those that have none under one of their own."""

from collections.abc import Sequence
from typing import Final

from django_mcp.exceptions import FenceLost, Overloaded, StoreUnavailable
from django_mcp.models.session import RETRY_AFTER_SECONDS
from django_mcp.sessions.stores.cache_abandoned_calls import AbandonedCalls
from django_mcp.sessions.stores.cache_places import (
    Place,
    by_tag,
    digest,
    encode,
    milliseconds,
    plain,
    session_life,
    session_tag,
)
from django_mcp.sessions.stores.cache_standing_calls import (
    CALL_LIFE,
    call_key,
    due_tag,
    in_doubt,
    lease_of,
    scope_tag,
)
from django_mcp.sessions.stores.cache_streams import stream_keys
from django_mcp.sessions.stores.calls import (
    MAX_CALLS_PER_SCOPE,
    MAX_CALLS_PER_SESSION,
    CallHold,
    CallRecord,
    CallState,
    NewCall,
    Renewal,
)
from django_mcp.sessions.stores.log_step import LogStep
from django_mcp.sessions.stores.redis_link import Argument, Sending

HINTS_AT_ONCE: Final = 500
ROUNDS: Final = 20

_BEGIN: Final = LogStep("begin_calls")
_RESERVE: Final = LogStep("reserve_calls", writes=False)
_ANNOUNCE: Final = LogStep("announce_calls", writes=False)
_NAMED: Final = LogStep("named_call", writes=False)
_RENEW: Final = LogStep("renew_calls", writes=False)
_BEGIN_BODY: Final = LogStep("begin_body", writes=False)
_NOTE_PROGRESS: Final = LogStep("note_progress")
_CANCEL: Final = LogStep("cancel_call", writes=False)


class CacheCalls(AbandonedCalls):
    def begin_calls(
        self,
        server: str,
        scope: str,
        calls: Sequence[NewCall],
        *,
        owner: str,
        lease_seconds: float,
        session: str | None = None,
        stream: str = "",
    ) -> list[CallHold]:
        if not calls:
            return []
        tag = f"c:{plain(calls[0].id)}" if session is None else session_tag(session)
        places = [Place(tag=tag, id=call.id, stream=stream, server=server, scope=scope) for call in calls]
        lease = milliseconds(lease_seconds)
        self._announce(server, scope, places, lease)
        most = 0 if session is None else MAX_CALLS_PER_SESSION
        args: list[Argument] = [session or "", encode(server), scope, encode(owner), stream, lease, CALL_LIFE, most]
        for call in calls:
            args += (call.id, encode(call.request_id), digest(call.request_id), call.digest, encode(call.payload))
            args += (int(call.is_repeatable), int(call.body_began))
        keys = ("calls", "running", "requests", stream_keys(stream)[0], *(call_key(place) for place in places))
        answer = self.link.run(_BEGIN, tag, keys, args)
        if answer == b"twice":
            raise StoreUnavailable("A call was begun twice")
        if answer != b"begun":
            self._withdraw(places)
            if answer == b"full":
                raise _overloaded()
            raise StoreUnavailable("A call was begun too late")
        return [CallHold(id=call.id, fence=1) for call in calls]

    def _announce(self, server: str, scope: str, places: Sequence[Place], lease: int) -> None:
        """Write what leads to calls that are about to be, and count them in their scope. Raises Overloaded."""
        texts = [place.text() for place in places]
        before = [
            *self.places.pointers(places),
            ("ZADD", self._servers(), 0, encode(server)),
            ("PEXPIRE", self._servers(), session_life()),
        ]
        announce = Sending(_ANNOUNCE, due_tag(server), ("due",), (lease, CALL_LIFE, *texts))
        terms: tuple[Argument, ...] = (MAX_CALLS_PER_SCOPE, lease, CALL_LIFE, HINTS_AT_ONCE, *texts)
        reserve = Sending(_RESERVE, scope_tag(server, scope), ("running",), terms)
        for attempt in range(ROUNDS):
            _, (has_room, seem_over) = self.link.run_many([announce, reserve], before=before)
            if has_room:
                return
            if attempt == ROUNDS - 1 or not self._give_back(server, scope, seem_over):
                break
        self._withdraw(places)
        raise _overloaded()

    def _give_back(self, server: str, scope: str, texts: Sequence[bytes]) -> bool:
        """Look at calls that count in a scope and whose lease may be over; say whether some of them do not run."""
        records = self._records([Place.of(text) for text in texts])
        index = self.link.key(scope_tag(server, scope), "running")
        commands: list[tuple[Argument, ...]] = []
        for text in texts:
            place = Place.of(text)
            found = records.get(place.id)
            if found is None or not found[0] or found[1].state != "running":
                commands.append(("ZREM", index, text))
            else:
                commands.append(("ZADD", index, "XX", lease_of(found[1]) + 1_000, text))
        self.link.send(commands)
        return any(command[0] == "ZREM" for command in commands)

    def _withdraw(self, places: Sequence[Place]) -> None:
        """Take back what was written for calls that did not come to be."""
        self.link.send([*self.places.forget(places), *self._ends(places)])

    def renew_calls(self, owner: str, holds: Sequence[CallHold], *, lease_seconds: float) -> Renewal:
        places = self.places.find(hold.id for hold in holds)
        sendings, named = [], []
        for tag, here in by_tag(places).items():
            keys = [key for place in here for key in (call_key(place), *stream_keys(place.stream))]
            args: tuple[Argument, ...] = (
                encode(owner),
                milliseconds(lease_seconds),
                CALL_LIFE,
                session_life(),
                *(place.id for place in here),
            )
            sendings.append(Sending(_RENEW, tag, ("calls", "running", "requests", "outlet", *keys), args))
            named += here
        found = [row for rows in self.link.run_many(sendings) for row in rows]
        standing: dict[CallHold, bool] = {}
        hints: list[tuple[Argument, ...]] = []
        for place, row in zip(named, found, strict=True):
            if row is not None:
                fence, is_cancelled, lease = row
                standing[CallHold(id=place.id, fence=fence)] = bool(is_cancelled)
                hints.append(("ZADD", self._due(place), lease, place.text()))
        self.link.send(hints)
        return Renewal(
            lost=frozenset(hold for hold in holds if hold not in standing),
            cancelled=frozenset(hold for hold in holds if standing.get(hold, False)),
        )

    def begin_body(self, hold: CallHold) -> bool:
        place = self.places.one(hold.id)
        return (
            place is not None and self.link.run(_BEGIN_BODY, place.tag, (call_key(place),), (hold.fence,)) is not None
        )

    def note_progress(self, hold: CallHold, progress: float) -> bool:
        place = self.places.one(hold.id)
        if place is None:
            raise FenceLost
        answer = self.link.run(_NOTE_PROGRESS, place.tag, (call_key(place),), (hold.fence, repr(float(progress))))
        if answer == b"lost":
            raise FenceLost
        return bool(answer == b"noted")

    def finish_call(self, hold: CallHold, state: CallState, *, event: bytes | None = None) -> bool:
        if state == "running":
            raise ValueError("A call does not end as running.")
        place = self.places.one(hold.id)
        if place is None or self._end(place, hold.fence, state, event, "held") is None:
            return False
        self._let_go([place])
        return True

    def find_call(self, call: str) -> CallRecord | None:
        place = self.places.one(call)
        found = None if place is None else self._records([place]).get(call)
        if found is None:
            return None
        is_current, record = found
        return record if is_current else in_doubt(record)

    def find_running_call(self, session: str, request_id: str) -> CallRecord | None:
        tag = session_tag(session)
        found: bytes | None = self.link.run(_NAMED, tag, ("requests",), (digest(request_id),))
        if found is None:
            return None
        place = Place(tag=tag, id=found.decode())
        is_current, record = self._records([place]).get(place.id, (False, None))
        return record if is_current and record is not None and record.state == "running" else None

    def request_cancel(self, session: str, request_id: str) -> bool:
        found = self.find_running_call(session, request_id)
        if found is None:
            return False
        return self.link.run(_CANCEL, session_tag(session), (f"call:{plain(found.id)}",)) is not None


def _overloaded() -> Overloaded:
    return Overloaded(RETRY_AFTER_SECONDS, "principal", message="Too many calls at once")

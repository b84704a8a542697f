"""Taking over the calls on Redis whose lease is over, and giving up those that nobody takes over."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from django_mcp.exceptions import StoreUnavailable
from django_mcp.sessions.stores.cache_places import DAY, Place, decode, encode, milliseconds
from django_mcp.sessions.stores.cache_questions import moment
from django_mcp.sessions.stores.cache_standing_calls import CALL_LIFE, StandingCalls, call_key, due_tag, lease_of
from django_mcp.sessions.stores.cache_streams import stream_keys
from django_mcp.sessions.stores.calls import CALLS_AT_ONCE, CallRecord, fate
from django_mcp.sessions.stores.log_step import LogStep
from django_mcp.sessions.stores.redis_link import Sending

ABANDONED: Final = DAY
"""Milliseconds. So long after its lease a call that nobody took over has ended: no process serves its server."""
VOID_LIFE: Final = 3_600_000
ROUNDS: Final = 20

_DUE: Final = LogStep("due_calls", writes=False)
_TAKE: Final = LogStep("take_call")
_VOID: Final = LogStep("void_call", writes=False)


class AbandonedCalls(StandingCalls):
    def take_over_calls(
        self,
        server: str,
        owner: str,
        *,
        lease_seconds: float,
        interrupted: Callable[[CallRecord], bytes],
        limit: int = CALLS_AT_ONCE,
    ) -> list[CallRecord]:
        taken: list[CallRecord] = []
        try:
            mine: set[Place] = set()
            for _ in range(ROUNDS):
                found_due = self._due_calls(server, limit - len(taken))
                due = {place: found for place, found in found_due.items() if place not in mine}
                for place, found in due.items():
                    is_current, record = found
                    became = self._take_call(
                        place, record, is_current, owner, lease_seconds=lease_seconds, interrupted=interrupted
                    )
                    if became is not None:
                        mine.add(place)
                        taken.append(became)
                if not due or len(taken) >= limit:
                    break
        except StoreUnavailable:
            # What was taken before is the owner's, who has to learn it.
            if not taken:
                raise
        return taken

    def _due_calls(self, server: str, limit: int, *, since: int = 0) -> dict[Place, tuple[bool, CallRecord]]:
        """Return calls whose lease is over as they are, and put those right that are hinted at and are not due."""
        for _ in range(ROUNDS):
            now, texts = self.link.run(_DUE, due_tag(server), ("due",), (since, limit))
            places = [Place.of(text) for text in texts]
            records = self._records(places)
            due = {place: records[place.id] for place in places if place.id in records}
            gone = [place for place in places if place.id not in records]
            ended = [place for place, (_, record) in due.items() if record.state != "running"]
            renewed = {place for place, (_, record) in due.items() if lease_of(record) > now - since}
            self._void(gone)
            self._let_go(ended)
            self.link.send(
                [
                    ("ZADD", self._due(place), lease_of(due[place][1]), place.text())
                    for place in renewed.difference(ended)
                ]
            )
            due = {place: found for place, found in due.items() if place not in renewed.union(ended)}
            if due or not texts:
                return due
        return {}

    def _void(self, places: Sequence[Place]) -> None:
        """Let go of calls that are not there, once they cannot come any more."""
        voided = self.link.run_many([Sending(_VOID, place.tag, (call_key(place),), (VOID_LIFE,)) for place in places])
        self._let_go([place for place, is_void in zip(places, voided, strict=True) if is_void])

    def _take_call(
        self,
        place: Place,
        record: CallRecord,
        is_current: bool,
        owner: str,
        *,
        lease_seconds: float,
        interrupted: Callable[[CallRecord], bytes],
    ) -> CallRecord | None:
        """Take one call that was read as abandoned; None if it is not what it was.

        One that is in doubt may have begun, or have been taken by somebody whose fence was lost: unless it may be
        repeated it has ended, and nothing is written onto its stream, of which its client may have seen more.
        """
        state = fate(
            body_began=record.body_began or not is_current,
            is_repeatable=record.is_repeatable,
            cancel_requested=record.cancel_requested,
        )
        if state != "running":
            event = interrupted(record) if state == "interrupted" and is_current else None
            ended = self._end(place, record.fence, state, event, "abandoned", record)
            if ended is None:
                return None
            self._let_go([place])
            return replace(record, state=state, payload="", ended_at=moment(ended))
        keys = (call_key(place), "calls", "running", *stream_keys(place.stream))
        seen = (int(record.body_began), int(record.cancel_requested))
        args = (place.id, record.fence, encode(owner), milliseconds(lease_seconds), CALL_LIFE, *seen)
        taken = self.link.run(_TAKE, place.tag, keys, args)
        if taken is None:
            return None
        fence, lease = taken
        self.link.send([("ZADD", self._due(place), lease, place.text()), *self.places.pointers([place])])
        return replace(record, fence=fence, owner=owner, lease_until=moment(lease))

    def sweep_calls(self) -> int:
        """End calls of servers that are served no more; their streams close without a word of it."""
        (servers,) = self.link.send([("ZRANGE", self._servers(), 0, -1)])
        return sum(self._give_up(decode(server)) for server in servers)

    def _give_up(self, server: str) -> int:
        left = self._due_calls(server, CALLS_AT_ONCE, since=ABANDONED)
        ended = [
            place
            for place, (_, record) in left.items()
            if self._end(place, record.fence, "interrupted", None, "abandoned", record) is not None
        ]
        self._let_go(ended)
        return len(ended)

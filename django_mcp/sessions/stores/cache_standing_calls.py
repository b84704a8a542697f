"""Calls as they stand in Redis: where, how they are read and how they end.

What is in the slot of a call's session is the truth. Two indexes stand elsewhere and are only hints, written before
the call: of each server which calls may be due, and of each scope which may be running. Who acts on a hint asks the
call itself.
"""

import logging
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from typing import Any, Final, cast

from django_mcp.exceptions import StoreUnavailable
from django_mcp.sessions.stores.cache_places import DAY, Place, Places, by_tag, decode, digest, milliseconds, plain
from django_mcp.sessions.stores.cache_questions import moment
from django_mcp.sessions.stores.cache_streams import bounds, stream_keys
from django_mcp.sessions.stores.calls import CallLog, CallRecord, CallState
from django_mcp.sessions.stores.log_step import LogStep
from django_mcp.sessions.stores.redis_link import Argument, RedisLink, Sending
from django_mcp.sessions.stores.streams import KEPT_SECONDS

logger = logging.getLogger("django_mcp.stores")

CALL_LIFE: Final = 2 * DAY
"""Milliseconds for which a call is kept that nobody renews, and that nobody takes over."""

_READ: Final = LogStep("read_calls", writes=False)
_END: Final = LogStep("end_call")


class StandingCalls(CallLog):
    link: RedisLink
    places: Places

    def _end(
        self,
        place: Place,
        fence: int,
        state: CallState,
        event: bytes | None,
        how: str,
        record: CallRecord | None = None,
    ) -> int | None:
        """End a call and write its terminal event; return when, None if it was not what it is taken for."""
        keys = (call_key(place), "calls", "running", "requests", *stream_keys(place.stream), "outlet")
        seen = ("", "") if record is None else (int(record.body_began), int(record.cancel_requested))
        args = (*bounds(), place.id, fence, state, milliseconds(KEPT_SECONDS), how, *seen)
        ended: int | None = self.link.run(_END, place.tag, keys, args if event is None else (*args, event))
        return ended

    def _records(self, places: Collection[Place]) -> dict[str, tuple[bool, CallRecord]]:
        """Read calls; say of each whether it is of this epoch."""
        groups = list(by_tag({place.id: place for place in places}).items())
        answers = self.link.run_many([Sending(_READ, tag, [call_key(one) for one in here]) for tag, here in groups])
        return {
            place.id: (bool(row[0]), call_record(place.id, row[1]))
            for (_, here), rows in zip(groups, answers, strict=True)
            for place, row in zip(here, rows, strict=True)
            if row is not None
        }

    def _let_go(self, places: Sequence[Place]) -> None:
        """Take back the hints at calls that have ended. Where that fails, they are found to be over in their time."""
        try:
            self.link.send(self._ends(places))
        except StoreUnavailable as error:
            logger.info("the hints at %d calls that have ended are left for now: %s", len(places), error)

    def _ends(self, places: Iterable[Place]) -> list[tuple[Argument, ...]]:
        return [
            command
            for place in places
            for command in (
                ("ZREM", self._due(place), place.text()),
                ("ZREM", self.link.key(scope_tag(place.server, place.scope), "running"), place.text()),
            )
        ]

    def _due(self, place: Place) -> str:
        return self.link.key(due_tag(place.server), "due")

    def _servers(self) -> str:
        return self.link.key("servers")


def call_key(place: Place) -> str:
    return f"call:{plain(place.id)}"


def due_tag(server: str) -> str:
    return f"d:{digest(server)}"


def scope_tag(server: str, scope: str) -> str:
    return f"u:{digest(server, scope)}"


def lease_of(record: CallRecord) -> int:
    return round(record.lease_until.timestamp() * 1_000)


def in_doubt(record: CallRecord) -> CallRecord:
    """Return a call of another epoch as what it is to everybody: one that ended, nobody knows how."""
    return replace(record, state="interrupted", payload="", ended_at=record.ended_at or record.lease_until)


def call_record(name: str, fields: Sequence[Any]) -> CallRecord:
    fence, server, scope, session, stream, request, its, payload, repeatable, owner, lease, began = fields[1:13]
    cancel, progress, state, begun, ended = fields[13:]
    return CallRecord(
        id=name,
        fence=int(fence),
        server=decode(server),
        scope=decode(scope),
        session=decode(session) or None,
        stream=decode(stream),
        request_id=decode(request),
        digest=decode(its),
        payload=decode(payload),
        is_repeatable=repeatable == b"1",
        owner=decode(owner),
        lease_until=moment(lease),
        body_began=began == b"1",
        cancel_requested=cancel == b"1",
        progress=float(progress) if progress else None,
        state=cast("CallState", state.decode()),
        begun_at=moment(begun),
        ended_at=moment(ended) if ended else None,
    )

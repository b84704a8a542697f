"""The contract for what a log store keeps, read out of one store and written into another (`sessions.migration`).

A record is what a store keeps of one thing, whatever store it is. Names, numbers, fences and times stay what they
are: an event id, an idempotency key or a link that was given out before is good at the other store too. To restore a
record again changes nothing, and what has gone on in a store by itself is never put back.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal, TypeAlias

from django_mcp.sessions.stores.calls import CallHold, CallRecord
from django_mcp.sessions.stores.questions import QuestionRecord
from django_mcp.sessions.stores.streams import StreamKind

KEPT_NOTICES: Final = 1_000
"""How many changes of a server are read out; who has not seen older ones learns that everything changed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptEvent:
    sequence: int
    body: bytes
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptStream:
    """A stream with all events that it keeps. `expires_at` is when a closed one goes; the open standalone one of a
    session is its newest.
    """

    session: str
    name: str
    kind: StreamKind
    is_open: bool
    first: int
    last: int
    reader: int
    kept_seconds: float
    expires_at: datetime | None
    events: tuple[KeptEvent, ...]

    @property
    def size(self) -> int:
        return sum(len(event.body) for event in self.events)

    def body(self, sequence: int) -> bytes | None:
        """Return the event of a number, None where it is not kept."""
        place = sequence - self.first
        return self.events[place].body if 0 <= place < len(self.events) else None

    def behind(self, sequence: int) -> tuple[KeptEvent, ...]:
        return self.events[max(0, sequence - self.first + 1) :]


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptCursor:
    """Up to which change a session was told."""

    session: str
    cursor: int


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptClaim:
    """A claim that is not free; `outcome` is JSON text, empty unless it is done."""

    server: str
    scope: str
    key_digest: str
    digest: str
    state: Literal["running", "done"]
    fence: int
    outcome: str
    lease_until: datetime
    expires_at: datetime

    def is_held(self, now: datetime) -> bool:
        return self.state == "running" and self.lease_until > now

    def is_over(self, now: datetime) -> bool:
        return self.expires_at <= now and not self.is_held(now)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptResult:
    name_digest: str
    server: str
    tenant: str
    principal: str
    scope: str
    mime_type: str
    body: bytes
    created_at: datetime
    expires_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """A change under its number; `uri` is ASCII JSON text, empty for a list."""

    number: int
    kind: str
    uri: str
    at: datetime

    def is_like(self, other: "Notice | None") -> bool:
        """Say whether they are the same notice, by times that some stores keep to the millisecond."""
        if other is None or abs(milliseconds_of(self.at) - milliseconds_of(other.at)) > 1:
            return False
        return (self.number, self.kind, self.uri) == (other.number, other.kind, other.uri)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptChanges:
    """How far the changes of a server are numbered, and the newest of them, in order and without a gap."""

    server: str
    last: int
    notices: tuple[Notice, ...]

    @property
    def floor(self) -> int:
        """Return the lowest cursor to which is told what follows, and not that everything changed."""
        return self.notices[0].number - 1 if self.notices else self.last

    def notice(self, number: int) -> Notice | None:
        place = number - self.floor - 1
        return self.notices[place] if 0 <= place < len(self.notices) else None


Kept: TypeAlias = KeptChanges | KeptStream | KeptCursor | QuestionRecord | CallRecord | KeptClaim | KeptResult


class KeptLog(ABC):
    @abstractmethod
    def records(self) -> Iterator[Kept]:
        """Yield what is kept, read little by little: a stream at a time is in memory.

        Changes come first. Of a session, its streams that are closed come before its open ones, and all of them, its
        cursor and its questions before its calls. What is begun meanwhile may come or not; a record may come twice.

        Raises StoreUnavailable.
        """

    @abstractmethod
    def restore(self, record: Kept) -> bool:
        """Keep what a record says, unless the store knows more; say whether that changed anything.

        No bound on numbers or bytes refuses it, and what is over by its time is not kept. A stream gets the events
        behind its last one, and closes if it had closed; one that is closed here, on which a call runs here, or whose
        events are others, stays. A claim is replaced by `replaces_claim()`, changes by `joined_changes()`. A question
        that waits is settled. A call that is there, a result or a cursor stays.
        """

    @abstractmethod
    def forget_call(self, hold: CallHold) -> bool:
        """Delete a call that goes on in another store, and leave its stream open; False if it is not the caller's."""

    @abstractmethod
    def call_servers(self) -> list[str]:
        """Return the names of all servers of which calls may run."""

    def count_records(self) -> int | None:
        """Return about how many records there are; None where that costs as much as to read them."""
        return None


def replaces_claim(moved: KeptClaim, kept: KeptClaim | None, now: datetime) -> bool:
    """Say whether a claim from elsewhere takes the place of the one that is kept.

    A settled one stays, and so does one of another request. Of two the higher fence wins, but nothing that still runs
    takes a claim from somebody who holds it. Under one fence, what is settled or leased for longer is the later.
    """
    if moved.is_over(now):
        return False
    if kept is None or kept.is_over(now):
        return True
    if kept.state == "done" or kept.digest != moved.digest:
        return False
    if kept.fence != moved.fence:
        return moved.fence > kept.fence and (moved.state == "done" or not kept.is_held(now))
    return moved.state == "done" or milliseconds_of(moved.lease_until) > milliseconds_of(kept.lease_until)


def joined_changes(moved: KeptChanges, kept: KeptChanges | None, now: datetime) -> KeptChanges | None:
    """Return the changes to keep so that no cursor of either side misses one; None where they are right as they are.

    Where both sides have numbered changes of their own, every cursor of both learns that everything changed.
    """
    if kept is None:
        return moved
    if kept.floor > moved.last:
        return None
    newest = moved.notices[-1] if moved.notices else None
    if newest is None and kept.floor == moved.last:
        return None
    if newest is not None and newest.is_like(kept.notice(newest.number)):
        return None
    if kept.last < moved.last:
        its = kept.notices[-1] if kept.notices else None
        if its.is_like(moved.notice(its.number)) if its is not None else moved.floor <= kept.last:
            return moved
    last = max(kept.last, moved.last) + 2
    return KeptChanges(server=kept.server, last=last, notices=(Notice(number=last, kind="tools", uri="", at=now),))


def milliseconds_of(moment: datetime) -> int:
    return round(moment.timestamp() * 1_000)

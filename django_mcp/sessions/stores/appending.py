"""What one write transaction does to one stream in the database, inside the transaction of whoever calls.

Rows are locked in one order everywhere, so that writers wait and do not deadlock: a post stream, its call, the
session's outlet, a standalone stream. The numbers come first: an update of the stream's row, which it holds until the
events are there too.
"""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Final

from django.db.models import Q

from django_mcp.exceptions import OutputLimit, StreamClosed
from django_mcp.models import Event, Outlet, Stream
from django_mcp.models.event import EventQuerySet
from django_mcp.models.outlet import OutletQuerySet
from django_mcp.models.stream import StreamKind, StreamQuerySet
from django_mcp.sessions.stores.streams import EVENT_BYTES, MAX_EVENTS, MAX_OPEN_BYTES, MAX_STREAM_BYTES, first_to_keep

POST_BYTES: Final = MAX_OPEN_BYTES - MAX_STREAM_BYTES
"""All open post streams of a session, beside its one standalone stream."""


def _nothing() -> None:
    pass


class Appending:
    def __init__(self, using: str, session: str, stream: str, now: datetime) -> None:
        self._using = using
        self._session = session
        self._stream = stream
        self._now = now

    def append(
        self, bodies: Sequence[bytes], *, close: bool = False, condition: Callable[[], None] = _nothing
    ) -> Stream:
        """Append `bodies` within the bounds, and return the stream as it is then.

        `condition()` raises what forbids it, once the stream is held.

        Raises StreamClosed, OutputLimit.
        """
        ordinary = bodies[:-1] if close else bodies
        rows = self._row()
        if ordinary:
            fits = Q(last__lt=MAX_EVENTS - len(ordinary), size__lte=MAX_STREAM_BYTES - EVENT_BYTES - _size(ordinary))
            rows = rows.filter(fits | Q(kind=StreamKind.STANDALONE))
        if not self._take_numbers(rows, bodies):
            raise OutputLimit if self._row().filter(is_open=True).exists() else StreamClosed
        condition()
        row = self._row().get()
        if row.kind == StreamKind.STANDALONE:
            self._shed(row, bodies)
        elif not close and bodies and not self._outlets().add_bytes(self._session, _size(bodies), POST_BYTES):
            raise OutputLimit
        self._insert(row, bodies)
        if close:
            self._close(row, counted=row.size - _size(bodies))
        return row

    def end_call(self, event: bytes | None, *, condition: Callable[[], bool], is_last: Callable[[], bool]) -> bool:
        """Write what a call ends with, over any bound, and close the stream if it `is_last` on it.

        Says whether `condition()`, asked once the stream is held, was true; where it was not, the caller's transaction
        is to be undone. A stream that is closed is left as it is.
        """
        bodies = [] if event is None else [event]
        is_open = self._take_numbers(self._row(), bodies)
        if not condition():
            return False
        if is_open:
            row = self._row().get()
            self._insert(row, bodies)
            if row.kind == StreamKind.POST and is_last():
                self._close(row, counted=row.size - _size(bodies))
            elif row.kind == StreamKind.POST and bodies:
                self._outlets().add_bytes(self._session, _size(bodies))
        return True

    def _take_numbers(self, rows: StreamQuerySet, bodies: Sequence[bytes]) -> bool:
        return rows.take_numbers(len(bodies), _size(bodies), written_at=self._now)

    def _insert(self, row: Stream, bodies: Sequence[bytes]) -> None:
        """Insert those of the last `bodies` of the stream that it keeps."""
        following = row.last - len(bodies) + 1
        kept = bodies[max(0, row.first - following) :]
        self._events().insert(row.name, row.last - len(kept) + 1, kept, self._now)

    def _close(self, row: Stream, *, counted: int) -> None:
        self._row().update(is_open=False, expires_at=self._now + timedelta(seconds=row.kept_seconds))
        if row.kind == StreamKind.POST and counted:
            self._outlets().add_bytes(self._session, -counted)

    def _shed(self, row: Stream, bodies: Sequence[bytes]) -> None:
        """Take events from the front of a standalone stream, the old ones first, until what is left may stay."""
        events = self._events().filter(stream_id=row.name)
        oldest = self._now - timedelta(seconds=row.kept_seconds)
        is_over = row.size > MAX_STREAM_BYTES or row.last - row.first >= MAX_EVENTS
        if not bodies or not (is_over or events.filter(sequence=row.first, created_at__lt=oldest).exists()):
            return
        old = list(events.order_by("sequence").values_list("sequence", "size", "created_at"))
        new, following = list(map(len, bodies)), row.last - len(bodies) + 1
        first = first_to_keep(old, new, following=following, oldest=oldest)
        events.filter(sequence__lt=first).delete()
        row.first = first
        row.size = sum(size for number, size, _ in old if number >= first) + sum(new[max(0, first - following) :])
        self._row().update(first=row.first, size=row.size)

    def _row(self) -> StreamQuerySet:
        return Stream.objects.using(self._using).filter(pk=self._stream, session_id=self._session)

    def _outlets(self) -> OutletQuerySet:
        return Outlet.objects.using(self._using)

    def _events(self) -> EventQuerySet:
        return Event.objects.using(self._using)


def _size(bodies: Sequence[bytes]) -> int:
    return sum(map(len, bodies))

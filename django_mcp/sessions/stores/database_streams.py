"""Streams in the project's database: SQLite, PostgreSQL, MySQL or MariaDB."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from django.db import router
from django.db.models import Exists, F, OuterRef, Q
from django.utils import timezone

from django_mcp.exceptions import FenceLost, StreamClosed
from django_mcp.models import Call, MCPSession, Outlet, Stream
from django_mcp.models.outlet import OutletQuerySet
from django_mcp.models.stream import StreamKind, StreamQuerySet
from django_mcp.models.transactions import transact, transactional, translated
from django_mcp.sessions.stores.appending import Appending
from django_mcp.sessions.stores.calls import CallHold
from django_mcp.sessions.stores.streams import (
    EVENTS_AT_ONCE,
    KEPT_SECONDS,
    StreamEvent,
    StreamLog,
    StreamPage,
    is_stream_name,
    new_stream_name,
)
from django_mcp.sessions.stores.streams import StreamKind as Kind

ABANDONED_SECONDS: Final = 86_400
"""After so long without an event a post stream on which nothing runs is closed: nobody else will."""
SWEEP_STREAMS: Final = 20
"""Each may have MAX_EVENTS."""


class DatabaseStreams(StreamLog):
    write_alias: str

    def open_stream(self, session: str, kind: Kind, *, kept_seconds: float = KEPT_SECONDS) -> str:
        name = new_stream_name(kind)
        now = timezone.now()
        stream = Stream(
            name=name, session_id=session, kind=kind, kept_seconds=kept_seconds, opened_at=now, written_at=now
        )

        def insert() -> None:
            self._outlets().ensure(session)
            if kind == "standalone":
                self._make_newest(session, name, now)
            stream.save(using=self.write_alias, force_insert=True)

        transact(insert, using=self.write_alias)
        return name

    @transactional
    def append(
        self,
        session: str,
        stream: str,
        bodies: Sequence[bytes],
        *,
        close: bool = False,
        hold: CallHold | None = None,
        progress: float | None = None,
    ) -> int:
        def check() -> None:
            if hold is None:
                return
            # An update holds the call, so that nobody takes it over before the events are there.
            held = Call.objects.using(self.write_alias).held(hold.id, hold.fence)
            if not held.keep():
                raise FenceLost
            if progress is not None:
                held.progress_to(progress)

        if not is_stream_name(stream):
            raise StreamClosed
        appending = Appending(self.write_alias, session, stream, timezone.now())
        return appending.append(bodies, close=close, condition=check).last

    @translated
    def read_stream(
        self, session: str, stream: str, after: int = 0, *, limit: int = EVENTS_AT_ONCE
    ) -> StreamPage | None:
        rows = list(self._stream(session, stream).with_events(after)[: max(limit, 1)])
        if not rows or rows[0].is_over(timezone.now()):
            return None
        return StreamPage(
            first=rows[0].first,
            last=rows[0].last,
            is_closed=not rows[0].is_open,
            reader=rows[0].reader,
            events=tuple(
                StreamEvent(sequence=row.sequence, body=bytes(row.body))
                for row in rows
                if row.sequence is not None and row.body is not None
            ),
        )

    @transactional
    def take_reader(self, session: str, stream: str) -> int | None:
        rows = self._stream(session, stream)
        now = timezone.now()
        row = rows.first()
        if row is None or row.is_over(now):
            return None
        if row.kind == StreamKind.STANDALONE and self._make_newest(session, stream, now):
            rows.update(is_open=True, expires_at=None)
        return rows.take_reader()

    @transactional
    def push(self, session: str, bodies: Sequence[bytes]) -> str | None:
        # While the outlet is held, no newer stream can take the place of the newest.
        if not self._outlets().hold(session):
            return None
        newest = self._newest(session)
        if newest is None:
            return None
        try:
            Appending(self.write_alias, session, newest, timezone.now()).append(bodies)
        except StreamClosed:
            return None
        return newest

    @translated
    def change_cursor(self, session: str) -> int | None:
        return self._outlets().of(session).values_list("cursor", flat=True).first()

    def feed_changes(self, session: str, *, after: int | None, upto: int, bodies: Sequence[bytes]) -> bool:
        def move() -> bool:
            if not self._outlets().move_cursor(session, after, upto):
                return False
            appending = Appending(self.write_alias, session, self._newest(session) or "", timezone.now())
            appending.append(bodies)
            return True

        try:
            return transact(move, using=self.write_alias)
        except StreamClosed:
            return False

    def sweep_streams(self) -> int:
        """Delete streams that are over, and those whose session is; close those that were abandoned."""
        now = timezone.now()
        rows = Stream.objects.using(self.write_alias)
        swept = self._delete_streams(rows.filter(expires_at__lte=now))
        if router.db_for_write(MCPSession) == self.write_alias:
            since = now - timedelta(seconds=KEPT_SECONDS)
            alive = MCPSession.objects.using(self.write_alias).filter(
                Q(ended_at__isnull=True) | Q(ended_at__gt=since), pk=OuterRef("session_id")
            )
            swept += self._delete_streams(rows.filter(~Exists(alive), opened_at__lte=since))
        return swept + sum(self._close_abandoned(session, name) for session, name in self._abandoned(now))

    def _abandoned(self, now: datetime) -> list[tuple[str, str]]:
        before = now - timedelta(seconds=ABANDONED_SECONDS)
        running = Call.objects.using(self.write_alias).running()
        idle = Stream.objects.using(self.write_alias).filter(
            ~Exists(running.filter(session_id=OuterRef("session_id"), stream=OuterRef("name"))),
            kind=StreamKind.POST,
            is_open=True,
            opened_at__lte=before,
            written_at__lte=before,
        )
        return list(idle.values_list("session_id", "name")[:SWEEP_STREAMS])

    def _close_abandoned(self, session: str, name: str) -> int:
        try:
            self.append(session, name, [], close=True)
        except StreamClosed:
            return 0
        return 1

    @transactional
    def _delete_streams(self, over: StreamQuerySet) -> int:
        """Delete some of the streams with their events. Each is held first, so that nobody appends to it meanwhile."""
        found = list(over.values_list("name", flat=True)[:SWEEP_STREAMS])
        rows = Stream.objects.using(self.write_alias).filter(pk__in=found)
        if not found or not rows.update(reader=F("reader")):
            return 0
        still = list(over.filter(pk__in=found).values_list("name", flat=True))
        _, deleted = rows.filter(pk__in=still).delete()
        return deleted.get(Stream._meta.label, 0)

    def _make_newest(self, session: str, stream: str, now: datetime) -> bool:
        """Make a stream the session's newest, which closes the former; False if it was the newest before."""
        if not self._outlets().hold(session):
            self._outlets().ensure(session)
            self._outlets().hold(session)
        former = self._newest(session)
        if former == stream:
            return False
        self._outlets().of(session).update(standalone=stream)
        if former is not None and (row := self._stream(session, former).first()) is not None:
            expires_at = now + timedelta(seconds=row.kept_seconds)
            rows = self._stream(session, former).filter(is_open=True)
            rows.update(is_open=False, expires_at=expires_at)
            self._stream(session, former).take_reader()
        return True

    def _newest(self, session: str) -> str | None:
        return self._outlets().of(session).values_list("standalone", flat=True).first()

    def _stream(self, session: str, stream: str) -> StreamQuerySet:
        rows = Stream.objects.using(self.write_alias)
        return rows.filter(pk=stream, session_id=session) if is_stream_name(stream) else rows.none()

    def _outlets(self) -> OutletQuerySet:
        return Outlet.objects.using(self.write_alias)

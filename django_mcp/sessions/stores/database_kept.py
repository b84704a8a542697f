"""What the database keeps of a log, read out for another store, page by page."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any, Final

from django.db.models import F, Model, QuerySet
from django.utils import timezone

from django_mcp.models import Call, Change, ChangeSequence, Claim, Outlet, Question, StoredResult, Stream
from django_mcp.models.claim import ClaimState
from django_mcp.models.stream import StreamKind
from django_mcp.models.transactions import transactional, translated
from django_mcp.sessions.stores.calls import CallHold
from django_mcp.sessions.stores.database_calls import call_record
from django_mcp.sessions.stores.database_questions import question_record
from django_mcp.sessions.stores.kept import (
    KEPT_NOTICES,
    Kept,
    KeptChanges,
    KeptClaim,
    KeptCursor,
    KeptEvent,
    KeptLog,
    KeptResult,
    KeptStream,
    Notice,
)
from django_mcp.sessions.stores.streams import KEPT_SECONDS

PAGE_ROWS: Final = 500
PAGE_RESULTS: Final = 10
"""Each may have megabytes."""


class DatabaseKept(KeptLog):
    write_alias: str

    def records(self) -> Iterator[Kept]:
        for sequence in self._rows(ChangeSequence):
            yield self.changes_of(sequence)
        for outlet in self._rows(Outlet):
            yield from self._of_session(outlet)
        since = timezone.now() - timedelta(seconds=KEPT_SECONDS)
        yield from (call_record(row) for row in self._rows(Call) if row.ended_at is None or row.ended_at > since)
        for claim in self._rows(Claim):
            now = timezone.now()
            if not claim.is_free(now):
                yield kept_claim(claim)
        for result in self._rows(StoredResult, size=PAGE_RESULTS):
            if result.expires_at > timezone.now():
                yield _kept_result(result)

    @translated
    def count_records(self) -> int | None:
        # An outlet is a record where it has a cursor.
        models: tuple[type[Model], ...] = (ChangeSequence, Stream, Question, Call, Claim, StoredResult)
        cursors = Outlet.objects.using(self.write_alias).filter(cursor__isnull=False).count()
        return cursors + sum(model._default_manager.using(self.write_alias).count() for model in models)

    @translated
    def call_servers(self) -> list[str]:
        running = Call.objects.using(self.write_alias).running()
        return sorted(running.values_list("server", flat=True).distinct())

    @transactional
    def forget_call(self, hold: CallHold) -> bool:
        held = Call.objects.using(self.write_alias).held(hold.id, hold.fence)
        if not held.keep():
            return False
        Call.objects.using(self.write_alias).filter(pk=hold.id).delete()
        return True

    @translated
    def changes_of(self, sequence: ChangeSequence) -> KeptChanges:
        rows = Change.objects.using(self.write_alias).filter(server=sequence.server, number__lte=sequence.last)
        newest = list(rows.order_by("-number")[:KEPT_NOTICES])
        notices = [
            Notice(number=row.number, kind=row.kind, uri=row.uri, at=row.created_at) for row in reversed(newest)
        ]
        return KeptChanges(server=sequence.server, last=sequence.last, notices=tuple(notices))

    def _of_session(self, outlet: Outlet) -> Iterator[Kept]:
        session = outlet.session_id
        for name in self._streams_of(session):
            stream = self._kept_stream(session, name)
            if stream is not None:
                yield stream
        if outlet.cursor is not None:
            yield KeptCursor(session=session, cursor=outlet.cursor)
        now = timezone.now()
        yield from (question_record(row, now) for row in self._questions_of(session))

    @translated
    def _streams_of(self, session: str) -> list[str]:
        rows = Stream.objects.using(self.write_alias).filter(session_id=session)
        return list(rows.order_by("is_open", "opened_at", "pk").values_list("name", flat=True))

    @translated
    def _questions_of(self, session: str) -> list[Question]:
        return list(Question.objects.using(self.write_alias).filter(session_id=session).order_by("asked_at", "pk"))

    @translated
    def _kept_stream(self, session: str, name: str) -> KeptStream | None:
        written: dict[str, Any] = {"written": F("behind__created_at")}
        found = Stream.objects.using(self.write_alias).filter(pk=name, session_id=session)
        rows: list[Any] = list(found.with_events(0).annotate(**written))
        if not rows or rows[0].is_over(timezone.now()):
            return None
        row = rows[0]
        return KeptStream(
            session=session,
            name=name,
            kind="post" if row.kind == StreamKind.POST else "standalone",
            is_open=row.is_open,
            first=row.first,
            last=row.last,
            reader=row.reader,
            kept_seconds=row.kept_seconds,
            expires_at=row.expires_at,
            events=tuple(
                KeptEvent(sequence=one.sequence, body=bytes(one.body), at=one.written)
                for one in rows
                if one.sequence is not None
            ),
        )

    def _rows(self, model: type[Any], *, size: int = PAGE_ROWS) -> Iterator[Any]:
        rows = model._default_manager.using(self.write_alias).order_by("pk")
        page = self._page(rows, size)
        while page:
            yield from page
            page = self._page(rows.filter(pk__gt=page[-1].pk), size) if len(page) == size else []

    @translated
    def _page(self, rows: QuerySet[Any], size: int) -> list[Any]:
        return list(rows[:size])


def kept_claim(row: Claim) -> KeptClaim:
    return KeptClaim(
        server=row.server,
        scope=row.scope,
        key_digest=row.key_digest,
        digest=row.digest,
        state="done" if row.state == ClaimState.DONE else "running",
        fence=row.fence,
        outcome=row.outcome,
        lease_until=row.lease_until,
        expires_at=row.expires_at,
    )


def _kept_result(row: StoredResult) -> KeptResult:
    return KeptResult(
        name_digest=row.name_digest,
        server=row.server,
        tenant=row.tenant,
        principal=row.principal,
        scope=row.scope,
        mime_type=row.mime_type,
        body=bytes(row.body),
        created_at=row.created_at,
        expires_at=row.expires_at,
    )

"""What another store kept of a log, written into the database. Each record is a transaction of its own."""

import hashlib
import json
import os
import socket
from datetime import datetime, timedelta
from typing import Any, Final

from django.db import IntegrityError
from django.db.models import F
from django.utils import timezone

from django_mcp.exceptions import StoreUnavailable
from django_mcp.models import Call, Change, ChangeSequence, Claim, Event, Outlet, Question, StoredResult, Stream
from django_mcp.models.claim import ClaimState
from django_mcp.models.question import QuestionState
from django_mcp.models.transactions import transact, transactional
from django_mcp.sessions.stores.calls import CallRecord
from django_mcp.sessions.stores.database_kept import DatabaseKept, kept_claim
from django_mcp.sessions.stores.kept import (
    Kept,
    KeptChanges,
    KeptClaim,
    KeptCursor,
    KeptResult,
    KeptStream,
    joined_changes,
    replaces_claim,
)
from django_mcp.sessions.stores.questions import QuestionRecord
from django_mcp.sessions.stores.streams import KEPT_SECONDS

ROUNDS: Final = 20


class DatabaseRestoring(DatabaseKept):
    def restore(self, record: Kept) -> bool:
        try:
            return self._restore(record)
        except IntegrityError:
            # Somebody else restored the same at the same time.
            return False

    def _restore(self, record: Kept) -> bool:
        match record:
            case KeptStream():
                return self._restore_stream(record)
            case CallRecord():
                return self._restore_call(record)
            case QuestionRecord():
                return self._restore_question(record)
            case KeptClaim():
                return self._restore_claim(record)
            case KeptResult():
                return self._restore_result(record)
            case KeptCursor():
                return self._restore_cursor(record)
            case KeptChanges():
                return self._restore_changes(record)

    @transactional
    def _restore_stream(self, record: KeptStream) -> bool:
        now = timezone.now()
        if record.expires_at is not None and record.expires_at <= now:
            return False
        outlets = Outlet.objects.using(self.write_alias)
        outlets.ensure(record.session)
        if record.kind == "standalone":
            outlets.hold(record.session)
        rows = Stream.objects.using(self.write_alias).filter(pk=record.name, session_id=record.session)
        if not rows.update(reader=F("reader")):
            self._insert_stream(record, now)
            return True
        row = rows.get()
        if not row.is_open or not self._continues(record, row):
            return False
        events = Event.objects.using(self.write_alias)
        events.filter(stream_id=record.name, sequence__lt=record.first).delete()
        events.add(record.name, ((one.sequence, one.body, one.at) for one in record.behind(row.last)))
        rows.update(
            first=record.first,
            last=record.last,
            size=record.size,
            written_at=_written_at(record, now),
            is_open=record.is_open,
            expires_at=record.expires_at,
        )
        if record.kind == "post":
            outlets.add_bytes(record.session, (record.size if record.is_open else 0) - row.size)
        return True

    def _insert_stream(self, record: KeptStream, now: datetime) -> None:
        outlets = Outlet.objects.using(self.write_alias)
        is_open, expires_at = record.is_open, record.expires_at
        if is_open and record.kind == "standalone":
            newest = outlets.of(record.session).values_list("standalone", flat=True).first()
            if Stream.objects.using(self.write_alias).filter(pk=newest, is_open=True).exists():
                is_open, expires_at = False, now + timedelta(seconds=record.kept_seconds)
            else:
                outlets.of(record.session).update(standalone=record.name)
        Stream.objects.using(self.write_alias).create(
            name=record.name,
            session_id=record.session,
            kind=record.kind,
            first=record.first,
            last=record.last,
            size=record.size,
            reader=record.reader,
            is_open=is_open,
            kept_seconds=record.kept_seconds,
            opened_at=record.events[0].at if record.events else now,
            written_at=_written_at(record, now),
            expires_at=expires_at,
        )
        events = Event.objects.using(self.write_alias)
        events.add(record.name, ((one.sequence, one.body, one.at) for one in record.events))
        if is_open and record.kind == "post":
            outlets.add_bytes(record.session, record.size)

    def _continues(self, record: KeptStream, row: Stream) -> bool:
        """Say whether a record has more of a stream that is open than its row, and the same events so far."""
        if record.last < row.last or (record.last == row.last and record.is_open):
            return False
        if row.last >= record.first:
            its = Event.objects.using(self.write_alias).filter(stream_id=row.name, sequence=row.last)
            body = its.values_list("body", flat=True).first()
            if body is None or bytes(body) != record.body(row.last):
                return False
        running = Call.objects.using(self.write_alias).running()
        return not running.filter(session_id=record.session, stream=record.name).exists()

    @transactional
    def _restore_call(self, record: CallRecord) -> bool:
        calls = Call.objects.using(self.write_alias)
        is_gone = record.ended_at is not None and record.ended_at <= timezone.now() - timedelta(seconds=KEPT_SECONDS)
        if is_gone or calls.filter(pk=record.id).exists():
            return False
        request_digest = hashlib.sha256(record.request_id.encode("utf-8", "surrogatepass")).hexdigest()
        named = calls.running().filter(session_id=record.session, request_digest=request_digest, is_first=True)
        calls.create(
            id=record.id,
            session_id=record.session,
            server=record.server,
            scope=record.scope,
            stream=record.stream,
            request_id=record.request_id,
            request_digest=request_digest,
            is_first=record.session is None or not named.exists(),
            digest=record.digest,
            payload=record.payload,
            is_repeatable=record.is_repeatable,
            owner=record.owner,
            fence=record.fence,
            lease_until=record.lease_until,
            body_began=record.body_began,
            cancel_requested=record.cancel_requested,
            progress=record.progress,
            state=record.state,
            begun_at=record.begun_at,
            ended_at=record.ended_at,
        )
        return True

    @transactional
    def _restore_question(self, record: QuestionRecord) -> bool:
        questions = Question.objects.using(self.write_alias)
        now = timezone.now()
        state = QuestionState.WAITING if record.state == "expired" else QuestionState(record.state)
        is_answered = state == QuestionState.ANSWERED
        answer = json.dumps(record.answer, separators=(",", ":"), allow_nan=False) if is_answered else ""
        settled: dict[str, Any] = {
            "state": state,
            "answer": answer,
            "ended_at": None if state == QuestionState.WAITING else now,
        }
        found = questions.filter(pk=record.id)
        if found.exists():
            waiting = found.filter(session_id=record.session, state=QuestionState.WAITING)
            return state != QuestionState.WAITING and waiting.update(**settled) == 1
        if not record.call and record.expires_at <= now - timedelta(seconds=KEPT_SECONDS):
            return False
        Outlet.objects.using(self.write_alias).ensure(record.session)
        questions.create(
            id=record.id,
            session_id=record.session,
            call=record.call,
            key=record.key,
            asked_at=record.asked_at,
            expires_at=record.expires_at,
            **settled,
        )
        return True

    def _restore_claim(self, record: KeptClaim) -> bool:
        claims = Claim.objects.using(self.write_alias)
        mine = claims.filter(server=record.server, scope=record.scope, key_digest=record.key_digest)
        for _ in range(ROUNDS):
            if (changed := transact(lambda: self._put_claim(mine, record), using=self.write_alias)) is not None:
                return changed
        raise StoreUnavailable("A claim changed again and again")

    def _put_claim(self, mine: Any, record: KeptClaim) -> bool | None:
        """Say whether that changed anything; None where somebody else changed it meanwhile."""
        now = timezone.now()
        found = mine.first()
        kept = None if found is None or found.state == ClaimState.FREE else kept_claim(found)
        if not replaces_claim(record, kept, now):
            return False
        terms = {
            "digest": record.digest,
            "state": ClaimState(record.state),
            "fence": record.fence,
            "owner": f"{socket.gethostname()[:80]}:{os.getpid()}",
            "outcome": record.outcome,
            "lease_until": record.lease_until,
            "expires_at": record.expires_at,
        }
        if found is None:
            mine.create(
                server=record.server, scope=record.scope, key_digest=record.key_digest, created_at=now, **terms
            )
            return True
        seen = mine.filter(pk=found.pk, fence=found.fence, state=found.state, lease_until=found.lease_until)
        return True if seen.update(**terms) else None

    @transactional
    def _restore_result(self, record: KeptResult) -> bool:
        results = StoredResult.objects.using(self.write_alias)
        if record.expires_at <= timezone.now() or results.filter(name_digest=record.name_digest).exists():
            return False
        results.create(
            name_digest=record.name_digest,
            server=record.server,
            tenant=record.tenant,
            principal=record.principal,
            scope=record.scope,
            mime_type=record.mime_type,
            body=record.body,
            created_at=record.created_at,
            expires_at=record.expires_at,
        )
        return True

    @transactional
    def _restore_cursor(self, record: KeptCursor) -> bool:
        outlets = Outlet.objects.using(self.write_alias)
        outlets.ensure(record.session)
        return outlets.of(record.session).filter(cursor__isnull=True).update(cursor=record.cursor) == 1

    @transactional
    def _restore_changes(self, record: KeptChanges) -> bool:
        sequences = ChangeSequence.objects.using(self.write_alias).filter(server=record.server)
        # Held, so that no number is given out meanwhile.
        is_there = bool(sequences.update(last=F("last")))
        kept = self.changes_of(sequences.get()) if is_there else None
        joined = joined_changes(record, kept, timezone.now())
        if joined is None:
            return False
        if not is_there:
            sequences.create(server=record.server, last=joined.last)
        sequences.update(last=joined.last)
        changes = Change.objects.using(self.write_alias)
        changes.filter(server=record.server).delete()
        changes.bulk_create(
            [
                Change(server=record.server, number=one.number, kind=one.kind, uri=one.uri, created_at=one.at)
                for one in joined.notices
            ],
            batch_size=150,
        )
        return True


def _written_at(record: KeptStream, now: datetime) -> datetime:
    return record.events[-1].at if record.events else now

"""Calls in the project's database: SQLite, PostgreSQL, MySQL or MariaDB.

Whatever ends a call puts its terminal event onto its stream in the same transaction, so that neither is without the
other whoever dies when.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Final, cast

from django.db.models import Count, Q
from django.utils import timezone

from django_mcp.exceptions import FenceLost, Overloaded, StoreUnavailable
from django_mcp.models import Call, SessionQuota
from django_mcp.models.call import CallQuerySet
from django_mcp.models.call import CallState as State
from django_mcp.models.session import RETRY_AFTER_SECONDS
from django_mcp.models.transactions import outages, transact, transactional, translated
from django_mcp.sessions.stores.appending import Appending
from django_mcp.sessions.stores.calls import (
    CALLS_AT_ONCE,
    MAX_CALLS_PER_SCOPE,
    MAX_CALLS_PER_SESSION,
    CallHold,
    CallLog,
    CallRecord,
    CallState,
    NewCall,
    Renewal,
    fate,
)
from django_mcp.sessions.stores.streams import KEPT_SECONDS

SWEEP_CALLS: Final = 500
ABANDONED_SECONDS: Final = 86_400
"""So long after its lease a call that nobody took over has ended: no process serves its server."""


class _Lost(Exception):
    """Undoes the transaction: the call was not the caller's any more."""


class DatabaseCalls(CallLog):
    write_alias: str

    @transactional
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
        # Held, so that two that begin at once both count, and only one is the first of its request id.
        SessionQuota.objects.using(self.write_alias).hold(_digest(json.dumps(["calls", server, scope])))
        self._check_room_for_calls(server, scope, session, len(calls))
        digests = [_digest(call.request_id) for call in calls]
        taken = set(self._first_calls(session, digests)) if session is not None else set()
        now = timezone.now()
        rows = []
        for call, digest in zip(calls, digests, strict=True):
            rows.append(
                Call(
                    id=call.id,
                    session_id=session,
                    server=server,
                    scope=scope,
                    stream=stream,
                    request_id=call.request_id,
                    request_digest=digest,
                    is_first=digest not in taken,
                    digest=call.digest,
                    payload=call.payload,
                    is_repeatable=call.is_repeatable,
                    body_began=call.body_began,
                    owner=owner,
                    lease_until=now + timedelta(seconds=lease_seconds),
                    begun_at=now,
                )
            )
            taken.add(digest)
        self._calls().bulk_create(rows)
        return [CallHold(id=row.pk, fence=row.fence) for row in rows]

    def _check_room_for_calls(self, server: str, scope: str, session: str | None, count: int) -> None:
        mine = self._calls().running().filter(server=server, scope=scope)
        found = mine.aggregate(all=Count("pk"), here=Count("pk", filter=Q(session_id=session)))
        is_full = session is not None and found["here"] + count > MAX_CALLS_PER_SESSION
        if is_full or found["all"] + count > MAX_CALLS_PER_SCOPE:
            raise Overloaded(RETRY_AFTER_SECONDS, "principal", message="Too many calls at once")

    @transactional
    def renew_calls(self, owner: str, holds: Sequence[CallHold], *, lease_seconds: float) -> Renewal:
        mine = self._calls().unended().filter(pk__in=sorted({hold.id for hold in holds}), owner=owner)
        mine.update(lease_until=timezone.now() + timedelta(seconds=lease_seconds))
        standing = {
            CallHold(id=pk, fence=fence): is_cancelled
            for pk, fence, is_cancelled in mine.values_list("pk", "fence", "cancel_requested")
        }
        return Renewal(
            lost=frozenset(hold for hold in holds if hold not in standing),
            cancelled=frozenset(hold for hold in holds if standing.get(hold, False)),
        )

    @transactional
    def begin_body(self, hold: CallHold) -> bool:
        return self._held_call(hold).update(body_began=True) == 1

    @transactional
    def note_progress(self, hold: CallHold, progress: float) -> bool:
        if self._held_call(hold).progress_to(progress):
            return True
        if not self._held_call(hold).exists():
            raise FenceLost
        return False

    def finish_call(self, hold: CallHold, state: CallState, *, event: bytes | None = None) -> bool:
        if state == "running":
            raise ValueError("A call does not end as running.")
        now = timezone.now()

        def end() -> bool:
            call = self._calls().filter(pk=hold.id).first()
            return call is not None and self._end_call(call, self._held_call(hold), State(state), event, now)

        try:
            return transact(end, using=self.write_alias)
        except _Lost:
            return False

    @translated
    def find_call(self, call: str) -> CallRecord | None:
        row = self._calls().filter(pk=call).first()
        return None if row is None else call_record(row)

    @translated
    def find_running_call(self, session: str, request_id: str) -> CallRecord | None:
        row = self._call_named(session, request_id).first()
        return None if row is None else call_record(row)

    @translated
    def request_cancel(self, session: str, request_id: str) -> bool:
        # Most that is cancelled has ended, or is not recorded yet: that is seen without a write.
        found = self._call_named(session, request_id).values_list("pk", flat=True).first()
        if found is None:
            return False
        running = self._calls().unended().filter(pk=found)
        return transact(lambda: running.update(cancel_requested=True) == 1, using=self.write_alias)

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
        for call in self._due_calls(server, limit):
            try:
                record = self._take_call(call, owner, lease_seconds=lease_seconds, interrupted=interrupted)
            except StoreUnavailable:
                if not taken:
                    raise
                # What was taken before is the owner's, who has to learn it.
                break
            if record is not None:
                taken.append(record)
        return taken

    @translated
    def _due_calls(self, server: str, limit: int) -> list[Call]:
        return list(self._calls().filter(server=server).due(timezone.now())[:limit])

    def _take_call(
        self, call: Call, owner: str, *, lease_seconds: float, interrupted: Callable[[CallRecord], bytes]
    ) -> CallRecord | None:
        """Take one call that was read as abandoned; None if it is not what it was."""
        state = State(
            fate(body_began=call.body_began, is_repeatable=call.is_repeatable, cancel_requested=call.cancel_requested)
        )
        event = interrupted(call_record(call)) if state == State.INTERRUPTED else None

        def take() -> CallRecord | None:
            now = timezone.now()
            abandoned = self._calls().abandoned(call, now)
            if state != State.RUNNING:
                self._end_call(call, abandoned, state, event, now)
            elif not abandoned.take(owner, now + timedelta(seconds=lease_seconds)):
                return None
            return call_record(self._calls().get(pk=call.pk))

        try:
            return transact(take, using=self.write_alias)
        except _Lost:
            return None

    def _end_call(self, call: Call, mine: CallQuerySet, state: State, event: bytes | None, now: datetime) -> bool:
        """End a call and write its terminal event. Raises _Lost, which undoes the transaction, if it is not mine."""
        others = self._calls().running().filter(session_id=call.session_id, stream=call.stream).exclude(pk=call.pk)
        is_done = Appending(self.write_alias, call.session_id or "", call.stream, now).end_call(
            event,
            condition=lambda: mine.end(state, now),
            is_last=lambda: not others.exists(),
        )
        if not is_done:
            raise _Lost
        return True

    def sweep_calls(self) -> int:
        """Delete calls that ended some time ago, and end those that no process has taken over for a long time."""
        now = timezone.now()
        with outages(self.write_alias):
            left = list(self._calls().due(now - timedelta(seconds=ABANDONED_SECONDS))[:CALLS_AT_ONCE])
        return self._delete_calls(now) + sum(self._give_up(call, now) for call in left)

    @transactional
    def _delete_calls(self, now: datetime) -> int:
        over = self._calls().filter(ended_at__lte=now - timedelta(seconds=KEPT_SECONDS)).values_list("pk", flat=True)
        return self._calls().filter(pk__in=list(over[:SWEEP_CALLS])).delete()[0]

    def _give_up(self, call: Call, now: datetime) -> bool:
        """End a call of a server that is served no more; its stream closes without a word of it."""

        def end() -> bool:
            return self._end_call(call, self._calls().abandoned(call, now), State.INTERRUPTED, None, now)

        try:
            return transact(end, using=self.write_alias)
        except _Lost:
            return False

    def _first_calls(self, session: str, digests: Sequence[str]) -> list[str]:
        """Return those of the digests of request ids that a running call of the session has."""
        first = self._calls().running().filter(session_id=session, request_digest__in=digests, is_first=True)
        return list(first.values_list("request_digest", flat=True))

    def _call_named(self, session: str, request_id: str) -> CallQuerySet:
        return self._calls().running().filter(session_id=session, request_digest=_digest(request_id), is_first=True)

    def _held_call(self, hold: CallHold) -> CallQuerySet:
        return self._calls().held(hold.id, hold.fence)

    def _calls(self) -> CallQuerySet:
        return Call.objects.using(self.write_alias)


def call_record(row: Call) -> CallRecord:
    return CallRecord(
        id=row.pk,
        fence=row.fence,
        server=row.server,
        scope=row.scope,
        session=row.session_id,
        stream=row.stream,
        request_id=row.request_id,
        digest=row.digest,
        payload=row.payload,
        is_repeatable=row.is_repeatable,
        owner=row.owner,
        lease_until=row.lease_until,
        body_began=row.body_began,
        cancel_requested=row.cancel_requested,
        progress=row.progress,
        state=cast("CallState", str(row.state)),
        begun_at=row.begun_at,
        ended_at=row.ended_at,
    )


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()

"""What another store kept of a log, written into Redis: one step for each record."""

import json
from datetime import UTC, datetime
from typing import Any, Final

from django_mcp.exceptions import StoreUnavailable
from django_mcp.sessions.stores.cache_changes import CHANGES_KEYS, changes_tag
from django_mcp.sessions.stores.cache_claims import claims_tag
from django_mcp.sessions.stores.cache_kept import CacheKept
from django_mcp.sessions.stores.cache_places import (
    Place,
    digest,
    encode,
    milliseconds,
    plain,
    session_life,
    session_tag,
)
from django_mcp.sessions.stores.cache_questions import CALL_LIFE as ASKED_LIFE
from django_mcp.sessions.stores.cache_results import results_tag
from django_mcp.sessions.stores.cache_standing_calls import CALL_LIFE, call_key, scope_tag
from django_mcp.sessions.stores.cache_streams import POST_LIFE, CacheStreams, stream_keys
from django_mcp.sessions.stores.calls import CallRecord
from django_mcp.sessions.stores.kept import (
    Kept,
    KeptChanges,
    KeptClaim,
    KeptCursor,
    KeptResult,
    KeptStream,
    joined_changes,
    milliseconds_of,
)
from django_mcp.sessions.stores.log_step import LogStep
from django_mcp.sessions.stores.questions import QuestionRecord
from django_mcp.sessions.stores.redis_link import Argument
from django_mcp.sessions.stores.streams import KEPT_SECONDS

ROUNDS: Final = 20

_STREAM: Final = LogStep("restore_stream")
_CALL: Final = LogStep("restore_call")
_QUESTION: Final = LogStep("restore_question")
_CLAIM: Final = LogStep("restore_claim")
_RESULT: Final = LogStep("restore_result")
_CHANGES: Final = LogStep("restore_changes")
_CURSOR: Final = LogStep("restore_cursor")


class CacheRestoring(CacheStreams, CacheKept):
    def restore(self, record: Kept) -> bool:
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
                outlet = (record.cursor, session_life())
                return self.link.run(_CURSOR, session_tag(record.session), ("outlet",), outlet) is not None
            case KeptChanges():
                return self._restore_changes(record)

    def _restore_stream(self, record: KeptStream) -> bool:
        tag, life = session_tag(record.session), POST_LIFE if record.kind == "post" else session_life()
        self.link.send(self.places.pointers([Place(tag=tag, id=record.name)]))
        goes = "" if record.expires_at is None else milliseconds_of(record.expires_at)
        terms: tuple[Argument, ...] = (
            *(record.name, record.kind, int(record.is_open), record.first, record.last, record.reader),
            *(milliseconds(record.kept_seconds), goes, life, session_life()),
        )
        events = [part for event in record.events for part in (_micros(event.at), event.body)]

        def attempt(newest: str) -> Any:
            keys = ("outlet", "streams", *stream_keys(record.name), *(stream_keys(newest) if newest else ()))
            return self.link.run(_STREAM, tag, keys, (*terms, newest, *events))

        if record.kind == "standalone":
            return bool(self._with_newest(record.session, attempt))
        return bool(attempt("")[1])

    def _restore_call(self, record: CallRecord) -> bool:
        is_running = record.state == "running"
        life = CALL_LIFE
        if record.ended_at is not None:
            life = milliseconds_of(record.ended_at) + milliseconds(KEPT_SECONDS) - milliseconds_of(datetime.now(UTC))
        if life <= 0:
            return False
        tag = f"c:{plain(record.id)}" if record.session is None else session_tag(record.session)
        place = Place(tag=tag, id=record.id, stream=record.stream, server=record.server, scope=record.scope)
        lease = milliseconds_of(record.lease_until)
        hints: list[tuple[Argument, ...]] = self.places.pointers([place])
        if is_running:
            scope = self.link.key(scope_tag(record.server, record.scope), "running")
            hints += [
                ("ZADD", self._servers(), 0, encode(record.server)),
                ("PEXPIRE", self._servers(), session_life()),
                ("ZADD", self._due(place), lease, place.text()),
                ("PEXPIRE", self._due(place), CALL_LIFE),
                ("ZADD", scope, lease, place.text()),
                ("PEXPIRE", scope, CALL_LIFE),
            ]
        self.link.send(hints)
        fields: dict[str, Argument] = {
            "fence": record.fence,
            "server": encode(record.server),
            "scope": record.scope,
            "session": record.session or "",
            "stream": record.stream,
            "request": encode(record.request_id),
            "digest": record.digest,
            "payload": encode(record.payload),
            "repeatable": int(record.is_repeatable),
            "owner": encode(record.owner),
            "lease": lease,
            "began": int(record.body_began),
            "cancel": int(record.cancel_requested),
            "progress": "" if record.progress is None else repr(record.progress),
            "state": record.state,
            "begun": milliseconds_of(record.begun_at),
            "ended": "" if record.ended_at is None else milliseconds_of(record.ended_at),
        }
        keys = ("calls", "running", "requests", stream_keys(record.stream)[0], call_key(place))
        named = [part for field in fields.items() for part in field]
        args = (record.id, life, digest(record.request_id), int(is_running), *named)
        if self.link.run(_CALL, tag, keys, args) is None:
            return False
        # Whoever saw the hints before the call took them for those of one that is not to come.
        self.link.send(hints)
        return True

    def _restore_question(self, record: QuestionRecord) -> bool:
        tag = session_tag(record.session)
        state = "waiting" if record.state == "expired" else record.state
        answer = json.dumps(record.answer, separators=(",", ":"), allow_nan=False) if state == "answered" else ""
        after = ASKED_LIFE if record.call else milliseconds(KEPT_SECONDS)
        expires = milliseconds_of(record.expires_at)
        kept = expires + after - milliseconds_of(datetime.now(UTC))
        if kept <= 0:
            return False
        asked = [("SET", self._asked_by(record.call), tag, "PX", kept)] if record.call else []
        self.link.send([*self.places.pointers([Place(tag=tag, id=record.id)]), *asked])
        keys = (f"question:{record.id}", "waiting", "questions", f"asked:{plain(record.call)}")
        args: tuple[Argument, ...] = (
            *(record.id, encode(record.session), encode(record.call), encode(record.key), state, answer),
            *(milliseconds_of(record.asked_at), expires, after),
        )
        return self.link.run(_QUESTION, tag, keys, args) is not None

    def _restore_claim(self, record: KeptClaim) -> bool:
        args: tuple[Argument, ...] = (
            *(record.key_digest, encode(record.server), record.scope, record.digest, record.state, record.fence),
            *(record.outcome, milliseconds_of(record.lease_until), milliseconds_of(record.expires_at)),
        )
        keys = (f"claim:{record.key_digest}", "claims")
        return self.link.run(_CLAIM, claims_tag(record.server, record.scope), keys, args) is not None

    def _restore_result(self, record: KeptResult) -> bool:
        fields: tuple[tuple[str, Argument], ...] = (
            ("mime", encode(record.mime_type)),
            ("body", record.body),
            ("server", encode(record.server)),
            ("tenant", encode(record.tenant)),
            ("principal", encode(record.principal)),
            ("scope", record.scope),
        )
        args: list[Argument] = [record.name_digest, _micros(record.created_at), milliseconds_of(record.expires_at)]
        args += [part for field in fields for part in field]
        keys = ("results", f"result:{record.name_digest}")
        return self.link.run(_RESULT, results_tag(record.server, record.scope), keys, args) is not None

    def _restore_changes(self, record: KeptChanges) -> bool:
        tag = changes_tag(record.server)
        for _ in range(ROUNDS):
            kept = self.changes_under(tag)
            joined = joined_changes(record, kept, datetime.now(UTC))
            if joined is None:
                return False
            seen = "" if kept is None else str(kept.last)
            args: list[Argument] = [encode(record.server), seen, session_life(), joined.last, joined.floor]
            for one in joined.notices:
                args += [one.number, milliseconds_of(one.at), one.kind, one.uri]
            if self.link.run(_CHANGES, tag, CHANGES_KEYS, args) is not None:
                return True
        raise StoreUnavailable("Changes are published again and again")


def _micros(moment: datetime) -> int:
    return milliseconds_of(moment.replace(microsecond=0)) * 1_000 + moment.microsecond

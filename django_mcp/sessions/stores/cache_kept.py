"""What Redis keeps of a log, read out for another store by one scan for each kind of thing.

What is of another epoch is in doubt: a claim of one is read as interrupted, a call as ended, all else as not there.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import islice
from typing import Any, Final

from django_mcp.sessions.stores.cache_abandoned_calls import AbandonedCalls
from django_mcp.sessions.stores.cache_changes import CHANGES_KEYS
from django_mcp.sessions.stores.cache_places import Place, decode, plain
from django_mcp.sessions.stores.cache_questions import CacheQuestions, moment
from django_mcp.sessions.stores.cache_standing_calls import call_key, in_doubt
from django_mcp.sessions.stores.cache_streams import stream_keys
from django_mcp.sessions.stores.calls import CallHold, CallRecord
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
from django_mcp.sessions.stores.log_step import LogStep

SCAN_COUNT: Final = 1_000
AT_ONCE: Final = 100
_CLAIM_FIELDS: Final = ("server", "scope", "digest", "state", "fence", "outcome", "lease", "expires")
_SPECIAL: Final = re.compile(r"[*?\[\]\\]")

_STREAM: Final = LogStep("kept_stream", writes=False)
_CHANGES: Final = LogStep("kept_changes", writes=False)
_RESULT: Final = LogStep("kept_result", writes=False)
_FORGET: Final = LogStep("forget_call")


class CacheKept(AbandonedCalls, CacheQuestions, KeptLog):
    def records(self) -> Iterator[Kept]:
        for tag, _ in self._found("n", "sequence"):
            changes = self.changes_under(tag)
            if changes is not None:
                yield changes
        for tag in self._session_tags():
            yield from self._of_session(tag)
        calls = ((tag, key.removeprefix("call:")) for tag, key in self._found("c", "call:*"))
        for some in _batches(calls):
            yield from self._calls(Place(tag=tag, id=name) for tag, name in some)
        for some in _batches(self._found("k", "claim:*")):
            yield from self._claims(some)
        for tag, key in self._found("r", "result:*"):
            result = self._result(tag, key.removeprefix("result:"))
            if result is not None:
                yield result

    def call_servers(self) -> list[str]:
        (servers,) = self.link.send([("ZRANGE", self._servers(), 0, -1)])
        return [decode(server) for server in servers]

    def forget_call(self, hold: CallHold) -> bool:
        place = self.places.one(hold.id)
        if place is None:
            return False
        keys = (call_key(place), "calls", "running", "requests", stream_keys(place.stream)[0])
        if self.link.run(_FORGET, place.tag, keys, (place.id, hold.fence)) is None:
            return False
        self._let_go([place])
        return True

    def changes_under(self, tag: str) -> KeptChanges | None:
        found = self.link.run(_CHANGES, tag, CHANGES_KEYS, (KEPT_NOTICES,))
        if found is None:
            return None
        server, last, entries = found
        notices = [
            Notice(
                number=int(number.partition(b"-")[2]),
                kind=fields[3].decode(),
                uri=fields[5].decode(),
                at=moment(fields[1]),
            )
            for number, fields in reversed(entries)
        ]
        return KeptChanges(server=decode(server), last=int(last), notices=tuple(notices))

    def _session_tags(self) -> Iterator[str]:
        """Yield each session once: by the first that it has of three."""
        indexes = ("outlet", "calls", "questions")
        for place, index in enumerate(indexes):
            for some in _batches(self._found("s", index)):
                tags = [tag for tag, _ in some]
                before = [
                    ("EXISTS", *(self.link.key(tag, other) for other in indexes[:place])) if place else ("ECHO", "")
                    for tag in tags
                ]
                for tag, is_done in zip(tags, self.link.send(before), strict=True):
                    if not place or not is_done:
                        yield tag

    def _of_session(self, tag: str) -> Iterator[Kept]:
        reads = [("ZRANGE", self.link.key(tag, index), 0, -1) for index in ("streams", "questions", "calls")]
        streams, questions, calls, cursor = self.link.send([*reads, ("HGET", self.link.key(tag, "outlet"), "cursor")])
        session = tag.partition(":")[2]
        open_ones: list[str] = []
        for name in map(bytes.decode, streams):
            stream = self._stream(session, tag, name)
            if stream is not None and stream.is_open and stream.kind == "standalone":
                open_ones.append(name)
            elif stream is not None:
                yield stream
        for name in open_ones:
            if (stream := self._stream(session, tag, name)) is not None:
                yield stream
        if cursor is not None:
            yield KeptCursor(session=session, cursor=int(cursor))
        yield from sorted(self._read(tag, [name.decode() for name in questions]), key=lambda one: one.asked_at)
        for some in _batches(calls):
            yield from self._calls(Place(tag=tag, id=name.decode()) for name in some)

    def _stream(self, session: str, tag: str, name: str) -> KeptStream | None:
        found = self.link.run(_STREAM, tag, stream_keys(name))
        if found is None:
            return None
        (_, kind, is_open, first, last, reader, kept), goes, entries = found
        return KeptStream(
            session=session,
            name=name,
            kind="post" if kind == b"post" else "standalone",
            is_open=is_open == b"1",
            first=int(first),
            last=int(last),
            reader=int(reader),
            kept_seconds=float(kept) / 1_000,
            expires_at=None if is_open == b"1" else moment(goes),
            events=tuple(
                KeptEvent(sequence=int(number.partition(b"-")[2]), body=fields[3], at=_exactly(fields[1]))
                for number, fields in entries
            ),
        )

    def _calls(self, places: Iterable[Place]) -> Iterator[CallRecord]:
        found = self._records([place for place in places if plain(place.id) == place.id])
        for is_current, record in found.values():
            yield record if is_current else in_doubt(record)

    def _claims(self, some: Sequence[tuple[str, str]]) -> Iterator[KeptClaim]:
        found = self.link.fields(some, [_CLAIM_FIELDS] * len(some))
        for (_, key), row in zip(some, found, strict=True):
            if row is None or any(value is None for value in row.values):
                continue
            server, scope, digest, state, fence, outcome, lease, expires = (value or b"" for value in row.values)
            is_done = row.is_current and state == b"done"
            yield KeptClaim(
                server=decode(server),
                scope=decode(scope),
                key_digest=key.removeprefix("claim:"),
                digest=decode(digest),
                state="done" if is_done else "running",
                fence=int(fence),
                outcome=decode(outcome) if is_done else "",
                lease_until=moment(lease if row.is_current else b"0"),
                expires_at=moment(expires),
            )

    def _result(self, tag: str, name: str) -> KeptResult | None:
        found = self.link.run(_RESULT, tag, ("results", f"result:{name}"), (name,))
        if found is None:
            return None
        (server, tenant, principal, scope, mime_type, body), made, goes = found
        return KeptResult(
            name_digest=name,
            server=decode(server),
            tenant=decode(tenant),
            principal=decode(principal),
            scope=decode(scope),
            mime_type=decode(mime_type),
            body=body,
            created_at=_exactly(made),
            expires_at=moment(goes),
        )

    def _found(self, kind: str, key: str) -> Iterator[tuple[str, str]]:
        """Yield the tag and the name of each key of this form under a tag of this kind."""
        start = self.link.key("").removesuffix("}")
        pattern = _SPECIAL.sub(r"\\\g<0>", start) + kind + ":*}:" + key
        client: Any = self.link.client
        with self.link.outages():
            for found in client.scan_iter(match=pattern, count=SCAN_COUNT):
                tag, _, name = found.decode().removeprefix(start).partition("}:")
                yield tag, name


def _batches(found: Iterable[Any]) -> Iterator[list[Any]]:
    left = iter(found)
    while some := list(islice(left, AT_ONCE)):
        yield some


def _exactly(micros: bytes) -> datetime:
    """Return the time that a number of microseconds since 1970 is."""
    seconds, rest = divmod(int(micros), 1_000_000)
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=rest)

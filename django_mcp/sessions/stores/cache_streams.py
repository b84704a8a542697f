"""Streams on Redis: of each a hash and a Redis stream of its events, whose ids are their numbers.

All of a session stands under one hash tag. A step that needs the session's newest standalone stream is sent with the
one that was the newest when somebody looked, and is sent again where another one is by now.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from threading import Lock
from typing import Any, Final

from django_mcp.exceptions import FenceLost, OutputLimit, StoreUnavailable, StreamClosed
from django_mcp.sessions.stores.cache_places import DAY, Place, Places, milliseconds, plain, session_life, session_tag
from django_mcp.sessions.stores.calls import CallHold
from django_mcp.sessions.stores.log_step import LogStep
from django_mcp.sessions.stores.redis_link import Argument, RedisLink
from django_mcp.sessions.stores.streams import (
    EVENT_BYTES,
    EVENTS_AT_ONCE,
    KEPT_SECONDS,
    MAX_EVENTS,
    MAX_OPEN_BYTES,
    MAX_STREAM_BYTES,
    StreamEvent,
    StreamKind,
    StreamLog,
    StreamPage,
    is_stream_name,
    new_stream_name,
)

POST_BYTES: Final = MAX_OPEN_BYTES - MAX_STREAM_BYTES
"""All open post streams of a session, beside its one standalone stream."""
POST_LIFE: Final = 2 * DAY
"""Milliseconds. A post stream to which nothing was written for half of it, and on which nothing runs, may go."""
ROUNDS: Final = 50
MAX_NEWEST: Final = 10_000

_OPEN: Final = LogStep("open_stream")
_APPEND: Final = LogStep("append")
_READ: Final = LogStep("read_stream", writes=False)
_TAKE_READER: Final = LogStep("take_reader")
_PUSH: Final = LogStep("push")
_FEED: Final = LogStep("feed_changes")
_COUNT: Final = LogStep("count_bytes", writes=False)


def stream_keys(name: str) -> tuple[str, str]:
    """Return the keys of a stream and of its events."""
    return f"stream:{plain(name)}", f"events:{plain(name)}"


def bounds() -> tuple[Argument, ...]:
    """Return what each step that appends begins its arguments with."""
    return MAX_EVENTS, MAX_STREAM_BYTES, EVENT_BYTES, POST_BYTES, session_life()


class CacheStreams(StreamLog):
    link: RedisLink
    places: Places
    newest: "Newest"

    def open_stream(self, session: str, kind: StreamKind, *, kept_seconds: float = KEPT_SECONDS) -> str:
        name = new_stream_name(kind)
        tag = session_tag(session)
        self.link.send(self.places.pointers([Place(tag=tag, id=name)]))
        life = POST_LIFE if kind == "post" else session_life()
        terms = (name, kind, milliseconds(kept_seconds), life, session_life())

        def attempt(former: str) -> Any:
            keys = ("outlet", "streams", f"stream:{name}", *(stream_keys(former) if former else ()))
            return self.link.run(_OPEN, tag, keys, (*terms, former))

        if kind == "post":
            attempt("")
        else:
            self._with_newest(session, attempt)
            self.newest.put(session, name)
        return name

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
        if not is_stream_name(stream):
            raise StreamClosed
        keys = (*stream_keys(stream), "outlet", *((f"call:{plain(hold.id)}",) if hold is not None else ()))
        fence = "" if hold is None else hold.fence
        args = (*bounds(), int(close), fence, "" if progress is None else repr(float(progress)), *bodies)
        tag = session_tag(session)
        answer = self.link.run(_APPEND, tag, keys, args)
        if answer == b"full" and self._count_bytes(tag):
            answer = self.link.run(_APPEND, tag, keys, args)
        match answer:
            case b"closed":
                raise StreamClosed
            case b"lost":
                raise FenceLost
            case b"limit" | b"full":
                raise OutputLimit
            case int(last):
                return last
        raise StoreUnavailable(f"Redis answered {answer!r} to an append")

    def read_stream(
        self, session: str, stream: str, after: int = 0, *, limit: int = EVENTS_AT_ONCE
    ) -> StreamPage | None:
        if not is_stream_name(stream):
            return None
        found = self.link.run(_READ, session_tag(session), stream_keys(stream), (max(after, 0) + 1, max(limit, 1)))
        if found is None:
            return None
        first, last, is_open, reader, events = found
        return StreamPage(
            first=first,
            last=last,
            is_closed=not is_open,
            reader=reader,
            events=tuple(
                StreamEvent(sequence=int(number.partition(b"-")[2]), body=fields[3]) for number, fields in events
            ),
        )

    def take_reader(self, session: str, stream: str) -> int | None:
        if not is_stream_name(stream):
            return None
        tag = session_tag(session)

        def attempt(former: str) -> Any:
            keys = ("outlet", *stream_keys(stream), *(stream_keys(former) if former else ()))
            return self.link.run(_TAKE_READER, tag, keys, (stream, session_life(), former))

        found: int | None = self._with_newest(session, attempt)
        if found is not None:
            self.link.send(self.places.pointers([Place(tag=tag, id=stream)]))
        return found

    def push(self, session: str, bodies: Sequence[bytes]) -> str | None:
        def attempt(newest: str) -> Any:
            keys = ("outlet", *stream_keys(newest))
            return self.link.run(_PUSH, session_tag(session), keys, (*bounds(), newest, *bodies))

        found: bytes | None = self._with_newest(session, attempt)
        return None if found is None else found.decode()

    def change_cursor(self, session: str) -> int | None:
        (found,) = self.link.send([("HGET", self.link.key(session_tag(session), "outlet"), "cursor")])
        return None if found is None else int(found)

    def feed_changes(self, session: str, *, after: int | None, upto: int, bodies: Sequence[bytes]) -> bool:
        def attempt(newest: str) -> Any:
            keys = ("outlet", *stream_keys(newest))
            args = (*bounds(), newest, "" if after is None else after, upto, *bodies)
            return self.link.run(_FEED, session_tag(session), keys, args)

        return self._with_newest(session, attempt) is not None

    def _with_newest(self, session: str, attempt: Callable[[str], Any]) -> Any:
        """Return what `attempt(name)` does with the session's newest standalone stream; None where it does nothing."""
        newest = self.newest.get(session)
        for _ in range(ROUNDS):
            answer = attempt(newest)
            if answer is None:
                return None
            is_done, found = answer
            if is_done:
                return found
            newest = found.decode()
            self.newest.put(session, newest)
        raise StoreUnavailable("Others open streams of the session again and again")

    def _count_bytes(self, tag: str) -> bool:
        """Count what the open streams of a session hold; say whether it is less than it seemed to be."""
        (found,) = self.link.send([("ZRANGE", self.link.key(tag, "streams"), 0, -1)])
        names = [name.decode() for name in found]
        keys = ("outlet", "streams", *(stream_keys(name)[0] for name in names))
        less: int | None = self.link.run(_COUNT, tag, keys, (session_life(), *names))
        return less is not None and less > 0


class Newest:
    """Which standalone stream was a session's newest when this process last heard of it: a guess that saves a look."""

    def __init__(self) -> None:
        self._names: OrderedDict[str, str] = OrderedDict()
        self._lock = Lock()

    def get(self, session: str) -> str:
        return self._names.get(session, "")

    def put(self, session: str, name: str) -> None:
        with self._lock:
            self._names[session] = name
            self._names.move_to_end(session)
            while len(self._names) > MAX_NEWEST:
                self._names.popitem(last=False)

"""The store on Redis 6.2 or later, through an alias of django-redis in `CACHES`: as lasting as that Redis is.

Options: `CACHE`, the alias in `CACHES` ("default"); `DURABLE`, whether nothing that Redis acknowledged is ever lost in
a restart (None: what Redis says of itself); `MAX_RESULTS_PER_PRINCIPAL` (200), over which the oldest kept result goes;
`MAX_CLAIMS_PER_PRINCIPAL` (100,000), over which nobody claims another key; `USING`, the database of the index of
conversations ("default"); `MAX_CONVERSATIONS` (1,000,000), over which nobody begins another one. Times are those of
Redis.

Everything is JSON text, numbers or the bytes that were given, and everything has its time, after which Redis deletes
it. What was written in another epoch (`redis_link`) is refused: a stream and a question of one are as if there were
none, a call has ended, a claim is interrupted.
"""

import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from threading import Lock
from typing import Any, Final

from django.core.checks import CheckMessage, Error

from django_mcp.exceptions import ConfigurationError, StoreUnavailable
from django_mcp.sessions.stores.base import LogStore, Mark
from django_mcp.sessions.stores.cache_calls import CacheCalls
from django_mcp.sessions.stores.cache_changes import CacheChanges
from django_mcp.sessions.stores.cache_claims import CacheClaims
from django_mcp.sessions.stores.cache_places import Place, Places, plain, session_life, session_tag
from django_mcp.sessions.stores.cache_restoring import CacheRestoring
from django_mcp.sessions.stores.cache_results import CacheResults
from django_mcp.sessions.stores.cache_state import CacheStateStore
from django_mcp.sessions.stores.cache_streams import Newest, stream_keys
from django_mcp.sessions.stores.calls import CallHold, NewCall
from django_mcp.sessions.stores.log_step import LogStep
from django_mcp.sessions.stores.questions import is_question_id
from django_mcp.sessions.stores.redis_checks import check_redis
from django_mcp.sessions.stores.redis_link import RedisLink, Sending
from django_mcp.sessions.stores.streams import is_stream_name
from django_mcp.setting import SETTING

OPTIONS: Final = frozenset(
    {"CACHE", "DURABLE", "MAX_CLAIMS_PER_PRINCIPAL", "MAX_CONVERSATIONS", "MAX_RESULTS_PER_PRINCIPAL", "USING"}
)
SWEEP_INTERVAL_SECONDS: Final = 60
FORGET_ROUNDS: Final = 20

_FORGET: Final = LogStep("forget_session", writes=False)
_TOUCH: Final = LogStep("touch_stream", writes=False)
_INDEXES: Final = ("streams", "calls", "questions")


class CacheStore(CacheCalls, CacheRestoring, CacheClaims, CacheChanges, CacheResults, LogStore):
    def __init__(self, alias: str, params: Mapping[str, Any]) -> None:
        super().__init__(alias, params)
        unknown = self.options.keys() - OPTIONS
        if unknown:
            raise ConfigurationError(
                f"{SETTING}['STORES'][{alias!r}]['OPTIONS'] has the unknown keys {sorted(map(str, unknown))}; "
                f"the known ones are {', '.join(sorted(OPTIONS))}."
            )
        cache, is_durable = self.options.get("CACHE", "default"), self.options.get("DURABLE")
        self.link = RedisLink(alias, cache, is_durable=is_durable)
        self.places = Places(self.link)
        self.newest = Newest()
        self._state = CacheStateStore(alias, params, self.link)
        self.max_results: int = self.options.get("MAX_RESULTS_PER_PRINCIPAL", 200)
        self.max_claims: int = self.options.get("MAX_CLAIMS_PER_PRINCIPAL", 100_000)
        self._sweeping = Lock()
        self._sweeps_at = time.monotonic() + SWEEP_INTERVAL_SECONDS

    @property
    def state(self) -> CacheStateStore:
        return self._state

    def check(self, **kwargs: Any) -> Iterable[CheckMessage]:
        try:
            _ = self.link.client
        except ConfigurationError as error:
            hint = f"Correct {SETTING}['STORES'][{self.alias!r}]['OPTIONS']['CACHE']."
            yield Error(str(error), hint=hint, id="django_mcp.E012")

    def check_deployment(self) -> Iterable[CheckMessage]:
        return check_redis(self.link)

    # What begins something also takes away what is over

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
        self._tidy()
        return super().begin_calls(
            server, scope, calls, owner=owner, lease_seconds=lease_seconds, session=session, stream=stream
        )

    def sweep(self) -> int:
        """End what nobody takes over any more. All else goes by its time in Redis."""
        return self.sweep_calls()

    def _tidy(self) -> None:
        if time.monotonic() >= self._sweeps_at and self._sweeping.acquire(blocking=False):
            try:
                self._sweeps_at = time.monotonic() + SWEEP_INTERVAL_SECONDS
                self.sweep()
            finally:
                self._sweeping.release()

    # What many wait for, and the end of a session

    def glance(
        self, *, streams: Collection[str] = (), calls: Collection[str] = (), questions: Collection[str] = ()
    ) -> dict[str, Mark]:
        kinds = (
            ("stream", [name for name in streams if is_stream_name(name)], ("last", "reader", "open")),
            ("call", list(calls), ("fence", "state", "cancel")),
            ("question", [name for name in questions if is_question_id(name)], ("state",)),
        )
        places, looked_up = self.places.look(name for _, names, _ in kinds for name in names)
        asked = [
            (name, kind, fields) for kind, names, fields in kinds for name in dict.fromkeys(names) if name in places
        ]
        hashes = [(places[name].tag, f"{kind}:{plain(name)}") for name, kind, _ in asked]
        found = self.link.fields(hashes, [fields for _, _, fields in asked])
        marks: dict[str, Mark] = {}
        for (name, kind, _), row in zip(asked, found, strict=True):
            if row is None or b"void" in row.values:
                continue
            if row.is_current:
                marks[name] = row.values
            elif kind == "call":
                marks[name] = "in doubt"
        self._touch([places[name] for name, kind, _ in asked if kind == "stream" and name in looked_up])
        return marks

    def _touch(self, streams: Sequence[Place]) -> None:
        """Keep the standalone streams among these that are open: somebody reads them."""
        self.link.run_many(
            [
                Sending(_TOUCH, place.tag, (*stream_keys(place.id), "outlet", "streams"), (place.id, session_life()))
                for place in streams
            ]
        )

    def forget_session(self, session: str) -> None:
        tag = session_tag(session)
        for _ in range(FORGET_ROUNDS):
            found = self.link.send([("ZRANGE", self.link.key(tag, index), 0, -1) for index in _INDEXES])
            streams, calls, questions = ([name.decode() for name in names] for names in found)
            keys = [
                *_INDEXES,
                *("outlet", "running", "requests", "waiting"),
                *(key for name in streams for key in stream_keys(name)),
                *(key for name in calls for key in (f"call:{plain(name)}", f"asked:{plain(name)}")),
                *(f"question:{name}" for name in questions),
            ]
            if self.link.run(_FORGET, tag, keys, (*streams, *calls, *questions)):
                return
        raise StoreUnavailable("More is begun in the session again and again")

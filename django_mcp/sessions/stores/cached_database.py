"""The database store with a cache before what never changes: pages of manifests and large values, by their digests.

The head of a conversation, and all that moves, is read from the database each time. Options besides the database
store's: `CACHE`, the alias in `CACHES` ("default"); `CACHE_MAX_BYTES` (1,000,000), over which a value is not cached;
`CACHE_SECONDS` (3,600), how long the cache keeps one, also of a conversation that was deleted meanwhile.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Final

from django.conf import settings
from django.core.cache import InvalidCacheBackendError, caches
from django.core.cache.backends.db import DatabaseCache
from django.core.cache.backends.dummy import DummyCache
from django.core.cache.backends.filebased import FileBasedCache
from django.core.cache.backends.locmem import LocMemCache
from django.core.checks import CheckMessage, Error, Warning  # noqa: A004 - Django's name

from django_mcp.sessions.stores.blob_cache import BlobCache
from django_mcp.sessions.stores.database import OPTIONS, DatabaseStore
from django_mcp.sessions.stores.database_state import DatabaseStateStore
from django_mcp.sessions.stores.state import ConversationRecord
from django_mcp.setting import SETTING

CACHE_MAX_BYTES: Final = 1_000_000
CACHE_SECONDS: Final = 3_600
POINTLESS: Final[dict[type, str]] = {
    DummyCache: "keeps nothing",
    DatabaseCache: "asks a database as the store itself does",
    FileBasedCache: "deletes at random and is one machine's own",
    LocMemCache: "is each process's own",
}

_DIGEST = re.compile(r"[0-9a-f]{64}")


class CachedDatabaseStateStore(DatabaseStateStore):
    def __init__(self, alias: str, params: Mapping[str, Any]) -> None:
        super().__init__(alias, params)
        self._cache = BlobCache(
            alias,
            self.options.get("CACHE", "default"),
            max_bytes=self.options.get("CACHE_MAX_BYTES", CACHE_MAX_BYTES),
            seconds=self.options.get("CACHE_SECONDS", CACHE_SECONDS),
        )

    def blobs(self, conversation: ConversationRecord, digests: Iterable[str]) -> dict[str, bytes]:
        wanted = list(dict.fromkeys(digests))
        cached = self._cache.get(conversation.family, filter(_DIGEST.fullmatch, wanted))
        missing = [digest for digest in wanted if digest not in cached]
        if missing:
            read = super().blobs(conversation, missing)
            self._cache.put(conversation.family, read)
            cached |= read
        return {digest: cached[digest] for digest in wanted}

    def blobs_there(self, conversation: ConversationRecord, digests: Iterable[str]) -> dict[str, bytes]:
        return super().blobs(conversation, digests)


class CachedDatabaseStore(DatabaseStore):
    known_options: ClassVar[frozenset[str]] = OPTIONS | {"CACHE", "CACHE_MAX_BYTES", "CACHE_SECONDS"}

    def __init__(self, alias: str, params: Mapping[str, Any]) -> None:
        super().__init__(alias, params)
        for option in ("CACHE_MAX_BYTES", "CACHE_SECONDS"):
            value = self.options.get(option, 1)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise self._refused(option, "a whole number, 1 or more")

    def _make_state(self, params: Mapping[str, Any]) -> DatabaseStateStore:
        return CachedDatabaseStateStore(self.alias, params)

    def check(self, **kwargs: Any) -> Iterable[CheckMessage]:
        yield from super().check(**kwargs)
        alias = self.options.get("CACHE", "default")
        hint = f"Set {SETTING}['STORES'][{self.alias!r}]['OPTIONS']['CACHE'] to "
        try:
            cache = caches[alias]
        except InvalidCacheBackendError as error:
            yield Error(
                f"The store {self.alias!r} uses the cache {alias!r}, which cannot be had from CACHES: {error}",
                hint=f"{hint}one of {sorted(settings.CACHES)}.",
                id="django_mcp.E012",
            )
            return
        for kind, problem in POINTLESS.items():
            if isinstance(cache, kind):
                yield Warning(
                    f"The store {self.alias!r} uses the cache {alias!r}, a {kind.__name__}, which {problem}.",
                    hint=f"{hint}one on Redis or memcached, or use django_mcp.sessions.stores.database.DatabaseStore.",
                    id="django_mcp.W007",
                )

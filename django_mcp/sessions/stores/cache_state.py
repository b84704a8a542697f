"""The state store of the backend `cache`: generations and blobs on Redis, the index in the database."""

from collections.abc import Mapping
from typing import Any

from django_mcp.sessions.stores.indexed_state import IndexedStateStore
from django_mcp.sessions.stores.redis_link import RedisLink
from django_mcp.sessions.stores.redis_state import RedisState


class CacheStateStore(IndexedStateStore):
    """Options: `CACHE`, an alias in `CACHES` of django-redis ("default"); `DURABLE`, whether Redis loses nothing that
    it acknowledged in any restart (None: as its own settings say); those of `IndexedStateStore`.
    """

    def __init__(self, alias: str, params: Mapping[str, Any], link: RedisLink | None = None) -> None:
        options = params.get("OPTIONS", {})
        self.link = link or RedisLink(alias, options.get("CACHE", "default"), is_durable=options.get("DURABLE"))
        super().__init__(alias, params, RedisState(self.link))

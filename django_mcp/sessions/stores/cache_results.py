"""Results kept for a link on Redis. All of one scope stand under one hash tag, beside the index that bounds them."""

import secrets
from typing import Final

from django_mcp.conf import mcp_settings
from django_mcp.core.principal import Principal, scope_digest
from django_mcp.sessions.stores.base import LogStore
from django_mcp.sessions.stores.cache_places import decode, digest, encode, milliseconds
from django_mcp.sessions.stores.log_step import LogStep
from django_mcp.sessions.stores.redis_link import RedisLink

_PUT: Final = LogStep("put_result", writes=False)
_GET: Final = LogStep("get_result", writes=False)


class CacheResults(LogStore):
    link: RedisLink
    max_results: int

    def put_result(
        self,
        server: str,
        tenant: str,
        principal: Principal,
        mime_type: str,
        body: bytes,
        *,
        lifetime_seconds: float | None = None,
    ) -> str:
        name = secrets.token_urlsafe(16)
        seconds = mcp_settings.RESULT_SECONDS if lifetime_seconds is None else lifetime_seconds
        lifetime = milliseconds(seconds)
        if lifetime > 0:
            scope = scope_digest(tenant, principal)
            kept, tag = digest(name), results_tag(server, scope)
            whose = (encode(server), encode(tenant), encode(principal.key), scope)
            args = (kept, lifetime, self.max_results, encode(mime_type), body, *whose)
            over = self.link.run(_PUT, tag, ("results", f"result:{kept}"), args)
            # They are not read any more; this gives their memory back.
            self.link.send([("UNLINK", self.link.key(tag, f"result:{one.decode()}")) for one in over])
        return name

    def get_result(self, name: str, *, server: str, tenant: str, principal: Principal) -> tuple[str, bytes] | None:
        kept = digest(name)
        tag = results_tag(server, scope_digest(tenant, principal))
        found = self.link.run(_GET, tag, ("results", f"result:{kept}"), (kept,))
        return None if found is None else (decode(found[0]), found[1])


def results_tag(server: str, scope: str) -> str:
    return f"r:{digest(server, scope)}"

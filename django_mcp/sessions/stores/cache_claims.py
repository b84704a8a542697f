"""Single-use claims on Redis. All of one scope stand under one hash tag, beside the index that bounds them."""

import json
import secrets
from typing import Any, Final

from django_mcp.exceptions import Overloaded, StoreUnavailable
from django_mcp.models.session import RETRY_AFTER_SECONDS
from django_mcp.sessions.stores.base import (
    Claimed,
    ClaimOutcome,
    Done,
    Interrupted,
    LogStore,
    Mismatched,
    Running,
    Standing,
)
from django_mcp.sessions.stores.cache_places import digest as digest_of
from django_mcp.sessions.stores.cache_places import encode, milliseconds
from django_mcp.sessions.stores.log_step import LogStep
from django_mcp.sessions.stores.redis_link import Argument, RedisLink

CLAIM_ROUNDS: Final = 20

_CLAIM: Final = LogStep("claim")
_PEEK: Final = LogStep("peek_claim", writes=False)
_CHANGE: Final = LogStep("change_claim")


class CacheClaims(LogStore):
    link: RedisLink
    max_claims: int

    def claim(
        self,
        server: str,
        scope: str,
        key: str,
        *,
        lease_seconds: float,
        lifetime_seconds: float,
        takeover: bool = False,
        digest: str = "",
    ) -> ClaimOutcome:
        name = digest_of(key)
        for _ in range(CLAIM_ROUNDS):
            answer, *fence = self.link.run(
                _CLAIM,
                claims_tag(server, scope),
                (f"claim:{name}", "claims"),
                (
                    *(name, 1 + secrets.randbits(40), milliseconds(lease_seconds), milliseconds(lifetime_seconds)),
                    *(int(takeover), digest, self.max_claims, 1 + secrets.randbits(40), encode(server), scope),
                ),
            )
            if answer == b"claimed":
                return Claimed(fence=int(fence[0]))
            if answer == b"full":
                raise Overloaded(RETRY_AFTER_SECONDS, "principal", message="Too many idempotency keys")
            standing = self.peek(server, scope, key, digest=digest)
            if standing is not None and not (takeover and isinstance(standing, Interrupted)):
                return standing
        raise StoreUnavailable("A claim was neither had nor found taken")

    def peek(self, server: str, scope: str, key: str, *, digest: str | None = None) -> Standing | None:
        found = self.link.run(_PEEK, claims_tag(server, scope), (f"claim:{digest_of(key)}",))
        if found is None:
            return None
        its, state, outcome = found
        if digest is not None and its.decode() != digest:
            return Mismatched()
        if state == b"done":
            return Done(outcome=json.loads(outcome))
        return Running() if state == b"running" else Interrupted()

    def renew(self, server: str, scope: str, key: str, fence: int, *, lease_seconds: float) -> bool:
        return self._change(server, scope, key, fence, "renew", milliseconds(lease_seconds))

    def settle(self, server: str, scope: str, key: str, fence: int, outcome: Any) -> bool:
        text = json.dumps(outcome, separators=(",", ":"), allow_nan=False)
        return self._change(server, scope, key, fence, "settle", text)

    def release(self, server: str, scope: str, key: str, fence: int) -> bool:
        return self._change(server, scope, key, fence, "release", "")

    def _change(self, server: str, scope: str, key: str, fence: int, what: str, value: Argument) -> bool:
        name = digest_of(key)
        keys = (f"claim:{name}", "claims")
        return self.link.run(_CHANGE, claims_tag(server, scope), keys, (name, fence, what, value)) is not None


def claims_tag(server: str, scope: str) -> str:
    return f"k:{digest_of(server, scope)}"

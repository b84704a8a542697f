"""Resumption tokens: issued for a head, redeemed for the head of the same conversation, refused in one way.

A token is `v2:` and the sealed claims of `core.token`: 166 characters whatever the state's size. Nothing is stored of
one; its record is the generation it names. Why one was refused is for the log alone.
"""

import hashlib
import logging
import time
from typing import Final

from django_mcp.conf import mcp_settings
from django_mcp.core.token import MalformedClaims, TokenClaims, short
from django_mcp.exceptions import ConversationNotFound, TokenRefused
from django_mcp.sessions.scope import Scope
from django_mcp.sessions.sealing import Unsealable, seal, unseal
from django_mcp.sessions.stores.state import ConversationRecord, Head, StateStore
from django_mcp.signals import token_refused

logger = logging.getLogger("django_mcp.tokens")

VERSION: Final = "v2:"
MAX_TOKEN_LENGTH: Final = 300
_PURPOSE: Final = "django_mcp.resumption"


def issue(head: Head, scope: Scope) -> str:
    """Return a token for `head`, good for TOKEN_SECONDS."""
    now = int(time.time())
    claims = TokenClaims(
        conversation=head.conversation.id,
        generation=head.generation,
        snapshot=short(head.snapshot),
        audience=scope.audience,
        caller=scope.caller,
        issued=now,
        expires=now + mcp_settings.TOKEN_SECONDS,
    )
    return seal(_PURPOSE, claims.pack(), prefix=VERSION)


def redeem(token: str, scope: Scope, store: StateStore) -> tuple[Head, TokenClaims]:
    """Return the head of the conversation that `token` names, and its claims.

    Raises:
        TokenRefused: whatever the reason.
        StoreUnavailable: the store cannot be asked.
    """
    claims: TokenClaims | None = None
    try:
        claims = _claims(token)
        refusal = claims.refusal(audience=scope.audience, caller=scope.caller, now=int(time.time()))
        if refusal is not None:
            raise TokenRefused(refusal)
        try:
            head = store.find(claims.conversation, **scope.owner)
        except ConversationNotFound:
            raise TokenRefused("the conversation is unknown, has ended or is somebody else's") from None
        check_standing(claims, token, head)
    except TokenRefused as refused:
        conversation = claims.conversation if claims is not None else ""
        log = logger.critical if refused.is_alarm else logger.info
        log("token %s… of conversation %s… refused: %s", fingerprint(token)[:12], conversation[:8], refused.reason)
        token_refused.send_robust(
            sender=scope.server, reason=refused.reason, conversation=conversation, fingerprint=fingerprint(token)
        )
        raise
    return head, claims


def check_standing(claims: TokenClaims, token: str, head: Head) -> None:
    """Check a token against the head that it leads to.

    Raises:
        TokenRefused: it was revoked, or names a generation that the store has lost.
    """
    if is_revoked(claims, token, head.conversation):
        raise TokenRefused("revoked")
    standing = claims.standing(generation=head.generation, snapshot=head.snapshot)
    if standing == "ahead":
        raise TokenRefused(
            f"it names generation {claims.generation}, and the store's newest is {head.generation} or another one of "
            "that number: the store went back and lost commits",
            is_alarm=True,
        )


def is_revoked(claims: TokenClaims, token: str, record: ConversationRecord) -> bool:
    """Say whether the conversation's record revokes this token."""
    return record.is_revoked(claims.generation, fingerprint(token))


def fingerprint(token: str) -> str:
    """Return what stands for a token in a log, in the admin and in a revocation: 32 hexadecimal digits."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _claims(token: str) -> TokenClaims:
    if len(token) > MAX_TOKEN_LENGTH:
        raise TokenRefused("too long")
    try:
        return TokenClaims.unpack(unseal(_PURPOSE, token, prefix=VERSION))
    except (Unsealable, MalformedClaims) as error:
        raise TokenRefused(str(error)) from None

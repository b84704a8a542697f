"""Idempotency keys: a name that a client gives a call, so that sending it again is the same call.

A key belongs to a server, a tenant and a principal, who alone learns what became of the call. Callers without
credentials are told apart by their session, so in the modern era, which has none, they have no keys. What a request
carries, a handle or a token, is no part of what it asks for: a repeat may carry another one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from mcp.shared.exceptions import MCPError
from mcp_types import INVALID_PARAMS

from django_mcp.conf import mcp_settings
from django_mcp.core.canonical import digest
from django_mcp.server.call import Call
from django_mcp.server.single_use import SingleUse

IDEMPOTENCY_META_KEY: Final = "org.django-mcp/idempotencyKey"
MAX_KEY_CHARACTERS: Final = 200


def has_key(message: Mapping[str, Any]) -> bool:
    """Say whether a request carries a key, so that sending it again is no second call."""
    params = message.get("params")
    meta = params.get("_meta") if isinstance(params, Mapping) else None
    return isinstance(meta, Mapping) and IDEMPOTENCY_META_KEY in meta


def single_use_of_key(call: Call, tool: str, arguments: Mapping[str, Any], *, is_repeatable: bool) -> SingleUse | None:
    """Return the run that the idempotency key of a call stands for; None if it has no key.

    Args:
        arguments: without the carrier among them.
        is_repeatable: whether running the tool again does no harm.

    Raises:
        MCPError: it is no key, or the caller cannot have any.
    """
    if IDEMPOTENCY_META_KEY not in call.meta:
        return None
    key = call.meta[IDEMPOTENCY_META_KEY]
    if not isinstance(key, str) or not 0 < len(key) <= MAX_KEY_CHARACTERS:
        problem = f"must be a string of 1 to {MAX_KEY_CHARACTERS} characters"
        raise MCPError(INVALID_PARAMS, f"Invalid params: {IDEMPOTENCY_META_KEY} {problem}")
    owner = ""
    if call.caller.principal.is_anonymous:
        if call.session_key is None:
            problem = "needs an authenticated caller or a session"
            raise MCPError(INVALID_PARAMS, f"Invalid params: {IDEMPOTENCY_META_KEY} {problem}")
        owner = call.session_key
    return SingleUse(
        call,
        f"idempotencyKey:{owner}:{key}",
        digest=digest({"name": tool, "arguments": dict(arguments)}),
        lifetime_seconds=mcp_settings.IDEMPOTENCY_SECONDS,
        takeover=is_repeatable,
    )

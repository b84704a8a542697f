"""Sealing `requestState` so that any process of the project opens it, and no other caller can use it.

The SDK's boundary does the work (`mcp.server.request_state`); what is given to it here are keys that all processes
share, derived from `SECRET_KEY` and `SECRET_KEY_FALLBACKS`, and the principal and tenant that a state is bound to.
Method, target, arguments and expiry are bound by the boundary itself.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final

from mcp.server.context import ServerRequestContext
from mcp.server.request_state import AESGCMRequestStateCodec, RequestStateBoundary, RequestStateSecurity

from django_mcp.conf import mcp_settings
from django_mcp.server.call import Call
from django_mcp.sessions.sealing import derived_keys

_PURPOSE: Final = "django_mcp.server.request_state"


@lru_cache(maxsize=4)
def _ring(keys: tuple[bytes, ...]) -> AESGCMRequestStateCodec:
    return AESGCMRequestStateCodec(keys)


class SecretKeyCodec:
    """The SDK's AES-GCM codec under the project's keys as they are at the moment of use."""

    def seal(self, payload: bytes) -> str:
        return _ring(tuple(derived_keys(_PURPOSE))).seal(payload)

    def unseal(self, token: str) -> bytes:
        return _ring(tuple(derived_keys(_PURPOSE))).unseal(token)


def bound_caller(context: ServerRequestContext[Any, Any]) -> str:
    """Return the principal and tenant that a state is bound to."""
    call = context.request
    if not isinstance(call, Call):
        raise LookupError("a request without a caller")
    return call.caller.key


def boundary(audience: str) -> RequestStateBoundary:
    """Return the middleware that seals and opens every `requestState` of the server called `audience`."""
    security = RequestStateSecurity(
        codec=SecretKeyCodec(), ttl=mcp_settings.REQUEST_STATE_SECONDS, bind_principal=bound_caller, audience=audience
    )
    return RequestStateBoundary(security, default_audience=audience)

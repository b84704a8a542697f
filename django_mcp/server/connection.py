"""What the SDK knows of the client behind one request.

Clients send the same envelope with every request, and typing it (`Connection.from_envelope`) takes longer than most
tools do; so the typed form is kept, and each request gets a connection of its own around it.
"""

from __future__ import annotations

from contextlib import AsyncExitStack
from functools import lru_cache
from typing import Any, Final

from mcp.server.connection import Connection
from mcp.shared.dispatcher import Outbound
from pydantic_core import PydanticSerializationError, from_json, to_json

_MAX_KEPT_BYTES: Final = 2_048
"""An envelope larger than this is typed anew: a client must not fill the memory of a process."""


def connection_of(
    protocol_version: str, client_info: Any, client_capabilities: Any, *, outbound: Outbound | None = None
) -> Connection:
    """Return a connection, ready for one request; what the client sent may be any JSON.

    Args:
        outbound: the channel to the client beside the response; without one, nothing can be sent there.
    """
    kept = _kept(protocol_version, client_info, client_capabilities)
    if kept is None:
        connection = Connection.from_envelope(protocol_version, client_info, client_capabilities)
    else:
        connection = Connection.__new__(Connection)
        vars(connection).update(vars(kept))
        connection.state = {}
        connection.exit_stack = AsyncExitStack()
    if outbound is not None:
        connection.outbound = outbound
    return connection


def _kept(protocol_version: str, client_info: Any, client_capabilities: Any) -> Connection | None:
    try:
        envelope = to_json([client_info, client_capabilities])
    except PydanticSerializationError:  # a lone surrogate
        return None
    return _typed(protocol_version, envelope) if len(envelope) <= _MAX_KEPT_BYTES else None


@lru_cache(maxsize=256)
def _typed(protocol_version: str, envelope: bytes) -> Connection:
    return Connection.from_envelope(protocol_version, *from_json(envelope))

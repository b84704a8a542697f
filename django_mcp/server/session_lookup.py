"""Which session a request of the handshake era belongs to, read from the database for each request."""

from __future__ import annotations

from typing import Final

from mcp_types import INVALID_REQUEST
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS

from django_mcp.models import MCPSession
from django_mcp.server.caller import Arrival
from django_mcp.server.kernel import Kernel
from django_mcp.server.wire import Failure, Refusal

SESSION_HEADER: Final = "mcp-session-id"
VERSION_HEADER: Final = "mcp-protocol-version"
_BAD_VERSION: Final = Failure(code=INVALID_REQUEST, message="Unsupported protocol version", status=400)
_MISSING_SESSION: Final = Failure(code=INVALID_REQUEST, message="Missing session id", status=400)


def check_version(arrival: Arrival) -> None:
    """Check the header of the protocol version, if there is one (MCP 2025-11-25, basic/transports).

    Any version that has sessions will do; the session's own decides.

    Raises:
        Refusal: it names none.
    """
    if arrival.headers.get(VERSION_HEADER, HANDSHAKE_PROTOCOL_VERSIONS[0]) not in HANDSHAKE_PROTOCOL_VERSIONS:
        raise Refusal(_BAD_VERSION)


async def find_session(kernel: Kernel, arrival: Arrival, *, used: bool) -> MCPSession:
    """Return the session that the request names.

    Raises:
        SessionNotFound: alike for one that is unknown, ended, or another caller's.
        Refusal: the request names none, or a protocol version without sessions.
    """
    check_version(arrival)
    session_id = arrival.headers.get(SESSION_HEADER)
    if session_id is None:
        raise Refusal(_MISSING_SESSION)
    caller = arrival.caller

    def find() -> MCPSession:
        session = MCPSession.objects.find(
            session_id,
            server=kernel.server.key,
            principal=caller.principal,
            tenant=caller.tenant,
            user=caller.user,
        )
        if used:
            session.mark_used()
        return session

    return await arrival.threads.door.run(find)

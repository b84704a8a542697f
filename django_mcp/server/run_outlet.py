"""Where the messages of a session go: those of a call onto the stream of its POST, the others onto the newest GET
stream, at whatever process a client reads them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mcp.shared.dispatcher import CallOptions
from mcp.shared.exceptions import NoBackChannelError

from django_mcp.models import MCPSession
from django_mcp.server.call import COALESCED
from django_mcp.server.capabilities import require_declared_for
from django_mcp.server.event_writer import Entry
from django_mcp.server.log import Log
from django_mcp.server.questioning import ask_apart
from django_mcp.server.wake import wake_bus
from django_mcp.server.watch import watch_of
from django_mcp.server.wire import encode_notification

if TYPE_CHECKING:
    from django_mcp.server.run import Run


class RunOutlet:
    """Notifications and questions of one call, in its order, onto the stream of its POST."""

    can_ask = True
    used = 0.0
    """The stream looks after its bounds itself."""

    def __init__(self, run: Run) -> None:
        self._run = run

    async def notify(self, method: str, params: Mapping[str, Any] | None) -> None:
        entry = _entry(self._run, method, params)
        self._run.reply.say(entry)
        if entry.kind is None or entry.written.done():
            await self._run.reply.written(entry)
        else:
            # A handler that does nothing but say how far it is lets others have their turn.
            await asyncio.sleep(0)

    async def ask(self, method: str, params: Mapping[str, Any] | None, timeout: float | None) -> dict[str, Any]:
        return await self._run.questioning.ask(method, params, timeout)

    async def disconnect(self) -> None:
        self._run.reply.disconnect()


class SessionOutbound:
    """The connection-wide way to the client: the session's newest GET stream, if there is one."""

    def __init__(self, log: Log, session: MCPSession) -> None:
        self._log = log
        self._session = session

    async def notify(self, method: str, params: Mapping[str, Any] | None, opts: CallOptions | None = None) -> None:
        await push(self._log, self._session.key, encode_notification(method, params))

    async def send_raw_request(
        self, method: str, params: Mapping[str, Any] | None, opts: CallOptions | None = None
    ) -> dict[str, Any]:
        require_declared_for(method, params, self._session.capabilities_data)
        seconds = opts.get("timeout") if opts else None

        async def send(body: bytes) -> None:
            if await push(self._log, self._session.key, body) is None:
                raise NoBackChannelError(method)

        return await ask_apart(self._log, self._session.key, method, params, seconds, send)


async def push(log: Log, session: str, body: bytes) -> str | None:
    """Append to the session's newest GET stream and return its name; None where there is none."""
    stream = await log.do(log.store.push, session, [body])
    if stream is not None:
        watch_of(log).touch("streams", stream)
        wake_bus().wake_others()
    return stream


def _entry(run: Run, method: str, params: Mapping[str, Any] | None) -> Entry:
    given = params or {}
    kind = f"{method} {given.get('level')} {given.get('logger')}" if method in COALESCED else None
    progress = float(given["progress"]) if method == "notifications/progress" else None
    return Entry(author=run, body=encode_notification(method, params), kind=kind, progress=progress)

"""How a call of a tool ended, told to the log and to the receivers of `call_finished`, once.

It is told where the call has ended: a call that goes on at another process is told of there, and a process that is
killed tells nothing. What was refused at the door, before it was known which server's tool is called for, was no call.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from functools import partial
from typing import Any, Final

from mcp.shared.exceptions import MCPError
from pydantic import ValidationError

from django_mcp.exceptions import LimitExceeded, Overloaded, StoreUnavailable, TokenRefused
from django_mcp.models import MCPSession
from django_mcp.server.call import Call
from django_mcp.server.compile import CompiledServer
from django_mcp.server.finished_call import CallOutcome, FinishedCall
from django_mcp.server.threads import Threads
from django_mcp.server.wire import WORKER_LOST
from django_mcp.sessions.stores import CallRecord
from django_mcp.signals import call_finished

logger = logging.getLogger("django_mcp.calls")
records = logging.getLogger("django_mcp.calls.finished")
"""Has one record for each call and nothing else, so that a format can name the fields."""

_UNTOLD: Final = "the end of a call could not be told"
_REFUSALS: Final = (LimitExceeded, TokenRefused, ValidationError)


async def tell_end(
    server: CompiledServer, call: Call, params: Any, *, error: BaseException | None, seconds: float
) -> None:
    """Tell how a `tools/call` ended: with the result that `call.came_to` names, or with `error`.

    Args:
        params: of the request, as they came.
    """
    if not _is_wanted(server.key) or (outcome := outcome_of(call, error)) is None:
        return
    given = params if isinstance(params, Mapping) else {}
    # A name that the server does not have is the client's own word, and is not told.
    tool = server.tools.get(str(given.get("name")))
    try:
        finished = FinishedCall.of(call, tool, given.get("arguments"), outcome=outcome, seconds=seconds)
        await _tell(finished, call.arrival.threads)
    except Exception:
        logger.exception(_UNTOLD)


async def tell_lost(record: CallRecord, threads: Threads) -> None:
    """Tell of a call whose process died with it. Its request is not kept so long, so its tool is not known."""
    if not _is_wanted(record.server):
        return
    found = MCPSession.objects.filter(pk=record.session)
    try:
        session = await threads.background.run(found.using(found.write_alias).first)
        await _tell(FinishedCall.lost(record, session), threads)
    except Exception:
        logger.exception(_UNTOLD)


def outcome_of(call: Call, error: BaseException | None) -> CallOutcome | None:
    """Return how a call ended; None where it has not, but goes on at another process or ends with this one."""
    if call.is_elsewhere:
        return None
    if call.is_over:
        return "cancelled"
    match error:
        case None:
            # A result that is an error without a body that made it is a refusal in the words of a tool.
            is_refusal = call.came_to == "failed" and not call.body_began and not call.is_repeat
            return "refused" if is_refusal else call.came_to
        case asyncio.CancelledError():
            return "cancelled" if call.cancelled else None
        case Overloaded():
            return "limited"
        case StoreUnavailable():
            return "unavailable"
        case MCPError() if error.error.data == WORKER_LOST.data:
            return "lost"
        case MCPError() if not call.body_began and not call.is_repeat:
            return "refused"
        case _ if isinstance(error, _REFUSALS):
            return "refused"
    return "error"


def _is_wanted(server: str) -> bool:
    return records.isEnabledFor(logging.INFO) or call_finished.has_listeners(server)


async def _tell(finished: FinishedCall, threads: Threads) -> None:
    records.info("%s", finished, extra=finished.extra)
    if call_finished.has_listeners(finished.server):
        # The answer waits for the receivers; so their thread is not one that may wait for a store meanwhile.
        await threads.signals.run(partial(call_finished.send_robust, sender=finished.server, call=finished))

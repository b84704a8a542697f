"""The methods of the extension `org.django-mcp/resumption`: a conversation's history, and the two ways back.

The conversation is named as in any request, by a token or by a `handle` among the parameters, and the caller's own
rights apply. A rewind or a fork is always asked for; no token leads to one by being old.
"""

from __future__ import annotations

from typing import Annotated, Any, Final

from mcp.server.context import ServerRequestContext
from mcp.shared.exceptions import MCPError
from mcp_types import INVALID_PARAMS, RequestParams, Result
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from pydantic import ConfigDict, Field

from django_mcp.exceptions import ConversationNotFound, StateUnavailable, ToolError
from django_mcp.server.call import Call
from django_mcp.server.call_state import CallState
from django_mcp.server.carriers import EXTENSION
from django_mcp.sessions.stores.state import HISTORY_AT_ONCE, Head

HISTORY: Final = f"{EXTENSION}/history"
REWIND: Final = f"{EXTENSION}/rewind"
FORK: Final = f"{EXTENSION}/fork"

_NO_CARRIER: Final = "Name the conversation by a resumption token or a handle"

Context = ServerRequestContext[Any, Any]
Number = Annotated[int, Field(ge=0, strict=True)]


class HistoryParams(RequestParams):
    handle: str | None = None
    limit: Annotated[int, Field(ge=1, le=HISTORY_AT_ONCE)] = 50


class RewindParams(RequestParams):
    handle: str | None = None
    generation: Number


class ForkParams(RequestParams):
    handle: str | None = None
    generation: Number | None = None


class _Answer(Result):
    model_config = ConfigDict(extra="allow")


async def history(call: Call, params: HistoryParams) -> Result:
    """Return the head's number and the kept generations, newest first."""

    def read(state: CallState) -> dict[str, Any]:
        head, generations = state.history(params.limit)
        return {
            "generation": head.generation,
            "snapshot": head.snapshot,
            "generations": [
                {
                    "generation": past.number,
                    "snapshot": past.snapshot,
                    "createdAt": past.created.isoformat(),
                    "bytes": past.bytes,
                    "call": past.call.name if past.call is not None else None,
                    "copiedFrom": past.copied_from,
                }
                for past in generations
            ],
        }

    return await _answer(call, params.handle, read)


async def rewind(call: Call, params: RewindParams) -> Result:
    """Make a generation that is as an earlier one was; return its number."""
    return await _answer(call, params.handle, lambda state: _moved(state.rewind(params.generation)))


async def fork(call: Call, params: ForkParams) -> Result:
    """Begin a conversation that is as a generation (the head, without one) was; return its handle."""
    return await _answer(call, params.handle, lambda state: _moved(state.fork(params.generation)))


async def _answer(call: Call, handle: str | None, work: Any) -> Result:
    call.handle = handle
    try:
        answer = await call.lease.run(work, call.call_state)
    except LookupError as error:
        raise MCPError(INVALID_PARAMS, str(error.args[0])) from error
    except ToolError as error:
        raise MCPError(INVALID_PARAMS, str(error)) from error
    except (ConversationNotFound, StateUnavailable):
        raise MCPError(INVALID_PARAMS, _NO_CARRIER) from None
    complete = {"resultType": "complete"} if call.protocol_version in MODERN_PROTOCOL_VERSIONS else {}
    return _Answer(**complete, **answer)


def _moved(head: Head) -> dict[str, Any]:
    moved: dict[str, Any] = {"generation": head.generation, "snapshot": head.snapshot}
    if head.conversation.handle is not None:
        moved["handle"] = head.conversation.handle
    return moved

"""The answer to a request that went well: its result with the carriers of its conversation, or a link to it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mcp_types import RequestId

from django_mcp.conf import mcp_settings
from django_mcp.exceptions import Overloaded, StoreUnavailable
from django_mcp.server.call import Call
from django_mcp.server.spill import spill
from django_mcp.server.wire import Answer, encode_result, logger


async def response(call: Call, method: str, request_id: RequestId, result: dict[str, Any]) -> Answer:
    """Return the answer; its headers are for an answer in JSON.

    Raises:
        ValueError: the result holds a non-finite number.
    """
    issued = call.issued
    body = encode_result(request_id, _carrying(call, result))
    if method == "tools/call" and len(body) > mcp_settings.MAX_RESULT_BYTES and "content" in result:
        body = encode_result(request_id, _carrying(call, await _spilled(call, result, len(body))))
    return Answer(status=200, body=body, headers=issued.headers if issued is not None else ())


async def _spilled(call: Call, result: dict[str, Any], size: int) -> dict[str, Any]:
    """Return the result that links to a large one. The call has run: what fails here must not look like a refusal."""
    try:
        return await spill(call, result, size)
    except (Overloaded, StoreUnavailable) as error:
        logger.warning("a result of %d bytes was lost: %s", size, error)
        text = f"The call ran, but its result of {size} bytes is too large to be sent, and could not be kept."
        call.came_to = "failed"
        kept = {key: value for key, value in result.items() if key not in ("content", "structuredContent")}
        return {**kept, "content": [{"type": "text", "text": text}], "isError": True}


def _carrying(call: Call, result: Mapping[str, Any]) -> Mapping[str, Any]:
    return result if call.issued is None else call.issued.put(result)

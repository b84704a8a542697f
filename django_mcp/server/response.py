"""The answer to a request that went well: its result with the carriers of its conversation, or a link to it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mcp_types import RequestId

from django_mcp.conf import mcp_settings
from django_mcp.server.call import Call
from django_mcp.server.spill import spill
from django_mcp.server.wire import Answer, encode_result


async def response(call: Call, method: str, request_id: RequestId, result: dict[str, Any]) -> Answer:
    """Return the answer; its headers are for an answer in JSON.

    Raises:
        ValueError: the result holds a non-finite number.
    """
    issued = call.issued
    body = encode_result(request_id, _carrying(call, result))
    if method == "tools/call" and len(body) > mcp_settings.MAX_RESULT_BYTES and "content" in result:
        body = encode_result(request_id, _carrying(call, await spill(call, result, len(body))))
    return Answer(status=200, body=body, headers=issued.headers if issued is not None else ())


def _carrying(call: Call, result: Mapping[str, Any]) -> Mapping[str, Any]:
    return result if call.issued is None else call.issued.put(result)

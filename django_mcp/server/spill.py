"""Results too large to send: kept in the store for a while and replaced by a link that the same caller can read."""

from __future__ import annotations

import base64
from typing import Any, Final

from mcp_types import BlobResourceContents, ReadResourceResult, TextResourceContents

from django_mcp.conf import mcp_settings
from django_mcp.core import strict_json
from django_mcp.server.call import Call
from django_mcp.sessions.stores import store

SCHEME: Final = "mcp-result://"


async def spill(call: Call, result: dict[str, Any], size: int) -> dict[str, Any]:
    """Keep an oversized result of `tools/call` and return the result that links to it.

    A tool with an output schema promises structured content, which a link is not: there the link is marked as an
    error, so that clients do not look for the promised structure.
    """
    structured = result.get("structuredContent")
    texts = [block["text"] for block in result["content"] if block.get("type") == "text"]
    if structured is not None:
        mime_type, body = "application/json", strict_json.encode(structured)
    elif len(texts) == len(result["content"]):
        mime_type, body = "text/plain", "\n".join(texts).encode("utf-8", "replace")
    else:
        mime_type, body = "application/json", strict_json.encode(result["content"])
    caller = call.caller
    name = await call.arrival.threads.run(
        store(call.server.store_alias).put_result,
        call.server.key,
        caller.tenant,
        caller.principal,
        mime_type,
        body,
    )
    note = (
        f"The tool succeeded, but its result of {size} bytes is larger than the {mcp_settings.MAX_RESULT_BYTES} bytes "
        f"that are sent. Read it at {SCHEME}{name} within {mcp_settings.RESULT_SECONDS} seconds, or ask for less."
    )
    link = {
        "type": "resource_link",
        "uri": f"{SCHEME}{name}",
        "name": "result",
        "mimeType": mime_type,
        "size": len(body),
    }
    kept = {key: value for key, value in result.items() if key not in ("content", "structuredContent", "isError")}
    is_error = bool(result.get("isError")) or structured is not None
    return {**kept, "content": [{"type": "text", "text": note}, link], "isError": is_error}


async def read_spilled(call: Call, uri: str) -> ReadResourceResult | None:
    """Return the kept result that `uri` names for this caller; None when it names none."""
    if not uri.startswith(SCHEME):
        return None
    caller = call.caller
    found = await call.arrival.threads.run(
        store(call.server.store_alias).get_result,
        uri.removeprefix(SCHEME),
        server=call.server.key,
        tenant=caller.tenant,
        principal=caller.principal,
    )
    if found is None:
        return None
    mime_type, body = found
    if mime_type.startswith("text/") or mime_type == "application/json":
        text = body.decode("utf-8")
        return ReadResourceResult(contents=[TextResourceContents(uri=uri, mime_type=mime_type, text=text)])
    blob = base64.b64encode(body).decode("ascii")
    return ReadResourceResult(contents=[BlobResourceContents(uri=uri, mime_type=mime_type, blob=blob)])

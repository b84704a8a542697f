"""What a view answered, as a tool's result: data, a file, or a refusal in the view's own words."""

from __future__ import annotations

import base64
import json
import logging
import math
from typing import Any, Final

from django.http import HttpRequest
from django.http.response import HttpResponseBase, StreamingHttpResponse
from mcp_types import BlobResourceContents, CallToolResult, EmbeddedResource, TextContent, TextResourceContents

from django_mcp.contrib.views.operation import RESULT
from django_mcp.core import strict_json
from django_mcp.exceptions import Overloaded, ToolError

logger = logging.getLogger("django_mcp.tools")

THROTTLED: Final = 429
DONE: Final = "Done."
"""What a model reads where the view has nothing to say."""
RETRY_SECONDS: Final = 60
"""When a throttled caller may come back, where the view does not say."""


def result_of(request: HttpRequest, response: HttpResponseBase, *, has_begun: bool = True) -> CallToolResult:
    """Return what a tool returns for an answer; data that is no object is given as `{"result": …}`.

    `has_begun` says whether the view got as far as to have effects.

    Raises:
        ToolError: the view refused, with its own words.
        Overloaded: it throttled the caller.
    """
    status = response.status_code
    if status == THROTTLED:
        raise Overloaded(
            _retry_after(response),
            "principal",
            message=_told(response) or "Request was throttled.",
            has_begun=has_begun,
        )
    if status >= 500:
        logger.error("%s %s answered %d", request.method, request.path, status)
        raise ToolError("The view failed.")
    if status >= 400:
        raise ToolError(_told(response) or response.reason_phrase)
    if status >= 300:
        raise ToolError(f"{response.reason_phrase}: {response.headers.get('Location', '')}".rstrip(": "))
    body = _body(response)
    if not body:
        return CallToolResult(content=[TextContent(type="text", text=DONE)])
    if _is_json(response):
        return data_result(json.loads(body))
    return _content(request, response, body)


def data_result(data: Any) -> CallToolResult:
    """Return what a tool returns for data as JSON has it."""
    text = TextContent(type="text", text=strict_json.encode(data).decode())
    return CallToolResult(content=[text], structured_content=data if isinstance(data, dict) else {RESULT: data})


def _retry_after(response: HttpResponseBase) -> int:
    try:
        return max(1, math.ceil(float(response.headers["Retry-After"])))
    except (KeyError, ValueError):
        return RETRY_SECONDS


def _told(response: HttpResponseBase) -> str:
    """Return the view's words: its `detail` alone where that is all, else what it says as JSON."""
    body = _body(response)
    if not body or not _is_json(response):
        return ""
    told = json.loads(body)
    if isinstance(told, dict) and set(told) == {"detail"}:
        return str(told["detail"])
    return strict_json.encode(told).decode()


def _body(response: HttpResponseBase) -> bytes:
    if isinstance(response, StreamingHttpResponse):
        try:
            return b"".join(response)
        finally:
            # What `close()` does but for the signal that a request is over: that closes the call's connections.
            for close in response._resource_closers:  # type: ignore[attr-defined]
                close()
    content: bytes = getattr(response, "content", b"")
    return content


def _media_type(response: HttpResponseBase) -> str:
    return response.headers.get("Content-Type", "").partition(";")[0].strip().lower()


def _is_json(response: HttpResponseBase) -> bool:
    media_type = _media_type(response)
    return media_type == "application/json" or media_type.endswith("+json")


def _content(request: HttpRequest, response: HttpResponseBase, body: bytes) -> CallToolResult:
    """Return text as text, anything else as a file."""
    media_type = _media_type(response)
    charset = getattr(response, "charset", None) or "utf-8"
    uri = request.build_absolute_uri()
    if media_type.startswith("text/"):
        text = body.decode(charset, "replace")
        if "attachment" not in response.headers.get("Content-Disposition", ""):
            return CallToolResult(content=[TextContent(type="text", text=text)])
        contents: Any = TextResourceContents(uri=uri, mime_type=media_type, text=text)
    else:
        contents = BlobResourceContents(uri=uri, mime_type=media_type or None, blob=base64.b64encode(body).decode())
    return CallToolResult(content=[EmbeddedResource(type="resource", resource=contents)])

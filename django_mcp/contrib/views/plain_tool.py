"""A tool that is one method of a plain view: its call makes a request, and the view's answer is its result."""

from __future__ import annotations

import html
import inspect
import re
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

from django.core.exceptions import BadRequest, PermissionDenied, SuspiciousOperation
from django.http import Http404, HttpRequest
from django.http.response import HttpResponse, HttpResponseBase
from django.utils.html import strip_tags
from mcp_types import CallToolResult, TextContent

from django_mcp.contrib.views.operation import Operation
from django_mcp.contrib.views.place import Place
from django_mcp.contrib.views.run import run_view
from django_mcp.contrib.views.view_answer import DONE, result_of
from django_mcp.contrib.views.view_request import body_of, query_of, view_request
from django_mcp.exceptions import ToolError
from django_mcp.registry.context import Context

NOT_FOUND: Final = "Not found."
MAX_WORDS: Final = 1_000
"""Characters of a refusal that are told."""
_TITLE: Final = re.compile(r"<title[^>]*>(.*?)</title>", re.IGNORECASE | re.DOTALL)


class PlainTool:
    """What runs when the tool is called. Its module is the one that registered it, whose app gives the prefix."""

    def __init__(self, place: Place, operation: Operation, module: str) -> None:
        self.place = place
        self.operation = operation
        self.__module__ = module

    def __call__(self, mcp_context: Context, **arguments: Any) -> Any:
        source, operation = mcp_context.request, self.operation
        found = self.place.find({name: arguments[name] for name in operation.path if name in arguments})
        if found is None:
            raise ToolError(NOT_FOUND)
        if inspect.iscoroutinefunction(found.match.func):
            raise TypeError(f"{found.match.view_name} is an async view, which a tool cannot be made of")
        body, content_type = body_of(operation, arguments)
        request = view_request(
            source,
            operation.method,
            found.path,
            query=query_of(operation, arguments),
            body=body,
            content_type=content_type,
        )
        request.resolver_match = found.match
        request.user = source.user
        # The endpoint has authenticated the caller, by no cookie that a foreign page could make a browser send.
        request._dont_enforce_csrf_checks = True  # type: ignore[attr-defined]
        try:
            response = run_view(found.match.func, request, found.match.kwargs)
        except Http404 as error:
            raise ToolError(NOT_FOUND) from error
        except (BadRequest, SuspiciousOperation) as error:
            raise ToolError("Bad request.") from error
        return _result(request, response)


def _result(request: HttpRequest, response: HttpResponseBase) -> CallToolResult:
    """Return what came of it. A view that did what a form asked leads elsewhere, or to a login."""
    status = response.status_code
    if 300 <= status < 400:
        location = response.headers.get("Location", "")
        if _is_login(request, location):
            raise PermissionDenied
        if request.method not in {"GET", "HEAD"}:
            return CallToolResult(content=[TextContent(type="text", text=f"{DONE} {location}".rstrip())])
    if 400 <= status < 500 and (words := _words(response)):
        raise ToolError(words)
    return result_of(request, response)


def _is_login(request: HttpRequest, location: str) -> bool:
    """Say whether a redirect asks for a login: Django's send along where the request was to."""
    own = {request.get_full_path(), request.build_absolute_uri()}
    return any(value in own for _, value in parse_qsl(urlsplit(location).query))


def _words(response: HttpResponseBase) -> str:
    """Return what a refusal says in text: the title of a page, or the text without its tags."""
    media_type = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if not isinstance(response, HttpResponse) or not media_type.startswith("text/"):
        return ""
    text = response.content.decode(response.charset, "replace")
    title = _TITLE.search(text) if media_type == "text/html" else None
    if media_type == "text/html":
        text = html.unescape(strip_tags(text if title is None else title[1]))
    return " ".join(text.split())[:MAX_WORDS]

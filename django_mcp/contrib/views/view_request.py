"""The request that a view answers in place of a client's: method, path, query and body of the tool's arguments.

Of the request at the endpoint it has where that was sent, from which address and in which language; no cookie and no
credentials.
"""

from __future__ import annotations

import base64
import binascii
import io
import json
import mimetypes
import secrets
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import unquote_to_bytes, urlencode

from django.conf import settings
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.handlers.wsgi import WSGIRequest
from django.http import HttpRequest

from django_mcp.contrib.views.operation import BODY, Operation
from django_mcp.exceptions import ToolError

_CARRIED: Final = (
    "HTTP_ACCEPT_LANGUAGE",
    "HTTP_FORWARDED",
    "HTTP_HOST",
    "HTTP_USER_AGENT",
    "HTTP_X_FORWARDED_FOR",
    "HTTP_X_FORWARDED_HOST",
    "HTTP_X_FORWARDED_PORT",
    "HTTP_X_FORWARDED_PROTO",
    "REMOTE_ADDR",
    "SERVER_NAME",
    "SERVER_PORT",
)
_MULTIPART: Final = "multipart/form-data"


def view_request(
    source: HttpRequest, method: str, path: str, *, query: str = "", body: bytes = b"", content_type: str = ""
) -> HttpRequest:
    """Return a request to a path of the project, as it would come from where `source` came from.

    Args:
        path: as in a URL, percent-encoded.
    """
    names = [*_CARRIED, *(settings.SECURE_PROXY_SSL_HEADER or ())[:1]]
    environ = {name: source.META[name] for name in names if name in source.META}
    environ.setdefault("SERVER_NAME", "localhost")
    environ.setdefault("SERVER_PORT", "80")
    environ |= {
        "REQUEST_METHOD": method,
        "SCRIPT_NAME": "",
        "PATH_INFO": unquote_to_bytes(path).decode("latin-1"),
        "QUERY_STRING": query,
        "SERVER_PROTOCOL": "HTTP/1.1",
        "HTTP_ACCEPT": "application/json, */*;q=0.5",
        "wsgi.url_scheme": source.scheme or "http",
        "wsgi.input": io.BytesIO(body),
    }
    if content_type:
        environ |= {"CONTENT_TYPE": content_type, "CONTENT_LENGTH": str(len(body))}
    return WSGIRequest(environ)


def query_of(operation: Operation, arguments: Mapping[str, Any]) -> str:
    """Return the query string of a tool's arguments."""
    pairs: list[tuple[str, str]] = []
    for parameter in operation.query:
        value = arguments.get(parameter.name)
        if value is None:
            continue
        values = value if isinstance(value, list) else [value]
        texts = [_text(one) for one in values]
        pairs += [(parameter.name, text) for text in (texts if parameter.explode else [",".join(texts)])]
    return urlencode(pairs, errors="replace")


def body_of(operation: Operation, arguments: Mapping[str, Any]) -> tuple[bytes, str]:
    """Return the body and its content type; b"" and "" for none. Raises ToolError for a file that is none."""
    taken = operation.path | {parameter.name for parameter in operation.query}
    match operation.body:
        case "none":
            return b"", ""
        case "whole":
            if BODY not in arguments:
                return b"", ""
            data = arguments[BODY]
        case _:
            data = {name: value for name, value in arguments.items() if name not in taken}
    files = files_of(operation, data)
    if files or operation.media_type == _MULTIPART:
        parts = {name: value for name, value in {**data, **files}.items() if value is not None}
        from django.test.client import encode_multipart  # a module that only what sends a form needs

        boundary = secrets.token_hex(16)
        return encode_multipart(boundary, _flat(parts)), f"{_MULTIPART}; boundary={boundary}"
    if operation.media_type == "application/x-www-form-urlencoded":
        return urlencode(_flat(data), doseq=True, errors="replace").encode(), operation.media_type
    return json.dumps(data).encode(), operation.media_type


def files_of(operation: Operation, data: Any) -> dict[str, SimpleUploadedFile]:
    """Return the files among the fields of a body. Raises ToolError for one that is none."""
    return {name: _file(name, data[name]) for name in operation.files if data and data.get(name) is not None}


def _flat(parts: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a form can carry: texts, files, and lists of either."""
    return {
        name: [_text(one) for one in value]
        if isinstance(value, list)
        else value
        if isinstance(value, SimpleUploadedFile)
        else _text(value)
        for name, value in parts.items()
        if value is not None
    }


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else json.dumps(value)


def _file(name: str, value: Any) -> SimpleUploadedFile:
    try:
        content = base64.b64decode(value["data"], validate=True)
    except (binascii.Error, KeyError, TypeError, ValueError) as error:
        raise ToolError(f"Invalid arguments: {name}: its data is not Base64") from error
    named = value["name"]
    guessed = value.get("media_type") or mimetypes.guess_type(named)[0] or "application/octet-stream"
    return SimpleUploadedFile(named, content, guessed)

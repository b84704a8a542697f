"""JSON-RPC messages as bytes, and what went wrong as a JSON-RPC error: one table for both eras."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

from mcp.shared.exceptions import MCPError
from mcp.shared.inbound import ERROR_CODE_HTTP_STATUS
from mcp_types import (
    HEADER_MISMATCH,
    INTERNAL_ERROR,
    INVALID_PARAMS,
    INVALID_REQUEST,
    MISSING_REQUIRED_CLIENT_CAPABILITY,
    UNSUPPORTED_PROTOCOL_VERSION,
    RequestId,
)
from pydantic import ValidationError
from pydantic_core import PydanticSerializationError, to_json

from django_mcp.core import strict_json
from django_mcp.exceptions import (
    STORE_UNAVAILABLE,
    LimitExceeded,
    MCPException,
    Overloaded,
    SessionNotFound,
    StoreUnavailable,
    TokenRefused,
)

logger = logging.getLogger("django_mcp.server")

RESOURCE_NOT_FOUND: Final = -32002
"""The code of the earlier revisions for a resource that does not exist."""

_DEFINED: Final = (HEADER_MISMATCH, MISSING_REQUIRED_CLIENT_CAPABILITY, UNSUPPORTED_PROTOCOL_VERSION)


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A failed request on its way out: the JSON-RPC error, and the HTTP status where one can still be sent."""

    code: int
    message: str
    data: Any = None
    status: int = 200
    headers: tuple[tuple[bytes, bytes], ...] = ()

    def encode(self, request_id: RequestId | None) -> bytes:
        error: dict[str, Any] = {"code": self.code, "message": self.message}
        if self.data is not None:
            error["data"] = self.data
        return strict_json.encode({"jsonrpc": "2.0", "id": request_id, "error": error})

    def error(self) -> MCPError:
        """Return it as what a handler of the kernel raises."""
        return MCPError(self.code, self.message, self.data)

    def answer(self, request_id: RequestId | None = None) -> Answer:
        return Answer(status=self.status, body=self.encode(request_id), headers=self.headers)


WORKER_LOST: Final = Failure(
    code=INTERNAL_ERROR, message="worker_lost: the call may have had effects", data={"reason": "worker_lost"}
)
OUTPUT_LIMIT: Final = Failure(
    code=INTERNAL_ERROR, message="too much output for one stream", data={"reason": "output_limit"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A whole HTTP answer: JSON, or no body at all."""

    status: int
    body: bytes = b""
    headers: tuple[tuple[bytes, bytes], ...] = field(default=())


def method_not_allowed(allow: bytes) -> Answer:
    """Return the answer to an HTTP method that does not serve here, or not any more."""
    failure = Failure(code=INVALID_REQUEST, message="Method not allowed", status=405, headers=((b"allow", allow),))
    return failure.answer()


class Refusal(MCPError):
    """A request that is refused with an HTTP status of its own, whatever the era's rule for its code."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.code, failure.message, failure.data)
        self.failure = failure


def encode_result(request_id: RequestId, result: Mapping[str, Any]) -> bytes:
    """Encode a response.

    Raises:
        ValueError: the result holds a non-finite number.
    """
    message = {"jsonrpc": "2.0", "id": request_id, "result": result}
    # Several times quicker than the standard library, but it writes what JSON has not, and refuses lone surrogates.
    with suppress(PydanticSerializationError):
        data = to_json(message)
        if b"NaN" not in data and b"Infinity" not in data:
            return data
    return strict_json.encode(message)


def encode_notification(method: str, params: Mapping[str, Any] | None) -> bytes:
    message: dict[str, Any] = {"jsonrpc": "2.0", "method": method}
    if params is not None:
        message["params"] = params
    return strict_json.encode(message)


def encode_request(request_id: RequestId, method: str, params: Mapping[str, Any] | None) -> bytes:
    message: dict[str, Any] = {"jsonrpc": "2.0", "id": request_id, "method": method}
    if params is not None:
        message["params"] = params
    return strict_json.encode(message)


def _modern_code(code: int) -> int:
    """Return the code that says the same in the modern era, which retired two and keeps a range for itself (basic)."""
    if code == RESOURCE_NOT_FOUND:
        return INVALID_PARAMS
    if -32099 <= code <= -32020 and code not in _DEFINED:
        return INTERNAL_ERROR
    return code


def _retry_after(seconds: int) -> tuple[tuple[bytes, bytes]]:
    return ((b"retry-after", str(seconds).encode("ascii")),)


def failure_of(error: Exception, *, modern: bool) -> Failure:
    """Return the wire form of what a request raised. Nothing is told that was not meant for the client.

    In the modern era the code decides the HTTP status; in the handshake era a well-formed request is answered by 200.
    """
    match error:
        case Refusal():
            return error.failure
        case MCPError():
            data = error.error.data
            code = _modern_code(error.error.code) if modern else error.error.code
            status = ERROR_CODE_HTTP_STATUS.get(code, 200) if modern else 200
            return Failure(code=code, message=error.error.message, data=data, status=status)
        case ValidationError():
            problems = sorted({".".join(map(str, problem["loc"])) for problem in error.errors(include_input=False)})
            message = f"Invalid params: {', '.join(problems)}"[:500]
            return Failure(code=INVALID_PARAMS, message=message, status=400 if modern else 200)
        case SessionNotFound():
            return Failure(code=INVALID_REQUEST, message=str(error), status=404)
        case TokenRefused():
            return Failure(code=INVALID_PARAMS, message=str(error), status=400 if modern else 200)
        case LimitExceeded():
            return Failure(code=INVALID_PARAMS, message=error.message, status=400 if modern else 200)
        case StoreUnavailable():
            # Which system is away, and how, is for the log.
            logger.warning("refused: %s", error)
            return Failure(
                code=INTERNAL_ERROR,
                message=STORE_UNAVAILABLE,
                data={"reason": "store_unavailable"},
                status=503,
                headers=_retry_after(error.retry_after_seconds),
            )
        case Overloaded():
            logger.warning("refused: %s", error)
            return Failure(
                code=INTERNAL_ERROR,
                message=str(error),
                status=429 if error.scope == "principal" else 503,
                headers=_retry_after(error.retry_after_seconds),
            )
        case MCPException():
            return Failure(code=INTERNAL_ERROR, message=str(error), status=200)
        case _:
            logger.error("a request raised %s", type(error).__name__, exc_info=error)
            return Failure(code=INTERNAL_ERROR, message="Internal error", status=200)

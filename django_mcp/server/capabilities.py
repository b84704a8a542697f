"""What a client must have declared before a question may be put to it.

MCP 2025-11-25, basic/lifecycle; MCP 2026-07-28, basic and basic/patterns/mrtr. Questions of `Resolve` parameters are
checked by the SDK; this holds those that a handler writes by hand, or asks in its body, to the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from mcp.shared.exceptions import MCPError
from mcp_types import (
    MISSING_REQUIRED_CLIENT_CAPABILITY,
    ClientCapabilities,
    CreateMessageRequest,
    ElicitRequest,
    InputRequiredResult,
)


def require_declared(result: InputRequiredResult, capabilities: ClientCapabilities | None) -> None:
    """Check that the client can answer every question of `result`.

    Raises:
        MCPError: it cannot; -32021 with all that is missing.
    """
    _require([_wanted(question) for question in (result.input_requests or {}).values()], capabilities)


def require_declared_for(method: str, params: Mapping[str, Any] | None, recorded: Mapping[str, Any]) -> None:
    """Check that the client of a session can answer a request of the server.

    Args:
        recorded: the capabilities as the session keeps them.

    Raises:
        MCPError: it cannot; -32021 with what is missing.
    """
    given = params or {}
    wanted: dict[str, dict[str, Any]]
    match method:
        case "elicitation/create":
            wanted = {"elicitation": {"url" if given.get("mode") == "url" else "form": {}}}
        case "sampling/createMessage":
            wanted = {"sampling": {"tools": {}} if given.keys() & {"tools", "toolChoice"} else {}}
        case "roots/list":
            wanted = {"roots": {}}
        case _:
            return
    _require([wanted], ClientCapabilities.model_validate(recorded, by_name=False))


def _require(questions: Iterable[Mapping[str, dict[str, Any]]], capabilities: ClientCapabilities | None) -> None:
    declared = capabilities if capabilities is not None else ClientCapabilities()
    missing: dict[str, Any] = {}
    for question in questions:
        for name, wanted in question.items():
            if not _has(getattr(declared, name), wanted):
                missing.setdefault(name, {}).update(wanted)
    if missing:
        raise MCPError(
            MISSING_REQUIRED_CLIENT_CAPABILITY,
            f"The client did not declare what a question needs: {', '.join(missing)}",
            {"requiredCapabilities": missing},
        )


def _wanted(question: Any) -> dict[str, dict[str, Any]]:
    if isinstance(question, ElicitRequest):
        return {"elicitation": {"url" if question.params.mode == "url" else "form": {}}}
    if isinstance(question, CreateMessageRequest):
        with_tools = question.params.tools is not None or question.params.tool_choice is not None
        return {"sampling": {"tools": {}} if with_tools else {}}
    return {"roots": {}}


def _has(declared: Any, wanted: dict[str, Any]) -> bool:
    """Whether a capability is declared with the parts that are wanted; elicitation without parts means forms."""
    if declared is None:
        return False
    if "form" in wanted:
        return declared.form is not None or declared.url is None
    return all(getattr(declared, part) is not None for part in wanted)

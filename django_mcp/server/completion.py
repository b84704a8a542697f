"""Suggestions for an argument of a prompt or a variable of a resource template, compiled."""

from __future__ import annotations

import logging
from typing import Any, Final

from mcp.shared.exceptions import MCPError
from mcp_types import INTERNAL_ERROR, CompleteRequestParams, CompleteResult, Completion

from django_mcp.exceptions import Overloaded, StoreUnavailable, TokenRefused
from django_mcp.registry.definition import CompletionDefinition
from django_mcp.server.call import Call
from django_mcp.server.handler import Handler
from django_mcp.server.shape import Rows

logger = logging.getLogger("django_mcp.completions")

MAX_VALUES: Final = 100
"""Most values of one answer (MCP 2025-11-25 and 2026-07-28, server/utilities/completion)."""

_PARAMETERS: Final = {"value", "arguments"}


class CompiledCompletion:
    """A function that suggests values."""

    def __init__(self, definition: CompletionDefinition[..., Any]) -> None:
        self.definition = definition
        self.handler = Handler(definition, structured=False)
        taken = set(self.handler.metadata.arg_model.model_fields)
        if self.handler.questions or not taken <= _PARAMETERS:
            raise definition.error(
                f"takes {sorted(taken)}", "take `value: str`, and if needed `arguments: dict[str, str]` and a Context"
            )
        self.takes = taken

    async def complete(self, call: Call, params: CompleteRequestParams) -> CompleteResult:
        """Serve one `completion/complete`."""
        context = params.context.arguments if params.context is not None else None
        offered = {"value": params.argument.value, "arguments": context or {}}
        arguments = {name: value for name, value in offered.items() if name in self.takes}
        try:
            return await self.handler.run(call, arguments, self._result)
        except (MCPError, Overloaded, StoreUnavailable, TokenRefused):
            raise
        except Exception as error:
            logger.error("completion %r raised %s", self.definition.name, type(error).__name__, exc_info=error)
            raise MCPError(INTERNAL_ERROR, "The completion failed") from error

    def _result(self, value: Any, rows: Rows) -> CompleteResult:
        if isinstance(value, CompleteResult):
            return value
        values = [str(item) for item in value or ()]
        return CompleteResult(
            completion=Completion(values=values[:MAX_VALUES], total=len(values), has_more=len(values) > MAX_VALUES)
        )


NOTHING: Final = CompleteResult(completion=Completion(values=[], total=0, has_more=False))

"""What became of a tool's run, as it is recorded for its repeats: a result with its carriers, or a protocol error."""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from mcp.shared.exceptions import MCPError
from mcp_types import CallToolResult, ErrorData, InputRequiredResult

from django_mcp.core import strict_json
from django_mcp.server.call import Call
from django_mcp.server.carriers import Issued
from django_mcp.sessions.sealing import seal, unseal

_PURPOSE: Final = "django_mcp.outcome"
_SEALED: Final = "o1:"
_ISSUED: Final = "org.django-mcp/issued"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """A result or an error.

    Attributes:
        is_final: whether it stands for good: it is of a body that ran, and was not stopped.
    """

    result: dict[str, Any] | None = field(default=None, repr=False)
    error: dict[str, Any] | None = field(default=None, repr=False)
    is_final: bool = field(default=True, compare=False)

    @classmethod
    def of(cls, call: Call, result: CallToolResult | InputRequiredResult, *, is_final: bool = True) -> Outcome:
        """Return the outcome of a call that came to a result, with what its result is to carry."""
        dumped = result.model_dump(mode="json", by_alias=True, exclude_none=True)
        if call.issued is not None:
            dumped[_ISSUED] = asdict(call.issued)
        return cls(result=dumped, is_final=is_final)

    @classmethod
    def of_error(cls, error: MCPError, *, is_final: bool) -> Outcome:
        return cls(error=error.error.model_dump(mode="json", exclude_none=True), is_final=is_final)

    @classmethod
    def unsealed(cls, text: str) -> Outcome:
        """Return what was sealed. Raises Unsealable where no key of the project opens it."""
        value = strict_json.decode(unseal(_PURPOSE, text, prefix=_SEALED), max_depth=sys.maxsize)
        return cls(result=value.get("result"), error=value.get("error"))

    def sealed(self) -> str:
        """Return it as it lies in the store: it has the user's data, and credentials."""
        value = {"error": self.error} if self.error is not None else {"result": self.result}
        return seal(_PURPOSE, strict_json.encode(value), prefix=_SEALED)

    @property
    def is_question(self) -> bool:
        return self.result is not None and self.result.get("resultType") == "input_required"

    def give(self, call: Call) -> CallToolResult | InputRequiredResult:
        """Return the result, and give `call` what it carries.

        Raises:
            MCPError: the outcome is that.
        """
        if self.result is None:
            raise MCPError.from_error_data(ErrorData.model_validate(self.error))
        result = dict(self.result)
        issued = result.pop(_ISSUED, None)
        call.issued = Issued(**issued) if issued is not None else None
        return (InputRequiredResult if self.is_question else CallToolResult).model_validate(result)

"""What a tool returned, as the result of its call: content for a model to read, structure for a program.

The SDK converts (`FuncMetadata.convert_result`). It looks for the adapter of the structure among the private
attributes of a pydantic model each time, which takes longer than the adapter does; where the structure is a pydantic
model itself, that is gone round here.
"""

from __future__ import annotations

from typing import Any

from mcp.server.mcpserver.utilities.func_metadata import FuncMetadata
from mcp_types import CallToolResult, InputRequiredResult, TextContent
from pydantic import BaseModel
from pydantic_core import to_json

from django_mcp.server.shape import PLAIN


class Conversion:
    """The conversion of one tool's values."""

    def __init__(self, metadata: FuncMetadata) -> None:
        model = metadata.output_model
        self._metadata = metadata
        self._model = model if isinstance(model, type) and issubclass(model, BaseModel) else None
        self._content_alone = metadata.model_copy(update={"output_model": None, "output_schema": None})

    def convert(self, value: Any) -> CallToolResult | InputRequiredResult:
        """Return the result.

        Raises:
            pydantic.ValidationError: the value is not what the tool declares.
        """
        if self._model is None or isinstance(value, CallToolResult):
            return self._metadata.convert_result(value)
        result = _text(value) if type(value) in PLAIN else self._content_alone.convert_result(value)
        if isinstance(result, CallToolResult):
            declared = {"result": value} if self._metadata.wrap_output else value
            structured = self._model.model_validate(declared, by_alias=True, by_name=True)
            result.structured_content = structured.model_dump(mode="json", by_alias=True)
        return result


def _text(value: str | float) -> CallToolResult:
    """Return a value of one piece as the SDK writes it, without its search for what else it could be."""
    text = value if isinstance(value, str) else to_json(value).decode()
    return CallToolResult(content=[TextContent(type="text", text=text)])

"""A prompt, compiled: its entry in the list and its rendering."""

from __future__ import annotations

import base64
import json
import logging
import re
from typing import Any, Final

from mcp.server.context import ServerRequestContext
from mcp.server.mcpserver.exceptions import ToolError as SDKToolError
from mcp.server.mcpserver.utilities.types import Audio, Image
from mcp.shared.exceptions import MCPError
from mcp_types import (
    INTERNAL_ERROR,
    INVALID_PARAMS,
    AudioContent,
    BlobResourceContents,
    ContentBlock,
    EmbeddedResource,
    GetPromptRequestParams,
    GetPromptResult,
    Icon,
    ImageContent,
    InputRequiredResult,
    PromptArgument,
    PromptMessage,
    TextContent,
)
from mcp_types import (
    Prompt as WirePrompt,
)
from pydantic import TypeAdapter, ValidationError

from django_mcp.exceptions import MCPException, Overloaded, StoreUnavailable, TokenRefused
from django_mcp.registry.definition import PromptDefinition
from django_mcp.server.call import Call
from django_mcp.server.handler import Handler
from django_mcp.server.shape import Rows
from django_mcp.server.uri import is_uri

logger = logging.getLogger("django_mcp.prompts")

_ANY: TypeAdapter[Any] = TypeAdapter(Any)
_MIME_TYPE: Final = re.compile(r"[\w!#$&^.+-]+/[\w!#$&^.+-]+(?:\s*;.*)?", re.ASCII)
_BLOCK: TypeAdapter[Any] = TypeAdapter(ContentBlock)


class CompiledPrompt:
    """A prompt that can be listed and rendered."""

    def __init__(self, definition: PromptDefinition[..., Any], name: str) -> None:
        self.definition = definition
        self.name = name
        self.handler = Handler(definition, structured=False)
        self._wire = None if definition.is_translated else self._render()

    @property
    def wire(self) -> WirePrompt:
        """The entry in `prompts/list`, in the current language."""
        return self._wire if self._wire is not None else self._render()

    @property
    def arguments(self) -> list[str]:
        return [argument.name for argument in self.wire.arguments or []]

    async def get(
        self, call: Call, context: ServerRequestContext[Any, Any], params: GetPromptRequestParams
    ) -> GetPromptResult | InputRequiredResult:
        """Serve one `prompts/get`.

        Raises:
            MCPError: an argument is missing or unfit, or the handler failed.
        """
        try:
            arguments = self.handler.validate(params.arguments or {})
        except ValidationError as error:
            names = ", ".join(sorted({str(problem["loc"][0]) for problem in error.errors() if problem["loc"]}))
            raise MCPError(INVALID_PARAMS, f"Missing or invalid arguments: {names}") from error
        try:
            answers = await self.handler.ask(call, context, arguments, params)
            if isinstance(answers, InputRequiredResult):
                return answers
            return await self.handler.run(call, {**arguments, **answers}, self._result)
        except (MCPError, Overloaded, StoreUnavailable, TokenRefused):
            raise
        except (MCPException, SDKToolError) as error:
            logger.info("prompt %r failed: %r", self.name, str(error))
            raise MCPError(INTERNAL_ERROR, str(error)) from error
        except Exception as error:
            logger.error("prompt %r raised %s", self.name, type(error).__name__, exc_info=error)
            raise MCPError(INTERNAL_ERROR, f"The prompt {self.name!r} failed") from error

    def _result(self, value: Any, rows: Rows) -> GetPromptResult | InputRequiredResult:
        if isinstance(value, InputRequiredResult):
            return value
        if isinstance(value, GetPromptResult):
            result = value
        else:
            items = value if isinstance(value, list | tuple) else [value]
            messages = [_message(item) for item in items]
            result = GetPromptResult(description=str(self.definition.doc) or None, messages=messages)
        for message in result.messages:
            _check(message.content)
        return result

    def _render(self) -> WirePrompt:
        definition = self.definition
        schema = self.handler.input_schema
        required = set(schema.get("required", ()))
        return WirePrompt(
            name=self.name,
            title=str(definition.title) if definition.title is not None else None,
            description=str(definition.doc) or None,
            arguments=[
                PromptArgument(name=name, description=shape.get("description"), required=name in required)
                for name, shape in schema.get("properties", {}).items()
            ],
            icons=[Icon.model_validate(icon) for icon in definition.icons] or None,
            _meta=dict(definition.meta) if definition.meta else None,
        )


def _message(value: Any) -> PromptMessage:
    """Return one message: a message as it is, anything else as what the user says."""
    if isinstance(value, PromptMessage):
        return value
    if isinstance(value, dict) and value.keys() >= {"role", "content"}:
        content = value["content"]
        block = TextContent(type="text", text=content) if isinstance(content, str) else _content(content)
        return PromptMessage(role=value["role"], content=block)
    return PromptMessage(role="user", content=_content(value))


def _check(block: Any) -> None:
    """Hold content that a handler made by hand to what the protocol says of it (MCP 2026-07-28, server/prompts).

    Raises:
        ValueError: data is not base64, or a MIME type or a URI is none.
    """
    if isinstance(block, ImageContent | AudioContent):
        mime_type, data, uri = block.mime_type, block.data, None
    elif isinstance(block, EmbeddedResource):
        resource = block.resource
        is_blob = isinstance(resource, BlobResourceContents)
        resource.mime_type = resource.mime_type or ("application/octet-stream" if is_blob else "text/plain")
        mime_type, data, uri = resource.mime_type, getattr(resource, "blob", ""), resource.uri
    else:
        return
    if not _MIME_TYPE.fullmatch(mime_type):
        raise ValueError(f"{mime_type!r} is no MIME type")
    if uri is not None and not is_uri(str(uri)):
        raise ValueError(f"{uri!r} is no URI")
    base64.b64decode(data, validate=True)


def _content(value: Any) -> Any:
    if isinstance(value, str):
        return TextContent(type="text", text=value)
    if isinstance(value, Image):
        return value.to_image_content()
    if isinstance(value, Audio):
        return value.to_audio_content()
    if isinstance(value, dict) and "type" in value:
        return _BLOCK.validate_python(value)
    if isinstance(value, ContentBlock):
        return value
    return TextContent(type="text", text=json.dumps(_ANY.dump_python(value, mode="json"), ensure_ascii=False))

"""Resources and templates, compiled: their entries in the lists and their reading."""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Mapping
from typing import Any

from mcp.server.context import ServerRequestContext
from mcp.server.mcpserver.exceptions import ResourceError, ResourceNotFoundError
from mcp.server.mcpserver.resources.templates import DEFAULT_RESOURCE_SECURITY
from mcp.server.mcpserver.utilities.types import Audio, Image
from mcp.shared.exceptions import MCPError
from mcp.shared.uri_template import InvalidUriTemplate, UriTemplate
from mcp_types import (
    INTERNAL_ERROR,
    INVALID_PARAMS,
    Annotations,
    BlobResourceContents,
    Icon,
    InputRequiredResult,
    ReadResourceRequestParams,
    ReadResourceResult,
    TextResourceContents,
)
from mcp_types import (
    Resource as WireResource,
)
from mcp_types import (
    ResourceTemplate as WireTemplate,
)
from pydantic import BaseModel, TypeAdapter, ValidationError

from django_mcp.exceptions import MCPException, NotFound, Overloaded, StoreUnavailable, TokenRefused
from django_mcp.registry.definition import ResourceDefinition
from django_mcp.server.call import Call
from django_mcp.server.handler import Handler
from django_mcp.server.shape import Rows
from django_mcp.server.uri import is_served_uri, is_uri

logger = logging.getLogger("django_mcp.resources")

_ANY: TypeAdapter[Any] = TypeAdapter(Any)


def not_found(uri: str) -> MCPError:
    """Return the answer for a resource that is not there, or not there for this caller (SEP-2164)."""
    return MCPError(INVALID_PARAMS, "Resource not found", {"uri": uri})


class CompiledResource:
    """A resource or a template of resources."""

    def __init__(self, definition: ResourceDefinition[..., Any]) -> None:
        self.definition = definition
        self.handler = Handler(definition, structured=False)
        try:
            self.template = UriTemplate.parse(definition.uri)
        except InvalidUriTemplate as error:
            raise definition.error(
                f"has an unusable URI template ({error})", "mend the template (RFC 6570)"
            ) from error
        if not is_served_uri(definition.uri):
            raise definition.error(
                f"has {definition.uri!r}, which is no URI",
                "begin with a scheme such as `orders:` and percent-encode what RFC 3986 does not allow",
            )
        self._check_variables()
        self._wire = None if definition.is_translated else self._render()

    @property
    def uri(self) -> str:
        return self.definition.uri

    @property
    def is_template(self) -> bool:
        return self.definition.is_template

    @property
    def variables(self) -> list[str]:
        return [variable.name for variable in self.template.variables]

    @property
    def wire(self) -> Any:
        """The entry in `resources/list` or `resources/templates/list`, in the current language."""
        return self._wire if self._wire is not None else self._render()

    def match(self, uri: str) -> Mapping[str, Any] | None:
        """Return the values of the template's variables in `uri`; None when it is not one of these resources.

        Values that climb out of a path (`..`, absolute paths, NUL) match nothing.
        """
        if not self.is_template:
            return {} if uri == self.uri else None
        if not is_uri(uri):
            return None
        values = self.template.match(uri)
        if values is None or DEFAULT_RESOURCE_SECURITY.validate(values) is not None:
            return None
        return values

    async def read(
        self,
        call: Call,
        context: ServerRequestContext[Any, Any],
        params: ReadResourceRequestParams,
        values: Mapping[str, Any],
    ) -> ReadResourceResult | InputRequiredResult:
        """Serve one `resources/read`.

        Raises:
            MCPError: the handler says that there is no such resource, or it failed.
        """
        uri = str(params.uri)
        try:
            arguments = self.handler.validate(values)
        except ValidationError as error:
            raise not_found(uri) from error
        try:
            answers = await self.handler.ask(call, context, arguments, params)
            if isinstance(answers, InputRequiredResult):
                return answers
            return await self.handler.run(
                call, {**arguments, **answers}, lambda value, rows: self._result(uri, value, rows)
            )
        except (NotFound, ResourceNotFoundError) as error:
            raise not_found(uri) from error
        except (MCPError, Overloaded, StoreUnavailable, TokenRefused):
            raise
        except (MCPException, ResourceError) as error:
            logger.info("resource %r failed: %r", self.uri, str(error))
            raise MCPError(INTERNAL_ERROR, str(error), {"uri": uri}) from error
        except Exception as error:
            logger.error("resource %r raised %s", self.uri, type(error).__name__, exc_info=error)
            raise MCPError(INTERNAL_ERROR, "The resource could not be read", {"uri": uri}) from error

    def _result(self, uri: str, value: Any, rows: Rows) -> ReadResourceResult | InputRequiredResult:
        if isinstance(value, InputRequiredResult | ReadResourceResult):
            return value
        values = value if isinstance(value, list) and value and _is_contents(value[0]) else [value]
        return ReadResourceResult(contents=[self._contents(uri, item) for item in values])

    def _contents(self, uri: str, value: Any) -> TextResourceContents | BlobResourceContents:
        mime_type = self.definition.mime_type
        if isinstance(value, TextResourceContents | BlobResourceContents):
            return value
        if isinstance(value, Image):
            value = value.to_image_content()
        elif isinstance(value, Audio):
            value = value.to_audio_content()
        if isinstance(value, str):
            return TextResourceContents(uri=uri, mime_type=mime_type or "text/plain", text=value)
        blob = getattr(value, "data", None) or getattr(getattr(value, "resource", None), "blob", None)
        if blob is not None and hasattr(value, "type"):
            found = getattr(value, "mime_type", None) or getattr(getattr(value, "resource", None), "mime_type", None)
            return BlobResourceContents(uri=uri, mime_type=mime_type or found, blob=blob)
        if isinstance(value, bytes):
            return BlobResourceContents(uri=uri, mime_type=mime_type, blob=base64.b64encode(value).decode("ascii"))
        plain = value.model_dump(mode="json") if isinstance(value, BaseModel) else _ANY.dump_python(value, mode="json")
        return TextResourceContents(
            uri=uri, mime_type=mime_type or "application/json", text=json.dumps(plain, ensure_ascii=False)
        )

    def _check_variables(self) -> None:
        taken = set(self.handler.metadata.arg_model.model_fields)
        missing = set(self.variables) - taken
        unfilled = {
            name
            for name, field in self.handler.metadata.arg_model.model_fields.items()
            if field.is_required() and name not in self.variables
        }
        if missing or unfilled:
            raise self.definition.error(
                f"has the variables {sorted(self.variables)} in its URI and the parameters {sorted(taken)}",
                "give the function one parameter for each variable",
            )

    def _render(self) -> WireResource | WireTemplate:
        definition = self.definition
        common: dict[str, Any] = {
            "name": definition.name,
            "title": str(definition.title) if definition.title is not None else None,
            "description": str(definition.doc) or None,
            "mime_type": definition.mime_type,
            "icons": [Icon.model_validate(icon) for icon in definition.icons] or None,
            "annotations": Annotations.model_validate(definition.annotations) if definition.annotations else None,
            "_meta": dict(definition.meta) if definition.meta else None,
        }
        if self.is_template:
            return WireTemplate(uri_template=definition.uri, **common)
        return WireResource(uri=definition.uri, **common)


def _is_contents(value: Any) -> bool:
    return isinstance(value, TextResourceContents | BlobResourceContents)

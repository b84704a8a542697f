"""A tool, compiled: its entry in the list and its run."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Final

import jsonschema
from django.core.exceptions import PermissionDenied
from django.core.exceptions import ValidationError as DjangoValidationError
from jsonschema.protocols import Validator
from mcp.server.context import ServerRequestContext
from mcp.server.mcpserver.exceptions import ToolError as SDKToolError
from mcp.shared.exceptions import MCPError
from mcp.shared.inbound import (
    InboundLadderRejection,
    find_invalid_x_mcp_header,
    validate_mcp_param_headers,
    x_mcp_header_map,
)
from mcp.shared.tool_name_validation import validate_tool_name
from mcp_types import (
    CallToolRequestParams,
    CallToolResult,
    Icon,
    InputRequiredResult,
    TextContent,
    ToolAnnotations,
)
from mcp_types import (
    Tool as WireTool,
)
from mcp_types.methods import serialize_server_result
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS
from pydantic import TypeAdapter, ValidationError

from django_mcp.core.value import StateBoundExceeded
from django_mcp.exceptions import CallCancelled, Overloaded, StoreUnavailable, TokenRefused, ToolError
from django_mcp.registry.definition import ToolDefinition
from django_mcp.server.call import Call
from django_mcp.server.carriers import HANDLE, with_handle_argument, with_handle_result
from django_mcp.server.conversion import Conversion
from django_mcp.server.handler import Handler
from django_mcp.server.headers import invalid, mismatch
from django_mcp.server.idempotency import single_use_of_key
from django_mcp.server.limits import Limits
from django_mcp.server.outcome import Outcome
from django_mcp.server.places import Places
from django_mcp.server.schema import UnusableSchema, read_schema
from django_mcp.server.shape import Rows
from django_mcp.server.single_use import Record, SingleUse, once_for_each
from django_mcp.server.wire import encode_result

logger = logging.getLogger("django_mcp.tools")

_ANY: TypeAdapter[Any] = TypeAdapter(Any)

MAX_NODES = 10_000
"""Values in the arguments of a tool with a schema of its own: some schema keywords cost the square of that."""

MAX_MIRRORED: Final = 2**53 - 1
"""Largest integer that every party represents exactly (MCP 2026-07-28, transports)."""


class CompiledTool:
    """A tool that can be listed and called."""

    def __init__(self, definition: ToolDefinition[..., Any], name: str) -> None:
        if not validate_tool_name(name).is_valid:
            raise definition.error(
                f"has the name {name!r}, which clients refuse", "use 1 to 128 letters, digits, '_', '-' or '.'"
            )
        self.definition = definition
        self.name = name
        self.limits = Limits.of(definition)
        self._places = Places(self.limits.concurrency) if self.limits.concurrency is not None else None
        self.handler = Handler(definition, structured=definition.structured)
        self.validator = self._own_validator(definition.input_schema, "input_schema")
        self.output_validator = self._own_validator(definition.output_schema, "output_schema")
        self.is_stateful = self.handler.keeping.is_stateful
        self.input_schema = self.handler.input_schema
        if self.is_stateful:
            if HANDLE in self.input_schema.get("properties", {}):
                raise definition.error(f"has the argument {HANDLE!r}, which every stateful tool has", "rename yours")
            self.input_schema = with_handle_argument(self.input_schema)
        if (reason := find_invalid_x_mcp_header(self.input_schema)) is not None:
            raise definition.error(
                f"has an invalid ParamHeader ({reason})", "mirror plain str, int or bool parameters"
            )
        self._mirrored = x_mcp_header_map(self.input_schema)
        self.output_schema = (
            dict(definition.output_schema)
            if definition.output_schema is not None
            else _pruned(self.handler.metadata.output_schema)
        )
        if self.is_stateful and (declared := with_handle_result(self.output_schema)) is not None:
            self.output_schema = declared
            self.handler.keeping = replace(self.handler.keeping, declares_handle=True)
        self._conversion = Conversion(self.handler.metadata)
        self._wire = None if definition.is_translated else self._render()

    @property
    def mirrors_headers(self) -> bool:
        """Whether arguments are mirrored in `Mcp-Param-*` headers."""
        return bool(self._mirrored)

    @property
    def wire(self) -> WireTool:
        """The tool's entry in `tools/list`, in the current language."""
        return self._wire if self._wire is not None else self._render()

    def check_headers(self, arguments: Any, headers: Mapping[str, str]) -> InboundLadderRejection | None:
        """Compare the arguments with the `Mcp-Param-*` headers that mirror them (MCP 2026-07-28, transports)."""
        if not self.mirrors_headers:
            return None
        given = arguments if isinstance(arguments, dict) else {}
        for path, name in self._mirrored.items():
            header = f"Mcp-Param-{name}"
            if (rejection := invalid(header, headers.get(header.lower(), ""))) is not None:
                return rejection
            value = _at(given, path)
            if isinstance(value, int) and abs(value) > MAX_MIRRORED:
                return mismatch(f"{header} header mirrors an integer beyond {MAX_MIRRORED}")
        return validate_mcp_param_headers(self.input_schema, given, headers)

    async def call(
        self, call: Call, context: ServerRequestContext[Any, Any], params: CallToolRequestParams
    ) -> CallToolResult | InputRequiredResult:
        """Serve one `tools/call`.

        Raises:
            MCPError: the handler raised it, or a question needs a capability that the client lacks.
            TokenRefused: nothing was run.
            Overloaded, StoreUnavailable: nothing was run, or running it again does no harm.
        """
        try:
            given = params.arguments or {}
            if self.is_stateful and HANDLE in given:
                handle = given[HANDLE]
                given = {name: value for name, value in given.items() if name != HANDLE}
                call.handle = handle if isinstance(handle, str) or handle is None else ""
            is_repeatable = self.definition.repeatable
            key = single_use_of_key(call, self.name, given, is_repeatable=is_repeatable)
            # Before anything is asked: what is done, or is being done, needs no answers any more.
            if key is not None and (known := await key.find()) is not None:
                return self._given(call, known)
            arguments = self._validate(given)
            answers = await self.handler.ask(call, context, arguments, params)
            if isinstance(answers, InputRequiredResult):
                return answers
            arguments |= answers
            uses = [key] if key is not None else []
            if call.sealed_state is not None and not is_repeatable:
                uses.append(SingleUse.of_request_state(call, call.sealed_state))
            if not uses:
                return await self._run_body(call, arguments)
            outcome = await once_for_each(uses, lambda record: self._run_for_good(call, arguments, record))
            return self._given(call, outcome)
        except (MCPError, Overloaded, StoreUnavailable, TokenRefused):
            raise
        except Exception as error:
            return _failure(self._explain(error))

    async def _run_for_good(self, call: Call, arguments: dict[str, Any], record: Record) -> Outcome:
        """Run the body under its claims and return the outcome that is for the repeat, failures included.

        Raises:
            Overloaded, StoreUnavailable, TokenRefused: nothing was run, or running it again does no harm.
        """
        is_repeatable = self.definition.repeatable
        if self.definition.atomic:
            call.record = lambda result: record(Outcome.of(call, result))
        if not is_repeatable:
            # From here on its outcome is for the repeat, and nothing interrupts it, not even its client going away.
            if call.cancelled:
                raise asyncio.CancelledError
            call.uninterruptible = True
        try:
            result = await self._run_body(call, arguments)
            # What cannot be recorded is a failure, and that can: without a record a repeat would run.
            Outcome.of(call, result).sealed()
        except MCPError as error:
            return Outcome.of_error(error, is_final=call.is_final)
        except Exception as error:
            is_refusal = isinstance(error, Overloaded | StoreUnavailable | TokenRefused)
            if is_refusal and (is_repeatable or not call.body_began or not getattr(error, "has_begun", True)):
                raise
            result = _failure(self._explain(error))
        return Outcome.of(call, result, is_final=call.is_final)

    async def _run_body(self, call: Call, arguments: dict[str, Any]) -> CallToolResult | InputRequiredResult:
        """Run the body. Every run of one goes through here, after its claims were made.

        Raises:
            Overloaded: too many run already, and this one did not begin.
        """
        if self._places is not None:
            call.place = self._places.take()
        with call.place:
            await call.begin()
            return await self.handler.run(call, arguments, partial(self._final, call))

    def _given(self, call: Call, outcome: Outcome) -> CallToolResult | InputRequiredResult:
        """Return the result of an outcome, which may be that of a call in the other era."""
        result = outcome.give(call)
        if isinstance(result, CallToolResult):
            self._fit(call, result)
        return result

    def _validate(self, arguments: dict[str, Any]) -> dict[str, Any]:
        if self.validator is not None:
            if _count(arguments, MAX_NODES) > MAX_NODES:
                raise ToolError(f"Invalid arguments: more than {MAX_NODES} values.")
            if self.definition.validates_itself:
                return arguments
            error = jsonschema.exceptions.best_match(self.validator.iter_errors(arguments))
            if error is not None:
                raise ToolError(f"Invalid arguments: {error.json_path}: {error.message}"[:1_000])
            return arguments
        try:
            return self.handler.validate(arguments)
        except ValidationError as error:
            raise ToolError(f"Invalid arguments: {_problems(error)}") from error

    def _final(self, call: Call, value: Any, rows: Rows) -> CallToolResult | InputRequiredResult:
        """Return the result, which can be sent if anything is to be kept of the call: afterwards it is too late."""
        result = self._result(value, rows)
        if not isinstance(result, CallToolResult):
            return result
        self._fit(call, result)
        if call.has_state or self.definition.atomic:
            dumped = result.model_dump(mode="json", by_alias=True, exclude_none=True)
            encode_result(0, serialize_server_result("tools/call", call.protocol_version, dumped))
        return result

    @staticmethod
    def _fit(call: Call, result: CallToolResult) -> None:
        structured = result.structured_content
        is_object = structured is None or isinstance(structured, dict)
        if not is_object and call.protocol_version in HANDSHAKE_PROTOCOL_VERSIONS:
            # Before 2026-07-28 structured content is an object.
            result.structured_content = None

    def _result(self, value: Any, rows: Rows) -> CallToolResult | InputRequiredResult:
        try:
            result = self._conversion.convert(value)
        except ValidationError as error:
            raise _Misfit(error) from error
        if self.output_validator is not None and isinstance(result, CallToolResult) and not result.is_error:
            if result.structured_content is None and not isinstance(value, CallToolResult):
                result.structured_content = _ANY.dump_python(value, mode="json")
            misfit = jsonschema.exceptions.best_match(self.output_validator.iter_errors(result.structured_content))
            if misfit is not None:
                raise _Misfit(misfit.message)
        if rows.cut and isinstance(result, CallToolResult):
            result.content.append(TextContent(type="text", text=rows.note))
        return result

    def _explain(self, error: Exception) -> str:
        """Return what the client is told. Only what was raised for it is told; the rest goes to the log."""
        if isinstance(error, StateBoundExceeded):
            logger.info("tool %r: %s", self.name, error)
            return f"{error}."
        if isinstance(error, ToolError | SDKToolError):
            logger.info("tool %r failed: %r", self.name, str(error))
            return str(error)
        if isinstance(error, DjangoValidationError):
            logger.info("tool %r refused its input: %r", self.name, error.messages)
            return " ".join(error.messages)
        if isinstance(error, CallCancelled):
            return str(error)
        if isinstance(error, PermissionDenied):
            logger.info("tool %r: permission denied", self.name)
            return "Permission denied."
        logger.error("tool %r raised %s", self.name, type(error).__name__, exc_info=error)
        return f"The tool {self.name!r} failed."

    def _own_validator(self, schema: Mapping[str, Any] | None, name: str) -> Validator | None:
        if schema is None:
            return None
        if name == "input_schema" and schema.get("type") != "object":
            raise self.definition.error('has an input_schema without "type": "object"', "describe an object")
        try:
            return read_schema(schema)
        except UnusableSchema as error:
            raise self.definition.error(f"has an unusable {name} ({error})", "mend the schema") from error

    def _render(self) -> WireTool:
        definition = self.definition
        hints = {
            "read_only_hint": definition.read_only,
            "destructive_hint": definition.destructive,
            "idempotent_hint": definition.idempotent,
            "open_world_hint": definition.open_world,
        }
        given = {key: value for key, value in hints.items() if value is not None}
        return WireTool(
            name=self.name,
            title=str(definition.title) if definition.title is not None else None,
            description=str(definition.doc),
            input_schema=self.input_schema,
            output_schema=self.output_schema,
            annotations=ToolAnnotations(**given) if given else None,
            icons=[Icon.model_validate(icon) for icon in definition.icons] or None,
            _meta=dict(definition.meta) if definition.meta else None,
        )


def _pruned(schema: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return the schema without definitions that nothing in it refers to."""
    if schema is None or "$defs" not in schema or "'$ref'" in str(schema):
        return schema
    return {key: value for key, value in schema.items() if key != "$defs"}


class _Misfit(Exception):
    """The value that a tool returned does not fit what it declares; the text stays in the log."""


def _failure(text: str) -> CallToolResult:
    return CallToolResult(content=[TextContent(type="text", text=text)], is_error=True)


def _problems(error: ValidationError) -> str:
    """Return one line a problem, without the rejected values: they are the caller's data."""
    return "; ".join(
        f"{'.'.join(str(part) for part in problem['loc']) or 'arguments'}: {problem['msg']}"
        for problem in error.errors(include_url=False, include_input=False, include_context=False)
    )


def _at(arguments: Any, path: tuple[str, ...]) -> Any:
    for key in path:
        arguments = arguments.get(key) if isinstance(arguments, dict) else None
    return arguments


def _count(value: Any, limit: int) -> int:
    count, stack = 0, [value]
    while stack and count <= limit:
        node = stack.pop()
        count += 1
        if isinstance(node, dict):
            stack.extend(node.values())
        elif isinstance(node, list):
            stack.extend(node)
    return count

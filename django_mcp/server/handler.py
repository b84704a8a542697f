"""A handler that can be run: a registered function with its schema, its questions and its shape, compiled once.

Tools, prompts, resources and completions are all run by this one class: arguments are validated, questions asked
before the body, the body run on the right thread or on the loop, and its value brought into the declared shape there.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack, ExitStack, aclosing, closing
from typing import Any, Final, NoReturn, TypeVar, cast

from mcp.server.context import ServerRequestContext
from mcp.server.mcpserver.exceptions import InvalidSignature
from mcp.server.mcpserver.resolve import build_resolver_plans, find_resolved_parameters, resolve_arguments
from mcp.server.mcpserver.utilities.func_metadata import FuncMetadata, func_metadata
from mcp_types import InputRequiredResult
from pydantic import PydanticUserError

from django_mcp.exceptions import CallCancelled, StateConflict
from django_mcp.models.transactions import transaction_of
from django_mcp.registry.context import Context
from django_mcp.registry.definition import Definition, ToolDefinition
from django_mcp.registry.state import State, UserState
from django_mcp.server.call import Call
from django_mcp.server.call_state import Outcome
from django_mcp.server.capabilities import require_declared
from django_mcp.server.keeping import Keeping
from django_mcp.server.shape import Rows, Shape, as_content, read_shape, row_limit, schema_annotation, touches_database
from django_mcp.server.signature import KernelContext, Signature, read_signature, with_return
from django_mcp.server.surroundings import asurroundings, has_surroundings, surroundings
from django_mcp.server.time_limit import TimeLimit

T = TypeVar("T")
Finish = Callable[[Any, Rows], T]


class Handler:
    """A compiled function.

    Raises:
        RegistryError: the function cannot be served; the message has file, line and remedy.
    """

    def __init__(self, definition: Definition[..., Any], *, structured: bool | None = None) -> None:
        self.definition = definition
        self.function = definition.function
        self.signature: Signature = read_signature(definition)
        self.shape: Shape = read_shape(definition, self.signature.returns)
        target = inspect.unwrap(self.function)
        target = target if inspect.isroutine(target) else type(target).__call__
        self.is_async = inspect.iscoroutinefunction(target) or inspect.isasyncgenfunction(target)
        self.metadata, self.questions, self.plans, self.input_schema = self._compile(structured)
        self.time_limit: float | None = getattr(definition, "time_limit", None)
        self.keeping = Keeping(
            name=definition.name,
            is_stateful=getattr(definition, "stateful", False) or State in self.signature.given.values(),
            reads_user=UserState in self.signature.given.values(),
            is_atomic=getattr(definition, "atomic", False),
            is_repeatable=getattr(definition, "repeatable", True),
            is_noted=isinstance(definition, ToolDefinition) and not definition.read_only,
        )
        if self.keeping.is_atomic and self.is_async:
            raise definition.error(
                "is atomic and async", "make it a sync function: a transaction belongs to one thread"
            )
        self.question_names = {plan.fn: plan.wire_key for plan in self.plans.values()}

    def validate(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments as the function takes them.

        Raises:
            pydantic.ValidationError: they do not fit the schema.
        """
        return self.metadata.validate_arguments(dict(arguments))

    async def ask(
        self, call: Call, context: ServerRequestContext[Any, Any], arguments: dict[str, Any], params: Any
    ) -> dict[str, Any] | InputRequiredResult:
        """Return the values of the parameters that are answers to questions, or the questions still to be put."""
        if not self.questions:
            return {}
        call.keeping = self.keeping
        if self.keeping.is_stateful:
            await call.lease.run(call.call_state.open)
        kernel_context = KernelContext(call, self.question_names, request_context=context, input_params=params)
        try:
            return await resolve_arguments(self.questions, self.plans, arguments, kernel_context)
        except (SystemExit, asyncio.CancelledError) as error:
            _contain(error)
        finally:
            call.question = None

    async def run(self, call: Call, arguments: dict[str, Any], finish: Finish[T]) -> T:
        """Run the body once and return `finish(value, rows)`, evaluated where the body's database connection is.

        What the body changed in a state is kept if it comes to a result.
        """
        call.keeping = self.keeping
        try:
            if self.time_limit is None:
                return await self._run(call, arguments, finish)
            call.time_limit = TimeLimit(self.time_limit)
            return await call.time_limit.run(self._run(call, arguments, finish))
        except (SystemExit, asyncio.CancelledError) as error:
            _contain(error)

    async def _run(self, call: Call, arguments: dict[str, Any], finish: Finish[T]) -> T:
        if self.is_async:
            return await self._run_async(call, arguments, finish)
        try:
            return await call.lease.run(self._run_in_place, call, arguments, finish)
        finally:
            call.lease.release()

    def _run_in_place(self, call: Call, arguments: dict[str, Any], finish: Finish[T]) -> T:
        # A body that was given up goes on here, and has its place until it ends.
        with call.place:
            return self._run_sync(call, arguments, finish)
        raise RuntimeError(_SWALLOWED)

    def _run_sync(self, call: Call, arguments: dict[str, Any], finish: Finish[T]) -> T:
        try:
            if self.keeping.is_prepared:
                call.call_state.enter()
            if call.is_over:
                raise CallCancelled
            if self.keeping.is_atomic:
                result, outcome = self._run_atomic(call, arguments, finish)
            else:
                result = self._run_surrounded(call, arguments, finish)
                outcome = _keep(call, result)
        except BaseException as error:
            if call.has_state:
                call.call_state.close(_outcome_of(error))
            raise
        if call.has_state:
            call.call_state.close(outcome)
        return result

    def _run_atomic(self, call: Call, arguments: dict[str, Any], finish: Finish[T]) -> tuple[T, Outcome]:
        try:
            with transaction_of(call.call_state.store.write_alias):
                result = self._run_surrounded(call, arguments, finish)
                outcome = _keep(call, result)
                if outcome != "succeeded":
                    raise _RolledBack(result, outcome)
                if call.record is not None:
                    call.record(result)
                return result, outcome
        except _RolledBack as back:
            return cast("T", back.result), back.outcome

    def _run_surrounded(self, call: Call, arguments: dict[str, Any], finish: Finish[T]) -> T:
        if not self.signature.given and not has_surroundings(call):
            return self._finish(call, self._body(call, arguments), finish)
        with ExitStack() as stack:
            stack.enter_context(surroundings(call, self.definition.name))
            given = self.signature.values(call, stack)
            return self._finish(call, self._body(call, {**arguments, **given}), finish)
        raise RuntimeError(_SWALLOWED)

    def _body(self, call: Call, arguments: dict[str, Any]) -> Any:
        call.begin_body()
        value = self.function(**arguments)
        if not self.shape.is_generator:
            return value
        context, last, count = Context(call), None, 0
        with closing(value):
            while True:
                try:
                    last = next(value)
                except StopIteration as stop:
                    return last if stop.value is None else stop.value
                count += 1
                context.progress(count, message=_progress_text(last))

    async def _run_async(self, call: Call, arguments: dict[str, Any], finish: Finish[T]) -> T:
        call.lease.adopt()
        try:
            if self.keeping.is_prepared:
                await call.lease.run(call.call_state.enter)
                # The body may take its time, and needs no thread for it.
                call.lease.release()
            result = await self._run_asurrounded(call, arguments, finish)
            if self.time_limit is not None and not call.ends_in_time():
                raise CallCancelled
            if call.has_state:
                await call.lease.run(_keep_and_close, call, result)
        except BaseException as error:
            if call.has_state:
                call.lease.insist()
                await call.lease.run(call.call_state.close, _outcome_of(error))
            raise
        return result

    async def _run_asurrounded(self, call: Call, arguments: dict[str, Any], finish: Finish[T]) -> T:
        if not self.signature.given and not has_surroundings(call):
            return await self._run_on_loop(call, arguments, finish)
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(asurroundings(call, self.definition.name))
            given = self.signature.values(call, stack)
            return await self._run_on_loop(call, {**arguments, **given}, finish)
        raise RuntimeError(_SWALLOWED)

    async def _run_on_loop(self, call: Call, arguments: dict[str, Any], finish: Finish[T]) -> T:
        call.begin_body()
        call.lease.insist()
        if self.shape.is_generator:
            value, count = None, 0
            async with aclosing(self.function(**arguments)) as values:
                async for value in values:
                    count += 1
                    await call.send_progress(count, None, _progress_text(value))
        else:
            value = await self.function(**arguments)
        if touches_database(value):
            return await call.lease.run(self._finish, call, value, finish)
        return self._finish(call, value, finish)

    def _finish(self, call: Call, value: Any, finish: Finish[T]) -> T:
        rows = row_limit()
        if isinstance(value, InputRequiredResult):
            require_declared(value, call.client_capabilities)
            return finish(value, rows)
        return finish(as_content(self.shape.apply(value, rows)), rows)

    def _compile(self, structured: bool | None) -> tuple[FuncMetadata, dict[str, Any], dict[Any, Any], dict[str, Any]]:
        definition = self.definition
        own_schema = getattr(definition, "input_schema", None)
        try:
            face = with_return(self.signature, schema_annotation(self.shape))
            questions = find_resolved_parameters(face)
            skipped = [*questions, *self.signature.given]
            metadata = func_metadata(face, skip_names=skipped, structured_output=structured)
            names = {field.alias or name for name, field in metadata.arg_model.model_fields.items()}
            plans = build_resolver_plans(questions, names)
            schema = dict(own_schema) if own_schema is not None else metadata.arg_model.model_json_schema()
        except (InvalidSignature, PydanticUserError, LookupError, TypeError, ValueError) as error:
            raise definition.error(
                f"has a signature that gives no schema ({str(error).partition(chr(10))[0]})",
                "use types that JSON can carry: built-in types, dataclasses, pydantic models, enums, and TypedDict of "
                "typing_extensions where Python is older than 3.12",
            ) from error
        _name_questions(plans)
        return metadata, dict(questions), plans, schema


_SWALLOWED: Final = "a context manager around the handler swallowed its failure"


class _RolledBack(Exception):
    """The call came to a result that keeps nothing."""

    def __init__(self, result: Any, outcome: Outcome) -> None:
        super().__init__("rolled back")
        self.result = result
        self.outcome = outcome


def _keep(call: Call, result: Any) -> Outcome:
    """Keep what the call changed in its states, if its result is one that anything is kept of."""
    if isinstance(result, InputRequiredResult):
        return "input_required"
    if getattr(result, "is_error", False):
        return "failed"
    if not call.ends_in_time():
        return "cancelled"
    if call.has_state:
        call.call_state.keep()
    return "succeeded"


def _keep_and_close(call: Call, result: Any) -> None:
    call.call_state.close(_keep(call, result))


def _outcome_of(error: BaseException) -> Outcome:
    if isinstance(error, asyncio.CancelledError | CallCancelled):
        return "cancelled"
    return "conflict" if isinstance(error, StateConflict) else "failed"


def _contain(error: SystemExit | asyncio.CancelledError) -> NoReturn:
    """Turn what the project's code raised to end more than its call into a failure of the call."""
    if isinstance(error, SystemExit):
        raise RuntimeError("a handler called sys.exit()") from error
    task = asyncio.current_task()
    if task is None or task.cancelling():
        raise error
    # Nobody cancelled the call: the handler awaited something that was.
    raise RuntimeError("a handler let a cancellation of its own escape") from error


def _progress_text(value: Any) -> str | None:
    """Return what a generator yields as the message of a progress notification; data is counted and not shown."""
    return str(value) if isinstance(value, str | int | float) else None


def _name_questions(plans: Mapping[Any, Any]) -> None:
    """Name each question on the wire after its resolver, and number those that share a name.

    The name is stable between processes and deployments and says nothing about the project's modules.
    """
    seen: dict[str, int] = {}
    for plan in plans.values():
        name = plan.fn.__name__
        count = seen[name] = seen.get(name, 0) + 1
        plan.wire_key = name if count == 1 else f"{name}_{count}"

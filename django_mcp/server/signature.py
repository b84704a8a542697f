"""Reading a handler's signature once: which parameter is the context, which are answered questions, which are
arguments.

The SDK makes schemas from a signature and fills `Resolve` parameters by its own rules. It is shown a *face* of the
handler: a function that is never called, with the same parameters, where our `Context` and synchronous resolvers are
replaced by what the SDK understands.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass
from typing import Annotated, Any, get_args, get_origin

from mcp.server.mcpserver import Context as SDKContext
from mcp.server.mcpserver.resolve import Resolve

from django_mcp.registry.context import Context
from django_mcp.registry.conversation_connection import Connections
from django_mcp.registry.definition import Definition
from django_mcp.registry.state import State, UserState
from django_mcp.server.call import Call


class KernelContext(SDKContext[Any, Any]):
    """The SDK's context as its resolvers receive it, with the call that it belongs to.

    Args:
        names: the name on the wire of each resolver's question.
    """

    _call: Call
    _names: Mapping[Callable[..., Any], str]

    def __init__(self, call: Call, names: Mapping[Callable[..., Any], str], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._call = call
        self._names = names

    def enter(self, resolver: Callable[..., Any]) -> Call:
        """Return the call that `resolver` works for; what it asks from now on is asked under its name."""
        self._call.question = self._names.get(resolver)
        return self._call


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """A handler as the SDK's schema generation is shown it."""

    face: Callable[..., Any]
    given: Mapping[str, type]
    """The parameters that are no arguments: a `Context`, a `State` or a `UserState`."""
    returns: Any

    def values(self, call: Call, stack: ExitStack | AsyncExitStack) -> dict[str, Any]:
        """Return the values of those parameters in one call; what is opened by them is closed by `stack`."""
        return _values(self.given, call, stack)


def read_signature(definition: Definition[..., Any]) -> Signature:
    """Read the signature of a handler.

    Raises:
        RegistryError: an annotation cannot be evaluated, or a parameter is of a kind that no client can fill.
    """
    function = definition.function
    parameters, hints = _evaluate(definition, function)
    for parameter in parameters.values():
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.VAR_POSITIONAL):
            raise definition.error(
                f"has the positional parameter {parameter.name!r}", "make it a named parameter with a type hint"
            )
    given = {name: kind for name in parameters if (kind := _given_kind(hints.get(name))) is not None}
    adapted = {name: _adapt(definition, hint, {}) for name, hint in hints.items()}
    return Signature(
        face=_face(function, definition.name, parameters, adapted),
        given=given,
        returns=hints.get("return", inspect.Signature.empty),
    )


def with_return(signature: Signature, annotation: Any) -> Callable[..., Any]:
    """Return the face with another return annotation; `inspect.Signature.empty` for none."""
    parameters = inspect.signature(signature.face).parameters
    hints = {name: hint for name, hint in signature.face.__annotations__.items() if name != "return"}
    if annotation is not inspect.Signature.empty:
        hints["return"] = annotation
    return _face(signature.face, signature.face.__name__, dict(parameters), hints)


def _evaluate(
    definition: Definition[..., Any], function: Callable[..., Any]
) -> tuple[dict[str, inspect.Parameter], dict[str, Any]]:
    target = function if inspect.isroutine(function) else type(function).__call__
    try:
        hints = typing.get_type_hints(target, include_extras=True)
        parameters = dict(inspect.signature(function).parameters)
    except (NameError, TypeError, ValueError) as error:
        raise definition.error(
            f"has an annotation that cannot be evaluated ({error})",
            "import the name at module level, outside `if TYPE_CHECKING`",
        ) from error
    return parameters, hints


def _given_kind(hint: Any) -> type | None:
    """Return the class of a parameter that is no argument; None for one that is."""
    if get_origin(hint) is Annotated:
        hint = get_args(hint)[0]
    arms = get_args(hint) or (hint,)
    classes = (arm for arm in arms if isinstance(arm, type))
    return next((kind for arm in classes for kind in (Context, UserState, State) if issubclass(arm, kind)), None)


def _values(given: Mapping[str, type], call: Call, stack: ExitStack | AsyncExitStack) -> dict[str, Any]:
    context = Context(call, Connections(stack))
    return {
        name: context if kind is Context else call.user_state if kind is UserState else call.state
        for name, kind in given.items()
    }


def _adapt(definition: Definition[..., Any], hint: Any, seen: dict[int, Callable[..., Any]]) -> Any:
    """Return `hint` with its resolver, if it has one, made fit for the SDK."""
    if get_origin(hint) is not Annotated:
        return SDKContext if _given_kind(hint) is not None else hint
    inner, *metadata = get_args(hint)
    marks = (Resolve(_resolver(definition, mark.fn, seen)) if isinstance(mark, Resolve) else mark for mark in metadata)
    return Annotated[(inner, *marks)]


_RESOLVERS: dict[Callable[..., Any], Callable[..., Any]] = {}


def _resolver(
    definition: Definition[..., Any], function: Callable[..., Any], seen: dict[int, Callable[..., Any]]
) -> Callable[..., Any]:
    """Return an async resolver for `function` that runs it where handlers run and gives it our context.

    The same function gives the same resolver, so that the SDK asks a question once for two parameters.
    """
    if function in _RESOLVERS:
        return _RESOLVERS[function]
    if id(function) in seen:
        raise definition.error(
            f"has the resolver {function.__name__!r}, which depends on itself", "ask the question in another resolver"
        )
    seen[id(function)] = function
    parameters, hints = _evaluate(definition, function)
    given = {name: kind for name in parameters if (kind := _given_kind(hints.get(name))) is not None}
    adapted = {name: _adapt(definition, hint, seen) for name, hint in hints.items()}
    is_async = inspect.iscoroutinefunction(function)
    # The call is found through the context, so the face always has one, under a name no function can use.
    carrier = next(iter(given), _CARRIER)

    async def resolve(**arguments: Any) -> Any:
        call: Call = arguments[carrier].enter(face)
        if carrier == _CARRIER:
            del arguments[carrier]
        if is_async:
            async with AsyncExitStack() as stack:
                return await function(**arguments | _values(given, call, stack))

        def run() -> Any:
            with ExitStack() as stack:
                return function(**arguments | _values(given, call, stack))

        try:
            return await call.lease.run(run)
        finally:
            call.lease.release()

    if carrier == _CARRIER:
        parameters = {**parameters, _CARRIER: inspect.Parameter(_CARRIER, inspect.Parameter.KEYWORD_ONLY)}
        adapted = {**adapted, _CARRIER: SDKContext}
    face = _RESOLVERS[function] = _face(resolve, function.__name__, parameters, adapted, like=function)
    return face


_CARRIER = "mcp_call"


def _face(
    function: Callable[..., Any],
    name: str,
    parameters: dict[str, inspect.Parameter],
    hints: dict[str, Any],
    *,
    like: Callable[..., Any] | None = None,
) -> Callable[..., Any]:
    async def awaited(**arguments: Any) -> Any:
        return await function(**arguments)

    def plain(**arguments: Any) -> Any:
        return function(**arguments)

    face: Any = awaited if inspect.iscoroutinefunction(function) else plain
    source = like or function
    face.__name__ = name
    face.__qualname__ = getattr(source, "__qualname__", name)
    face.__module__ = getattr(source, "__module__", __name__)
    face.__doc__ = source.__doc__
    face.__annotations__ = hints
    face.__signature__ = inspect.Signature(
        sorted(
            (
                parameter.replace(annotation=hints.get(parameter.name, inspect.Parameter.empty))
                for parameter in parameters.values()
            ),
            key=lambda parameter: parameter.kind,
        ),
        return_annotation=hints.get("return", inspect.Signature.empty),
    )
    return face  # type: ignore[no-any-return]

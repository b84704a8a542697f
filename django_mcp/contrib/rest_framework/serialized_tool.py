"""A tool with serializers: one validates what its function gets, one shows what it returns.

@tool(serializer=BookIn, output_serializer=BookOut)
def add_book(data: BookIn, ctx: Context) -> Book:
    return data.save(owner=ctx.user)

Both run where the function does, or on the call's thread beside an async one, with the request of the caller as their
context. What they refuse is told as a view of the REST API would tell it.
"""

from __future__ import annotations

import copy
import inspect
import json
import math
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Annotated, Any, Final, NoReturn, ParamSpec, TypeVar, get_args, get_origin
from urllib.parse import quote

from asgiref.sync import sync_to_async
from django.db.models import Manager
from django.http import Http404, HttpRequest, HttpResponse
from mcp_types import CallToolResult, TextContent
from rest_framework.exceptions import APIException, NotFound
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.serializers import BaseSerializer, ListSerializer

from django_mcp import Resolve
from django_mcp.contrib.rest_framework.serializer_schema import serializer_operation
from django_mcp.contrib.views.operation import BODY, Operation
from django_mcp.contrib.views.view_answer import data_result, result_of
from django_mcp.contrib.views.view_request import files_of, view_request
from django_mcp.registry.context import Context
from django_mcp.registry.definition import ToolDefinition
from django_mcp.server.shape import row_limit
from django_mcp.server.signature import read_signature

P = ParamSpec("P")
R = TypeVar("R")

_CONTEXT: Final = "mcp_context"
_REFUSED: Final = (APIException, Http404)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SerializedToolDefinition(ToolDefinition[P, R]):
    """A tool whose input or output is described by a serializer: a class, or an instance like `BookOut(many=True)`."""

    serializer: Any = None
    output_serializer: Any = None

    @property
    def kind(self) -> str:
        return "tool"

    def served(self) -> ToolDefinition[..., Any]:
        """Return the tool that a server compiles: its arguments are the fields, its function is run between the two.

        Raises:
            RegistryError: the function does not fit its serializers.
        """
        self._check()
        face = _Face(self)
        told = {field.name: getattr(self, field.name) for field in fields(ToolDefinition)}
        if self.serializer is not None:
            told |= {"input_schema": face.operation.input_schema, "validates_itself": True}
            face.check_names()
        if self.output_serializer is not None:
            told["output_schema"] = face.operation.output_schema
        return ToolDefinition(**{**told, "function": face.function()})

    def _check(self) -> None:
        for name, one in (("serializer", self.serializer), ("output_serializer", self.output_serializer)):
            kind = one if isinstance(one, type) else type(one)
            if one is not None and not issubclass(kind, BaseSerializer):
                raise self.error(f"has {name}={one!r}, which is no serializer", "name a class of REST framework")
        if self.serializer is not None and self.input_schema is not None:
            raise self.error("has a serializer and an input_schema", "leave one of them out")
        if self.output_serializer is not None and (self.output_schema is not None or self.fields):
            raise self.error(
                "has an output_serializer beside another shape",
                "leave out output_schema and fields, or the serializer",
            )
        if inspect.isgeneratorfunction(self.function) or inspect.isasyncgenfunction(self.function):
            raise self.error("is a generator with a serializer", "report progress by ctx.progress()")


class _Face:
    """The function as it is served, around the one that the project wrote."""

    def __init__(self, definition: SerializedToolDefinition[..., Any]) -> None:
        self.definition = definition
        self.inner: Callable[..., Any] = definition.function
        given = read_signature(definition).given
        target = self.inner if inspect.isroutine(self.inner) else type(self.inner).__call__
        self.hints = typing.get_type_hints(target, include_extras=True)
        self.parameters = dict(inspect.signature(self.inner).parameters)
        self.own = [name for name in self.parameters if name not in given and not _is_question(self.hints.get(name))]
        self.takes_input = definition.serializer is not None
        self.is_async = inspect.iscoroutinefunction(target)
        if self.takes_input and len(self.own) != 1:
            raise definition.error(
                f"has the arguments ({', '.join(self.own)}) beside a serializer",
                "give it one parameter for what the serializer has validated",
            )
        annotation = self.hints.get(self.own[0]) if self.takes_input else None
        self.wants_serializer = isinstance(annotation, type) and issubclass(annotation, BaseSerializer)

    @cached_property
    def operation(self) -> Operation:
        return serializer_operation(self.definition.serializer, self.definition.output_serializer)

    def check_names(self) -> None:
        """Refuse a field that has the name of a parameter that is no argument."""
        kept = (self.parameters.keys() - set(self.own)) | {_CONTEXT}
        if clash := sorted(kept & self.operation.input_schema["properties"].keys()):
            raise self.definition.error(
                f"has the parameter {clash[0]!r}, which is a field of its serializer too", "rename the parameter"
            )

    def function(self) -> Callable[..., Any]:
        """Return the function that takes the arguments of a call, and gives its result."""

        def run(**values: Any) -> Any:
            work = _Work(self, values)
            with work:
                return work.shown(self.inner(**work.taken()))

        async def arun(**values: Any) -> Any:
            work = _Work(self, values)
            with work:
                taken = await sync_to_async(work.taken)() if self.takes_input else work.taken()
                value = await self.inner(**taken)
                return await sync_to_async(work.shown)(value) if work.shows else value

        made: Any = arun if self.is_async else run
        for name in ("__name__", "__qualname__", "__module__", "__doc__"):
            setattr(made, name, getattr(self.inner, name, getattr(made, name)))
        made.__wrapped__ = self.inner
        made.__signature__, made.__annotations__ = self._signature()
        return made  # type: ignore[no-any-return]

    def _signature(self) -> tuple[inspect.Signature, dict[str, Any]]:
        """Return what is read of the function: the context of the call, and whatever else is no field."""
        dropped = set(self.own) if self.takes_input else set()
        kept = [
            one.replace(kind=one.KEYWORD_ONLY)
            for name, one in self.parameters.items()
            if name not in dropped and one.kind is not one.VAR_KEYWORD
        ]
        named = inspect.Parameter(_CONTEXT, inspect.Parameter.KEYWORD_ONLY)
        hints = {name: hint for name, hint in self.hints.items() if name not in dropped} | {_CONTEXT: Context}
        parameters = [*kept, named]
        if self.takes_input:
            parameters.append(inspect.Parameter("values", inspect.Parameter.VAR_KEYWORD))
            hints["values"] = Any
        if self.definition.output_serializer is not None:
            hints["return"] = CallToolResult
        returns = hints.get("return", inspect.Signature.empty)
        return inspect.Signature(parameters, return_annotation=returns), hints


class _Work:
    """One call. As a context manager it turns what REST framework refuses into what a tool refuses."""

    def __init__(self, face: _Face, values: dict[str, Any]) -> None:
        self.face = face
        self.values = values
        self.shows = face.definition.output_serializer is not None
        source: HttpRequest = values.pop(_CONTEXT).request
        self.request = view_request(source, "POST", quote(source.path or "/"))
        self.request.user = source.user
        self.context = {"request": _rest_request(source, self.request)}

    def __enter__(self) -> _Work:
        return self

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        if isinstance(error, _REFUSED):
            _refuse(self.request, error)

    def taken(self) -> dict[str, Any]:
        """Return what the function gets. Raises ValidationError."""
        if not self.face.takes_input:
            return self.values
        kept = {name: self.values.pop(name) for name in self.face.parameters if name not in self.face.own}
        operation = self.face.operation
        data = self.values.get(BODY) if operation.body == "whole" else self.values
        if operation.files:
            data = {**self.values, **files_of(operation, self.values)}
        serializer = _bound(self.face.definition.serializer, data=data, context=self.context)
        serializer.is_valid(raise_exception=True)
        value = serializer if self.face.wants_serializer else serializer.validated_data
        return {**kept, self.face.own[0]: value}

    def shown(self, value: Any) -> Any:
        """Return the result for what the function returned."""
        declared = self.face.definition.output_serializer
        if declared is None or isinstance(value, CallToolResult):
            return value
        rows = row_limit()
        if isinstance(declared, ListSerializer):
            value = value.all() if isinstance(value, Manager) else value
            value = rows.take(value) if isinstance(value, Iterable) else value
        elif isinstance(value, BaseSerializer):
            value = value.instance
        data = _bound(declared, instance=value, context=self.context).data
        result = data_result(json.loads(JSONRenderer().render(data)))
        if rows.cut:
            result.content.append(TextContent(type="text", text=rows.note))
        return result


def _is_question(hint: Any) -> bool:
    return get_origin(hint) is Annotated and any(isinstance(one, Resolve) for one in get_args(hint)[1:])


def _bound(declared: Any, **more: Any) -> Any:
    """Return a serializer for one call, made as the declared one was."""
    if isinstance(declared, type):
        return declared(**more)
    made: Mapping[str, Any] = {name: copy.deepcopy(one) for name, one in declared._kwargs.items()}
    return type(declared)(*declared._args, **{**made, **more})


def _rest_request(source: HttpRequest, request: HttpRequest) -> Request:
    made = Request(request)
    made.user = source.user
    made.auth = getattr(source, "auth", None)
    return made


def _refuse(request: HttpRequest, error: APIException | Http404) -> NoReturn:
    """Raise what a tool raises for a refusal, in the words that a view would have for it."""
    refusal = NotFound() if isinstance(error, Http404) else error
    if refusal.status_code >= 500:
        raise error
    detail: Any = refusal.detail
    told = detail if isinstance(detail, list | dict) else {"detail": detail}
    response = HttpResponse(
        JSONRenderer().render(told), status=refusal.status_code, content_type=JSONRenderer.media_type
    )
    if (wait := getattr(refusal, "wait", None)) is not None:
        response.headers["Retry-After"] = str(math.ceil(wait))
    result_of(request, response)
    raise error

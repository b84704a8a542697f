"""A tool that is one method of one view: its call makes a request, and the view's answer is its result."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest
from rest_framework.exceptions import APIException

from django_mcp.contrib.rest_framework.route import Route
from django_mcp.contrib.rest_framework.served_view import BEGAN, ServedView
from django_mcp.contrib.views.operation import Operation
from django_mcp.contrib.views.view_answer import result_of
from django_mcp.contrib.views.view_request import body_of, query_of, view_request
from django_mcp.exceptions import ToolError
from django_mcp.registry.context import Context

logger = logging.getLogger("django_mcp.tools")

NOT_FOUND = "Not found."


class ViewTool:
    """What runs when the tool is called. Its module is the one that registered it, whose app gives the prefix."""

    def __init__(self, view: ServedView, operation: Operation, route: Route, module: str) -> None:
        self.view = view
        self.operation = operation
        self.route = route
        self.__module__ = module

    def __call__(self, mcp_context: Context, **arguments: Any) -> Any:
        source, operation = mcp_context.request, self.operation
        self._check(arguments)
        path = {name: arguments[name] for name in operation.path}
        match = getattr(source, "resolver_match", None)
        found = self.route.find(path, match.kwargs if match is not None else {})
        if found is None:
            raise ToolError(NOT_FOUND)
        body, content_type = body_of(operation, arguments)
        request = view_request(
            source,
            operation.method,
            found.path,
            query=query_of(operation, arguments),
            body=body,
            content_type=content_type,
        )
        request.resolver_match = found.match
        self.view.admit(source, request)
        response = self.view.run(request, found.match.kwargs)
        return result_of(request, response, has_begun=getattr(request, BEGAN, False))

    def _check(self, arguments: Mapping[str, Any]) -> None:
        """Refuse what cannot be made a request of. What the values are good for is for the view to say."""
        operation = self.operation
        if missing := sorted(operation.path - arguments.keys()):
            raise ToolError(f"Invalid arguments: {missing[0]}: it is required.")
        unknown = sorted(arguments.keys() - operation.input_schema["properties"].keys())
        if unknown and operation.body != "fields":
            raise ToolError(f"Invalid arguments: {unknown[0]}: there is no such argument.")

    def is_shown(self, source: HttpRequest) -> bool:
        """Say whether the view's own permissions let the caller of `source` in, as far as no object decides."""
        request = view_request(source, self.operation.method, "/")
        self.view.admit(source, request)
        try:
            view = self.view.instance(request)
            view.check_permissions(view.request)
        except (APIException, Http404, PermissionDenied):
            return False
        except Exception:
            # A permission that needs an object or a part of the path: the call will tell.
            logger.debug("the permissions of %s say nothing without an object", self.view.kind, exc_info=True)
        return True

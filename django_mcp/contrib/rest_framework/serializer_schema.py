"""What a function with serializers takes and gives, as the schemas of a view that had them."""

from __future__ import annotations

from typing import Any

from django.urls import path
from drf_spectacular.openapi import AutoSchema
from rest_framework.parsers import JSONParser
from rest_framework.renderers import JSONRenderer
from rest_framework.views import APIView

from django_mcp.contrib.rest_framework.schema import operations
from django_mcp.contrib.rest_framework.served_view import ServedView
from django_mcp.contrib.views.operation import Operation


def serializer_operation(serializer: Any, output_serializer: Any) -> Operation:
    """Return the operation that takes what one serializer validates, and gives what the other shows.

    Args:
        serializer, output_serializer: classes or unbound instances; None for nothing.
    """
    given, shown = _written(serializer), _shown(output_serializer)

    class Schema(AutoSchema):
        def get_request_serializer(self) -> Any:
            return given

        def get_response_serializers(self) -> Any:
            return shown

    class Serialized(APIView):
        schema = Schema()
        authentication_classes = ()
        parser_classes = (JSONParser,)
        renderer_classes = (JSONRenderer,)

        def get_serializer(self) -> Any:
            return given

        def post(self, request: Any) -> Any:
            """Is never run."""

    return operations(ServedView(Serialized.as_view()), path("serialized/", Serialized.as_view()))["POST"]


def _written(serializer: Any) -> Any:
    return serializer() if isinstance(serializer, type) else serializer


def _shown(serializer: Any) -> Any:
    made = _written(serializer)
    return {204: None} if made is None else {200: made}

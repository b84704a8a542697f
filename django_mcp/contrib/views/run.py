"""What Django's handler does behind its middleware."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from django.db import connections, transaction
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase


def run_view(callback: Callable[..., Any], request: HttpRequest, kwargs: Mapping[str, Any]) -> HttpResponseBase:
    """Answer a request by a callback of the URLconf: in a transaction where ATOMIC_REQUESTS says so, and rendered."""
    run: Callable[..., HttpResponseBase] = callback
    exempt = getattr(callback, "_non_atomic_requests", ())
    for alias in connections:
        if connections.settings[alias]["ATOMIC_REQUESTS"] and alias not in exempt:
            run = transaction.atomic(using=alias)(run)
    response = run(request, **kwargs)
    if isinstance(response, HttpResponse) and callable(getattr(response, "render", None)):
        response = response.render()  # type: ignore[attr-defined]
    return response

"""One request sent twice, as REST and as a tool's call, each on the same data, and what came of either."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from django.contrib.auth.models import User
from django.core.cache import cache
from django.db import connection, transaction
from django.forms.models import model_to_dict
from django.test.utils import CaptureQueriesContext
from rest_framework.authtoken.models import Token
from rest_framework.test import APIClient

from django_mcp.contrib.views.view_answer import DONE
from django_mcp.testing import Client
from tests.contrib.rest_framework.library.models import Author, Book, Review

MODELS: Final = (Author, Book, Review)
HOST: Final = "testserver"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """A request of either kind. `user` is a name, "" for nobody."""

    user: str
    method: str
    path: str
    tool: str
    arguments: Mapping[str, Any]
    data: Any = None
    format: str = "json"

    def __str__(self) -> str:
        return f"{self.user or 'nobody'} {self.method} {self.path}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Came:
    """What came of it. Data is what the client got; a refusal has the view's words and no data."""

    data: Any
    refusal: str | None
    rows: Any
    queries: int


def by_rest(ask: Ask) -> Came:
    client = APIClient()
    if ask.user:
        token, _ = Token.objects.get_or_create(user=User.objects.get(username=ask.user))
        client.credentials(HTTP_AUTHORIZATION=f"Token {token.key}")

    def send() -> tuple[Any, str | None]:
        send_it = getattr(client, ask.method.lower())
        data = ask.data() if callable(ask.data) else ask.data
        body = {} if data is None else {"data": data, "format": ask.format}
        response = send_it(ask.path, **body, headers={"host": HOST})
        content = b"".join(response) if response.streaming else response.content
        is_json = response.headers.get("Content-Type", "").startswith("application/json")
        told = (json.loads(content) if is_json else content) if content else None
        if response.status_code < 400:
            return told, None
        return None, told["detail"] if isinstance(told, dict) and set(told) == {"detail"} else compact(told)

    return _watched(send)


def by_tool(ask: Ask, server: str) -> Came:
    user = User.objects.get(username=ask.user) if ask.user else None
    client = Client(user, server=server, headers={"host": HOST})

    def send() -> tuple[Any, str | None]:
        result = client.call(ask.tool, ask.arguments)
        if result.is_error:
            return None, result.text
        return data_of(result), None

    return _watched(send)


def data_of(result: Any) -> Any:
    if result.structured is not None:
        data = result.structured
        return data["result"] if set(data) == {"result"} else data
    if result.raw["content"][0]["type"] == "resource":
        return base64.b64decode(result.raw["content"][0]["resource"]["blob"])
    return None if result.text == DONE else result.text.encode()


def compact(data: Any) -> str:
    return json.dumps(data, separators=(",", ":"), ensure_ascii=False)


def rows() -> Any:
    return [[model_to_dict(row) | {"pk": row.pk} for row in model.objects.order_by("pk")] for model in MODELS]


def _watched(send: Any) -> Came:
    """Send on data that is as before afterwards."""
    cache.clear()
    with transaction.atomic():
        with CaptureQueriesContext(connection) as captured:
            data, refusal = send()
        queries = [one["sql"] for one in captured.captured_queries if "authtoken_token" not in one["sql"]]
        came = Came(data=data, refusal=refusal, rows=rows(), queries=len(queries))
        transaction.set_rollback(True)
    return came

"""The official clients take every schema made of views, serializers and models, and what calls of them return."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tests.live.node_client import typescript
from tests.live.official import connect
from tests.live.server import CONSUMERS, Served
from tests.live.wire import MODERN

pytestmark = [pytest.mark.live, pytest.mark.timeout(900)]

BOOK = {"title": "Third", "author": 1, "price": "1.50", "pages": 7}
CALLS: list[tuple[str, dict[str, Any]]] = [
    ("author_list", {"limit": 1}),
    ("author_create", {"name": "Bob", "born": "1970-01-02"}),
    ("author_retrieve", {"pk": 1}),
    ("author_update", {"pk": 1, "name": "Anna", "born": None}),
    ("author_sales", {"pk": 1}),
    ("book_list", {"search": "First", "page_size": 1}),
    ("book_retrieve", {"pk": 1}),
    ("book_create", BOOK),
    ("book_partial_update", {"pk": 2, "published_at": "2026-07-28T12:00:00Z"}),
    ("book_rate", {"pk": 1, "stars": 4}),
    ("book_shelve", {"author": "Zoe", "books": [{"title": "One"}]}),
    ("book_genres", {}),
    ("book_text", {"pk": 1}),
    ("book_cover_file", {"pk": 1}),
    ("book_destroy", {"pk": 2}),
    ("review_list", {}),
    ("review_create", {"book": 1, "text": "Fine.", "stars": 5}),
    ("user_list", {}),
    ("user_retrieve", {"username": "librarian"}),
    ("fortune_list", {}),
    ("ping_get", {"year": 2026}),
    ("ping_post", {"year": 2026, "body": [1, {"two": None}]}),
    ("hello", {}),
    ("add_book", BOOK),
    ("long_books", {"pages": 5}),
    ("list_books", {"search": "First ann", "pages__in": [400], "ordering": "-pages", "page_size": 1}),
    ("create_book", {**BOOK, "title": "Fourth", "published_at": "2026-07-28T12:00:00Z"}),
    ("get_book", {"pk": 1}),
    ("update_book", {"pk": 1, "price": None}),
    ("delete_book", {"pk": 1}),
]
REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("book_create", {"title": "T"}, '{"author":["This field is required."]}'),
    ("add_book", {"title": "T"}, '{"author":["This field is required."]}'),
    ("book_retrieve", {"pk": 99}, "No Book matches the given query."),
    ("get_book", {"pk": 99}, "Not found."),
    ("create_book", {**BOOK, "price": "much"}, "price: Enter a number."),
]


@pytest.fixture(params=CONSUMERS)
def served(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Served]:
    media = {"LIVE_MEDIA": str(tmp_path / "media")}
    with Served(request.param, tmp_path, settings="tests.live.settings_library", environment=media) as running:
        yield running
        assert "Traceback" not in running.log


@pytest.fixture
def token(served: Served) -> str:
    return served.run("tests.live.lending.accounts").strip()


@pytest.mark.parametrize("mode", ["legacy", MODERN])
async def test_the_python_client_lists_and_calls_them(served: Served, token: str, mode: str) -> None:
    async with connect(served.url, mode, token=token) as client:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        assert {name for name, _ in CALLS} <= tools.keys()
        for tool in tools.values():
            jsonschema.Draft202012Validator.check_schema(tool.input_schema)
            jsonschema.Draft202012Validator.check_schema(tool.output_schema or {})
        for name, given in CALLS:
            result = await client.call_tool(name, given)
            assert not result.is_error, (name, result.content)
            assert result.structured_content is not None or tools[name].output_schema is None
        for name, given, text in REFUSED:
            result = await client.call_tool(name, given)
            assert (result.is_error, getattr(result.content[0], "text", None)) == (True, text)


def test_the_typescript_client_lists_and_calls_them_and_opens_its_stream(
    served: Served, token: str, tmp_path: Path
) -> None:
    calls = [*CALLS, *((name, given) for name, given, _ in REFUSED)]
    report = typescript(tmp_path, "library.mjs", served.url, token, json.dumps(calls))
    assert {name for name, _ in CALLS} <= {tool["name"] for tool in report["tools"]}
    for (name, _), result in zip(CALLS, report["results"], strict=False):
        assert not result.get("isError"), (name, result)
    refusals = [result["content"][0]["text"] for result in report["results"][len(CALLS) :]]
    assert refusals == [text for _, _, text in REFUSED]
    # Renderers of REST framework have no text/event-stream; nothing of its negotiation is asked.
    assert {(get["accept"], get["status"]) for get in report["gets"]} == {("text/event-stream", 200)}

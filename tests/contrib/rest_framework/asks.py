"""The requests that are sent both ways: every action, by everybody, with what is good and what is not."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import urlencode

from django.core.files.uploadedfile import SimpleUploadedFile

from tests.contrib.rest_framework.pairs import Ask

NOBODY: Final = ""
READERS: Final = (NOBODY, "reader", "owner", "staff")
PNG: Final = b"\x89PNG\r\n\x1a\nnot much of a picture"
BOOK: Final = {"title": "A new one", "author": 1, "pages": 12}


def asks() -> Iterator[Ask]:
    yield from _reading()
    yield from _writing()
    yield from _extra()


def _reading() -> Iterator[Ask]:
    for query in (
        *({}, {"page": 1}, {"page": 2}, {"page": 99}, {"page": "x"}, {"page_size": 1}, {"page_size": 50}),
        *({"genre": "fiction"}, {"genre": "nothing"}, {"genre__in": ["fiction", "science"]}, {"search": "Ann"}),
        *({"search": "zzz"}, {"ordering": "-pages"}, {"ordering": "secret_note"}, {"pages__gte": 200}),
        *({"pages__gte": "many"}, {"pages__lte": 100, "ordering": "title", "page_size": 2}, {"search": "é & ü"}),
    ):
        sent = {name: ",".join(value) if isinstance(value, list) else value for name, value in query.items()}
        yield _get("reader", f"/api/books/?{urlencode(sent)}", "book_list", query)
    for user in READERS:
        yield _get(user, "/api/books/", "book_list", {})
        yield _get(user, "/api/authors/", "author_list", {})
        yield _get(user, "/api/reviews/", "review_list", {})
        yield _get(user, "/api/users/", "user_list", {})
        yield _get(user, "/api/users/owner/", "user_retrieve", {"username": "owner"})
        yield _get(user, "/api/books/1/", "book_retrieve", {"pk": 1})
        yield _get(user, "/api/authors/1/sales/", "author_sales", {"pk": 1})
    for pk in (1, 2, 99, 0, -1, "x", "1 2"):
        yield _get("reader", f"/api/books/{pk}/", "book_retrieve", {"pk": pk})
    for query in ({"limit": 1}, {"limit": 1, "offset": 1}, {"offset": 50}, {"limit": "x"}):
        yield _get("reader", f"/api/authors/?{urlencode(query)}", "author_list", query)
    yield _get("reader", "/api/reviews/?cursor=cD0y", "review_list", {"cursor": "cD0y"})
    yield _get("reader", "/api/reviews/?cursor=bad", "review_list", {"cursor": "bad"})
    yield _get("reader", "/api/users/reader/", "user_retrieve", {"username": "reader"})
    yield _get("staff", "/api/users/no.body/", "user_retrieve", {"username": "no.body"})


def _writing() -> Iterator[Ask]:
    for user in READERS:
        yield _send(user, "POST", "/api/books/", "book_create", {}, BOOK)
        yield _send(user, "PUT", "/api/books/1/", "book_update", {"pk": 1}, {**BOOK, "title": "Another"})
        yield _send(user, "PATCH", "/api/books/1/", "book_partial_update", {"pk": 1}, {"pages": 5})
        yield _send(user, "DELETE", "/api/books/3/", "book_destroy", {"pk": 3}, None)
        yield _send(user, "POST", "/api/reviews/", "review_create", {}, {"book": 1, "text": "Good", "stars": 5})
        yield _send(user, "PATCH", "/api/reviews/1/", "review_partial_update", {"pk": 1}, {"text": "Changed"})
        yield _send(user, "DELETE", "/api/reviews/1/", "review_destroy", {"pk": 1}, None)
        yield _send(user, "POST", "/api/authors/", "author_create", {}, {"name": "Somebody"})
        yield _send(user, "DELETE", "/api/authors/2/", "author_destroy", {"pk": 2}, None)
    for body in (
        *({}, {"title": ""}, {"title": "forbidden", "author": 1}, {"title": "x" * 101, "author": 1}),
        *({**BOOK, "author": 99}, {**BOOK, "author": "Ann"}, {**BOOK, "genre": "poetry"}, {**BOOK, "price": "much"}),
        *({**BOOK, "price": "12.50", "discount": 10}, {**BOOK, "discount": 91}, {**BOOK, "pages": -1}),
        *({**BOOK, "price": None}, {**BOOK, "published_at": "2026-01-02T03:04:05Z"}, {**BOOK, "published_at": "soon"}),
        *(
            {**BOOK, "id": 77, "summary": "mine", "author_name": "mine", "secret_note": "mine"},
            {**BOOK, "title": "ü☃"},
        ),
        {**BOOK, "title": None},
    ):
        yield _send("owner", "POST", "/api/books/", "book_create", {}, body)
    for pk in (99, "x"):
        yield _send("owner", "PATCH", f"/api/books/{pk}/", "book_partial_update", {"pk": pk}, {"pages": 5})
        yield _send("owner", "DELETE", f"/api/books/{pk}/", "book_destroy", {"pk": pk}, None)
    yield _send("owner", "DELETE", "/api/books/1/", "book_destroy", {"pk": 1}, None)
    yield Ask(
        user="owner",
        method="POST",
        path="/api/books/",
        tool="book_create",
        arguments={**BOOK, "cover": {"name": "cover.png", "data": base64.b64encode(PNG).decode()}},
        data=lambda: {**BOOK, "cover": SimpleUploadedFile("cover.png", PNG, "image/png")},
        format="multipart",
    )


def _extra() -> Iterator[Ask]:
    for user in READERS:
        yield _send(user, "POST", "/api/books/1/rate/", "book_rate", {"pk": 1}, {"stars": 4})
        yield _get(user, "/api/books/genres/", "book_genres", {})
    for stars in (0, 6, "five", None):
        yield _send("reader", "POST", "/api/books/1/rate/", "book_rate", {"pk": 1}, {"stars": stars})
    shelves: tuple[dict[str, Any], ...] = (
        {"author": "Zoe", "books": [{"title": "One"}, {"title": "Two", "pages": 3}]},
        {"author": "Zoe", "books": [{"pages": 3}, {"title": "Two", "pages": "x"}]},
        {"author": "Zoe", "books": "none"},
        {"books": []},
    )
    for shelf in shelves:
        yield _send("reader", "POST", "/api/books/shelve/", "book_shelve", {}, shelf)
    yield _get("reader", "/api/books/1/text/", "book_text", {"pk": 1})
    yield _get("reader", "/api/books/99/text/", "book_text", {"pk": 99})
    yield _get("reader", "/api/books/1/cover-file/", "book_cover_file", {"pk": 1})
    yield _get("reader", "/api/books/2/cover-file/", "book_cover_file", {"pk": 2})
    for user in READERS:
        yield _get(user, "/api/ping/2026/", "ping_get", {"year": 2026})
        yield _send(user, "POST", "/api/ping/2026/", "ping_post", {"year": 2026}, {"any": ["thing", 1]}, whole=True)
        yield _get(user, "/api/hello/", "hello", {})


def _get(user: str, path: str, tool: str, arguments: dict[str, Any]) -> Ask:
    return Ask(user=user, method="GET", path=path, tool=tool, arguments=arguments)


def _send(
    user: str, method: str, path: str, tool: str, place: dict[str, Any], data: Any, *, whole: bool = False
) -> Ask:
    body = {"body": data} if whole else data or {}
    return Ask(user=user, method=method, path=path, tool=tool, arguments={**place, **body}, data=data)

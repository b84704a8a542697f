"""The library with its readers, and a server that has all of its views as tools."""

from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.core.files.base import ContentFile
from pytest_django import Settings

from django_mcp import Server
from django_mcp.contrib.rest_framework import register_router, register_view
from tests.contrib.rest_framework.asks import PNG
from tests.contrib.rest_framework.library import urls, views
from tests.contrib.rest_framework.library.models import Author, Book, Review
from tests.servers import defined

TOKENS = "rest_framework.authentication.TokenAuthentication"
EVERY_ACTION = [
    *("list", "retrieve", "create", "update", "partial_update", "destroy"),
    *("rate", "genres", "shelve", "text", "cover_file", "sales"),
]


@pytest.fixture
def library(db: None, settings: Settings, tmp_path: Any) -> Iterator[Server]:
    settings.DJANGO_MCP = {"AUTHENTICATION": [TOKENS], "ACCESS": "public"}
    settings.ROOT_URLCONF = urls.__name__
    files = {"location": tmp_path, "allow_overwrite": True}
    settings.STORAGES = {"default": {"BACKEND": "django.core.files.storage.FileSystemStorage", "OPTIONS": files}}
    _fill()
    with defined("library") as server:
        register_router(urls.router, include=EVERY_ACTION, server=server)
        register_view(views.PingView, route="<int:year>/", url_name="ping", methods=["GET", "POST"], server=server)
        register_view(views.hello, url_name="hello", server=server)
        yield server


def _fill() -> None:
    reader, owner = User.objects.create_user("reader"), User.objects.create_user("owner")
    User.objects.create_user("staff", is_staff=True)
    owner.user_permissions.add(*Permission.objects.filter(content_type__app_label="library"))
    ann, bob = Author.objects.create(pk=1, name="Ann"), Author.objects.create(pk=2, name="Bob", born="1970-01-02")
    first = Book.objects.create(pk=1, title="First", author=ann, pages=400, price="9.99", secret_note="never")
    first.cover.save("first.png", ContentFile(PNG))
    for pk, (title, author, pages) in enumerate((("Second", ann, 200), ("Third", bob, 90), ("é & ü", bob, 5)), 2):
        Book.objects.create(pk=pk, title=title, author=author, pages=pages, genre=Book.Genre.SCIENCE)
    for pk, (owned_by, stars) in enumerate(((owner, 5), (reader, 2), (owner, 1)), 1):
        Review.objects.create(pk=pk, book=first, owner=owned_by, text=f"Review {pk}", stars=stars)

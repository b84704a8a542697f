"""Every action there is, and the books once more as a model."""

from django import forms
from django.db.models import QuerySet

from django_mcp import tool
from django_mcp.contrib.models import ModelResources, ModelTools, register_models
from django_mcp.contrib.rest_framework import register_router, register_view
from tests.contrib.rest_framework.library import urls, views
from tests.contrib.rest_framework.library.models import Book
from tests.contrib.rest_framework.library.serializers import BookSerializer

ACTIONS = [
    *("list", "retrieve", "create", "update", "partial_update", "destroy"),
    *("rate", "genres", "shelve", "text", "cover_file", "sales"),
]

register_router(urls.router, include=ACTIONS, accept_endpoint_authentication=True)
register_view(
    views.PingView,
    route="<int:year>/",
    url_name="ping",
    methods=["GET", "POST"],
    accept_endpoint_authentication=True,
)
register_view(views.hello, url_name="hello", accept_endpoint_authentication=True)


@tool(serializer=BookSerializer, output_serializer=BookSerializer)
def add_book(given: BookSerializer) -> Book:
    """Add a book."""
    return given.save()


@tool(output_serializer=BookSerializer(many=True), read_only=True)
def long_books(pages: int = 100) -> QuerySet[Book]:
    """List the books with so many pages or more."""
    return Book.objects.filter(pages__gte=pages)


class BookForm(forms.ModelForm):  # type: ignore[type-arg]
    class Meta:
        model = Book
        fields = ("title", "author", "genre", "price", "pages", "published_at")


class BookTools(ModelTools):
    """Books as rows."""

    model = Book
    fields = ("id", "title", "author", "author__name", "author__born", "genre", "price", "pages", "published_at")
    search_fields = ("title", "author__name")
    filter_fields = {"pages": ("exact", "gte", "in"), "genre": ("exact",), "price": ("lte",)}
    ordering_fields = ("title", "pages")
    count = True
    form_class = BookForm
    actions = ("list", "retrieve", "create", "update", "delete")


class BookResources(ModelResources):
    model = Book
    fields = ("id", "title", "author__name")
    search_fields = ("title",)


register_models(BookTools, BookResources)

"""The shop, as a project would serve it."""

from typing import Any, ClassVar

from django import forms
from django.db import models
from django.http import HttpRequest

from django_mcp.contrib.models import ModelResources, ModelTools
from tests.contrib.models.shop.models import Item, Maker

EVERY_COLUMN = [
    *("id", "name", "slug", "text", "size", "kind", "stock", "small", "big", "price", "weight", "is_sold", "day"),
    *("at", "clock", "lasts", "code", "address", "extra", "photo", "maker", "maker__name", "owner"),
]
COMPARED = ("exact", "in", "gt", "gte", "lt", "lte", "isnull")
TEXTS = ("iexact", "contains", "icontains", "startswith", "istartswith")
NOT_COMPARED = {"extra", "photo"}


class ItemForm(forms.ModelForm):  # type: ignore[type-arg]
    class Meta:
        model = Item
        fields: ClassVar[list[str]] = [
            *("name", "slug", "text", "size", "kind", "stock", "small", "big", "price", "weight", "is_sold", "day"),
            *("at", "clock", "lasts", "code", "address", "extra", "photo", "maker", "parts"),
        ]

    def clean_name(self) -> str:
        name: str = self.cleaned_data["name"]
        if name == "forbidden":
            raise forms.ValidationError("This name is forbidden.")
        return name


class ItemTools(ModelTools):
    """Things in the shop."""

    model = Item
    fields = EVERY_COLUMN
    search_fields = ("name", "text", "maker__name")
    filter_fields: ClassVar[dict[str, Any]] = {
        name: COMPARED + (TEXTS if name in {"name", "slug", "text", "kind", "maker__name"} else ())
        for name in EVERY_COLUMN
        if name not in NOT_COMPARED
    }
    ordering_fields = ("name", "stock", "price", "maker__name")
    page_size = 3
    max_page_size = 5
    count = True
    form_class = ItemForm
    actions = ("list", "retrieve", "create", "update", "delete")

    def get_queryset(self, request: HttpRequest) -> models.QuerySet[Any]:
        return super().get_queryset(request).exclude(name="hidden")


class ItemResources(ModelResources):
    model = Item
    fields = ("id", "name", "maker__name")
    search_fields = ("name",)

    def get_queryset(self, request: HttpRequest) -> models.QuerySet[Any]:
        return super().get_queryset(request).exclude(name="hidden")


class MakerTools(ModelTools):
    """Who makes it; each is shown to whom a backend names."""

    model = Maker
    fields = ("key", "name")
    search_fields = ("name",)
    object_permissions = True
    count = True


class MakerResources(ModelResources):
    model = Maker
    fields = ("key", "name")
    search_fields = ("name",)
    object_permissions = True


class ObjectBackend:
    """Says that everyone may do anything with what is called like them."""

    def authenticate(self, request: Any, **credentials: Any) -> None:
        return None

    def has_perm(self, user: Any, permission: str, obj: Any = None) -> bool:
        return obj is not None and obj.name.startswith(user.get_username())

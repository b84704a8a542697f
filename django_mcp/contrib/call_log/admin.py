"""The log of calls in the admin: to be read."""

from typing import TYPE_CHECKING, Any, Final

from django.contrib import admin
from django.db.models import Field
from django.http import HttpRequest

from django_mcp.contrib.call_log.models import LoggedCall

if TYPE_CHECKING:
    CallAdmin = admin.ModelAdmin[LoggedCall]
else:
    CallAdmin = admin.ModelAdmin

_FIELDS: Final = tuple(field.name for field in LoggedCall._meta.get_fields() if isinstance(field, Field))


@admin.register(LoggedCall)
class LoggedCallAdmin(CallAdmin):
    list_display = ("created", "server", "tool", "principal", "outcome", "milliseconds", "client_name", "session")
    list_filter = ("outcome", "era", "is_repeat", "is_takeover", "created")
    search_fields = ("principal__startswith", "tool__startswith", "tenant", "session", "conversation")
    date_hierarchy = "created"
    ordering = ("-created",)
    show_full_result_count = False
    fields = _FIELDS
    readonly_fields = _FIELDS

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

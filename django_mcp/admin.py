"""Access tokens and sessions in the admin. A secret is shown once, by the message after its token was made."""

import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib import admin, messages
from django.contrib.auth import get_user_model
from django.core.validators import MinValueValidator
from django.db.models import ForeignKey, QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.html import format_html
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from django_mcp.conf import mcp_settings
from django_mcp.models import MCPAccessToken, MCPSession
from django_mcp.models.access_token import UNLIMITED
from django_mcp.models.session import SessionState

if TYPE_CHECKING:
    from django.contrib.admin.options import _FieldsetSpec
    from django.forms import ModelChoiceField

    TokenAdmin = admin.ModelAdmin[MCPAccessToken]
    SessionAdmin = admin.ModelAdmin[MCPSession]
    TokenForm = forms.ModelForm[MCPAccessToken]
else:
    TokenAdmin = SessionAdmin = admin.ModelAdmin
    TokenForm = forms.ModelForm


def username_lookup() -> str:
    """Return the lookup of a related user's name, whatever the project's user model."""
    return f"user__{get_user_model().USERNAME_FIELD}"


class IssueForm(TokenForm):
    days = forms.IntegerField(
        label=_("Lifetime in days"),
        required=False,
        validators=[MinValueValidator(1)],
        help_text=_("Empty: it never expires."),
    )

    class Meta:
        model = MCPAccessToken
        fields = ["user", "name"]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["days"].initial = mcp_settings.ACCESS_TOKEN_DAYS

    @property
    def lifetime(self) -> timedelta:
        days = self.cleaned_data["days"]
        return UNLIMITED if days is None else timedelta(days=days)


class LivenessFilter(admin.SimpleListFilter):
    title = _("state")
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [("live", _("live")), ("expired", _("expired")), ("revoked", _("revoked"))]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        now = timezone.now()
        match self.value():
            case "live":
                return queryset.live(now)  # type: ignore[attr-defined, no-any-return]
            case "expired":
                return queryset.filter(revoked_at=None, expires_at__lte=now)
            case "revoked":
                return queryset.exclude(revoked_at=None)
        return queryset


@admin.register(MCPAccessToken)
class MCPAccessTokenAdmin(TokenAdmin):
    """Only a superuser makes a token of somebody else: it would carry that person's permissions."""

    list_display = ("fingerprint", "name", "user", "state", "created_at", "expires_at", "last_used_at")
    list_filter = (LivenessFilter, "created_at")
    list_select_related = ("user",)
    show_full_result_count = False
    actions = ("revoke",)

    def get_search_fields(self, request: HttpRequest) -> tuple[str, ...]:
        return ("name", "fingerprint", username_lookup())

    def get_fieldsets(self, request: HttpRequest, obj: MCPAccessToken | None = None) -> "_FieldsetSpec":
        if obj is None:
            return [(None, {"fields": ["user", "name", "days"]})]
        return [(None, {"fields": ["name", *self.get_readonly_fields(request, obj)]})]

    def get_readonly_fields(self, request: HttpRequest, obj: MCPAccessToken | None = None) -> list[str]:
        if obj is None:
            return []
        return ["user", "fingerprint", "state", "created_at", "expires_at", "last_used_at", "revoked_at"]

    def get_form(
        self, request: HttpRequest, obj: MCPAccessToken | None = None, change: bool = False, **kwargs: Any
    ) -> Any:
        if obj is None:
            kwargs["form"] = IssueForm
        return super().get_form(request, obj, change=change, **kwargs)

    def get_autocomplete_fields(self, request: HttpRequest) -> tuple[str, ...]:
        return ("user",) if self._users_are_searchable(request) else ()

    def formfield_for_foreignkey(
        self, db_field: "ForeignKey[Any, Any]", request: HttpRequest, **kwargs: Any
    ) -> "ModelChoiceField[Any]":
        if db_field.name == "user":
            kwargs["initial"] = request.user.pk
            if not _is_superuser(request):
                kwargs["queryset"] = get_user_model()._default_manager.filter(pk__in=[request.user.pk])
        field: Any = super().formfield_for_foreignkey(db_field, request, **kwargs)
        return field  # type: ignore[no-any-return]

    def save_model(self, request: HttpRequest, obj: MCPAccessToken, form: Any, change: bool) -> None:
        if change:
            obj.save(update_fields=["name"])
            return
        token, secret = MCPAccessToken.objects.issue(obj.user, obj.name, lifetime=form.lifetime)
        for field in MCPAccessToken._meta.concrete_fields:
            setattr(obj, field.attname, getattr(token, field.attname))
        obj._state.adding = False
        self.message_user(
            request,
            format_html(str(_("The access token, shown this once: {}")), format_html("<code>{}</code>", secret)),
            messages.WARNING,
        )

    @admin.display(description=_("state"))
    def state(self, token: MCPAccessToken) -> Any:
        if token.revoked_at is not None:
            return _("revoked")
        return _("live") if token.is_live() else _("expired")

    @admin.action(description=_("Revoke selected access tokens"), permissions=["change"])
    def revoke(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        count = MCPAccessToken.objects.filter(pk__in=queryset.values_list("pk", flat=True)).revoke()
        text = ngettext("%d access token was revoked.", "%d access tokens were revoked.", count) % count
        self.message_user(request, text, messages.SUCCESS)

    def _users_are_searchable(self, request: HttpRequest) -> bool:
        registered = self.admin_site._registry.get(get_user_model())
        return (
            _is_superuser(request)
            and registered is not None
            and bool(registered.get_search_fields(request))
            and registered.has_view_permission(request)
        )


@admin.register(MCPSession)
class MCPSessionAdmin(SessionAdmin):
    """Sessions are read, and ended by whoever may change them."""

    list_display = (
        "fingerprint",
        "server",
        "principal",
        "client",
        "protocol_version",
        "state",
        "used",
        "created_at",
        "last_used_at",
    )
    list_filter = ("state", "used", "protocol_version", "server", "client_name", "last_used_at")
    list_select_related = ("user",)
    show_full_result_count = False
    actions = ("revoke", "expire")
    fields = (
        "key",
        "server",
        "tenant",
        "principal",
        "user",
        "address",
        "protocol_version",
        "client_name",
        "client_version",
        "client_information",
        "client_capabilities",
        "log_level",
        "subscribed",
        "state",
        "used",
        "created_at",
        "last_used_at",
        "ended_at",
    )
    readonly_fields = fields

    def get_search_fields(self, request: HttpRequest) -> tuple[str, ...]:
        return ("key__startswith", "principal", "tenant", "address", "client_name", username_lookup())

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: MCPSession | None = None) -> bool:
        return False

    def has_view_permission(self, request: HttpRequest, obj: MCPSession | None = None) -> bool:
        return super().has_view_permission(request, obj) or super().has_change_permission(request, obj)

    def has_end_permission(self, request: HttpRequest) -> bool:
        return super().has_change_permission(request)

    @admin.display(description=_("session"), ordering="key")
    def fingerprint(self, session: MCPSession) -> str:
        return session.fingerprint

    @admin.display(description=_("client"), ordering="client_name")
    def client(self, session: MCPSession) -> str:
        return f"{session.client_name} {session.client_version}".strip()

    @admin.display(description=_("client information"))
    def client_information(self, session: MCPSession) -> str:
        return _pretty(session.client_info_data)

    @admin.display(description=_("client capabilities"))
    def client_capabilities(self, session: MCPSession) -> str:
        return _pretty(session.capabilities_data)

    @admin.display(description=_("subscriptions"))
    def subscribed(self, session: MCPSession) -> str:
        return format_html("<br>".join(["{}"] * len(session.subscription_uris)), *session.subscription_uris) or "-"

    @admin.action(description=_("Revoke selected sessions"), permissions=["end"])
    def revoke(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        self._end(request, queryset, SessionState.REVOKED)

    @admin.action(description=_("Expire selected sessions"), permissions=["end"])
    def expire(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        self._end(request, queryset, SessionState.EXPIRED)

    def _end(self, request: HttpRequest, queryset: QuerySet[Any], state: SessionState) -> None:
        count = MCPSession.objects.filter(pk__in=queryset.values_list("pk", flat=True)).end(state)
        text = ngettext("%d session was ended.", "%d sessions were ended.", count) % count
        self.message_user(request, text, messages.SUCCESS)


def _is_superuser(request: HttpRequest) -> bool:
    return bool(getattr(request.user, "is_superuser", False))


def _pretty(value: Any) -> str:
    return format_html("<pre>{}</pre>", json.dumps(value, indent=2, ensure_ascii=False))

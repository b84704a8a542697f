"""Access tokens: the bearer credential a person gives to a client. Only the hash of a secret is kept."""

import hashlib
import secrets
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar, Final

from django.conf import settings
from django.db import models, router
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from django_mcp.conf import mcp_settings
from django_mcp.models.transactions import transact, translated

if TYPE_CHECKING:
    from django.contrib.auth.base_user import AbstractBaseUser

PREFIX: Final = "mcp_"
SECRET_LENGTH: Final = len(PREFIX) + 43
FINGERPRINT_LENGTH: Final = 8
MAX_NAME_LENGTH: Final = 100
TOUCH_INTERVAL: Final = timedelta(minutes=1)
UNLIMITED: Final = timedelta.max
"""The lifetime of a token that never expires."""


class MCPAccessTokenQuerySet(models.QuerySet["MCPAccessToken"]):
    @property
    def write_alias(self) -> str:
        return self.select_for_update().db

    def issue(
        self, user: "AbstractBaseUser", name: str, *, lifetime: timedelta | None = None
    ) -> tuple["MCPAccessToken", str]:
        """Create a token of `user` and return it with its secret, which cannot be had again.

        `lifetime` None is ACCESS_TOKEN_DAYS; UNLIMITED is for ever.
        """
        now = timezone.now()
        if lifetime is None:
            lifetime = timedelta(days=mcp_settings.ACCESS_TOKEN_DAYS)
        secret = PREFIX + secrets.token_urlsafe(32)
        digest = digest_of(secret)
        token = self.model(
            user_id=user.pk,
            name=name,
            key_digest=digest,
            fingerprint=digest[:FINGERPRINT_LENGTH],
            created_at=now,
            expires_at=None if lifetime == UNLIMITED else now + lifetime,
        )
        transact(lambda: token.save(using=self.write_alias, force_insert=True), using=self.write_alias)
        return token, secret

    @translated
    def authenticate(self, secret: str) -> "MCPAccessToken | None":
        """Return the live token of `secret`, its user with it; None if there is none or its user is inactive.

        The secret is looked up by its hash, so the time it takes tells nothing of a secret that exists.
        """
        if len(secret) != SECRET_LENGTH or not secret.startswith(PREFIX):
            return None
        found = self.using(self.write_alias).select_related("user").filter(key_digest=digest_of(secret)).first()
        now = timezone.now()
        if found is None or not found.is_live(now) or not found.user.is_active:
            return None
        found.touch(now)
        return found

    def live(self, now: datetime | None = None) -> "MCPAccessTokenQuerySet":
        """Return those that are neither revoked nor expired."""
        return self.filter(revoked_at=None).filter(
            models.Q(expires_at=None) | models.Q(expires_at__gt=now or timezone.now())
        )

    def revoke(self) -> int:
        """Revoke those that are not yet; return how many that were."""
        return transact(
            lambda: self.using(self.write_alias).filter(revoked_at=None).update(revoked_at=timezone.now()),
            using=self.write_alias,
        )


class MCPAccessToken(models.Model):
    id = models.BigAutoField(primary_key=True)
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.CASCADE,
        db_index=False,
        related_name="mcp_access_tokens",
        verbose_name=_("user"),
    )
    name = models.CharField(
        _("name"), max_length=MAX_NAME_LENGTH, help_text=_("Where it is used, for whoever revokes it.")
    )
    key_digest = models.CharField(_("digest"), max_length=64, editable=False)
    fingerprint = models.CharField(_("fingerprint"), max_length=FINGERPRINT_LENGTH, editable=False)
    created_at = models.DateTimeField(_("created"), default=timezone.now, editable=False)
    expires_at = models.DateTimeField(_("expires"), null=True, blank=True)
    last_used_at = models.DateTimeField(_("last used"), null=True, blank=True, editable=False)
    revoked_at = models.DateTimeField(_("revoked"), null=True, blank=True, editable=False)

    objects = MCPAccessTokenQuerySet.as_manager()

    class Meta:
        verbose_name = _("access token")
        verbose_name_plural = _("access tokens")
        ordering = ["-id"]
        constraints: ClassVar[list[Any]] = [
            models.UniqueConstraint(fields=["key_digest"], name="django_mcp_token_digest_unique"),
        ]
        indexes: ClassVar[list[Any]] = [
            models.Index(fields=["user"], name="django_mcp_token_user"),
            models.Index(fields=["fingerprint"], name="django_mcp_token_fingerprint"),
        ]

    def __str__(self) -> str:
        return f"{self.name} ({self.fingerprint}…)"

    def is_live(self, now: datetime | None = None) -> bool:
        """Say whether it authenticates, as far as the token itself decides."""
        return self.revoked_at is None and (self.expires_at is None or self.expires_at > (now or timezone.now()))

    def touch(self, now: datetime) -> None:
        """Record the use, at most once in TOUCH_INTERVAL whatever the number of processes."""
        if self.last_used_at is not None and now - self.last_used_at < TOUCH_INTERVAL:
            return
        stale = models.Q(last_used_at=None) | models.Q(last_used_at__lte=now - TOUCH_INTERVAL)
        self._others().filter(stale, pk=self.pk).update(last_used_at=now)
        self.last_used_at = now

    def revoke(self) -> bool:
        """End the token at once, everywhere; False if it was revoked before."""
        revoked = self._others().filter(pk=self.pk).revoke() == 1
        self.refresh_from_db(fields=["revoked_at"])
        return revoked

    def _others(self) -> MCPAccessTokenQuerySet:
        return MCPAccessToken.objects.using(self._state.db or router.db_for_write(MCPAccessToken))


def digest_of(secret: str) -> str:
    """Return the hash under which a secret is stored; 256 random bits need no salt."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()

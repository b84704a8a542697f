"""Sessions: the handshake era's protocol record, kept here alone so that any process serves the next request.

A session ends in one of three ways (terminated by its client, revoked by an operator or because its user changed,
expired by the clock) and stays ended. Whether it is unknown, ended or somebody else's, the caller is told the same.
"""

import hashlib
import json
import secrets
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from ipaddress import IPv6Address, ip_address, ip_network
from typing import TYPE_CHECKING, Any, ClassVar, Final

from django.conf import settings
from django.db import models, router
from django.db.models import F, Q
from django.utils import timezone
from django.utils.crypto import constant_time_compare
from django.utils.translation import gettext_lazy as _

from django_mcp.conf import mcp_settings
from django_mcp.core.principal import MAX_KEY_LENGTH, Principal
from django_mcp.exceptions import LimitExceeded, Overloaded, SessionNotFound
from django_mcp.models.session_quota import SessionQuota
from django_mcp.models.transactions import Pace, outages, transact, transactional

if TYPE_CHECKING:
    from django.contrib.auth.base_user import AbstractBaseUser
    from django.contrib.auth.models import AnonymousUser

    AnyUser = AbstractBaseUser | AnonymousUser | None

TOUCH_INTERVAL: Final = timedelta(minutes=1)
IN_USE: Final = timedelta(minutes=10)
"""How long after its last use a session is safe from making room for others of its owner."""
TOMBSTONE_DAYS: Final = 14
MAX_RECORD_BYTES: Final = 65_536
MAX_SUBSCRIPTIONS: Final = 1_000
MAX_SUBSCRIPTIONS_BYTES: Final = 262_144
RETRY_AFTER_SECONDS: Final = 60
SWEEP_ROWS: Final = 500
SWEEP_INTERVAL_SECONDS: Final = 60

_sweeps: Final = Pace(SWEEP_INTERVAL_SECONDS)


class SessionState(models.TextChoices):
    ACTIVE = "active", _("active")
    TERMINATED = "terminated", _("terminated by the client")
    EXPIRED = "expired", _("expired")
    REVOKED = "revoked", _("revoked")


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionGlance:
    """What of an active session concerns whatever runs or is read of it."""

    log_level: str
    roots_changes: int


class MCPSessionQuerySet(models.QuerySet["MCPSession"]):
    @property
    def write_alias(self) -> str:
        return self.select_for_update().db

    def active(self) -> "MCPSessionQuerySet":
        return self.filter(state=SessionState.ACTIVE)

    def current(self) -> "MCPSessionQuerySet":
        """Return those that are active now: a replica may not have heard that one has ended."""
        return self.using(self.write_alias).active()

    def due(self, now: datetime) -> "MCPSessionQuerySet":
        """Return the active ones whose time is over by the clock."""
        idle = now - timedelta(seconds=mcp_settings.SESSION_IDLE_SECONDS)
        unused = now - timedelta(seconds=mcp_settings.SESSION_UNUSED_SECONDS)
        return self.active().filter(Q(last_used_at__lte=idle) | Q(used=False, last_used_at__lte=unused))

    def forgettable(self, now: datetime) -> "MCPSessionQuerySet":
        """Return those that ended TOMBSTONE_DAYS ago."""
        return self.filter(ended_at__lte=now - timedelta(days=TOMBSTONE_DAYS))

    @transactional
    def end(self, state: SessionState) -> int:
        """End those that are active; return how many that were. Ended ones stay as they are."""
        if state == SessionState.ACTIVE:
            raise ValueError("A session does not end as active.")
        return self.using(self.write_alias).active().update(state=state, ended_at=timezone.now())

    def begin(
        self,
        *,
        server: str,
        principal: Principal,
        tenant: str = "",
        user: "AnyUser" = None,
        address: str = "",
        protocol_version: str,
        client_info: Mapping[str, Any],
        capabilities: Mapping[str, Any],
    ) -> tuple["MCPSession", str]:
        """Create a session and return it with its id, of which only the hash is kept.

        A cap per principal, or per address of anonymous callers, makes room by ending sessions that were never used,
        oldest first. Raises Overloaded where all of them are in use, LimitExceeded where the client's record is over
        MAX_RECORD_BYTES.
        """
        alias = self.write_alias
        if _sweeps.is_due(alias):
            self.sweep()
        now = timezone.now()
        address = subscriber_address(address)
        session_id = secrets.token_urlsafe(32)
        session = self.model(
            key=digest_of(session_id),
            server=server,
            tenant=tenant,
            principal=principal.key,
            user_id=user.pk if user is not None else None,
            address=address,
            protocol_version=protocol_version,
            client_name=_shown(client_info.get("name"), 100),
            client_version=_shown(client_info.get("version"), 50),
            client_info=_json("clientInfo", client_info),
            capabilities=_json("capabilities", capabilities),
            auth_hash=_auth_hash(user),
            created_at=now,
            last_used_at=now,
        )
        mine = self.using(alias).filter(server=server, tenant=tenant, principal=principal.key)
        if principal.is_anonymous:
            mine, cap = mine.filter(address=address), mcp_settings.MAX_ANONYMOUS_SESSIONS_PER_ADDRESS
        else:
            cap = mcp_settings.MAX_SESSIONS_PER_PRINCIPAL
        owner = [server, tenant, principal.key, address if principal.is_anonymous else ""]
        owner_digest = hashlib.sha256(json.dumps(owner).encode()).hexdigest()

        def insert() -> None:
            SessionQuota.objects.using(alias).hold(owner_digest)
            mine._make_room(cap, now)
            session.save(using=alias, force_insert=True)

        transact(insert, using=alias)
        return session, session_id

    def glance(self, keys: Collection[str]) -> dict[str, SessionGlance]:
        """Return what changes while a session goes on, of those that are active."""
        found: dict[str, SessionGlance] = {}
        ordered = sorted(keys)
        with outages(self.write_alias):
            for start in range(0, len(ordered), SWEEP_ROWS):
                rows = self.using(self.write_alias).active().filter(pk__in=ordered[start : start + SWEEP_ROWS])
                for key, log_level, roots_changes in rows.values_list("pk", "log_level", "roots_changes"):
                    found[key] = SessionGlance(log_level=log_level, roots_changes=roots_changes)
        return found

    def keep_alive(self, keys: Collection[str]) -> None:
        """Record that streams of these are open, at most once in TOUCH_INTERVAL."""
        now = timezone.now()
        ordered = sorted(keys)
        for start in range(0, len(ordered), SWEEP_ROWS):
            rows = self.using(self.write_alias).active().filter(pk__in=ordered[start : start + SWEEP_ROWS])
            stale = rows.filter(last_used_at__lte=now - TOUCH_INTERVAL)
            transact(partial(stale.update, last_used_at=now), using=self.write_alias)

    def _make_room(self, cap: int, now: datetime) -> None:
        """Leave at most `cap - 1` of these active. The caller holds the owner's quota row.

        What was never used goes first, then what nobody has used for IN_USE; what is in use stays.
        """
        surplus = self.active().count() - cap + 1
        if surplus <= 0:
            return
        surplus -= self.due(now).update(state=SessionState.EXPIRED, ended_at=now)
        if surplus <= 0:
            return
        unused = self.active().filter(used=False).order_by("last_used_at", "key").values_list("key", flat=True)
        evicted = self.active().filter(key__in=list(unused[:surplus]), used=False)
        surplus -= evicted.update(state=SessionState.EXPIRED, ended_at=now)
        if surplus <= 0:
            return
        left = self.active().filter(last_used_at__lte=now - IN_USE)
        idle = left.order_by("last_used_at", "key").values_list("key", flat=True)
        evicted = left.filter(key__in=list(idle[:surplus]))
        if evicted.update(state=SessionState.EXPIRED, ended_at=now) < surplus:
            raise Overloaded(RETRY_AFTER_SECONDS, "principal", message="Too many sessions")

    def find(
        self, session_id: str, *, server: str, principal: Principal, tenant: str = "", user: "AnyUser" = None
    ) -> "MCPSession":
        """Return the active session of this caller, and record its use at most once in TOUCH_INTERVAL.

        Raises SessionNotFound alike for one that is unknown, ended, expired, or another server's, tenant's or
        principal's. A session whose user is inactive or has another password by now is revoked.
        """
        alias = self.write_alias
        with outages(alias):
            session = self.using(alias).filter(key=digest_of(session_id)).first()
            if session is None or session.state != SessionState.ACTIVE:
                raise SessionNotFound
            if (session.server, session.tenant, session.principal) != (server, tenant, principal.key):
                raise SessionNotFound
            if not session.is_users(user):
                session.revoke()
                raise SessionNotFound
            now = timezone.now()
            if session.is_due(now) and self.using(alias).filter(pk=session.pk).due(now).end(SessionState.EXPIRED):
                raise SessionNotFound
            session.touch(now)
        return session

    @transactional
    def sweep(self, now: datetime | None = None) -> int:
        """Expire what is due, delete what ended TOMBSTONE_DAYS ago, a bounded number at once; return how many.

        `begin()` does it now and then.
        """
        now = now or timezone.now()
        rows = self.using(self.write_alias)
        due = rows.filter(pk__in=list(rows.due(now).values_list("pk", flat=True)[:SWEEP_ROWS]))
        swept = due.due(now).update(state=SessionState.EXPIRED, ended_at=now)
        before = now - timedelta(days=TOMBSTONE_DAYS)
        ended = rows.forgettable(now).values_list("pk", flat=True)
        swept += rows.filter(pk__in=list(ended[:SWEEP_ROWS])).delete()[0]
        quotas = SessionQuota.objects.using(self.write_alias)
        idle = quotas.filter(touched_at__lte=before).values_list("pk", flat=True)
        quotas.filter(pk__in=list(idle[:SWEEP_ROWS]), touched_at__lte=before).delete()
        return swept


class MCPSession(models.Model):
    key = models.CharField(_("key"), max_length=64, primary_key=True, editable=False)
    server = models.CharField(_("server"), max_length=100)
    tenant = models.CharField(_("tenant"), max_length=100, blank=True)
    principal = models.CharField(_("principal"), max_length=MAX_KEY_LENGTH)
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        null=True,
        blank=True,
        on_delete=models.CASCADE,
        db_index=False,
        related_name="mcp_sessions",
        verbose_name=_("user"),
    )
    address = models.CharField(_("address"), max_length=50, blank=True)
    protocol_version = models.CharField(_("protocol version"), max_length=32)
    client_name = models.CharField(_("client"), max_length=100, blank=True)
    client_version = models.CharField(_("client version"), max_length=50, blank=True)
    client_info = models.TextField(default="{}")
    capabilities = models.TextField(default="{}")
    log_level = models.CharField(_("log level"), max_length=16, blank=True)
    subscriptions = models.TextField(default="[]")
    roots_changes = models.PositiveIntegerField(
        default=0, editable=False, help_text="How often its client said that its roots changed."
    )
    state = models.CharField(_("state"), max_length=10, choices=SessionState.choices, default=SessionState.ACTIVE)
    used = models.BooleanField(_("used"), default=False)
    auth_hash = models.CharField(max_length=64, blank=True)
    created_at = models.DateTimeField(_("created"), default=timezone.now)
    last_used_at = models.DateTimeField(_("last used"), default=timezone.now)
    ended_at = models.DateTimeField(_("ended"), null=True, blank=True)

    objects = MCPSessionQuerySet.as_manager()

    class Meta:
        verbose_name = _("session")
        verbose_name_plural = _("sessions")
        ordering = ["-last_used_at", "key"]
        indexes: ClassVar[list[Any]] = [
            models.Index(fields=["user"], name="django_mcp_session_user"),
            models.Index(fields=["principal", "server", "state"], name="django_mcp_session_owner"),
            models.Index(fields=["address", "state"], name="django_mcp_session_address"),
            models.Index(fields=["last_used_at", "key"], name="django_mcp_session_last_used"),
            models.Index(fields=["state", "last_used_at"], name="django_mcp_session_due"),
            models.Index(fields=["ended_at"], name="django_mcp_session_ended"),
        ]

    def __str__(self) -> str:
        return f"{self.fingerprint}… {self.principal}"

    @property
    def fingerprint(self) -> str:
        """Return what may stand in a log or a list for the id."""
        return self.key[:8]

    @property
    def client_info_data(self) -> dict[str, Any]:
        return dict(json.loads(self.client_info))

    @property
    def capabilities_data(self) -> dict[str, Any]:
        return dict(json.loads(self.capabilities))

    @property
    def subscription_uris(self) -> tuple[str, ...]:
        """Return the URIs subscribed to, in the order of subscription, as this record was read."""
        return tuple(json.loads(self.subscriptions))

    def is_due(self, now: datetime) -> bool:
        """Say whether its time is over by the clock."""
        seconds = mcp_settings.SESSION_IDLE_SECONDS
        if not self.used:
            seconds = min(seconds, mcp_settings.SESSION_UNUSED_SECONDS)
        return self.last_used_at <= now - timedelta(seconds=seconds)

    def is_users(self, user: "AnyUser") -> bool:
        """Say whether `user` is the one it was begun for: active, with the same password."""
        pk = user.pk if user is not None else None
        if self.user_id != pk:
            return False
        if user is None or pk is None:
            return True
        return bool(user.is_active) and any(
            constant_time_compare(self.auth_hash, candidate) for candidate in _auth_hashes(user)
        )

    def terminate(self) -> bool:
        """End it for its client; False if it had ended before."""
        return self._end(SessionState.TERMINATED)

    def revoke(self) -> bool:
        """End it for an operator; False if it had ended before."""
        return self._end(SessionState.REVOKED)

    def expire(self) -> bool:
        """End it as if its time were over; False if it had ended before."""
        return self._end(SessionState.EXPIRED)

    def touch(self, now: datetime | None = None) -> None:
        """Record the use, at most once in TOUCH_INTERVAL whatever the number of processes."""
        now = now or timezone.now()
        if now - self.last_used_at < TOUCH_INTERVAL:
            return
        stale = self._row().active().filter(last_used_at__lte=now - TOUCH_INTERVAL)
        transact(lambda: stale.update(last_used_at=now), using=self.write_alias)
        self.last_used_at = now

    def mark_used(self) -> None:
        """Record that more than the handshake arrived, which gives it the long life."""
        if not self.used:
            now = timezone.now()
            fresh = self._row().active().filter(used=False)
            transact(lambda: fresh.update(used=True, last_used_at=now), using=self.write_alias)
            self.used, self.last_used_at = True, now

    def set_log_level(self, level: str) -> None:
        """Keep the least level of the log messages to send. Raises SessionNotFound if it has ended."""
        if not transact(lambda: self._row().active().update(log_level=level), using=self.write_alias):
            raise SessionNotFound
        self.log_level = level

    def note_roots_changed(self) -> None:
        """Record that the client's roots are others now."""
        transact(lambda: self._row().active().update(roots_changes=F("roots_changes") + 1), using=self.write_alias)

    def subscribe(self, uri: str) -> None:
        """Add a URI once, whatever other processes add or remove meanwhile.

        Raises Overloaded over MAX_SUBSCRIPTIONS or MAX_SUBSCRIPTIONS_BYTES, SessionNotFound if it has ended.
        """
        self._subscriptions(lambda uris: uris if uri in uris else [*uris, uri])

    def unsubscribe(self, uri: str) -> None:
        """Remove a URI, if it is there. Raises SessionNotFound if the session has ended."""
        self._subscriptions(lambda uris: [other for other in uris if other != uri])

    @property
    def write_alias(self) -> str:
        return self._state.db or router.db_for_write(type(self))

    def _row(self) -> MCPSessionQuerySet:
        return MCPSession.objects.using(self.write_alias).filter(pk=self.pk)

    def _end(self, state: SessionState) -> bool:
        ended = self._row().end(state) == 1
        with outages(self.write_alias):
            self.refresh_from_db(using=self.write_alias, fields=["state", "ended_at"])
        return ended

    @transactional
    def _subscriptions(self, change: Callable[[list[str]], list[str]]) -> None:
        now = timezone.now()
        if not self._row().active().update(last_used_at=now):
            raise SessionNotFound
        before = json.loads(self._row().select_for_update().values_list("subscriptions", flat=True).get())
        after = change(before)
        text = json.dumps(after, separators=(",", ":"))
        if len(after) > len(before) and (len(after) > MAX_SUBSCRIPTIONS or len(text) > MAX_SUBSCRIPTIONS_BYTES):
            raise Overloaded(RETRY_AFTER_SECONDS, "principal", message="Too many subscriptions")
        if after != before:
            self._row().update(subscriptions=text)
        self.subscriptions, self.last_used_at = text, now


def digest_of(session_id: str) -> str:
    """Return the hash under which a session is stored."""
    return hashlib.sha256(session_id.encode("utf-8", "surrogatepass")).hexdigest()


def subscriber_address(address: str) -> str:
    """Return what one subscriber of a network has: an IPv4 address, or the /64 network of an IPv6 one."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return address[:50]
    if isinstance(parsed, IPv6Address):
        return str(parsed.ipv4_mapped or ip_network((int(parsed), 64), strict=False))
    return str(parsed)


def _auth_hash(user: "AnyUser") -> str:
    return "" if user is None or user.pk is None else _auth_hashes(user)[0]


def _auth_hashes(user: Any) -> list[str]:
    """Return the hash that changes with the user's password: the current one, then those under former secret keys."""
    hashes = [user.get_session_auth_hash(), *user.get_session_auth_fallback_hash()]
    return [hashlib.sha256(value.encode()).hexdigest() for value in hashes]


def _shown(value: object, length: int) -> str:
    """Return a client's text as every database holds it: printable, and cut."""
    if not isinstance(value, str):
        return ""
    return "".join(character if character.isprintable() else "?" for character in value[:length])


def _json(what: str, value: Mapping[str, Any]) -> str:
    text = json.dumps(value, separators=(",", ":"))
    if len(text) > MAX_RECORD_BYTES:
        raise LimitExceeded(f"{what} is larger than {MAX_RECORD_BYTES} bytes")
    return text

"""Conversations: the durable owners of state. The row has the number of the newest generation, which is the head.

A conversation ends in one of two ways (expired by the clock, revoked by an operator) and stays ended. What one user
keeps for everything they do is a conversation too, of the kind `user`: it has no handle and no clock.

Every conversation has its row here, whichever store keeps its generations. One without a `store` is kept in these
tables, whole, by the database state store. Of any other this is the index, which the store of that alias writes: who
it is of, whether it has ended, and as of the last use that was recorded its generation. A cap counts the rows of one
store: an owner's are of one server, which has one store, and what a server left behind in another makes no room.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar, Final

from django.conf import settings
from django.db import models
from django.db.models import F, FilteredRelation, Q, Value
from django.db.models.functions import Coalesce, Greatest
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from django_mcp.conf import mcp_settings
from django_mcp.core.principal import MAX_KEY_LENGTH, Principal
from django_mcp.exceptions import Overloaded
from django_mcp.models.session import IN_USE, RETRY_AFTER_SECONDS, TOUCH_INTERVAL
from django_mcp.models.transactions import transact, transactional

if TYPE_CHECKING:
    from django_mcp.models.session import AnyUser

ID_LENGTH: Final = 32
DIGEST_LENGTH: Final = 64
STORE_LENGTH: Final = 100
NOTHING_REVOKED: Final = -1


class ConversationKind(models.TextChoices):
    CONVERSATION = "conversation", _("conversation")
    USER = "user", _("state of a user")


class ConversationState(models.TextChoices):
    ACTIVE = "active", _("active")
    EXPIRED = "expired", _("expired")
    REVOKED = "revoked", _("revoked")


class ConversationQuerySet(models.QuerySet["Conversation"]):
    @property
    def write_alias(self) -> str:
        return self.select_for_update().db

    def kept_by(self, store: str) -> "ConversationQuerySet":
        """Return those that the store of this alias keeps, "" those that are kept in the database."""
        return self.filter(store=store)

    def active(self) -> "ConversationQuerySet":
        return self.filter(state=ConversationState.ACTIVE)

    def unended(self) -> "ConversationQuerySet":
        """Return the active ones by a condition that no index answers, to update rows that are named.

        MariaDB looks an update up by (state, last_used_at) where that seems cheap, waits for whoever holds the row,
        and misses it where they moved it in that index by using it.
        """
        return self.alias(state_now=Coalesce("state", Value(""))).filter(state_now=ConversationState.ACTIVE)

    def due(self, now: datetime) -> "ConversationQuerySet":
        """Return the active ones whose time is over by the clock."""
        idle = now - timedelta(seconds=mcp_settings.CONVERSATION_IDLE_SECONDS)
        oldest = now - timedelta(seconds=mcp_settings.CONVERSATION_SECONDS)
        over = Q(last_used_at__lte=idle) | Q(created_at__lte=oldest)
        return self.active().filter(over, kind=ConversationKind.CONVERSATION)

    def with_snapshot(self, generation: int | None = None) -> "ConversationQuerySet":
        """Read a snapshot along, by default the head's: `chosen_address`, `chosen_manifest`, None if there is none.

        It is one statement, so the snapshot is of the generation that the row says.
        """
        number = F("generation") if generation is None else generation
        chosen: dict[str, Any] = {"chosen": FilteredRelation("snapshots", condition=Q(snapshots__number=number))}
        columns: dict[str, Any] = {
            "chosen_address": F("chosen__address"),
            "chosen_manifest": F("chosen__manifest"),
        }
        return self.annotate(**chosen).annotate(**columns)

    @transactional
    def end(self, state: ConversationState) -> int:
        """End those that are active; return how many that were. Ended ones stay as they are."""
        return self.using(self.write_alias)._end(state, timezone.now())

    @transactional
    def lose(self) -> int:
        """End those that are active because their store lost what it had acknowledged; return how many that were."""
        return self.using(self.write_alias)._end(ConversationState.EXPIRED, timezone.now(), has_lost=True)

    @transactional
    def use(self, at: datetime, generation: int) -> int:
        """Record a use and a generation of those that are active, never less than is recorded; return how many."""
        changes: dict[str, Any] = {
            "last_used_at": Greatest("last_used_at", Value(at, output_field=models.DateTimeField())),
            "generation": Greatest("generation", Value(generation, output_field=models.BigIntegerField())),
        }
        return self.using(self.write_alias).unended().update(**changes)

    @transactional
    def claim(self, row: "Conversation", *, above: datetime | None = None) -> datetime | None:
        """Take a row, as it was read, for whoever moves it; return the ticket, which is what it was used last by now.

        None where it was used, claimed, moved or ended since. `above` is what the ticket has to be later than.
        """
        ticket = max(row.last_used_at, above or row.last_used_at) + timedelta(microseconds=1)
        mine = self.using(self.write_alias).unended().filter(pk=row.pk, last_used_at=row.last_used_at)
        return ticket if mine.update(last_used_at=ticket) else None

    @transactional
    def move(self, row: "Conversation", ticket: datetime, store: str, changes: Mapping[str, Any]) -> bool:
        """Let another store keep what was claimed under this ticket; False where the claim is lost."""
        mine = self.using(self.write_alias).unended().filter(pk=row.pk, last_used_at=ticket)
        return mine.update(store=store, **changes) == 1

    def of_families(self, families: Iterable[str]) -> "ConversationQuerySet":
        names = list(families)
        return self.filter(Q(pk__in=names) | Q(root_id__in=names))

    def make_room(self, cap: int, now: datetime) -> int:
        """Leave at most `cap - 1` of these active; return how many ended. The caller holds the owner's quota row.

        What never kept anything goes first, then what nobody has used for the longest; what is in use stays.

        Raises Overloaded where all of them are in use.
        """
        mine = self.filter(kind=ConversationKind.CONVERSATION)
        first = surplus = mine.active().count() - cap + 1
        if surplus <= 0:
            return 0
        surplus -= mine.due(now)._end(ConversationState.EXPIRED, now)
        idle = Q(last_used_at__lte=now - IN_USE)
        for candidates in (idle & Q(generation=0), idle):
            if surplus <= 0:
                break
            left = mine.active().filter(candidates)
            oldest = left.order_by("last_used_at").values_list("pk", flat=True)
            surplus -= left.filter(pk__in=list(oldest[:surplus]))._end(ConversationState.EXPIRED, now)
        if surplus > 0:
            raise Overloaded(RETRY_AFTER_SECONDS, "principal", message="Too many conversations")
        return first - surplus

    @transactional
    def expire(self, limit: int) -> int:
        """End what is due, `limit` at most; return how many that were."""
        now = timezone.now()
        rows = self.using(self.write_alias)
        found = list(rows.due(now).values_list("pk", flat=True)[:limit])
        return rows.filter(pk__in=found).due(now)._end(ConversationState.EXPIRED, now) if found else 0

    def _end(self, state: ConversationState, now: datetime, *, has_lost: bool = False) -> int:
        if state == ConversationState.ACTIVE:
            raise ValueError("A conversation does not end as active.")
        changes: dict[str, Any] = {"state": state, "ended_at": now, "garbage_at": now, "name_digest": None}
        if has_lost:
            changes["has_lost"] = True
        return self.unended().update(**changes)


class Conversation(models.Model):
    id = models.CharField(primary_key=True, max_length=ID_LENGTH, editable=False)
    root = models.ForeignKey(
        "self",
        null=True,
        blank=True,
        on_delete=models.CASCADE,
        db_index=False,
        related_name="forks",
        verbose_name=_("root"),
        help_text=_("The first of a family of forks, which share blobs; empty for the first itself."),
    )
    store = models.CharField(
        _("store"),
        max_length=STORE_LENGTH,
        blank=True,
        default="",
        help_text=_("The alias of the store that keeps its state; empty for these tables."),
    )
    forked_from = models.CharField(_("forked from"), max_length=ID_LENGTH, blank=True)
    kind = models.CharField(
        _("kind"), max_length=12, choices=ConversationKind.choices, default=ConversationKind.CONVERSATION
    )
    server = models.CharField(_("server"), max_length=100)
    tenant = models.CharField(_("tenant"), max_length=100, blank=True)
    principal = models.CharField(_("principal"), max_length=MAX_KEY_LENGTH)
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        null=True,
        blank=True,
        on_delete=models.CASCADE,
        db_index=False,
        related_name="mcp_conversations",
        verbose_name=_("user"),
    )
    address = models.CharField(_("address"), max_length=50, blank=True)
    owner_digest = models.CharField(max_length=DIGEST_LENGTH)
    name_digest = models.CharField(max_length=DIGEST_LENGTH, null=True, blank=True)  # noqa: DJ001 - unique or none
    handle_digest = models.CharField(max_length=DIGEST_LENGTH, null=True, blank=True)  # noqa: DJ001 - unique or none
    generation = models.BigIntegerField(_("generation"), default=0)
    has_blobs = models.BooleanField(default=False)
    garbage_at = models.DateTimeField(null=True, blank=True, help_text="When collection is worth another look.")
    revoked_up_to = models.BigIntegerField(_("tokens revoked up to generation"), default=NOTHING_REVOKED)
    revoked_tokens = models.TextField(default="[]")
    state = models.CharField(
        _("state"), max_length=10, choices=ConversationState.choices, default=ConversationState.ACTIVE
    )
    created_at = models.DateTimeField(_("created"), default=timezone.now)
    last_used_at = models.DateTimeField(_("last used"), default=timezone.now)
    ended_at = models.DateTimeField(_("ended"), null=True, blank=True)
    has_lost = models.BooleanField(
        _("lost"), default=False, help_text=_("Its store lost what it had acknowledged, and it ended for that.")
    )

    if TYPE_CHECKING:
        chosen_address: str | None
        chosen_manifest: bytes | None

    objects = ConversationQuerySet.as_manager()

    class Meta:
        verbose_name = _("conversation")
        verbose_name_plural = _("conversations")
        ordering = ["-last_used_at", "id"]
        constraints: ClassVar[list[Any]] = [
            models.UniqueConstraint(fields=["name_digest"], name="django_mcp_conv_name_unique"),
            models.UniqueConstraint(fields=["handle_digest"], name="django_mcp_conv_handle_unique"),
        ]
        indexes: ClassVar[list[Any]] = [
            models.Index(fields=["root"], name="django_mcp_conv_root"),
            models.Index(fields=["user"], name="django_mcp_conv_user"),
            models.Index(fields=["owner_digest", "state", "last_used_at"], name="django_mcp_conv_owner"),
            models.Index(fields=["last_used_at", "id"], name="django_mcp_conv_last_used"),
            models.Index(fields=["state", "last_used_at"], name="django_mcp_conv_idle"),
            models.Index(fields=["state", "created_at"], name="django_mcp_conv_age"),
            models.Index(fields=["ended_at"], name="django_mcp_conv_ended"),
            models.Index(fields=["garbage_at"], name="django_mcp_conv_garbage"),
        ]

    def __str__(self) -> str:
        return f"{self.fingerprint}… {self.principal}"

    @property
    def fingerprint(self) -> str:
        """Return what may stand in a log or a list for the id."""
        return self.id[:8]

    @property
    def family_id(self) -> str:
        """Return the id under which the blobs of this conversation and all its forks are kept."""
        return self.root_id or self.id

    @property
    def revoked_fingerprints(self) -> tuple[str, ...]:
        """Return the fingerprints of single tokens that were revoked."""
        return tuple(json.loads(self.revoked_tokens))

    def is_callers(self, server: str, tenant: str, principal: Principal, user: "AnyUser") -> bool:
        """Say whether this caller may know of it: the one it was begun for, and active."""
        if (self.server, self.tenant, self.principal) != (server, tenant, principal.key):
            return False
        if user is None or user.pk is None:
            return self.user_id is None
        return self.user_id == user.pk and bool(user.is_active)

    def is_due(self, now: datetime) -> bool:
        """Say whether its time is over by the clock."""
        if self.kind == ConversationKind.USER:
            return False
        idle = timedelta(seconds=mcp_settings.CONVERSATION_IDLE_SECONDS)
        return now - self.last_used_at >= idle or now - self.created_at >= timedelta(
            seconds=mcp_settings.CONVERSATION_SECONDS
        )

    def touch(self, now: datetime, *, using: str) -> None:
        """Record the use, at most once in TOUCH_INTERVAL whatever the number of processes."""
        if now - self.last_used_at < TOUCH_INTERVAL:
            return
        mine = Conversation.objects.using(using).active()
        stale = mine.filter(pk=self.pk, last_used_at__lte=now - TOUCH_INTERVAL)
        transact(lambda: stale.update(last_used_at=now), using=using)
        self.last_used_at = now


def owner_digest(server: str, tenant: str, principal: Principal, address: str) -> str:
    """Return what stands for whoever has a cap: a principal, or an address of anonymous callers."""
    return _digest(["conversations", server, tenant, principal.key, address if principal.is_anonymous else ""])


def name_digest(server: str, tenant: str, principal: Principal, kind: str, name: str) -> str:
    """Return what is unique while a named conversation is active, whichever store keeps it."""
    return _digest([kind, server, tenant, principal.key, name])


def handle_digest(handle: str) -> str:
    """Return the hash under which a handle is looked up; 128 random bits need no salt."""
    return hashlib.sha256(handle.encode("utf-8", "surrogatepass")).hexdigest()


def _digest(parts: list[str]) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

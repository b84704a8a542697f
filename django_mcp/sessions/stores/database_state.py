"""The state store in the project's database: SQLite, PostgreSQL, MySQL or MariaDB.

Times are those of the processes, which therefore agree on the time to within GRACE_SECONDS.
"""

import base64
import json
import re
import secrets
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from django.db import IntegrityError
from django.db.models import Q
from django.utils import timezone

from django_mcp.conf import mcp_settings
from django_mcp.core.principal import Principal
from django_mcp.exceptions import ConversationNotFound, LimitExceeded
from django_mcp.models import Conversation, SessionQuota
from django_mcp.models.conversation import (
    ConversationKind,
    ConversationState,
    handle_digest,
    name_digest,
    owner_digest,
)
from django_mcp.models.session import subscriber_address
from django_mcp.models.transactions import Pace, outages, transact, translated
from django_mcp.sessions.stores.census import MAX_CONVERSATIONS, Census
from django_mcp.sessions.stores.database_blobs import DatabaseBlobs
from django_mcp.sessions.stores.database_collection import DatabaseCollection
from django_mcp.sessions.stores.database_generations import check_number, head_of, record_of
from django_mcp.sessions.stores.database_moves import DatabaseMoves
from django_mcp.sessions.stores.state import (
    COLLECT_AT_ONCE,
    MAX_FINGERPRINT_LENGTH,
    MAX_REVOKED_TOKENS,
    Collected,
    ConversationRecord,
    Head,
    Kind,
    References,
)

if TYPE_CHECKING:
    from django_mcp.models.session import AnyUser

BEGIN_ROUNDS: Final = 5
BLOBS_FROM_BYTES: Final = 65_536
SWEEP_INTERVAL_SECONDS: Final = 60
SWEEP_ROWS: Final = 500

_ID = re.compile(r"[0-9a-f]{32}")


class DatabaseStateStore(DatabaseMoves):
    supports_transactions = True

    def __init__(self, alias: str, params: Mapping[str, Any]) -> None:
        super().__init__(alias, params)
        self.write_alias = self.options.get("USING", "default")
        self._blobs = DatabaseBlobs(
            self.write_alias,
            storage=self.options.get("BLOBS"),
            from_bytes=self.options.get("BLOBS_FROM_BYTES", BLOBS_FROM_BYTES),
        )
        self.max_conversations: int = self.options.get("MAX_CONVERSATIONS", MAX_CONVERSATIONS)
        self._sweeps = Pace(SWEEP_INTERVAL_SECONDS)
        self._census = Census(self._rows, limit=self.max_conversations, using=self.write_alias)

    # Begin and find

    def begin(
        self,
        *,
        server: str,
        tenant: str,
        principal: Principal,
        user: "AnyUser" = None,
        name: str | None = None,
        kind: Kind = "conversation",
        address: str = "",
    ) -> Head:
        if kind == "user" and (principal.is_anonymous or name is not None):
            raise ValueError("The state of a user has no name, and an anonymous caller has none.")
        if self._sweeps.is_due(self.write_alias):
            self._rows().expire(SWEEP_ROWS)
        address = subscriber_address(address)
        is_single = kind == "user" or name is not None
        handle = _new_handle() if kind == "conversation" else None
        for _ in range(BEGIN_ROUNDS):
            if is_single:
                try:
                    return self.find_named(
                        name, kind=kind, server=server, tenant=tenant, principal=principal, user=user
                    )
                except ConversationNotFound:
                    pass
            now = timezone.now()
            made = Conversation(
                id=secrets.token_hex(16),
                kind=kind,
                server=server,
                tenant=tenant,
                principal=principal.key,
                user_id=user.pk if user is not None else None,
                address=address,
                owner_digest=owner_digest(server, tenant, principal, address),
                name_digest=name_digest(server, tenant, principal, kind, name or "") if is_single else None,
                handle_digest=handle_digest(handle) if handle is not None else None,
                created_at=now,
                last_used_at=now,
            )
            try:
                self._insert(made)
            except IntegrityError:
                if not is_single:
                    raise
                continue
            return Head(conversation=record_of(made, handle), generation=0, snapshot="", manifest=b"")
        # Somebody of the same principal has it whom the caller may not take for themselves.
        raise ConversationNotFound

    def _insert(self, made: Conversation) -> None:
        def insert() -> None:
            if made.kind == ConversationKind.CONVERSATION:
                self._hold_quota(made)
            made.save(using=self.write_alias, force_insert=True)

        self._census.admit()
        transact(insert, using=self.write_alias)

    def _hold_quota(self, made: Conversation) -> None:
        SessionQuota.objects.using(self.write_alias).hold(made.owner_digest)
        cap = mcp_settings.MAX_CONVERSATIONS_PER_PRINCIPAL
        self._rows().filter(owner_digest=made.owner_digest).make_room(cap, made.created_at)

    def find(
        self, conversation: str, *, server: str, tenant: str, principal: Principal, user: "AnyUser" = None
    ) -> Head:
        if _ID.fullmatch(conversation) is None:
            raise ConversationNotFound
        return self._find(Q(pk=conversation), server, tenant, principal, user)

    def find_by_handle(
        self, handle: str, *, server: str, tenant: str, principal: Principal, user: "AnyUser" = None
    ) -> Head:
        return self._find(Q(handle_digest=handle_digest(handle)), server, tenant, principal, user, handle)

    def find_named(
        self,
        name: str | None = None,
        *,
        kind: Kind = "conversation",
        server: str,
        tenant: str,
        principal: Principal,
        user: "AnyUser" = None,
    ) -> Head:
        digest = name_digest(server, tenant, principal, kind, name or "")
        return self._find(Q(name_digest=digest), server, tenant, principal, user)

    @translated
    def _find(
        self,
        where: Q,
        server: str,
        tenant: str,
        principal: Principal,
        user: "AnyUser",
        handle: str | None = None,
    ) -> Head:
        mine = Q(server=server, tenant=tenant, principal=principal.key, state=ConversationState.ACTIVE)
        row = self._rows().with_snapshot().filter(where, mine).first()
        if row is None or not row.is_callers(server, tenant, principal, user):
            raise ConversationNotFound
        now = timezone.now()
        if row.is_due(now) and self._rows().filter(pk=row.pk).due(now).end(ConversationState.EXPIRED):
            raise ConversationNotFound
        row.touch(now, using=self.write_alias)
        return head_of(row, row.generation, handle)

    @translated
    def inspect(self, conversation: str) -> Head:
        row = self._rows().with_snapshot().filter(pk=conversation).first() if _ID.fullmatch(conversation) else None
        if row is None:
            raise ConversationNotFound
        return head_of(row, row.generation)

    @translated
    def probe(self) -> None:
        self._rows().filter(pk="").exists()

    # Forks

    def fork(self, conversation: ConversationRecord, generation: int | None = None) -> Head:
        if conversation.kind != "conversation":
            raise ValueError("The state of a user is not forked.")
        check_number(generation or 0)
        handle = _new_handle()

        def copy() -> Head:
            now = timezone.now()
            rows = self._rows().filter(pk=conversation.id)
            owner = rows.values_list("owner_digest", flat=True).first()
            if owner is None:
                raise ConversationNotFound
            SessionQuota.objects.using(self.write_alias).hold(owner)
            # The origin is held and in use: it neither makes room, nor ends, nor cuts its history meanwhile.
            if not rows.unended().update(last_used_at=now):
                raise ConversationNotFound
            row = rows.with_snapshot(generation).get()
            source = row.generation if generation is None else generation
            past = self._kept(row, source, row.generation)
            made = Conversation(
                id=secrets.token_hex(16),
                root_id=row.family_id,
                forked_from=row.id,
                kind=row.kind,
                server=row.server,
                tenant=row.tenant,
                principal=row.principal,
                user_id=row.user_id,
                address=row.address,
                owner_digest=row.owner_digest,
                handle_digest=handle_digest(handle),
                generation=1 if past.snapshot else 0,
                has_blobs=row.has_blobs,
                created_at=now,
                last_used_at=now,
            )
            cap = mcp_settings.MAX_CONVERSATIONS_PER_PRINCIPAL
            self._rows().filter(owner_digest=owner).make_room(cap, now)
            made.save(using=self.write_alias, force_insert=True)
            if past.snapshot:
                size = len(past.manifest)
                self._add(made.id, 1, past.snapshot, past.manifest, now, size=size, copied_from=source)
            return Head(
                conversation=record_of(made, handle),
                generation=made.generation,
                snapshot=past.snapshot,
                manifest=past.manifest,
            )

        self._census.admit()
        return transact(copy, using=self.write_alias)

    # Ends

    def expire(self, conversation: ConversationRecord) -> bool:
        return self._rows().filter(pk=conversation.id).end(ConversationState.EXPIRED) == 1

    def revoke(self, conversation: ConversationRecord) -> bool:
        return self._rows().filter(pk=conversation.id).end(ConversationState.REVOKED) == 1

    def revoke_tokens(
        self,
        conversation: ConversationRecord,
        *,
        up_to_generation: int | None = None,
        fingerprint: str | None = None,
    ) -> Head:
        if fingerprint is not None and (
            up_to_generation is not None or not 0 < len(fingerprint) <= MAX_FINGERPRINT_LENGTH
        ):
            raise ValueError("Revoke tokens up to a generation, or one by its fingerprint.")

        def move() -> Head:
            # The head moves on so that a call under way, which cannot commit now, looks at its token again.
            row = self._held(conversation, None)
            if fingerprint is None:
                least = row.generation if up_to_generation is None else min(up_to_generation, row.generation)
                row.revoked_up_to = max(row.revoked_up_to, least)
            elif fingerprint not in row.revoked_fingerprints:
                if len(row.revoked_fingerprints) == MAX_REVOKED_TOKENS:
                    raise LimitExceeded(f"More than {MAX_REVOKED_TOKENS} single tokens; revoke up to a generation")
                row.revoked_tokens = json.dumps([*row.revoked_fingerprints, fingerprint])
            mine = self._rows().filter(pk=row.pk)
            mine.update(revoked_up_to=row.revoked_up_to, revoked_tokens=row.revoked_tokens)
            return self._copy_forward(conversation, row, row.generation)

        return transact(move, using=self.write_alias)

    def collect(self, references: References, *, limit: int = COLLECT_AT_ONCE, dry_run: bool = False) -> Collected:
        with outages(self.write_alias):
            return DatabaseCollection(self.write_alias, self._blobs, references, limit=limit, is_dry=dry_run).run()


def _new_handle() -> str:
    """Return 128 random bits that a model copies without a slip: lower-case letters and digits."""
    return base64.b32encode(secrets.token_bytes(16)).decode().rstrip("=").lower()

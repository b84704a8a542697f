"""The state store in the project's database: SQLite, PostgreSQL, MySQL or MariaDB.

A commit is one transaction: the head moves where its generation is still the expected one, which holds the row until
the blobs and the snapshot are there too. Nobody sees one without the others. Times are those of the processes, which
therefore agree on the time to within GRACE_SECONDS.
"""

import base64
import hashlib
import json
import re
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, cast

from django.db import IntegrityError
from django.db.models import BigIntegerField, F, Q
from django.utils import timezone

from django_mcp.conf import mcp_settings
from django_mcp.core.principal import Principal
from django_mcp.exceptions import ConversationNotFound, CorruptBlob, HeadMoved, LimitExceeded, Overloaded
from django_mcp.models import Blob, Conversation, PastCall, SessionQuota, Snapshot
from django_mcp.models.conversation import (
    ConversationKind,
    ConversationQuerySet,
    ConversationState,
    handle_digest,
    name_digest,
    owner_digest,
)
from django_mcp.models.past_call import NAME_LENGTH
from django_mcp.models.session import RETRY_AFTER_SECONDS, subscriber_address
from django_mcp.models.transactions import Pace, outages, transact, translated
from django_mcp.sessions.stores.collection import Collection
from django_mcp.sessions.stores.state import (
    COLLECT_AT_ONCE,
    HISTORY_AT_ONCE,
    MAX_FINGERPRINT_LENGTH,
    MAX_REVOKED_TOKENS,
    CallNote,
    Collected,
    ConversationRecord,
    Generation,
    Head,
    Kind,
    NotedCall,
    References,
    StateStore,
    is_kept,
)

if TYPE_CHECKING:
    from django_mcp.models.session import AnyUser

BEGIN_ROUNDS: Final = 5
BLOBS_AT_ONCE: Final = 500
MAX_CONVERSATIONS: Final = 1_000_000
SWEEP_INTERVAL_SECONDS: Final = 60
SWEEP_ROWS: Final = 500
TRIM_EVERY: Final = 10
"""History is cut in one commit of so many: the rows beyond it are never more, and are not kept to any reader."""

_ID = re.compile(r"[0-9a-f]{32}")
_DIGEST = re.compile(r"[0-9a-f]{64}")


class DatabaseStateStore(StateStore):
    supports_transactions = True

    def __init__(self, alias: str, params: Mapping[str, Any]) -> None:
        super().__init__(alias, params)
        self.write_alias = self.options.get("USING", "default")
        self.max_conversations: int = self.options.get("MAX_CONVERSATIONS", MAX_CONVERSATIONS)
        self._sweeps = Pace(SWEEP_INTERVAL_SECONDS)
        self._census = Pace(SWEEP_INTERVAL_SECONDS)
        self._uncounted = 0

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

        self._count()
        transact(insert, using=self.write_alias)

    def _hold_quota(self, made: Conversation) -> None:
        SessionQuota.objects.using(self.write_alias).hold(made.owner_digest)
        cap = mcp_settings.MAX_CONVERSATIONS_PER_PRINCIPAL
        self._rows().filter(owner_digest=made.owner_digest).make_room(cap, made.created_at)

    @translated
    def _count(self) -> None:
        """Hold the cap on all conversations: count anew in good time before so many may have begun.

        The processes together overshoot by a sixteenth of what was free, each, and less the closer it gets.
        """
        self._uncounted -= 1
        if self._uncounted >= 0 and not self._census.is_due(self.write_alias):
            return
        free = self.max_conversations - self._rows().active().count()
        if free <= 0:
            free += self._rows().expire(SWEEP_ROWS)
        if free <= 0:
            raise Overloaded(RETRY_AFTER_SECONDS, "global", message="Too many conversations")
        self._uncounted = free // 16

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
        return _head(row, row.generation, handle)

    @translated
    def inspect(self, conversation: str) -> Head:
        row = self._rows().with_snapshot().filter(pk=conversation).first() if _ID.fullmatch(conversation) else None
        if row is None:
            raise ConversationNotFound
        return _head(row, row.generation)

    # Generations

    def commit(
        self,
        conversation: ConversationRecord,
        *,
        base_generation: int,
        manifest: bytes,
        snapshot: str,
        blobs: Mapping[str, bytes],
        call: CallNote | None = None,
    ) -> Head:
        if hashlib.sha256(manifest).hexdigest() != snapshot:
            raise ValueError("The snapshot's address is not the SHA-256 of its manifest.")
        number = base_generation + 1

        def move() -> bool:
            now = timezone.now()
            changes: dict[str, Any] = {"generation": number, "last_used_at": now}
            if blobs:
                changes["has_blobs"] = True
            expected = self._rows().unended().filter(pk=conversation.id, generation=base_generation)
            if not expected.update(**changes):
                return False
            Blob.objects.using(self.write_alias).keep(conversation.family, blobs, now)
            size = len(manifest) + sum(map(len, blobs.values()))
            self._add(conversation.id, number, snapshot, manifest, now, size=size, call=_call_text(call))
            return True

        if not transact(move, using=self.write_alias):
            raise HeadMoved(self._standing(conversation))
        return Head(conversation=conversation, generation=number, snapshot=snapshot, manifest=manifest)

    def _add(
        self,
        conversation: str,
        number: int,
        address: str,
        manifest: bytes,
        now: datetime,
        *,
        size: int,
        call: str = "",
        copied_from: int | None = None,
    ) -> None:
        """Write the snapshot of a head that this transaction moved to `number`, and cut the history now and then."""
        snapshots = Snapshot.objects.using(self.write_alias)
        snapshots.create(
            conversation_id=conversation,
            number=number,
            address=address,
            manifest=manifest,
            size=size,
            call=call,
            copied_from=copied_from,
            created_at=now,
        )
        last = number - mcp_settings.STATE_HISTORY
        if number % TRIM_EVERY == 0 and last > 0:
            deleted, _ = snapshots.filter(conversation_id=conversation, number__lte=last).delete()
            if deleted:
                self._rows().filter(pk=conversation, has_blobs=True).update(garbage_at=now)

    @translated
    def _standing(self, conversation: ConversationRecord) -> Head:
        """Return the head as it is now. Raises ConversationNotFound if the conversation has ended."""
        row = self._rows().with_snapshot().filter(pk=conversation.id, state=ConversationState.ACTIVE).first()
        if row is None:
            raise ConversationNotFound
        return _head(row, row.generation, conversation.handle)

    def blob(self, conversation: ConversationRecord, digest: str) -> bytes:
        return self.blobs(conversation, [digest])[digest]

    @translated
    def blobs(self, conversation: ConversationRecord, digests: Iterable[str]) -> dict[str, bytes]:
        wanted = list(dict.fromkeys(digests))
        rows = Blob.objects.using(self.write_alias)
        found: dict[str, bytes] = {}
        for start in range(0, len(wanted), BLOBS_AT_ONCE):
            names = [digest for digest in wanted[start : start + BLOBS_AT_ONCE] if _DIGEST.fullmatch(digest)]
            found |= rows.bodies(conversation.family, names)
        for digest in wanted:
            if digest not in found:
                raise CorruptBlob(digest, "is missing")
            if hashlib.sha256(found[digest]).hexdigest() != digest:
                raise CorruptBlob(digest)
        return found

    @translated
    def snapshot(self, conversation: ConversationRecord, generation: int) -> Head:
        _check_number(generation)
        row = self._rows().with_snapshot(generation).filter(pk=conversation.id).first()
        if row is None:
            raise ConversationNotFound
        return self._kept(row, generation, row.generation, conversation.handle)

    @translated
    def history(self, conversation: ConversationRecord, limit: int = HISTORY_AT_ONCE) -> list[Generation]:
        kept = Snapshot.objects.using(self.write_alias).filter(
            conversation_id=conversation.id, number__gt=F("conversation__generation") - mcp_settings.STATE_HISTORY
        )
        rows = kept.order_by("-number").values_list("number", "address", "created_at", "size", "call", "copied_from")
        return [
            Generation(
                number=number,
                snapshot=address,
                created=created,
                bytes=size,
                call=CallNote(**json.loads(call)) if call else None,
                copied_from=copied_from,
            )
            for number, address, created, size, call, copied_from in rows[:limit]
        ]

    def note(self, conversation: ConversationRecord, call: CallNote) -> None:
        kept = mcp_settings.CALL_NOTES
        if not kept:
            return
        notes = PastCall.objects.using(self.write_alias).filter(conversation_id=conversation.id)

        def write() -> PastCall:
            return notes.create(
                conversation_id=conversation.id,
                name=call.name[:NAME_LENGTH],
                outcome=call.outcome,
                milliseconds=call.milliseconds,
            )

        transact(write, using=self.write_alias)
        if secrets.randbelow(TRIM_EVERY) == 0:
            with outages(self.write_alias):
                over = list(notes.order_by("-pk").values_list("pk", flat=True)[kept : kept + 1])
            if over:
                transact(lambda: notes.filter(pk__lte=over[0]).delete(), using=self.write_alias)

    @translated
    def calls(self, conversation: ConversationRecord, limit: int = HISTORY_AT_ONCE) -> list[NotedCall]:
        found = [
            NotedCall(call=past.call, created=past.created, generation=past.number)
            for past in self.history(conversation, limit)
            if past.call is not None
        ]
        notes = PastCall.objects.using(self.write_alias).filter(conversation_id=conversation.id).order_by("-pk")
        found += [
            NotedCall(
                call=CallNote(name=note.name, outcome=note.outcome, milliseconds=note.milliseconds),
                created=note.created_at,
            )
            for note in notes[: min(limit, mcp_settings.CALL_NOTES)]
        ]
        return sorted(found, key=lambda noted: noted.created, reverse=True)[:limit]

    def rewind(self, conversation: ConversationRecord, generation: int) -> Head:
        _check_number(generation)

        def move() -> Head:
            return self._copy_forward(conversation, self._held(conversation, generation), generation)

        return transact(move, using=self.write_alias)

    def fork(self, conversation: ConversationRecord, generation: int | None = None) -> Head:
        if conversation.kind != "conversation":
            raise ValueError("The state of a user is not forked.")
        _check_number(generation or 0)
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

        self._count()
        return transact(copy, using=self.write_alias)

    def _held(self, conversation: ConversationRecord, generation: int | None) -> Conversation:
        """Move the head on by one, which holds the row, and return the row with the snapshot of `generation`.

        The row says the number that the head had before.
        """
        rows = self._rows().filter(pk=conversation.id)
        if not rows.unended().update(generation=F("generation") + 1, last_used_at=timezone.now()):
            raise ConversationNotFound
        if generation is None:
            generation = rows.values_list("generation", flat=True).get() - 1
        row = rows.with_snapshot(generation).get()
        row.generation -= 1
        return row

    def _copy_forward(self, conversation: ConversationRecord, row: Conversation, generation: int) -> Head:
        """Make the head that `_held()` moved to as `generation` was."""
        past = self._kept(row, generation, row.generation, conversation.handle)
        number = row.generation + 1
        self._add(
            row.id,
            number,
            past.snapshot,
            past.manifest,
            timezone.now(),
            size=len(past.manifest),
            copied_from=generation,
        )
        return Head(conversation=past.conversation, generation=number, snapshot=past.snapshot, manifest=past.manifest)

    def _kept(self, row: Conversation, generation: int, head: int, handle: str | None = None) -> Head:
        """Return `generation` of the row that was read with it. Raises LookupError if it is not kept."""
        if not is_kept(generation, head=head, history=mcp_settings.STATE_HISTORY):
            raise LookupError(f"Generation {generation} is not kept.")
        if generation and row.chosen_address is None and generation != head:
            raise LookupError(f"Generation {generation} is not kept.")
        return _head(row, generation, handle)

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
            return Collection(self.write_alias, references, limit=limit, is_dry=dry_run).run()

    def _rows(self) -> ConversationQuerySet:
        return Conversation.objects.using(self.write_alias)


def _check_number(generation: int) -> None:
    """Raise LookupError for a number that no generation has, and that a column may not hold."""
    if not 0 <= generation <= BigIntegerField.MAX_BIGINT:
        raise LookupError(f"Generation {generation} is not kept.")


def record_of(row: Conversation, handle: str | None = None) -> ConversationRecord:
    """Return what the row of the index says, whether or not its state can be read."""
    return ConversationRecord(
        id=row.id,
        family=row.family_id,
        kind=cast("Kind", str(row.kind)),
        server=row.server,
        tenant=row.tenant,
        principal=row.principal,
        handle=handle,
        created_at=row.created_at,
        revoked_up_to=row.revoked_up_to,
        revoked_tokens=frozenset(row.revoked_fingerprints),
    )


def _head(row: Conversation, generation: int, handle: str | None = None) -> Head:
    """Return the generation that `row` was read with. Raises CorruptBlob where it is not what it was."""
    address, manifest = row.chosen_address or "", bytes(row.chosen_manifest or b"")
    if generation and row.chosen_address is None:
        raise CorruptBlob("", f"of generation {generation} of {row.fingerprint}… is missing")
    if address and hashlib.sha256(manifest).hexdigest() != address:
        raise CorruptBlob(address)
    return Head(conversation=record_of(row, handle), generation=generation, snapshot=address, manifest=manifest)


def _call_text(call: CallNote | None) -> str:
    return "" if call is None else json.dumps(asdict(call), separators=(",", ":"))


def _new_handle() -> str:
    """Return 128 random bits that a model copies without a slip: lower-case letters and digits."""
    return base64.b32encode(secrets.token_bytes(16)).decode().rstrip("=").lower()

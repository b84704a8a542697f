"""A state store whose index is in the database and whose generations are kept elsewhere.

The ordinary `find()` asks the remote part alone: where in it a conversation is kept never changes, and is remembered
in the process. The database is asked where conversations begin and end, where the remote part does not know one,
doubts it or has it on its way, and for the record of a use, at most once in TOUCH_INTERVAL. What ends does so in the
index first, and is acknowledged when the remote part refuses it too; where a process dies in between, whoever ends it
again, touches it or collects completes that.
"""

import base64
import json
import secrets
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from django.db import IntegrityError
from django.db.models import Q
from django.utils import timezone

from django_mcp.core.principal import Principal
from django_mcp.exceptions import ConversationNotFound, StoreUnavailable
from django_mcp.models import Conversation
from django_mcp.models.conversation import ConversationState, handle_digest, name_digest, owner_digest
from django_mcp.models.session import subscriber_address
from django_mcp.models.transactions import Pace, outages
from django_mcp.sessions.stores.census import MAX_CONVERSATIONS
from django_mcp.sessions.stores.conversation_index import ConversationIndex
from django_mcp.sessions.stores.database_generations import record_of
from django_mcp.sessions.stores.indexed_collection import IndexedCollection
from django_mcp.sessions.stores.indexed_generations import (
    ROUNDS,
    check_number,
    head_of,
    identity_of,
    place_of,
    terms_of,
)
from django_mcp.sessions.stores.indexed_moves import IndexedMoves
from django_mcp.sessions.stores.places import Places
from django_mcp.sessions.stores.remote_state import Forked, Place, RemoteState, Revocation
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
SWEEP_INTERVAL_SECONDS: Final = 60
SWEEP_ROWS: Final = 500


class IndexedStateStore(IndexedMoves):
    """Options: `USING`, the database of the index ("default"); `MAX_CONVERSATIONS` (1,000,000) of this store."""

    def __init__(self, alias: str, params: Mapping[str, Any], remote: RemoteState) -> None:
        super().__init__(alias, params)
        self.write_alias = self.options.get("USING", "default")
        limit = self.options.get("MAX_CONVERSATIONS", MAX_CONVERSATIONS)
        self.remote = remote
        self.index = ConversationIndex(alias, self.write_alias, limit=limit)
        self.places = Places()
        self._sweeps = Pace(SWEEP_INTERVAL_SECONDS)

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
            self.index.rows().expire(SWEEP_ROWS)
        address = subscriber_address(address)
        is_single = kind == "user" or name is not None
        handle = _new_handle() if kind == "conversation" else None
        for _ in range(BEGIN_ROUNDS):
            if is_single:
                with suppress(ConversationNotFound):
                    return self.find_named(
                        name, kind=kind, server=server, tenant=tenant, principal=principal, user=user
                    )
            now = timezone.now()
            made = Conversation(
                id=secrets.token_hex(16),
                store=self.alias,
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
                ended = self.index.insert(made)
            except IntegrityError:
                if not is_single:
                    raise
                continue
            self._begin_remotely(made, ended)
            return self._begun(made, handle)
        # Somebody of the same principal has it whom the caller may not take for themselves.
        raise ConversationNotFound

    def _begin_remotely(self, made: Conversation, ended: list[Conversation]) -> None:
        """Begin it where it is kept, and end what made room for it. In an outage nothing was begun."""
        identity = identity_of(made)
        try:
            for row in ended:
                self.remote.end(place_of(row))
            self.remote.begin(identity, terms_of(identity))
            self._point(made)
        except StoreUnavailable:
            with suppress(StoreUnavailable):
                self.index.end(made.pk, ConversationState.EXPIRED)
            raise

    # Forks

    def fork(self, conversation: ConversationRecord, generation: int | None = None) -> Head:
        if conversation.kind != "conversation":
            raise ValueError("The state of a user is not forked.")
        check_number(generation or 0)
        row = self.index.find(Q(pk=conversation.id))
        if row is None:
            raise ConversationNotFound
        source = place_of(row)
        past = self._source(source, generation)
        handle, now = _new_handle(), timezone.now()
        made = Conversation(
            id=secrets.token_hex(16),
            store=self.alias,
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
            created_at=now,
            last_used_at=now,
        )
        ended = self.index.insert(made, origin=row.id)
        try:
            for over in ended:
                self.remote.end(place_of(over))
            forked = self._fork_remotely(conversation, source, generation, made)
            self._point(made)
        except (ConversationNotFound, LookupError, StoreUnavailable):
            with suppress(StoreUnavailable):
                self.index.end(made.pk, ConversationState.EXPIRED)
            raise
        return Head(
            conversation=record_of(made, handle),
            generation=1 if forked.snapshot else 0,
            snapshot=forked.snapshot,
            manifest=forked.manifest,
        )

    def _source(self, place: Place, generation: int | None) -> Head:
        """Return the generation to fork. Raises LookupError if it is not kept, ConversationNotFound if it is over."""
        for _ in range(ROUNDS):
            found = self.remote.load(place, generation)
            if found is None:
                self._miss(place)
            elif found.is_ended:
                raise ConversationNotFound
            elif found.moving is not None:
                self._await_move(place, found.moving)
            elif found.is_doubtful:
                self._settle(found)
            else:
                return self._kept(found, found.chosen)
        raise StoreUnavailable("The conversation is in doubt again and again")

    def _fork_remotely(
        self, conversation: ConversationRecord, source: Place, generation: int | None, made: Conversation
    ) -> Forked:
        """Copy what is there by now, which the index knows of beforehand."""
        identity = identity_of(made)
        terms = terms_of(identity)
        for _ in range(ROUNDS):
            done = self.remote.fork(source, generation, identity, terms, is_foreseen=made.generation > 0)
            if isinstance(done, Forked):
                return done
            if done.why == "untouched":
                made.generation = 1
                self.index.use(made.pk, made.created_at, generation=1, has_garbage=False)
            else:
                self._make_way(conversation, done, generation)
        raise StoreUnavailable("The conversation is in doubt again and again")

    # Ends

    def expire(self, conversation: ConversationRecord) -> bool:
        return self._end(conversation, ConversationState.EXPIRED)

    def revoke(self, conversation: ConversationRecord) -> bool:
        return self._end(conversation, ConversationState.REVOKED)

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
        which = Revocation(up_to_generation=up_to_generation, fingerprint=fingerprint, limit=MAX_REVOKED_TOKENS)
        place, terms = place_of(conversation), terms_of(conversation)
        moved = self._move(conversation, lambda: self.remote.copy(place, None, terms, revocation=which))
        self.index.revoked(place.id, moved.revoked_up_to, json.dumps(sorted(moved.revoked_tokens)))
        return head_of(moved, conversation.handle)

    def erase(self, row: Conversation) -> None:
        """Delete what is kept of a conversation whose row was deleted, and the family's blobs with its last one."""
        place = place_of(row)
        self.remote.end(place)
        self.remote.forget(place)
        with outages(self.write_alias):
            is_family = Q(pk=place.family) | Q(root_id=place.family)
            if Conversation.objects.using(self.write_alias).filter(is_family).exists():
                return
        now, blobs = self.remote.kept_blobs(place.family)
        self.remote.drop_blobs(place.family, [blob.digest for blob in blobs], before=now)

    def collect(self, references: References, *, limit: int = COLLECT_AT_ONCE, dry_run: bool = False) -> Collected:
        return IndexedCollection(self.index, self.remote, references, limit=limit, is_dry=dry_run).run()


def _new_handle() -> str:
    """Return 128 random bits that a model copies without a slip: lower-case letters and digits."""
    return base64.b32encode(secrets.token_bytes(16)).decode().rstrip("=").lower()

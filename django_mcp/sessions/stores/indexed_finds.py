"""Finding conversations whose index is in the database and whose state is kept elsewhere.

The ordinary way asks the remote part alone: where in it a conversation is kept never changes, and is remembered in the
process. What is not there, not sound, or on its way from one store to another is asked of the index, which alone
knows whether there is one and who keeps it.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from django.db.models import Q

from django_mcp.conf import mcp_settings
from django_mcp.core.principal import Principal
from django_mcp.exceptions import ConversationNotFound, CorruptBlob, StoreUnavailable
from django_mcp.models import Conversation
from django_mcp.models.conversation import ConversationState, handle_digest, name_digest
from django_mcp.models.session import TOUCH_INTERVAL
from django_mcp.sessions.stores.database_generations import record_of
from django_mcp.sessions.stores.indexed_generations import ROUNDS, IndexedGenerations, head_of, place_of
from django_mcp.sessions.stores.places import Places
from django_mcp.sessions.stores.remote_state import Identity, Place, RemoteHead
from django_mcp.sessions.stores.state import Head, Kind

if TYPE_CHECKING:
    from django_mcp.models.session import AnyUser

_ID: Final = re.compile(r"[0-9a-f]{32}")
_NOWHERE: Final = Place(family="0" * 32, id="0" * 32)


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who asks, with the row or the record of a conversation to be theirs."""

    server: str
    tenant: str
    principal: Principal
    user: "AnyUser"

    def has(self, identity: Identity) -> bool:
        """Say whether they may know of it: the one it was begun for, and active."""
        if (identity.server, identity.tenant, identity.principal) != (self.server, self.tenant, self.principal.key):
            return False
        if self.user is None or self.user.pk is None:
            return identity.user == ""
        return identity.user == str(self.user.pk) and bool(self.user.is_active)

    def has_row(self, row: Conversation) -> bool:
        return row.is_callers(self.server, self.tenant, self.principal, self.user)


class IndexedFinds(IndexedGenerations):
    """What a state store with a remote part does to find one conversation."""

    places: Places

    def find(
        self, conversation: str, *, server: str, tenant: str, principal: Principal, user: "AnyUser" = None
    ) -> Head:
        if _ID.fullmatch(conversation) is None:
            raise ConversationNotFound
        caller = Caller(server=server, tenant=tenant, principal=principal, user=user)
        return self._find(Q(pk=conversation), conversation, caller, guess=Place(family=conversation, id=conversation))

    def find_by_handle(
        self, handle: str, *, server: str, tenant: str, principal: Principal, user: "AnyUser" = None
    ) -> Head:
        digest = handle_digest(handle)
        caller = Caller(server=server, tenant=tenant, principal=principal, user=user)
        return self._find(Q(handle_digest=digest), digest, caller, handle)

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
        caller = Caller(server=server, tenant=tenant, principal=principal, user=user)
        return self._find(Q(name_digest=digest), digest, caller)

    def _find(
        self, where: Q, pointer: str, caller: Caller, handle: str | None = None, guess: Place | None = None
    ) -> Head:
        found = self._ordinarily(pointer, guess)
        if found is None or found.is_ended or found.is_doubtful or found.moving is not None:
            found = self._by_index(where, pointer, caller)
        if not caller.has(found.identity):
            raise ConversationNotFound
        self._use(found)
        return head_of(found, handle)

    def _ordinarily(self, pointer: str, guess: Place | None) -> RemoteHead | None:
        """Return what the remote part has by itself, if it has."""
        for place in self._candidates(pointer, guess):
            found = self.remote.load(place)
            if found is not None:
                self.places[pointer] = place
                return found
        return None

    def _candidates(self, pointer: str, guess: Place | None) -> Iterator[Place]:
        known = self.places.get(pointer) or guess
        if known is not None:
            yield known
        followed = self.remote.follow(pointer)
        if followed is not None and followed != known:
            yield followed

    def _by_index(self, where: Q, pointer: str, caller: Caller) -> RemoteHead:
        """Return a sound head of what the index has. Raises ConversationNotFound if that is nothing of the caller's.

        Raises StateLost once for what a user keeps and the store has lost.
        """
        row = self.index.find(where)
        if row is None or not caller.has_row(row):
            raise ConversationNotFound
        place = place_of(row)
        for _ in range(ROUNDS):
            found = self.remote.load(place)
            if found is None:
                self._miss(place)
            elif found.is_ended:
                # It ended in a transaction that was taken back, or while this was read.
                self.index.end(row.pk, ConversationState.EXPIRED)
                raise ConversationNotFound
            elif found.moving is not None and found.moving.is_arriving:
                self._await_move(place, found.moving)
            elif found.is_doubtful:
                self._settle(found)
            else:
                self._point(row)
                self.places[pointer] = place
                return found
        raise StoreUnavailable("The conversation is in doubt again and again")

    def _use(self, found: RemoteHead) -> None:
        """End it where its time is over, else record the use now and then."""
        identity, idle = found.identity, (found.now - found.touched_at).total_seconds()
        age = (found.now - identity.created_at).total_seconds()
        is_over = idle >= mcp_settings.CONVERSATION_IDLE_SECONDS or age >= mcp_settings.CONVERSATION_SECONDS
        if identity.kind == "conversation" and is_over and self.index.end_due(identity.place.id):
            self.remote.end(identity.place)
            raise ConversationNotFound
        if idle >= TOUCH_INTERVAL.total_seconds():
            self._touch(found)

    def inspect(self, conversation: str) -> Head:
        row = self.index.find(Q(pk=conversation), is_active=False) if _ID.fullmatch(conversation) else None
        if row is None:
            raise ConversationNotFound
        found = self.remote.load(place_of(row))
        if found is not None:
            return head_of(found)
        if row.generation:
            raise CorruptBlob("", f"of {row.fingerprint}… is missing")
        return self._begun(row, None)

    def probe(self) -> None:
        self.index.find(Q(pk=""))
        self.remote.load(_NOWHERE)

    def _begun(self, made: Conversation, handle: str | None) -> Head:
        return Head(conversation=record_of(made, handle), generation=0, snapshot="", manifest=b"")

    def _point(self, made: Conversation) -> None:
        """Make what the conversation is looked up by lead to it."""
        place, seconds = place_of(made), mcp_settings.CONVERSATION_SECONDS
        fork = made.pk if made.root_id else None
        for name in filter(None, (fork, made.handle_digest, made.name_digest)):
            self.remote.point(name, place, seconds=seconds)
            self.places[name] = place

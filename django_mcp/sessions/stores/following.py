"""A state store that finds each conversation in whichever store keeps it by now, as its row says.

Made where a project has several state stores. What is asked most often is asked of the store at home, and only what
it does not have is looked up in the index: so a call that read a conversation before it moved commits it where it is
kept now. What an operator does, and what could go by without a trace, looks first.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Final, TypeVar

from django.db import connections
from django.db.models import Q

from django_mcp.core.principal import Principal
from django_mcp.exceptions import (
    ConfigurationError,
    ConversationNotFound,
    CorruptBlob,
    KeptElsewhere,
    StoreUnavailable,
)
from django_mcp.models import Conversation
from django_mcp.models.conversation import handle_digest, name_digest
from django_mcp.models.transactions import outages
from django_mcp.sessions.stores.image import Image
from django_mcp.sessions.stores.moves import Ticket
from django_mcp.sessions.stores.state import (
    COLLECT_AT_ONCE,
    HISTORY_AT_ONCE,
    CallNote,
    Collected,
    ConversationRecord,
    Generation,
    Head,
    Kind,
    NotedCall,
    References,
    StateStore,
)

if TYPE_CHECKING:
    from django_mcp.models.session import AnyUser

T = TypeVar("T")

ROUNDS: Final = 10
"""How often one question follows a conversation that moves again and again."""


class FollowingStateStore(StateStore):
    """Args:
    home: the store that new conversations begin in.
    keeper: returns the store that keeps the conversations whose rows say this; ConfigurationError if there is none.
    """

    def __init__(self, home: StateStore, keeper: Callable[[str], StateStore]) -> None:
        super().__init__(home.alias, {"OPTIONS": home.options})
        self.home = home
        self.write_alias = home.write_alias
        self.supports_transactions = home.supports_transactions
        self._store_of = keeper

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
        def begin() -> Head:
            return self.home.begin(
                server=server, tenant=tenant, principal=principal, user=user, name=name, kind=kind, address=address
            )

        if name is None and kind == "conversation":
            return begin()
        where = Q(name_digest=name_digest(server, tenant, principal, kind, name or ""))
        for _ in range(ROUNDS):
            keeper = self._kept_by(where) or self.home
            try:
                if keeper is self.home:
                    return begin()
                return keeper.find_named(name, kind=kind, server=server, tenant=tenant, principal=principal, user=user)
            except ConversationNotFound:
                if (self._kept_by(where) or self.home) is keeper:
                    raise
        raise StoreUnavailable(_MOVES)

    def find(
        self, conversation: str, *, server: str, tenant: str, principal: Principal, user: "AnyUser" = None
    ) -> Head:
        return self._find(
            Q(pk=conversation),
            lambda store: store.find(conversation, server=server, tenant=tenant, principal=principal, user=user),
        )

    def find_by_handle(
        self, handle: str, *, server: str, tenant: str, principal: Principal, user: "AnyUser" = None
    ) -> Head:
        return self._find(
            Q(handle_digest=handle_digest(handle)),
            lambda store: store.find_by_handle(handle, server=server, tenant=tenant, principal=principal, user=user),
        )

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
        return self._find(
            Q(name_digest=name_digest(server, tenant, principal, kind, name or "")),
            lambda store: store.find_named(
                name, kind=kind, server=server, tenant=tenant, principal=principal, user=user
            ),
        )

    def _find(self, where: Q, ask: Callable[[StateStore], T]) -> T:
        return self._from_home(ask, ConversationNotFound, lambda: self._kept_by(where))

    def inspect(self, conversation: str) -> Head:
        return self._looking(conversation, lambda store: store.inspect(conversation))

    def probe(self) -> None:
        self.home.probe()

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
        def commit(store: StateStore) -> Head:
            if store is not self.home and self._is_in_transaction(store):
                raise KeptElsewhere
            return store.commit(
                conversation,
                base_generation=base_generation,
                manifest=manifest,
                snapshot=snapshot,
                blobs=blobs,
                call=call,
            )

        return self._find(Q(pk=conversation.id), commit)

    def _is_in_transaction(self, store: StateStore) -> bool:
        """Say whether a transaction is under way that home takes part in and this store does not."""
        takes_part = self.supports_transactions and not store.supports_transactions
        return takes_part and connections[self.write_alias].in_atomic_block

    def blob(self, conversation: ConversationRecord, digest: str) -> bytes:
        return self.blobs(conversation, [digest])[digest]

    def blobs(self, conversation: ConversationRecord, digests: Iterable[str]) -> dict[str, bytes]:
        wanted = list(digests)
        return self._from_home(
            lambda store: store.blobs(conversation, wanted), CorruptBlob, lambda: self._keeper(conversation.id)
        )

    def snapshot(self, conversation: ConversationRecord, generation: int) -> Head:
        return self._looking(conversation.id, lambda store: store.snapshot(conversation, generation))

    def history(self, conversation: ConversationRecord, limit: int = HISTORY_AT_ONCE) -> list[Generation]:
        return self._looking(conversation.id, lambda store: store.history(conversation, limit))

    def rewind(self, conversation: ConversationRecord, generation: int) -> Head:
        return self._doing(conversation.id, lambda store: store.rewind(conversation, generation))

    def fork(self, conversation: ConversationRecord, generation: int | None = None) -> Head:
        return self._doing(conversation.id, lambda store: store.fork(conversation, generation))

    def note(self, conversation: ConversationRecord, call: CallNote, *, created: datetime | None = None) -> None:
        self._keeper(conversation.id).note(conversation, call, created=created)

    def calls(self, conversation: ConversationRecord, limit: int = HISTORY_AT_ONCE) -> list[NotedCall]:
        return self._looking(conversation.id, lambda store: store.calls(conversation, limit))

    # Ends

    def expire(self, conversation: ConversationRecord) -> bool:
        return self._looking(conversation.id, lambda store: store.expire(conversation))

    def revoke(self, conversation: ConversationRecord) -> bool:
        return self._looking(conversation.id, lambda store: store.revoke(conversation))

    def revoke_tokens(
        self,
        conversation: ConversationRecord,
        *,
        up_to_generation: int | None = None,
        fingerprint: str | None = None,
    ) -> Head:
        return self._doing(
            conversation.id,
            lambda store: store.revoke_tokens(
                conversation, up_to_generation=up_to_generation, fingerprint=fingerprint
            ),
        )

    def collect(self, references: References, *, limit: int = COLLECT_AT_ONCE, dry_run: bool = False) -> Collected:
        return self.home.collect(references, limit=limit, dry_run=dry_run)

    # Moves, of which home alone is asked

    def image(self, conversation: ConversationRecord) -> Image:
        return self.home.image(conversation)

    def manifests(self, conversation: ConversationRecord, numbers: Collection[int]) -> dict[int, bytes]:
        return self.home.manifests(conversation, numbers)

    def blobs_there(self, conversation: ConversationRecord, digests: Iterable[str]) -> dict[str, bytes]:
        return self.home.blobs_there(conversation, digests)

    def seal(self, conversation: ConversationRecord, image: Image, ticket: Ticket) -> bool:
        return self.home.seal(conversation, image, ticket)

    def unseal(self, conversation: ConversationRecord, ticket: Ticket) -> None:
        self.home.unseal(conversation, ticket)

    def remaining(self, rows: Sequence[Conversation]) -> list[Conversation]:
        return self.home.remaining(rows)

    def late_notes(self, row: Conversation) -> Iterable[NotedCall]:
        return self.home.late_notes(row)

    def leave(self, row: Conversation) -> bool:
        return self.home.leave(row)

    def bring(self, conversation: ConversationRecord, image: Image, manifests: Mapping[int, bytes]) -> None:
        self.home.bring(conversation, image, manifests)

    def bring_blobs(self, conversation: ConversationRecord, blobs: Mapping[str, bytes]) -> None:
        self.home.bring_blobs(conversation, blobs)

    def arrive(self, row: Conversation, image: Image, ticket: Ticket) -> Ticket | None:
        return self.home.arrive(row, image, ticket)

    def read_back(self, conversation: ConversationRecord, image: Image) -> Image | None:
        return self.home.read_back(conversation, image)

    def open(self, row: Conversation) -> bool:
        return self.home.open(row)

    # Who keeps it

    def _from_home(
        self, ask: Callable[[StateStore], T], missing: type[Exception], look: Callable[[], StateStore | None]
    ) -> T:
        """Ask at home, and while it is not there whoever the row says.

        It may have come to a store after that was asked and before the row was read; so only a store that does not
        have it after the row has named it is believed.
        """
        keeper, is_named = self.home, False
        for _ in range(ROUNDS):
            try:
                return ask(keeper)
            except missing:
                named = look()
                if named is None or (is_named and named is keeper):
                    raise
                keeper, is_named = named, True
        raise StoreUnavailable(_MOVES)

    def _looking(self, conversation: str, ask: Callable[[StateStore], T]) -> T:
        """Ask who keeps it, and again where it moved meanwhile; what is asked may be done twice."""
        keeper = self._keeper(conversation)
        for _ in range(ROUNDS):
            try:
                answer = ask(keeper)
            except (ConversationNotFound, CorruptBlob, LookupError):
                before, keeper = keeper, self._keeper(conversation)
                if keeper is before:
                    raise
            else:
                before, keeper = keeper, self._keeper(conversation)
                if keeper is before:
                    return answer
        raise StoreUnavailable(_MOVES)

    def _doing(self, conversation: str, do: Callable[[StateStore], T]) -> T:
        """Do it where it is kept; a store that does not keep it any more does nothing, and says so."""
        keeper = self._keeper(conversation)
        for _ in range(ROUNDS):
            if keeper is not self.home and self._is_in_transaction(keeper):
                raise KeptElsewhere
            try:
                return do(keeper)
            except ConversationNotFound:
                before, keeper = keeper, self._keeper(conversation)
                if keeper is before:
                    raise
        raise StoreUnavailable(_MOVES)

    def _keeper(self, conversation: str) -> StateStore:
        return self._kept_by(Q(pk=conversation), is_active=False) or self.home

    def _kept_by(self, where: Q, *, is_active: bool = True) -> StateStore | None:
        """Return who keeps a conversation, None where there is no such conversation.

        Raises StoreUnavailable where it is a store that this process does not know.
        """
        rows = Conversation.objects.using(self.write_alias)
        with outages(self.write_alias):
            kept = (rows.active() if is_active else rows).filter(where).values_list("store", flat=True).first()
        if kept is None:
            return None
        if kept == self.home.keeper:
            return self.home
        try:
            return self._store_of(kept)
        except ConfigurationError as error:
            raise StoreUnavailable(str(error)) from error


_MOVES: Final = "The conversation moves from store to store again and again"

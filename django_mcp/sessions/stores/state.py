"""The contract of a state store: conversations, their generations, and the blobs those share.

A manifest is opaque bytes here, named by their SHA-256 like every blob. A head moves by compare-and-set alone: of any
number of callers in any number of processes one commit wins, and the others learn from HeadMoved what the head is.
What is stored is never changed, so what was read stays true. A store raises StoreUnavailable when the system under it
is down, and never answers an outage with "there is none". Every backend passes
`django_mcp.testing.state_contract.StateStoreContract`.
"""

from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, Literal

from asgiref.sync import sync_to_async

from django_mcp.core.principal import Principal
from django_mcp.sessions.stores.moves import MovableState

if TYPE_CHECKING:
    from django.contrib.auth.base_user import AbstractBaseUser
    from django.contrib.auth.models import AnonymousUser

    AnyUser = AbstractBaseUser | AnonymousUser | None

Kind = Literal["conversation", "user"]

References = Callable[[bytes, Callable[[str], bytes]], AbstractSet[str]]
"""`references(root, fetch)`: the digests of all pages and blobs a manifest needs; `fetch(digest)` reads a page."""

HISTORY_AT_ONCE: Final = 1_000
COLLECT_AT_ONCE: Final = 1_000
GRACE_SECONDS: Final = 600
"""Longer than any commit: a blob that young is never collected, referenced or not."""
MAX_REVOKED_TOKENS: Final = 200
MAX_FINGERPRINT_LENGTH: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class CallNote:
    """What led to a generation, for people: the tool, how it ended, how long it took."""

    name: str
    outcome: str = "succeeded"
    call: str = ""
    milliseconds: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ConversationRecord:
    """A conversation as it was read. Whoever holds one went through the check of its caller, or is an operator."""

    id: str
    family: str
    """Under which its blobs are kept; a fork has its origin's."""
    kind: Kind
    server: str
    tenant: str
    principal: str
    handle: str | None = field(repr=False)
    """Known where it was just made or just used; the store keeps its hash only."""
    created_at: datetime
    revoked_up_to: int
    revoked_tokens: frozenset[str]

    def is_revoked(self, generation: int, fingerprint: str = "") -> bool:
        """Say whether a token that names `generation` was revoked, by its generation or by its fingerprint."""
        return generation <= self.revoked_up_to or fingerprint in self.revoked_tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """One generation of a conversation. An empty state is `manifest` b"" and `snapshot` "", as in generation 0."""

    conversation: ConversationRecord
    generation: int
    snapshot: str
    manifest: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """A line of the history; `bytes` is what this generation added, `copied_from` where it came by rewind or fork."""

    number: int
    snapshot: str
    created: datetime
    bytes: int
    call: CallNote | None
    copied_from: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class NotedCall:
    """A call of the past; `generation` is what it made of the state, None where it left none."""

    call: CallNote
    created: datetime
    generation: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Collected:
    """What one round of collection took, or (dry) would take; not `is_complete` if there is more to do now."""

    expired: int = 0
    conversations: int = 0
    snapshots: int = 0
    blobs: int = 0
    bytes: int = 0
    is_complete: bool = True


class StateStore(MovableState):
    """The `state` of a backend that an alias of `STORES` names. Sync methods are the truth, `a` twins wrap them.

    `find…()` check the caller. All other methods take the record that those return.
    """

    supports_transactions: bool = False
    """Are its writes part of the caller's transaction on the database `write_alias`?"""
    write_alias: str = "default"

    def __init__(self, alias: str, params: Mapping[str, Any]) -> None:
        self.alias = alias
        self.options: dict[str, Any] = dict(params.get("OPTIONS", {}))

    @property
    def keeper(self) -> str:
        """Return what the rows of the conversations that it keeps say: its alias, "" for the tables of a database."""
        return "" if self.supports_transactions else self.alias

    # Begin and find

    @abstractmethod
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
        """Begin a conversation and return its generation 0.

        With a `name`, and always for the kind "user", there is one of a principal: who comes second gets the head of
        the one that is there, with its handle unknown. A cap per principal (or address of anonymous callers) makes
        room by ending what never kept anything, then what is idle.

        Raises Overloaded where all conversations are in use, ValueError for an anonymous principal's kind "user".
        """

    @abstractmethod
    def find(
        self, conversation: str, *, server: str, tenant: str, principal: Principal, user: "AnyUser" = None
    ) -> Head:
        """Return the head of a conversation by its id, and record the use at most once a minute.

        Raises ConversationNotFound alike for one that is unknown, ended, expired, or another server's, tenant's,
        principal's or user's.
        """

    @abstractmethod
    def find_by_handle(
        self, handle: str, *, server: str, tenant: str, principal: Principal, user: "AnyUser" = None
    ) -> Head:
        """Do what `find()` does, by the handle, which an id is never taken for."""

    @abstractmethod
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
        """Do what `find()` does, by the name it was begun with; a user's own has none."""

    @abstractmethod
    def inspect(self, conversation: str) -> Head:
        """Return the head for an operator: whoever's it is, ended or not, and without a trace.

        Raises ConversationNotFound if it is unknown.
        """

    @abstractmethod
    def probe(self) -> None:
        """Ask for what is not there, of every system that conversations are in. Raises StoreUnavailable."""

    # Generations

    @abstractmethod
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
        """Make `manifest` the generation after `base_generation`, and return it.

        `blobs` has every page and blob that this manifest needs and the manifest of `base_generation` does not.

        Raises HeadMoved where another commit came first, ConversationNotFound where it has ended: nothing is kept in
        either case. Raises ValueError if `snapshot` is not the SHA-256 of `manifest`.
        """

    @abstractmethod
    def blob(self, conversation: ConversationRecord, digest: str) -> bytes:
        """Return a blob of the family. Raises CorruptBlob if it is missing or does not hash to its name."""

    @abstractmethod
    def blobs(self, conversation: ConversationRecord, digests: Iterable[str]) -> dict[str, bytes]:
        """Return several blobs by digest. Raises CorruptBlob for the first that is not as it should be."""

    @abstractmethod
    def snapshot(self, conversation: ConversationRecord, generation: int) -> Head:
        """Return a generation of the past. Raises LookupError if it is not kept."""

    @abstractmethod
    def history(self, conversation: ConversationRecord, limit: int = HISTORY_AT_ONCE) -> list[Generation]:
        """Return the kept generations but 0, newest first: STATE_HISTORY at most."""

    @abstractmethod
    def rewind(self, conversation: ConversationRecord, generation: int) -> Head:
        """Make a new generation that is as `generation` was, and return it.

        Raises LookupError if that is not kept, ConversationNotFound if the conversation has ended.
        """

    @abstractmethod
    def fork(self, conversation: ConversationRecord, generation: int | None = None) -> Head:
        """Begin a conversation of the same caller that is as `generation` (None: the head) was, and return its head.

        It counts to the cap, has a handle of its own, and shares the family's blobs. Raises what `rewind()` and
        `begin()` do, ValueError for the kind "user".
        """

    @abstractmethod
    def note(self, conversation: ConversationRecord, call: CallNote, *, created: datetime | None = None) -> None:
        """Note a call that left no generation, of now or of a time in the past.

        The newest CALL_NOTES of them are kept, none where that is 0.
        """

    @abstractmethod
    def calls(self, conversation: ConversationRecord, limit: int = HISTORY_AT_ONCE) -> list[NotedCall]:
        """Return the calls that were noted, those of the kept generations among them, newest first."""

    # Ends

    @abstractmethod
    def expire(self, conversation: ConversationRecord) -> bool:
        """End it as if its time were over; False if it had ended before."""

    @abstractmethod
    def revoke(self, conversation: ConversationRecord) -> bool:
        """End it for an operator; False if it had ended before."""

    @abstractmethod
    def revoke_tokens(
        self,
        conversation: ConversationRecord,
        *,
        up_to_generation: int | None = None,
        fingerprint: str | None = None,
    ) -> Head:
        """Revoke the tokens of all generations up to one (None: the head), or the one token of `fingerprint`.

        Where the head's own tokens are revoked the head moves on by one, unchanged, so that new tokens are good.

        Raises ConversationNotFound if it has ended, LimitExceeded over MAX_REVOKED_TOKENS fingerprints.
        """

    @abstractmethod
    def collect(self, references: References, *, limit: int = COLLECT_AT_ONCE, dry_run: bool = False) -> Collected:
        """Expire what is due and delete what nothing needs, a bounded number at once; return how much.

        Any number of processes may collect at once, beside any number that commit. What a head or a kept generation
        of the family references stays, as does a blob younger than GRACE_SECONDS; a family whose manifests cannot be
        read keeps everything.
        """

    # Twins

    async def abegin(
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
        return await sync_to_async(self.begin)(
            server=server, tenant=tenant, principal=principal, user=user, name=name, kind=kind, address=address
        )

    async def afind(
        self, conversation: str, *, server: str, tenant: str, principal: Principal, user: "AnyUser" = None
    ) -> Head:
        return await sync_to_async(self.find)(
            conversation, server=server, tenant=tenant, principal=principal, user=user
        )

    async def afind_by_handle(
        self, handle: str, *, server: str, tenant: str, principal: Principal, user: "AnyUser" = None
    ) -> Head:
        return await sync_to_async(self.find_by_handle)(
            handle, server=server, tenant=tenant, principal=principal, user=user
        )

    async def afind_named(
        self,
        name: str | None = None,
        *,
        kind: Kind = "conversation",
        server: str,
        tenant: str,
        principal: Principal,
        user: "AnyUser" = None,
    ) -> Head:
        return await sync_to_async(self.find_named)(
            name, kind=kind, server=server, tenant=tenant, principal=principal, user=user
        )

    async def ainspect(self, conversation: str) -> Head:
        return await sync_to_async(self.inspect)(conversation)

    async def acommit(
        self,
        conversation: ConversationRecord,
        *,
        base_generation: int,
        manifest: bytes,
        snapshot: str,
        blobs: Mapping[str, bytes],
        call: CallNote | None = None,
    ) -> Head:
        return await sync_to_async(self.commit)(
            conversation,
            base_generation=base_generation,
            manifest=manifest,
            snapshot=snapshot,
            blobs=blobs,
            call=call,
        )

    async def ablob(self, conversation: ConversationRecord, digest: str) -> bytes:
        return await sync_to_async(self.blob)(conversation, digest)

    async def ablobs(self, conversation: ConversationRecord, digests: Iterable[str]) -> dict[str, bytes]:
        return await sync_to_async(self.blobs)(conversation, digests)

    async def asnapshot(self, conversation: ConversationRecord, generation: int) -> Head:
        return await sync_to_async(self.snapshot)(conversation, generation)

    async def ahistory(self, conversation: ConversationRecord, limit: int = HISTORY_AT_ONCE) -> list[Generation]:
        return await sync_to_async(self.history)(conversation, limit)

    async def arewind(self, conversation: ConversationRecord, generation: int) -> Head:
        return await sync_to_async(self.rewind)(conversation, generation)

    async def afork(self, conversation: ConversationRecord, generation: int | None = None) -> Head:
        return await sync_to_async(self.fork)(conversation, generation)

    async def anote(self, conversation: ConversationRecord, call: CallNote) -> None:
        await sync_to_async(self.note)(conversation, call)

    async def acalls(self, conversation: ConversationRecord, limit: int = HISTORY_AT_ONCE) -> list[NotedCall]:
        return await sync_to_async(self.calls)(conversation, limit)

    async def aexpire(self, conversation: ConversationRecord) -> bool:
        return await sync_to_async(self.expire)(conversation)

    async def arevoke(self, conversation: ConversationRecord) -> bool:
        return await sync_to_async(self.revoke)(conversation)

    async def arevoke_tokens(
        self,
        conversation: ConversationRecord,
        *,
        up_to_generation: int | None = None,
        fingerprint: str | None = None,
    ) -> Head:
        return await sync_to_async(self.revoke_tokens)(
            conversation, up_to_generation=up_to_generation, fingerprint=fingerprint
        )

    async def acollect(
        self, references: References, *, limit: int = COLLECT_AT_ONCE, dry_run: bool = False
    ) -> Collected:
        return await sync_to_async(self.collect)(references, limit=limit, dry_run=dry_run)


def is_kept(generation: int, *, head: int, history: int) -> bool:
    """Say whether a generation belongs to the kept history of a conversation whose newest is `head`."""
    return max(0, head - history + 1) <= generation <= head

"""The contract of a log store: single-use claims, notices of changes, results kept for a link.

Streams, calls and questions, which are a session's, have contracts of their own beside it that are part of this one,
and so has the move of all of it to another store.

A store leaves every race to the system underneath it: of any number of callers in any number of processes one wins,
and the others learn it from what the store returns. It raises StoreUnavailable when the system is down, and never
answers an outage with "there is none". Every backend passes `django_mcp.testing.store_contracts.LogStoreContract`.
"""

from abc import abstractmethod
from collections.abc import Collection, Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Literal

from asgiref.sync import sync_to_async
from django.core.checks import CheckMessage

from django_mcp.core.principal import Principal
from django_mcp.exceptions import ConfigurationError
from django_mcp.sessions.stores.calls import CallLog
from django_mcp.sessions.stores.kept import KeptLog
from django_mcp.sessions.stores.questions import QuestionLog
from django_mcp.sessions.stores.state import StateStore
from django_mcp.sessions.stores.streams import StreamLog

Mark = Hashable
ChangeKind = Literal["tools", "prompts", "resources", "resource"]

LISTS: Final[tuple[ChangeKind, ...]] = ("tools", "prompts", "resources")
EVERYTHING: Final[tuple[tuple[ChangeKind, str], ...]] = (*((kind, "") for kind in LISTS), ("resource", ""))
"""What counts as changed where that is not known: every list, and by the empty URI every resource."""
CHANGES_AT_ONCE: Final = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimed:
    """The claim is the caller's: it does the work and settles (or releases) under this fence."""

    fence: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """Somebody else is at work; ask again for the outcome."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Interrupted:
    """Somebody began and their lease ran out: the work may have had effects, and nobody knows the outcome."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """The work is done; `outcome` is the JSON value that was recorded."""

    outcome: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Mismatched:
    """The key stands for another request: it was claimed with another digest, and is not free."""


Standing = Running | Interrupted | Done | Mismatched
ClaimOutcome = Claimed | Standing


class LogStore(StreamLog, CallLog, QuestionLog, KeptLog):
    """A backend made from an alias of `STORES` and its parameters. Sync methods are the truth, `a` twins wrap them."""

    supports_transactions: ClassVar[bool] = False
    """Are its writes part of the caller's database transaction?"""

    def __init__(self, alias: str, params: Mapping[str, Any]) -> None:
        self.alias = alias
        self.options: dict[str, Any] = dict(params.get("OPTIONS", {}))

    @property
    def place(self) -> Hashable:
        """Return what tells where streams and calls are kept: equal for two stores that keep them together."""
        return type(self), self.alias

    @property
    def state(self) -> StateStore:
        """Return the state store of the same alias. Raises ConfigurationError where the backend has none."""
        raise ConfigurationError(f"The store {self.alias!r} ({type(self).__qualname__}) keeps no conversations.")

    def check(self, **kwargs: Any) -> Iterable[CheckMessage]:
        """Return what `manage.py check` should say about this store."""
        return []

    def check_deployment(self) -> Iterable[CheckMessage]:
        """Return what `manage.py check --deploy` should say besides; it may ask the system underneath."""
        return []

    @abstractmethod
    def claim(
        self,
        server: str,
        scope: str,
        key: str,
        *,
        lease_seconds: float,
        lifetime_seconds: float,
        takeover: bool = False,
        digest: str = "",
    ) -> ClaimOutcome:
        """Claim `key` once within `scope` (a `scope_digest`), and return Claimed to exactly one caller.

        The others get Running while the winner's lease lasts, Done after it settled, and Interrupted when its lease
        ran out; with `takeover` the last is Claimed under a higher fence instead. After `lifetime_seconds` the key is
        free again, unless its work still runs.

        `digest`, of 64 characters at most, stands for the request. While the key is not free, everybody who comes
        with another one gets Mismatched, whatever the winner's lease.
        """

    @abstractmethod
    def peek(self, server: str, scope: str, key: str, *, digest: str | None = None) -> Standing | None:
        """Return how a claim stands without claiming: None if the key is free. Without a digest none is compared."""

    @abstractmethod
    def renew(self, server: str, scope: str, key: str, fence: int, *, lease_seconds: float) -> bool:
        """Extend the lease of the caller's claim; False if the claim is no longer the caller's."""

    @abstractmethod
    def settle(self, server: str, scope: str, key: str, fence: int, outcome: Any) -> bool:
        """Record the outcome, a JSON value; False (and nothing recorded) if the claim is no longer the caller's."""

    @abstractmethod
    def release(self, server: str, scope: str, key: str, fence: int) -> bool:
        """Give the key back as if it had never been claimed; False if the claim is no longer the caller's."""

    @abstractmethod
    def publish_change(self, server: str, kind: ChangeKind, uri: str = "") -> None:
        """Tell all processes that a list of `server` changed, or (kind "resource") the resource `uri`."""

    @abstractmethod
    def changes_since(self, server: str, cursor: int | None) -> tuple[int, list[tuple[ChangeKind, str]]]:
        """Return a new cursor and the (kind, uri) published after `cursor`, in order, CHANGES_AT_ONCE at most.

        None is a cursor at the present. Where notices after the cursor are no longer kept, EVERYTHING has changed.
        """

    @abstractmethod
    def put_result(
        self,
        server: str,
        tenant: str,
        principal: Principal,
        mime_type: str,
        body: bytes,
        *,
        lifetime_seconds: float | None = None,
    ) -> str:
        """Keep a result for RESULT_SECONDS (or `lifetime_seconds`) and return its name, 128 random bits."""

    @abstractmethod
    def get_result(self, name: str, *, server: str, tenant: str, principal: Principal) -> tuple[str, bytes] | None:
        """Return the MIME type and the body; None if there is none of this name for this caller."""

    @abstractmethod
    def glance(
        self, *, streams: Collection[str] = (), calls: Collection[str] = (), questions: Collection[str] = ()
    ) -> dict[str, Mark]:
        """Return a mark of each of those that there are: another one whenever something about it has changed.

        It is what many wait for at once, so it reads no event, no argument and no answer.
        """

    @abstractmethod
    def forget_session(self, session: str) -> None:
        """Delete what is kept of a session: its streams, calls and questions. Their readers and owners find nothing.

        What deletes sessions by hand calls it; a store in the database of the sessions lets go of them by itself.
        """

    @abstractmethod
    def sweep(self) -> int:
        """Delete what is over, a bounded number at once; return how many. Called now and then by the writes."""

    async def aclaim(
        self,
        server: str,
        scope: str,
        key: str,
        *,
        lease_seconds: float,
        lifetime_seconds: float,
        takeover: bool = False,
        digest: str = "",
    ) -> ClaimOutcome:
        return await sync_to_async(self.claim)(
            server,
            scope,
            key,
            lease_seconds=lease_seconds,
            lifetime_seconds=lifetime_seconds,
            takeover=takeover,
            digest=digest,
        )

    async def apeek(self, server: str, scope: str, key: str, *, digest: str | None = None) -> Standing | None:
        return await sync_to_async(self.peek)(server, scope, key, digest=digest)

    async def arenew(self, server: str, scope: str, key: str, fence: int, *, lease_seconds: float) -> bool:
        return await sync_to_async(self.renew)(server, scope, key, fence, lease_seconds=lease_seconds)

    async def asettle(self, server: str, scope: str, key: str, fence: int, outcome: Any) -> bool:
        return await sync_to_async(self.settle)(server, scope, key, fence, outcome)

    async def arelease(self, server: str, scope: str, key: str, fence: int) -> bool:
        return await sync_to_async(self.release)(server, scope, key, fence)

    async def apublish_change(self, server: str, kind: ChangeKind, uri: str = "") -> None:
        await sync_to_async(self.publish_change)(server, kind, uri)

    async def achanges_since(self, server: str, cursor: int | None) -> tuple[int, list[tuple[ChangeKind, str]]]:
        return await sync_to_async(self.changes_since)(server, cursor)

    async def aput_result(
        self,
        server: str,
        tenant: str,
        principal: Principal,
        mime_type: str,
        body: bytes,
        *,
        lifetime_seconds: float | None = None,
    ) -> str:
        return await sync_to_async(self.put_result)(
            server, tenant, principal, mime_type, body, lifetime_seconds=lifetime_seconds
        )

    async def aglance(
        self, *, streams: Collection[str] = (), calls: Collection[str] = (), questions: Collection[str] = ()
    ) -> dict[str, Mark]:
        return await sync_to_async(self.glance)(streams=streams, calls=calls, questions=questions)

    async def aforget_session(self, session: str) -> None:
        await sync_to_async(self.forget_session)(session)

    async def aget_result(
        self, name: str, *, server: str, tenant: str, principal: Principal
    ) -> tuple[str, bytes] | None:
        return await sync_to_async(self.get_result)(name, server=server, tenant=tenant, principal=principal)

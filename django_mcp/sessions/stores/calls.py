"""The contract for calls: which process runs a tool, until when it is believed to, and how it ended.

An owner holds a call under a fence number, by a lease that it renews. Who takes an abandoned call over has a higher
fence, and whatever comes from the old owner after that is refused. A call ends once.
"""

import secrets
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Literal

from asgiref.sync import sync_to_async

CallState = Literal["running", "succeeded", "failed", "cancelled", "input_required", "interrupted"]

MAX_CALLS_PER_SESSION: Final = 250
MAX_CALLS_PER_SCOPE: Final = 1_000
CALLS_AT_ONCE: Final = 20
"""How many abandoned calls one process takes at once, since it is to run them."""


def new_call_id() -> str:
    return secrets.token_hex(16)


@dataclass(frozen=True, slots=True, kw_only=True)
class CallHold:
    """The right to act for a call, as long as it runs and nobody has a higher fence."""

    id: str
    fence: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NewCall:
    """A request that is to run. `payload` is what another process needs to run it, sealed by the caller."""

    request_id: str
    """ASCII JSON text, so that 1 and "1" are two."""
    digest: str = ""
    payload: str = ""
    is_repeatable: bool = False
    body_began: bool = False
    id: str = field(default_factory=new_call_id)
    """Chosen by the caller, who finds by it whether an answer that was lost had recorded the call."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallRecord:
    """A call as it was read; `payload` is empty once it has ended."""

    id: str
    fence: int
    server: str
    scope: str
    session: str | None
    stream: str
    request_id: str
    digest: str
    payload: str
    is_repeatable: bool
    owner: str
    lease_until: datetime
    body_began: bool
    cancel_requested: bool
    progress: float | None
    state: CallState
    begun_at: datetime
    ended_at: datetime | None

    @property
    def hold(self) -> CallHold:
        return CallHold(id=self.id, fence=self.fence)


@dataclass(frozen=True, slots=True, kw_only=True)
class Renewal:
    """What an owner learns when it renews: calls that are not its own any more, and calls that are to stop."""

    lost: frozenset[CallHold] = frozenset()
    cancelled: frozenset[CallHold] = frozenset()


def fate(*, body_began: bool, is_repeatable: bool, cancel_requested: bool) -> CallState:
    """Return what becomes of a call whose owner's lease is over: it runs elsewhere, or it has ended."""
    if cancel_requested:
        return "cancelled"
    return "interrupted" if body_began and not is_repeatable else "running"


class CallLog(ABC):
    """`session` is an `MCPSession.key` or None, `scope` a `scope_digest`."""

    @abstractmethod
    def begin_calls(
        self,
        server: str,
        scope: str,
        calls: Sequence[NewCall],
        *,
        owner: str,
        lease_seconds: float,
        session: str | None = None,
        stream: str = "",
    ) -> list[CallHold]:
        """Record the requests of one POST as running, all or none, and return a hold on each.

        Raises Overloaded where the session has MAX_CALLS_PER_SESSION running, or the scope MAX_CALLS_PER_SCOPE.
        """

    @abstractmethod
    def renew_calls(self, owner: str, holds: Sequence[CallHold], *, lease_seconds: float) -> Renewal:
        """Extend the leases of the owner's calls, all at once."""

    @abstractmethod
    def begin_body(self, hold: CallHold) -> bool:
        """Record that the tool itself runs from now on; False (and it must not) if the call is not the caller's."""

    @abstractmethod
    def note_progress(self, hold: CallHold, progress: float) -> bool:
        """Record progress that is greater than all before; False if it is not, and is not worth sending.

        Raises FenceLost if the call is not the caller's.
        """

    @abstractmethod
    def finish_call(self, hold: CallHold, state: CallState, *, event: bytes | None = None) -> bool:
        """End a call with its terminal event; False, and nothing is written, if it is not the caller's any more.

        `event` goes onto the call's stream, for which there is always room. The stream closes with the last of its
        running calls. Where the stream has closed before, the call ends without its event.
        """

    @abstractmethod
    def find_call(self, call: str) -> CallRecord | None:
        """Return a call, running or ended not long ago."""

    @abstractmethod
    def find_running_call(self, session: str, request_id: str) -> CallRecord | None:
        """Return the first call of this request id (ASCII JSON text) while it runs; a repeated id is another call."""

    @abstractmethod
    def request_cancel(self, session: str, request_id: str) -> bool:
        """Ask the owner of the running call that the id names to stop; False if there is none."""

    @abstractmethod
    def take_over_calls(
        self,
        server: str,
        owner: str,
        *,
        lease_seconds: float,
        interrupted: Callable[[CallRecord], bytes],
        limit: int = CALLS_AT_ONCE,
    ) -> list[CallRecord]:
        """Take calls whose lease is over, each by one process alone, and return what became of them.

        One whose body did not begin, or may be repeated, is "running": the caller's, under a higher fence. Any other
        has ended, as "interrupted" with the event that `interrupted(record)` returns (which may be asked more than
        once), or as "cancelled", where that was requested, without one.
        """

    async def abegin_calls(
        self,
        server: str,
        scope: str,
        calls: Sequence[NewCall],
        *,
        owner: str,
        lease_seconds: float,
        session: str | None = None,
        stream: str = "",
    ) -> list[CallHold]:
        return await sync_to_async(self.begin_calls)(
            server, scope, calls, owner=owner, lease_seconds=lease_seconds, session=session, stream=stream
        )

    async def arenew_calls(self, owner: str, holds: Sequence[CallHold], *, lease_seconds: float) -> Renewal:
        return await sync_to_async(self.renew_calls)(owner, holds, lease_seconds=lease_seconds)

    async def abegin_body(self, hold: CallHold) -> bool:
        return await sync_to_async(self.begin_body)(hold)

    async def anote_progress(self, hold: CallHold, progress: float) -> bool:
        return await sync_to_async(self.note_progress)(hold, progress)

    async def afinish_call(self, hold: CallHold, state: CallState, *, event: bytes | None = None) -> bool:
        return await sync_to_async(self.finish_call)(hold, state, event=event)

    async def afind_call(self, call: str) -> CallRecord | None:
        return await sync_to_async(self.find_call)(call)

    async def afind_running_call(self, session: str, request_id: str) -> CallRecord | None:
        return await sync_to_async(self.find_running_call)(session, request_id)

    async def arequest_cancel(self, session: str, request_id: str) -> bool:
        return await sync_to_async(self.request_cancel)(session, request_id)

    async def atake_over_calls(
        self,
        server: str,
        owner: str,
        *,
        lease_seconds: float,
        interrupted: Callable[[CallRecord], bytes],
        limit: int = CALLS_AT_ONCE,
    ) -> list[CallRecord]:
        return await sync_to_async(self.take_over_calls)(
            server, owner, lease_seconds=lease_seconds, interrupted=interrupted, limit=limit
        )

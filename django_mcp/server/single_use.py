"""A claim opens a call's body once, whatever the number of processes that are asked to run it.

Two things are claimed in the store before a body runs: the sealed `requestState` of the last round of a call with
questions, which a client could send again by accident or on purpose (MCP 2026-07-28, basic/patterns/mrtr), and the
idempotency key that a client chose. Whoever comes second waits for the first, and gets the recorded outcome.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, Final, TypeVar

from mcp.shared.exceptions import MCPError
from mcp_types import INVALID_PARAMS

from django_mcp.conf import mcp_settings
from django_mcp.core.principal import scope_digest
from django_mcp.exceptions import Overloaded, StateNotSaved, StoreUnavailable
from django_mcp.server.background import in_background
from django_mcp.server.call import Call
from django_mcp.server.outcome import Outcome
from django_mcp.server.wake import wake_bus, wake_everywhere
from django_mcp.server.wire import WORKER_LOST
from django_mcp.sessions.sealing import Unsealable
from django_mcp.sessions.stores import (
    Claimed,
    ClaimOutcome,
    Done,
    Interrupted,
    LogStore,
    Mismatched,
    Running,
    Standing,
    store,
)

logger = logging.getLogger("django_mcp.calls")

S = TypeVar("S")
Record = Callable[[Outcome], None]
"""Record the outcome of a run that succeeded, in the transaction that it is called in. May block."""
Run = Callable[[Record], Awaitable[Outcome]]
"""Do the work and return its outcome. What it raises instead is nobody's outcome: the work may be done again."""

RENEWALS: Final = 3
"""How often the lease of a claim is renewed in its time."""
PAUSE_SECONDS: Final = 0.02
"""Between two looks at a claim that somebody else holds, however often everything is woken."""


class SingleUse:
    """The one run of a body that a key stands for.

    Args:
        key: within the server, and the tenant and principal of the call.
        digest: of the request, where the key could come with another one.
        lifetime_seconds: how long the key stands for its run.
        takeover: whether the work of an owner who was lost may be done again.
        keeps_questions: whether the round that ended with questions is recorded like any other.
    """

    def __init__(
        self,
        call: Call,
        key: str,
        *,
        digest: str = "",
        lifetime_seconds: float,
        takeover: bool = False,
        keeps_questions: bool = False,
    ) -> None:
        self._call = call
        self._name = (call.server.key, scope_digest(call.caller.tenant, call.caller.principal), key)
        self._digest = digest
        self._lifetime_seconds = lifetime_seconds
        self._takeover = takeover
        self._keeps_questions = keeps_questions
        self._store: LogStore = store(call.server.store_alias)
        self._recorded: Outcome | None = None

    @classmethod
    def of_request_state(cls, call: Call, sealed_state: str) -> SingleUse:
        """Return the run that the sealed state of a round stands for. It binds the request by itself."""
        return cls(
            call,
            "requestState:" + hashlib.sha256(sealed_state.encode()).hexdigest(),
            lifetime_seconds=mcp_settings.REQUEST_STATE_SECONDS,
            keeps_questions=True,
        )

    async def find(self) -> Outcome | None:
        """Return the outcome, once whoever is at work has one; None if the work is still to be done.

        Raises MCPError as `once()` does.
        """
        standing = await self._after_others(self._peek)
        return None if standing is None else self._known(standing)

    async def once(self, run: Run) -> Outcome:
        """Return the outcome of `run`, run here or recorded before. It may record its outcome itself.

        Raises:
            MCPError: an earlier run was cut off by a crash, so that its effects are unknown; or the key stands for
                another request.
        """
        claim = await self._after_others(self._claim)
        if isinstance(claim, Claimed):
            return await self._run(claim.fence, run)
        if (known := self._known(claim)) is None:
            raise WORKER_LOST.error()
        return known

    def _known(self, standing: Standing) -> Outcome | None:
        """Return what was recorded; None where the work may be done again."""
        match standing:
            case Done():
                try:
                    known = Outcome.unsealed(standing.outcome)
                except Unsealable as error:
                    logger.error("a recorded outcome cannot be read: %s", error)
                else:
                    self._call.is_repeat = True
                    return known
            case Mismatched():
                reason = "idempotency_mismatch"
                raise MCPError(INVALID_PARAMS, f"{reason}: the key stands for another call", {"reason": reason})
            case Interrupted() if self._takeover:
                return None
        raise WORKER_LOST.error()

    async def _after_others(self, ask: Callable[[], Awaitable[S]]) -> S:
        """Return the first answer that is not Running."""
        if not isinstance(answer := await ask(), Running):
            return answer
        bus = wake_bus()
        woken = bus.subscribe()
        try:
            while True:
                woken.clear()
                if not isinstance(answer := await ask(), Running):
                    return answer
                # Nobody wakes anybody when an owner is lost.
                with suppress(TimeoutError):
                    async with asyncio.timeout(mcp_settings.POLL_SECONDS):
                        await woken.wait()
                await asyncio.sleep(PAUSE_SECONDS)
        finally:
            bus.unsubscribe(woken)

    async def _peek(self) -> Standing | None:
        return await self._on_thread(self._store.peek, *self._name, digest=self._digest)

    async def _claim(self) -> ClaimOutcome:
        # A cancellation in the middle would leave a claim behind that nobody settles.
        with self._uninterrupted():
            claim = await self._on_thread(
                self._store.claim,
                *self._name,
                lease_seconds=mcp_settings.LEASE_SECONDS,
                lifetime_seconds=self._lifetime_seconds,
                takeover=self._takeover,
                digest=self._digest,
            )
            if self._call.cancelled and isinstance(claim, Claimed):
                await self._end(self._store.release, claim.fence)
                await wake_everywhere()
        if self._call.cancelled:
            raise asyncio.CancelledError
        return claim

    async def _run(self, fence: int, run: Run) -> Outcome:
        renewal = in_background(self._renew(fence), "mcp-renew-claim")
        try:
            outcome = await run(partial(self._record, fence))
            if not outcome.is_final or (outcome.is_question and not self._keeps_questions):
                await self._end(self._store.release, fence)
            elif self._recorded != outcome:
                # What was recorded in a transaction that came to nothing is not recorded.
                await self._end(self._store.settle, fence, outcome.sealed())
            return outcome
        except asyncio.CancelledError:
            # What cannot be interrupted and is, by the end of its process, may have had effects.
            if not self._call.uninterruptible:
                await self._end(self._store.release, fence)
            raise
        except Exception:
            await self._end(self._store.release, fence)
            raise
        finally:
            renewal.cancel()
            await wake_everywhere()

    def _record(self, fence: int, outcome: Outcome) -> None:
        if not self._store.settle(*self._name, fence, outcome.sealed()):
            raise StateNotSaved("its time was over.", is_rolled_back=True)
        self._recorded = outcome

    async def _end(self, operation: Callable[..., bool], fence: int, *outcome: Any) -> None:
        """Record how the claim ended, trying for the time of a lease while every thread or the store is busy."""
        give_up_at = self._call.loop.time() + mcp_settings.LEASE_SECONDS
        self._call.lease.insist()
        with self._uninterrupted():
            while True:
                try:
                    if not await self._on_thread(operation, *self._name, fence, *outcome):
                        logger.error("the outcome of a single-use call was not recorded: its lease was lost")
                    return
                except (Overloaded, StoreUnavailable) as error:
                    if self._call.loop.time() >= give_up_at:
                        logger.error("the outcome of a single-use call was not recorded: %s", error)
                        return
                await asyncio.sleep(min(mcp_settings.POLL_SECONDS, 0.25))

    async def _renew(self, fence: int) -> None:
        while True:
            await asyncio.sleep(mcp_settings.LEASE_SECONDS / RENEWALS)
            try:
                # The body may be on the call's own thread.
                await self._call.arrival.threads.background.run(
                    self._store.renew, *self._name, fence, lease_seconds=mcp_settings.LEASE_SECONDS
                )
            except Exception:
                logger.warning("could not renew the lease of a single-use call", exc_info=True)

    async def _on_thread(self, operation: Callable[..., S], *args: Any, **terms: Any) -> S:
        """Run one operation on the call's thread, and give the thread back: others do not wait for who waits."""
        lease = self._call.lease
        try:
            return await lease.run(operation, *args, **terms)
        finally:
            lease.release()

    @contextmanager
    def _uninterrupted(self) -> Iterator[None]:
        before, self._call.uninterruptible = self._call.uninterruptible, True
        try:
            yield
        finally:
            self._call.uninterruptible = before


async def once_for_each(uses: Sequence[SingleUse], run: Run) -> Outcome:
    """Return the outcome of `run`, which is done once for each of `uses`, and recorded for all of them.

    Raises MCPError as `SingleUse.once()` does.
    """
    if not uses:
        return await run(lambda outcome: None)
    first, *others = uses

    def run_inside(record: Record) -> Awaitable[Outcome]:
        def run_with_both(record_others: Record) -> Awaitable[Outcome]:
            def record_all(outcome: Outcome) -> None:
                record_others(outcome)
                record(outcome)

            return run(record_all)

        return once_for_each(others, run_with_both)

    return await first.once(run_inside)

"""A sealed state opens its call's body once.

The last round of a call with questions carries a `requestState` that the client could send again, by accident or on
purpose. Before the body of a tool that is neither read-only nor idempotent runs, that state is claimed in the store;
every repeat, at whatever process, gets the recorded result (MCP 2026-07-28, basic/patterns/mrtr).
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final

from mcp.shared.exceptions import MCPError
from mcp_types import INTERNAL_ERROR, ErrorData

from django_mcp.conf import mcp_settings
from django_mcp.core import strict_json
from django_mcp.core.principal import scope_digest
from django_mcp.exceptions import Overloaded, StateNotSaved, StoreUnavailable
from django_mcp.server.call import Call
from django_mcp.server.threads import Threads
from django_mcp.sessions.sealing import seal, unseal
from django_mcp.sessions.stores import Claimed, ClaimOutcome, Done, Interrupted, LogStore, store

logger = logging.getLogger("django_mcp.calls")

Record = Callable[[dict[str, Any]], None]
"""Record the outcome of a run that succeeded, in the transaction that it is called in. May block."""

_PURPOSE: Final = "django_mcp.outcome"
_SEALED: Final = "o1:"

LEASE_SECONDS: Final = 30
RENEW_SECONDS: Final = 10


class SingleUse:
    """The one run of a body that a sealed state stands for."""

    def __init__(self, call: Call) -> None:
        if call.sealed_state is None:
            raise ValueError("the call carries no sealed state")
        self._call = call
        self._server = call.server.key
        self._scope = scope_digest(call.caller.tenant, call.caller.principal)
        self._key = "requestState:" + hashlib.sha256(call.sealed_state.encode()).hexdigest()
        self._store: LogStore = store(call.server.store_alias)
        self._recorded: dict[str, Any] | None = None

    async def once(self, run: Callable[[Record], Awaitable[dict[str, Any]]]) -> dict[str, Any]:
        """Return the outcome of `run`, run here or recorded before. It may record its outcome itself.

        Once the body runs here nothing interrupts it, not even its client going away: its outcome is for the repeat.

        Raises:
            MCPError: the body raised it, here or in the recorded run; or an earlier run was cut off by a crash, so
                that its effects are unknown.
        """
        while True:
            claim = await self._claim()
            if isinstance(claim, Claimed):
                return _open(await self._run(claim.fence, run))
            if isinstance(claim, Done):
                return _open(strict_json.decode(unseal(_PURPOSE, claim.outcome, prefix=_SEALED)))
            if isinstance(claim, Interrupted):
                raise MCPError(INTERNAL_ERROR, "worker_lost: the call may have had effects", {"reason": "worker_lost"})
            await asyncio.sleep(min(mcp_settings.POLL_SECONDS, 0.25))

    async def _claim(self) -> ClaimOutcome:
        # A cancellation in the middle would leave a claim behind that nobody settles.
        self._call.uninterruptible = True
        claim = await self._threads.run(
            self._store.claim,
            self._server,
            self._scope,
            self._key,
            lease_seconds=LEASE_SECONDS,
            lifetime_seconds=mcp_settings.REQUEST_STATE_SECONDS,
        )
        if self._call.cancelled:
            if isinstance(claim, Claimed):
                await self._record(self._store.release, claim.fence)
            raise asyncio.CancelledError
        self._call.uninterruptible = isinstance(claim, Claimed)
        return claim

    async def _run(self, fence: int, run: Callable[[Record], Awaitable[dict[str, Any]]]) -> dict[str, Any]:
        renewal = asyncio.create_task(self._renew(fence))
        try:
            try:
                outcome: dict[str, Any] = {"result": await run(partial(self._record_here, fence))}
            except MCPError as error:
                outcome = {"error": error.error.model_dump(mode="json", exclude_none=True)}
            except Exception:
                if not self._call.body_began:
                    await self._record(self._store.release, fence)
                raise
            if self._call.body_began:
                # What was recorded in a transaction that came to nothing is not recorded.
                if self._recorded is None or self._recorded != outcome.get("result"):
                    await self._record(self._store.settle, fence, _sealed(outcome))
            else:
                await self._record(self._store.release, fence)
            return outcome
        finally:
            renewal.cancel()

    def _record_here(self, fence: int, result: dict[str, Any]) -> None:
        if not self._store.settle(self._server, self._scope, self._key, fence, _sealed({"result": result})):
            raise StateNotSaved("its time was over.", is_rolled_back=True)
        self._recorded = result

    async def _record(self, operation: Callable[..., bool], fence: int, *outcome: Any) -> None:
        """Record how the claim ended, trying for the time of a lease while every thread or the store is busy."""
        give_up_at = self._call.loop.time() + LEASE_SECONDS
        while True:
            try:
                if not await self._threads.run(operation, self._server, self._scope, self._key, fence, *outcome):
                    logger.error("the outcome of a single-use call was not recorded: its lease was lost")
                return
            except (Overloaded, StoreUnavailable) as error:
                if self._call.loop.time() >= give_up_at:
                    logger.error("the outcome of a single-use call was not recorded: %s", error)
                    return
            await asyncio.sleep(min(mcp_settings.POLL_SECONDS, 0.25))

    async def _renew(self, fence: int) -> None:
        while True:
            await asyncio.sleep(RENEW_SECONDS)
            try:
                await self._threads.run(
                    self._store.renew, self._server, self._scope, self._key, fence, lease_seconds=LEASE_SECONDS
                )
            except Exception:
                logger.warning("could not renew the lease of a single-use call", exc_info=True)

    @property
    def _threads(self) -> Threads:
        return self._call.arrival.threads


def _sealed(outcome: dict[str, Any]) -> str:
    """Return an outcome as it lies in the store: it has the user's data, and credentials."""
    return seal(_PURPOSE, strict_json.encode(outcome), prefix=_SEALED)


def _open(outcome: dict[str, Any]) -> dict[str, Any]:
    if "error" in outcome:
        raise MCPError.from_error_data(ErrorData.model_validate(outcome["error"]))
    return dict(outcome["result"])

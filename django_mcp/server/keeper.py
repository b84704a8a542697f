"""The calls of the handshake era that one event loop runs for one server, and those it takes over from the dead.

A call that is recorded is held under a lease. The lease is renewed as long as this process lives; one that is over is
somebody's whose process died, and whoever sees it first goes on with the call, or ends it where that could do harm.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import secrets
import socket
from collections.abc import Collection
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

from django_mcp.conf import mcp_settings
from django_mcp.exceptions import StoreUnavailable
from django_mcp.server.background import in_background
from django_mcp.server.drain import process_drain
from django_mcp.server.kernel import Kernel
from django_mcp.server.log import Log, outlasting
from django_mcp.server.takeover import NotTaken, continued
from django_mcp.server.telling import tell_lost
from django_mcp.server.threads import Threads
from django_mcp.server.wake import wake_bus
from django_mcp.server.watch import watch_of
from django_mcp.server.wire import WORKER_LOST
from django_mcp.sessions.stores import CallHold, CallRecord, CallState

if TYPE_CHECKING:
    from django_mcp.server.run import Run

logger = logging.getLogger("django_mcp.calls")

RENEWALS: Final = 3
"""How often a lease is renewed in its time."""
LOOKS: Final = 6
"""How often in the time of a lease it is looked for those that are over, at least."""
POLLS: Final = 5
"""It is looked for calls that were handed over once in so many polls, where no hint tells of them."""
CANCEL_GRACE_SECONDS: Final = 3.0
"""A call is recorded some time after it began; so long it is looked for before its cancellation is forgotten."""
MAX_SOUGHT: Final = 100
"""Calls that are looked for at once. Clients cancel what has just ended, too, and some may cancel anything."""


class CallKeeper:
    """What runs here of one server's sessions."""

    def __init__(self, kernel: Kernel, threads: Threads) -> None:
        self.owner = f"{socket.gethostname()[:60]}:{os.getpid()}:{secrets.token_hex(4)}"
        self._kernel = kernel
        self._threads = threads
        self._log = Log.of(kernel.server.store_alias, threads)
        self._running: dict[tuple[str, str], Run] = {}
        self._held: dict[CallHold, Run] = {}
        self._following: dict[CallHold, ExitStack] = {}
        self._sought: set[tuple[str, str]] = set()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._renewal: asyncio.Task[None] | None = None
        self._is_going = False
        self._changed = asyncio.Event()
        self._changes: set[CallHold] = set()
        self._taking: asyncio.Task[None] | None = None
        process_drain().hand_over(self.hand_over)

    def look_after(self) -> None:
        """Take over what others leave behind, as long as the event loop runs."""
        if not self._is_going and (self._taking is None or self._taking.done()):
            self._taking = self._spawn(self._take_over_again(), "mcp-take-over")

    # What runs here

    def begin(self, run: Run) -> None:
        """Run a request. The first of its id is the one that the id names."""
        self._running.setdefault((run.session.key, run.request_id), run)
        task = run.start()
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def keep(self, run: Run) -> None:
        """Hold a call that is recorded, until it ends."""
        if run.hold is None:
            raise ValueError("The call is not recorded.")
        self._held[run.hold] = run
        stack = self._following[run.hold] = ExitStack()
        # Its client may have left for now; the process waits for it all the same before it goes.
        stack.enter_context(process_drain().exchange(is_new=False))
        stack.enter_context(watch_of(self._log).on("calls", run.hold.id, partial(self._note_change, run.hold)))
        if self._renewal is None:
            self._renewal = self._spawn(self._renew_again(), "mcp-renew")

    def end(self, run: Run) -> None:
        """Let go of a request that has ended here."""
        if self._running.get((run.session.key, run.request_id)) is run:
            del self._running[run.session.key, run.request_id]
        if run.hold is not None and self._held.pop(run.hold, None) is not None:
            self._following.pop(run.hold).close()
        if not self._held and self._renewal is not None:
            self._renewal.cancel()
            self._renewal = None

    def end_session(self, session: str) -> None:
        """Stop what runs here of a session that has ended."""
        for (key, _), run in list(self._running.items()):
            if key == session:
                run.lose(session_ended=True)

    async def cancel(self, session: str, request_id: str) -> None:
        """Cancel the call that the id names, wherever it runs."""
        run = self._running.get((session, request_id))
        if run is not None:
            run.call.cancel()
            if run.hold is None:
                return
        if not await self._request_cancel(session, request_id) and run is None:
            name = session, request_id
            if name not in self._sought and len(self._sought) < MAX_SOUGHT:
                self._sought.add(name)
                task = self._spawn(self._cancel_when_recorded(*name), "mcp-cancel")
                task.add_done_callback(lambda _: self._sought.discard(name))

    async def hand_over(self) -> None:
        """Give up what still runs here, so that others take it over at once: the process goes."""
        if self._taking is not None:
            self._taking.cancel()
        if self._renewal is not None:
            self._renewal.cancel()
        self._is_going = True
        # What is over writes its last event yet.
        held = {hold: run for hold, run in self._held.items() if not run.is_over}
        if held:
            await self._log.do(self._log.store.renew_calls, self.owner, list(held), lease_seconds=0)
            wake_bus().wake_others()
            for run in held.values():
                run.lose()

    # Leases

    def _note_change(self, hold: CallHold) -> None:
        self._changes.add(hold)
        self._changed.set()

    async def _renew_again(self) -> None:
        """Renew all in their time, and meanwhile those alone of which something has changed."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            self._changed.clear()
            changed, self._changes = self._changes, set()
            try:
                if loop.time() >= due:
                    await self._renew(self._held)
                    due = loop.time() + mcp_settings.LEASE_SECONDS / RENEWALS
                elif changed := changed & self._held.keys():
                    await self._renew(changed)
            except StoreUnavailable as error:
                logger.warning("the leases of %d calls could not be renewed: %s", len(self._held), error)
                due = loop.time()
                await asyncio.sleep(mcp_settings.POLL_SECONDS)
                continue
            try:
                async with asyncio.timeout_at(due):
                    await self._changed.wait()
            except TimeoutError:
                pass

    async def _renew(self, holds: Collection[CallHold]) -> None:
        renewal = await self._log.do(
            self._log.store.renew_calls, self.owner, list(holds), lease_seconds=mcp_settings.LEASE_SECONDS
        )
        for hold in renewal.lost:
            # What has ended meanwhile is not here any more.
            if (run := self._held.get(hold)) is not None and not run.is_over:
                run.lose()
        for hold in renewal.cancelled:
            if (run := self._held.get(hold)) is not None:
                run.call.cancel()

    # Cancellation

    async def _request_cancel(self, session: str, request_id: str) -> bool:
        found = await self._log.do(self._log.store.request_cancel, session, request_id)
        if found:
            wake_bus().wake_others()
            watch_of(self._log).look()
        return found

    async def _cancel_when_recorded(self, session: str, request_id: str) -> None:
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + CANCEL_GRACE_SECONDS
        while loop.time() < give_up_at:
            await asyncio.sleep(min(0.25, mcp_settings.POLL_SECONDS))
            if await outlasting(lambda: self._request_cancel(session, request_id)):
                return

    # Taking over

    async def _take_over_again(self) -> None:
        bus = wake_bus()
        hinted = bus.subscribe()
        try:
            while True:
                pause = min(mcp_settings.POLL_SECONDS * POLLS, mcp_settings.LEASE_SECONDS / LOOKS)
                await asyncio.sleep(pause / POLLS)
                try:
                    async with asyncio.timeout(pause):
                        await hinted.wait()
                except TimeoutError:
                    pass
                hinted.clear()
                try:
                    await self._take_over()
                except Exception as error:
                    logger.warning("abandoned calls could not be taken over, trying again: %s", error)
        finally:
            bus.unsubscribe(hinted)

    async def _take_over(self) -> None:
        taken = await self._log.do(
            self._log.store.take_over_calls,
            self._kernel.server.key,
            self.owner,
            lease_seconds=mcp_settings.LEASE_SECONDS,
            interrupted=worker_lost,
        )
        for record in taken:
            logger.warning("took over the call %s: it is %s", record.id, record.state)
            watch_of(self._log).touch("streams", record.stream)
            if record.state == "interrupted":
                self._spawn(tell_lost(record, self._threads), "mcp-tell-lost")
            if record.state == "running":
                try:
                    await self._continue(record)
                except Exception:
                    # It is not kept here, so it is anybody's again when this lease is over.
                    logger.exception("the call %s cannot go on here now", record.id)
        if taken:
            wake_bus().wake_others()

    async def _continue(self, record: CallRecord) -> None:
        try:
            await continued(self._kernel, self._threads, self, record)
        except NotTaken as error:
            logger.warning("the call %s is not continued: %s", record.id, error)
            event = worker_lost(record) if error.tells else None
            state: CallState = "interrupted" if error.tells else "cancelled"
            if await self._log.do(self._log.store.finish_call, record.hold, state, event=event) and error.tells:
                self._spawn(tell_lost(record, self._threads), "mcp-tell-lost")

    def _spawn(self, coroutine: Any, name: str) -> asyncio.Task[Any]:
        task = in_background(coroutine, name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def worker_lost(record: CallRecord) -> bytes:
    """Return the terminal event of a call whose process died when it may have had effects."""
    return WORKER_LOST.encode(json.loads(record.request_id))


_keepers: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[Kernel, CallKeeper]] = WeakKeyDictionary()


def keeper_of(kernel: Kernel, threads: Threads, *, lasts: bool = True) -> CallKeeper:
    """Return what keeps a server's calls on the running event loop.

    Args:
        lasts: whether the loop goes on after this request. One that does not takes over nothing: it would end with it.
    """
    keepers = _keepers.setdefault(asyncio.get_running_loop(), {})
    if kernel not in keepers:
        keepers[kernel] = CallKeeper(kernel, threads)
    keeper = keepers[kernel]
    if lasts:
        keeper.look_after()
    return keeper

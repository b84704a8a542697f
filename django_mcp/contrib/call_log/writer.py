"""Who writes the rows: one thread of the process, a batch at a time, so that no call waits for the log's database.

What waits to be written is bounded. A call that finds no room, because the database is down or too slow, is not kept:
that is counted and warned of, and the call itself knows nothing of it.
"""

from __future__ import annotations

import atexit
import logging
import sys
import threading
from collections import deque
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from django_mcp.exceptions import StoreUnavailable
from django_mcp.models.transactions import Pace
from django_mcp.server.drain import process_drain
from django_mcp.server.threads import LINGER_SECONDS, HandlerThreads, is_pooled
from django_mcp.signals import call_finished

if TYPE_CHECKING:
    from django_mcp.contrib.call_log.models import LoggedCallQuerySet
    from django_mcp.server.finished_call import FinishedCall

logger = logging.getLogger("django_mcp.call_log")

MAX_WAITING: Final = 10_000
"""Calls that wait to be written, a few megabytes of them."""
AT_ONCE: Final = 200
FIRST_PAUSE_SECONDS: Final = 0.5
LONGEST_PAUSE_SECONDS: Final = 30.0
SWEEP_SECONDS: Final = 60.0
FLUSH_SECONDS: Final = 1.5
"""How long a process that goes waits for what is not written yet."""

_UID: Final = "django_mcp.contrib.call_log"


class CallLogWriter:
    """What waits to be written, and the thread that writes it."""

    def __init__(self, *, max_waiting: int = MAX_WAITING) -> None:
        self.lost = 0
        self._max_waiting = max_waiting
        self._waiting: deque[FinishedCall] = deque()
        self._changed = threading.Condition()
        self._is_writing = False
        self._is_losing = False
        self._is_hurried = False
        self._pace = Pace(SWEEP_SECONDS)
        self._threads = HandlerThreads(size=1, queue=sys.maxsize, name="mcp-call-log", linger_seconds=LINGER_SECONDS)

    def put(self, call: FinishedCall) -> None:
        """Have a call written soon; where too many wait, it is lost."""
        with self._changed:
            if len(self._waiting) >= self._max_waiting:
                self._lose(1, "too many wait to be written")
                return
            self._waiting.append(call)
            if self._is_writing:
                return
            self._is_writing = True
        lease = self._threads.lease()
        lease.submit(self._write_all).add_done_callback(lambda _: lease.release())

    def flush(self, seconds: float = FLUSH_SECONDS) -> bool:
        """Wait until all is written; False if it is not in so many seconds. The database is tried at once."""
        with self._changed:
            self._is_hurried = self._is_writing
            self._changed.notify_all()
            return self._changed.wait_for(lambda: not self._is_writing, timeout=seconds)

    def _write_all(self) -> None:
        while batch := self._next():
            self._write(batch)
            self._sweep()

    def _next(self) -> list[FinishedCall]:
        """Return what is to be written now; nothing, and this thread is done, where nothing waits."""
        with self._changed:
            batch = [self._waiting.popleft() for _ in range(min(AT_ONCE, len(self._waiting)))]
            if not batch:
                self._is_writing = self._is_hurried = False
                self._changed.notify_all()
            return batch

    def _write(self, batch: list[FinishedCall]) -> None:
        """Write a batch, however long the database is down. What it does not take for any other reason is lost."""
        pause = FIRST_PAUSE_SECONDS
        while True:
            try:
                logged_calls().log(batch)
            except StoreUnavailable as error:
                if pause == FIRST_PAUSE_SECONDS:
                    logger.warning("calls are not logged while the database is down: %s", error)
                self._rest(pause)
                pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
                continue
            except Exception:
                logger.exception("calls could not be logged")
                with self._changed:
                    self._lose(len(batch), "the database refused them")
                return
            with self._changed:
                self._found()
            return

    def _rest(self, seconds: float) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._is_hurried, timeout=seconds)
            self._is_hurried = False

    def _lose(self, count: int, why: str) -> None:
        """Count what is lost; warn of the first, and of how many they were when calls are written again."""
        self.lost += count
        if not self._is_losing:
            self._is_losing = True
            logger.warning("calls are not logged: %s", why)

    def _found(self) -> None:
        if self._is_losing and len(self._waiting) <= self._max_waiting // 2:
            self._is_losing = False
            logger.warning("calls are logged again; %d were not, since this process began", self.lost)

    def _sweep(self) -> None:
        rows = logged_calls()
        if not self._pace.is_due(rows.write_alias):
            return
        try:
            rows.sweep()
        except Exception:
            logger.exception("old calls could not be deleted")


def logged_calls() -> LoggedCallQuerySet:
    """Return all rows. The model exists once the apps are ready."""
    from django_mcp.contrib.call_log.models import LoggedCall

    return LoggedCall.objects.all()


@cache
def process_writer() -> CallLogWriter:
    """Return the writer of this process, which writes what waits before the process goes."""
    writer = CallLogWriter()
    process_drain().last(writer.flush)
    atexit.register(writer.flush)
    return writer


def listen() -> None:
    """Keep every call from now on."""
    call_finished.connect(keep, dispatch_uid=_UID)


def stop_listening() -> None:
    call_finished.disconnect(dispatch_uid=_UID)


def keep(*, call: FinishedCall, **kwargs: Any) -> None:
    """Receive `call_finished`.

    Whoever came with a thread of their own, a test or a command, finds the row when the call has ended, and a test's
    transaction takes it back.
    """
    if is_pooled():
        process_writer().put(call)
        return
    try:
        logged_calls().log([call])
    except Exception:
        logger.exception("a call could not be logged")

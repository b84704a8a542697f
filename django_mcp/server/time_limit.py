"""The time that one run of a body may take.

An async body is cancelled. A sync one cannot be stopped: whoever waits for it gets the answer, the body learns it by
`ctx.cancelled`, and until it ends it has its thread. Either the body came to its end in time or it did not: what it
changed in a state is kept in the first case alone, even where both happen at the same moment.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

from django_mcp.exceptions import TimeLimitExceeded

T = TypeVar("T")


class TimeLimit:
    """The clock of one body. It stands while the client is asked something."""

    def __init__(self, seconds: float) -> None:
        self._seconds = self._left = seconds
        self._loop = asyncio.get_running_loop()
        self._scope = asyncio.timeout(None)
        self._lock = threading.Lock()
        self._timer: asyncio.TimerHandle | None = None
        self._goes_since = 0.0
        self._questions = 0
        self._has_left = False
        self._is_in_time = False
        self.is_over = False

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Return what `work` returns.

        Raises:
            TimeLimitExceeded: the body that it runs took too long.
        """
        try:
            async with self._scope:
                result = await work
        except Exception as error:
            if self.is_over:
                raise TimeLimitExceeded(self._seconds) from error
            raise
        finally:
            self._has_left = True
            self._stop()
        if self.is_over:
            # The body caught its cancellation.
            raise TimeLimitExceeded(self._seconds)
        return result

    def begin(self) -> None:
        """Say that the body begins, on any thread."""
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._go)

    def ends_in_time(self) -> bool:
        """Say that the body has ended, on any thread; return whether that was in time. Nothing ends it afterwards."""
        with self._lock:
            self._is_in_time = not self.is_over
            return self._is_in_time

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Let the clock stand meanwhile; for the loop alone."""
        self._questions += 1
        self._stop()
        try:
            yield
        finally:
            self._questions -= 1
            self._go()

    def _go(self) -> None:
        if not self._has_left and not self._questions and self._timer is None:
            self._goes_since = self._loop.time()
            self._timer = self._loop.call_later(self._left, self._expire)

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._left = max(0.0, self._left - (self._loop.time() - self._goes_since))

    def _expire(self) -> None:
        with self._lock:
            self.is_over = not self._is_in_time
        if self.is_over:
            self._scope.reschedule(self._loop.time())

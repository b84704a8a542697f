"""The handlers' threads: a fixed set, lent to calls one at a time.

Each call that runs synchronous code borrows one thread for as long as it needs it, so that everything thread-sensitive
in the call (above all Django's database connections) stays on that thread, and there are never more connections than
threads. `close_old_connections()` runs before and after, which gives `CONN_MAX_AGE` its usual meaning. No thread is
made per call.

Two sources lend leases: `HandlerThreads`, which serves a process, and `AmbientThread`, for calls that already have a
thread of their own to come back to: a Django request, a test.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import sys
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from contextlib import suppress
from functools import cache, cached_property, partial
from queue import Empty, SimpleQueue
from typing import Any, Final, Protocol, TypeVar

from asgiref.sync import SyncToAsync, ThreadSensitiveContext, sync_to_async
from django.db import close_old_connections, connections

from django_mcp.conf import mcp_settings
from django_mcp.exceptions import Overloaded

logger = logging.getLogger("django_mcp.threads")

LINGER_SECONDS: Final = 0.2

T = TypeVar("T")
Job = Callable[[], None]
Drop = Callable[[], object]
"""Tells whoever waits for a job that it will not be run."""


class Lease(Protocol):
    """The right to one thread, for the time of one call."""

    async def run(self, function: Callable[..., T], /, *args: Any, **kwargs: Any) -> T:
        """Run `function` on the thread and return what it returns."""
        ...

    def adopt(self) -> None:
        """Send this task's thread-sensitive code (`sync_to_async`, the async ORM) to the thread."""
        ...

    def insist(self) -> None:
        """Wait for a thread from now on however many others do: what has begun is brought to its end."""
        ...

    def release(self) -> None:
        """Give the thread back once what runs on it has ended. A later `run` borrows one again."""
        ...

    def close(self) -> None:
        """Give the thread back for good. Code that outlives the call borrows a thread for each thing it runs."""
        ...


class Threads(Protocol):
    """Where leases come from."""

    @property
    def background(self) -> Threads:
        """Where streams, calls and questions are written and read: a handler waits for it, and has its own thread."""
        ...

    @property
    def door(self) -> Threads:
        """Where it is found who calls, in which session, and what they may: while handlers hold all other threads."""
        ...

    @property
    def signals(self) -> Threads:
        """Where the receivers of what has happened are called."""
        ...

    def lease(self) -> Lease: ...

    async def run(self, function: Callable[..., T], /, *args: Any, **kwargs: Any) -> T:
        """Run one function on a thread that is borrowed for it alone."""
        ...


class AmbientThread:
    """The thread that the surrounding synchronous code waits on, as asgiref finds it. It is never given back."""

    @property
    def background(self) -> Threads:
        # A test's own thread sees what the test has not committed.
        return self

    @property
    def door(self) -> Threads:
        return self

    @property
    def signals(self) -> Threads:
        return self

    def lease(self) -> AmbientThread:
        return self

    async def run(self, function: Callable[..., T], /, *args: Any, **kwargs: Any) -> T:
        return await sync_to_async(function, thread_sensitive=True)(*args, **kwargs)

    def adopt(self) -> None:
        pass

    def insist(self) -> None:
        pass

    def release(self) -> None:
        pass

    def close(self) -> None:
        pass


class RequestThread(AmbientThread):
    """The thread of a request to a Django view. What its handler waits for is done on the process's own."""

    @property
    def background(self) -> Threads:
        return process_threads().background

    @property
    def signals(self) -> Threads:
        return process_threads().signals


AMBIENT = AmbientThread()
IN_VIEW = RequestThread()


class HandlerThreads:
    """A fixed set of long-lived threads and the calls that wait for one.

    Args:
        size: how many threads there are at most; each is started when it is first needed.
        queue: how many calls may wait for a thread.
        name: what the threads are called.
        linger_seconds: so long a thread that has nothing to do keeps its connections, whatever `CONN_MAX_AGE`: for
            threads that do many small things one after the other.
    """

    def __init__(
        self, *, size: int, queue: int, name: str = "mcp-handler", linger_seconds: float | None = None
    ) -> None:
        self.size = size
        self.queue = queue
        self.linger_seconds = linger_seconds
        self._name = name
        self._lock = threading.Lock()
        self._idle: list[_Worker] = []
        self._waiting: deque[_PooledLease] = deque()
        self._started = 0

    @cached_property
    def background(self) -> HandlerThreads:
        # Each stream and each call waits for one thing at a time, so their number is the bound of this queue.
        threads = HandlerThreads(
            size=mcp_settings.LOG_THREADS, queue=sys.maxsize, name="mcp-log", linger_seconds=LINGER_SECONDS
        )
        threads.background = threads
        return threads

    @cached_property
    def door(self) -> HandlerThreads:
        return HandlerThreads(size=mcp_settings.DOOR_THREADS, queue=self.queue, name="mcp-door")

    @cached_property
    def signals(self) -> HandlerThreads:
        # Each call waits for its receivers, so the number of calls is the bound of this queue.
        return HandlerThreads(size=1, queue=sys.maxsize, name="mcp-signal", linger_seconds=LINGER_SECONDS)

    def lease(self) -> _PooledLease:
        """Return a lease. It borrows a thread with the first thing it runs."""
        return _PooledLease(self)

    async def run(self, function: Callable[..., T], /, *args: Any, **kwargs: Any) -> T:
        lease = self.lease()
        try:
            return await lease.run(function, *args, **kwargs)
        finally:
            lease.release()

    def borrow(self, lease: _PooledLease) -> None:
        """Give `lease` a thread now, or put it into the queue. Called under the lock."""
        if self._idle:
            lease.begin(self._idle.pop())
        elif self._started < self.size:
            worker = _Worker(f"{self._name}-{self._started + 1}", self.linger_seconds)
            worker.start()
            self._started += 1
            lease.begin(worker)
        elif len(self._waiting) < self.queue or lease.insists:
            self._waiting.append(lease)
        else:
            raise Overloaded(1, message="Every handler thread is busy and the queue is full")

    def leave_queue(self, lease: _PooledLease) -> None:
        """Free the place of a lease that waits no more. Called under the lock."""
        self._waiting.remove(lease)

    def give_back(self, worker: _Worker) -> None:
        """Hand the thread to the longest-waiting lease, or keep it idle."""
        with self._lock:
            while self._waiting:
                lease = self._waiting.popleft()
                if lease.begin(worker):
                    return
            self._idle.append(worker)


class _Worker(threading.Thread):
    """A thread that runs what is put into its queue, for ever."""

    def __init__(self, name: str, linger_seconds: float | None) -> None:
        super().__init__(name=name, daemon=True)
        self.jobs: SimpleQueue[Job] = SimpleQueue()
        self._linger_seconds = linger_seconds
        self._lingers = False

    def clean_up(self) -> None:
        """Close the connections that are not to be kept. Runs on the thread, before and after each lease."""
        if self._linger_seconds is None:
            close_old_connections()
        else:
            self._lingers = True
            _close_broken_connections()

    def _next(self) -> Job:
        try:
            return self.jobs.get(timeout=self._linger_seconds if self._lingers else None)
        except Empty:
            self._lingers = False
            return close_old_connections

    def run(self) -> None:
        while True:
            job = self._next()
            try:
                job()
            except Exception:
                # Jobs report their own failures; what is left is a connection that could not be closed. A thread that
                # died of it would be lent out for ever after.
                logger.exception("a handler's thread could not be cleaned up")


class _PooledLease(Executor):
    """A lease on one of the threads; also the executor that asgiref uses for the call's thread-sensitive code."""

    def __init__(self, pool: HandlerThreads) -> None:
        self._pool = pool
        self._worker: _Worker | None = None
        self._pending: list[tuple[Job, Drop]] = []
        self._queued = False
        self._closed = False
        self.insists = False

    def begin(self, worker: _Worker) -> bool:
        """Start work on `worker`, unless the work was given up meanwhile. Called under the pool's lock."""
        self._queued = False
        if not self._pending:
            return False
        self._worker = worker
        worker.jobs.put(worker.clean_up)
        for job, _ in self._pending:
            worker.jobs.put(job)
        self._pending.clear()
        return True

    async def run(self, function: Callable[..., T], /, *args: Any, **kwargs: Any) -> T:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        context = contextvars.copy_context()

        def job() -> None:
            try:
                result = context.run(function, *args, **kwargs)
            except BaseException as error:
                _settle(loop, future, None, error)
            else:
                _settle(loop, future, result, None)

        def drop() -> None:
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(future.cancel)

        self._put(job, drop)
        return await future

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        if self._closed:
            return self._submit_alone(partial(fn, *args, **kwargs))
        future: Future[T] = Future()

        def job() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                future.set_result(fn(*args, **kwargs))
            except BaseException as error:
                future.set_exception(error)

        self._put(job, future.cancel)
        return future

    def _submit_alone(self, function: Callable[[], T]) -> Future[T]:
        lease = _PooledLease(self._pool)
        future = lease.submit(function)
        future.add_done_callback(lambda _: lease.release())
        return future

    def insist(self) -> None:
        self.insists = True

    def adopt(self) -> None:
        context = ThreadSensitiveContext()
        SyncToAsync.context_to_thread_executor[context] = self
        SyncToAsync.thread_sensitive_context.set(context)

    def release(self) -> None:
        if self._worker is None and not self._pending:
            return
        with self._pool._lock:
            worker, self._worker = self._worker, None
            dropped = self._pending.copy()
            self._pending.clear()
            if self._queued:
                self._queued = False
                self._pool.leave_queue(self)
            if worker is not None:
                worker.jobs.put(partial(_end, self._pool, worker))
        for _, drop in dropped:
            drop()

    def close(self) -> None:
        self._closed = True
        self.release()

    def _put(self, job: Job, drop: Drop) -> None:
        with self._pool._lock:
            if self._worker is not None:
                self._worker.jobs.put(job)
                return
            self._pending.append((job, drop))
            if not self._queued:
                self._queued = True
                try:
                    self._pool.borrow(self)
                except Exception:
                    self._pending.clear()
                    self._queued = False
                    raise


def _settle(
    loop: asyncio.AbstractEventLoop, future: asyncio.Future[Any], result: Any, error: BaseException | None
) -> None:
    def settle() -> None:
        if future.cancelled():
            return
        if error is None:
            future.set_result(result)
        elif isinstance(error, Exception) and not isinstance(error, StopIteration):
            future.set_exception(error)
        else:
            # A future refuses StopIteration, and what is no Exception would end the event loop: sys.exit() in a tool.
            failure = RuntimeError(f"a handler raised {type(error).__name__}")
            failure.__cause__ = error
            future.set_exception(failure)

    # A closed loop raises: nobody waits for the outcome.
    with suppress(RuntimeError):
        loop.call_soon_threadsafe(settle)


def _end(pool: HandlerThreads, worker: _Worker) -> None:
    try:
        worker.clean_up()
    finally:
        pool.give_back(worker)


def _close_broken_connections() -> None:
    for connection in connections.all(initialized_only=True):
        is_open = connection.connection is not None
        if is_open and (connection.errors_occurred or not connection.get_autocommit()):
            connection.close()


def is_pooled() -> bool:
    """Say whether this is one of the threads of a process that serves, not one that somebody else came with."""
    return isinstance(threading.current_thread(), _Worker)


@cache
def process_threads() -> HandlerThreads:
    """Return the threads of this process, made at the first call from `HANDLER_THREADS` and `HANDLER_QUEUE`."""
    return HandlerThreads(size=mcp_settings.HANDLER_THREADS, queue=mcp_settings.HANDLER_QUEUE)

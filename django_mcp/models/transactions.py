"""One write transaction: run whole, retried where the database asks for it, its outage translated.

Everything in this package that writes, and every read whose failure would otherwise look like "there is none", goes
through here. A body given to `transact()` may run more than once, so it has no effect outside the database.
"""

import functools
import logging
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Concatenate, Final, ParamSpec, Protocol, TypeVar

from django.db import DatabaseError, InterfaceError, OperationalError, connections, transaction

from django_mcp.exceptions import StoreUnavailable

logger = logging.getLogger(__name__)

ATTEMPTS: Final = 6
FIRST_PAUSE_SECONDS: Final = 0.01

# serialization_failure, deadlock_detected, lock_not_available
_POSTGRESQL: Final = frozenset({"40001", "40P01", "55P03"})
# ER_CHECKREAD, ER_LOCK_WAIT_TIMEOUT, ER_LOCK_DEADLOCK
_MYSQL: Final = frozenset({1020, 1205, 1213})
# SQLITE_BUSY, SQLITE_LOCKED
_SQLITE: Final = frozenset({5, 6})

P = ParamSpec("P")
T = TypeVar("T")


class Writer(Protocol):
    """Something that writes to one database."""

    @property
    def write_alias(self) -> str: ...


W = TypeVar("W", bound=Writer)


def transact(work: Callable[[], T], *, using: str) -> T:
    """Return what `work()` returns, run in one transaction on the database `using`.

    A deadlock or a lock time-out runs the whole transaction again, a few times, with jitter. Inside a transaction of
    somebody else there is nothing to run again: it becomes a savepoint, and the outermost one decides.

    Raises StoreUnavailable, with the cause chained, when the database is down or stays busy.
    """
    connection = connections[using]
    if connection.in_atomic_block:
        with outages(using), transaction.atomic(using=using):
            return work()
    for attempt in range(1, ATTEMPTS):
        try:
            with transaction.atomic(using=using):
                return work()
        except (DatabaseError, InterfaceError, StoreUnavailable) as error:
            if not is_retryable(error):
                _raise_outage(error, using)
            logger.debug("Transaction %d on %s is run again: %s", attempt, using, error)
        time.sleep(random.uniform(0.5, 1.5) * FIRST_PAUSE_SECONDS * 2 ** (attempt - 1))  # noqa: S311 - only jitter
    with outages(using), transaction.atomic(using=using):
        return work()


class outages:  # noqa: N801 - reads as a word in a with statement
    """Translate what the database says when it is down, or too busy, to StoreUnavailable."""

    __slots__ = ("using",)

    def __init__(self, using: str) -> None:
        self.using = using

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, (DatabaseError, InterfaceError)):
            _raise_outage(error, self.using)


@contextmanager
def transaction_of(using: str) -> Iterator[None]:
    """Run somebody else's code in a transaction. Its beginning and its end are translated, what happens inside is not.

    Raises StoreUnavailable when the transaction cannot be begun or ended.
    """
    block = transaction.atomic(using=using)
    with outages(using):
        block.__enter__()
    try:
        yield
    except BaseException as error:
        with outages(using):
            block.__exit__(type(error), error, error.__traceback__)
        raise
    with outages(using):
        block.__exit__(None, None, None)


def transactional(method: Callable[Concatenate[W, P], T]) -> Callable[Concatenate[W, P], T]:
    """Run a method of a Writer as one write transaction on its database."""

    @functools.wraps(method)
    def run(self: W, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return transact(lambda: method(self, *args, **kwargs), using=self.write_alias)

    return run


def translated(method: Callable[Concatenate[W, P], T]) -> Callable[Concatenate[W, P], T]:
    """Run a method of a Writer without a transaction, its outage translated."""

    @functools.wraps(method)
    def run(self: W, /, *args: P.args, **kwargs: P.kwargs) -> T:
        with outages(self.write_alias):
            return method(self, *args, **kwargs)

    return run


class Pace:
    """Say `is_due()` once in so many seconds in this process, and never inside a transaction of the caller."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._next = time.monotonic() + seconds

    def is_due(self, using: str) -> bool:
        now = time.monotonic()
        if now < self._next or connections[using].in_atomic_block:
            return False
        self._next = now + self._seconds
        return True


def is_retryable(error: BaseException) -> bool:
    """Say whether the same transaction, run again, may well succeed: a deadlock or a lock not had in time."""
    database_error: Any = error.__cause__ if isinstance(error, StoreUnavailable) else error
    driver_error: Any = getattr(database_error, "__cause__", None)
    if driver_error is None:
        return False
    state = getattr(driver_error, "sqlstate", None) or getattr(driver_error, "pgcode", None)
    if state is not None:
        return state in _POSTGRESQL
    sqlite_code = getattr(driver_error, "sqlite_errorcode", None)
    if sqlite_code is not None:
        return sqlite_code & 0xFF in _SQLITE
    arguments: tuple[Any, ...] = getattr(driver_error, "args", ())
    return bool(arguments) and arguments[0] in _MYSQL


def _raise_outage(error: DatabaseError | InterfaceError | StoreUnavailable, using: str) -> None:
    """Raise StoreUnavailable for an outage, and `error` itself for anything else."""
    if not isinstance(error, (OperationalError, InterfaceError)) and not is_retryable(error):
        raise error
    if isinstance(error, StoreUnavailable):
        raise error
    if not connections[using].in_atomic_block:
        connections[using].close_if_unusable_or_obsolete()
    logger.error("The database %r failed: %s", using, error)
    raise StoreUnavailable from error

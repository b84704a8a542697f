"""What is run again, what is an outage, and what is neither."""

import sqlite3

import pytest
from django.db import DatabaseError, IntegrityError, InterfaceError, OperationalError, ProgrammingError, transaction

from django_mcp.exceptions import StoreUnavailable
from django_mcp.models import ChangeSequence
from django_mcp.models.transactions import ATTEMPTS, Pace, is_retryable, outages, transact


class DriverError(Exception):
    """Stands for what a driver raises, with the attributes that drivers give it."""

    def __init__(self, *args: object, **attributes: object) -> None:
        super().__init__(*args)
        self.__dict__.update(attributes)


def from_driver(error: DatabaseError, cause: Exception) -> DatabaseError:
    error.__cause__ = cause
    return error


def busy() -> DatabaseError:
    cause = sqlite3.OperationalError("database is locked")
    cause.sqlite_errorcode = 5
    return from_driver(OperationalError("database is locked"), cause)


@pytest.mark.parametrize(
    ("cause", "retryable"),
    [
        (DriverError(sqlstate="40P01"), True),
        (DriverError(sqlstate="40001"), True),
        (DriverError(sqlstate="55P03"), True),
        (DriverError(pgcode="40P01"), True),
        (DriverError(sqlstate="57P01"), False),
        (DriverError(1213, "Deadlock found"), True),
        (DriverError(1205, "Lock wait timeout exceeded"), True),
        (DriverError(1020, "Record has changed since last read"), True),
        (DriverError(2006, "server has gone away"), False),
        (DriverError(sqlite_errorcode=5), True),
        (DriverError(sqlite_errorcode=6), True),
        (DriverError(sqlite_errorcode=517), True),
        (DriverError(sqlite_errorcode=14), False),
        (DriverError(), False),
    ],
)
def test_deadlocks_and_lock_timeouts_are_known_by_their_codes(cause: Exception, retryable: bool) -> None:
    assert is_retryable(from_driver(OperationalError("it failed"), cause)) is retryable


def test_an_error_without_a_driver_is_not_run_again() -> None:
    assert not is_retryable(OperationalError("it failed"))
    assert not is_retryable(StoreUnavailable())


@pytest.mark.django_db(transaction=True)
def test_a_busy_transaction_is_run_again_whole() -> None:
    runs: list[int] = []

    def work() -> str:
        ChangeSequence.objects.create(server="s")
        runs.append(1)
        if len(runs) < 3:
            raise busy()
        return "done"

    assert transact(work, using="default") == "done"
    assert len(runs) == 3
    assert ChangeSequence.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_a_database_that_stays_busy_is_unavailable_after_a_few_attempts() -> None:
    runs: list[int] = []

    def work() -> None:
        runs.append(1)
        raise busy()

    with pytest.raises(StoreUnavailable, match="The store is unavailable") as caught:
        transact(work, using="default")
    assert len(runs) == ATTEMPTS
    assert isinstance(caught.value.__cause__, OperationalError)
    assert caught.value.retry_after_seconds == 5


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("error", [OperationalError("gone"), InterfaceError("closed")])
def test_an_outage_is_told_at_once(error: Exception) -> None:
    runs: list[int] = []

    def work() -> None:
        runs.append(1)
        raise error

    with pytest.raises(StoreUnavailable) as caught:
        transact(work, using="default")
    assert caught.value.__cause__ is error
    assert len(runs) == 1


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("error", [IntegrityError("unique"), ProgrammingError("syntax"), ValueError("mine")])
def test_a_mistake_stays_what_it_is(error: Exception) -> None:
    def work() -> None:
        raise error

    with pytest.raises(type(error), match=str(error)):
        transact(work, using="default")
    with pytest.raises(type(error), match=str(error)), outages("default"):
        raise error


@pytest.mark.django_db(transaction=True)
def test_inside_another_transaction_only_the_outermost_one_is_run_again() -> None:
    outer: list[int] = []
    inner: list[int] = []

    def work() -> None:
        outer.append(1)
        transact(nested, using="default")

    def nested() -> None:
        inner.append(1)
        if len(inner) < 2:
            raise busy()

    transact(work, using="default")
    assert (len(outer), len(inner)) == (2, 2)


@pytest.mark.django_db(transaction=True)
def test_a_transaction_of_the_caller_survives_a_mistake_in_ours() -> None:
    def work() -> None:
        ChangeSequence.objects.create(server="lost")
        raise IntegrityError("unique")

    with transaction.atomic():
        ChangeSequence.objects.create(server="kept")
        with pytest.raises(IntegrityError):
            transact(work, using="default")
    assert [sequence.server for sequence in ChangeSequence.objects.all()] == ["kept"]


@pytest.mark.django_db(transaction=True)
def test_a_pace_is_due_once_in_its_time_and_not_inside_a_transaction() -> None:
    hourly, always = Pace(3_600), Pace(0)
    assert not hourly.is_due("default")
    assert always.is_due("default")
    assert always.is_due("default")
    with transaction.atomic():
        assert not always.is_due("default")

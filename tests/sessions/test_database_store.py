"""The database store: the contract, its bounds, and its races on real servers."""

import json
import threading
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from django.db import DatabaseError, InterfaceError, OperationalError, connections
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from django_mcp.core.principal import ANONYMOUS, Principal, scope_digest
from django_mcp.exceptions import ConfigurationError, Overloaded, StoreUnavailable
from django_mcp.models import Change, Claim, StoredResult
from django_mcp.models.transactions import transact
from django_mcp.sessions.stores import Claimed, Done, LogStore, Running
from django_mcp.sessions.stores.base import EVERYTHING
from django_mcp.sessions.stores.database import DatabaseStore
from django_mcp.testing.store_contracts import LogStoreContract
from tests.databases import together

ALICE = Principal(kind="user", id="1")
SCOPE = scope_digest("", ALICE)


def make(alias: str = "default", **options: Any) -> DatabaseStore:
    return DatabaseStore("default", {"OPTIONS": {"USING": alias, **options}})


@pytest.mark.django_db(transaction=True)
class TestContractOnTheTestDatabase(LogStoreContract):
    @pytest.fixture
    def store(self) -> LogStore:
        return make()


class TestContractOnRealServers(LogStoreContract):
    @pytest.fixture
    def store(self, concurrent_database: str) -> LogStore:
        return make(concurrent_database)


# Races


def test_of_sixteen_claims_at_once_one_wins(concurrent_database: str) -> None:
    store = make(concurrent_database)
    for number in range(10):
        claim = partial(store.claim, "s", SCOPE, f"key {number}", lease_seconds=30, lifetime_seconds=60)
        outcomes = together(16, lambda _: claim())  # noqa: B023 - it is run at once
        assert sum(isinstance(outcome, Claimed) for outcome in outcomes) == 1
        assert outcomes.count(Running()) == 15


def test_of_sixteen_takeovers_at_once_one_wins(concurrent_database: str) -> None:
    store = make(concurrent_database)
    store.claim("s", SCOPE, "key", lease_seconds=0, lifetime_seconds=60)
    outcomes = together(
        16, lambda _: store.claim("s", SCOPE, "key", lease_seconds=30, lifetime_seconds=60, takeover=True)
    )
    assert sum(isinstance(outcome, Claimed) for outcome in outcomes) == 1
    assert outcomes.count(Running()) == 15


def test_of_sixteen_outcomes_at_once_one_is_recorded(concurrent_database: str) -> None:
    store = make(concurrent_database)
    claimed = store.claim("s", SCOPE, "key", lease_seconds=30, lifetime_seconds=60)
    assert isinstance(claimed, Claimed)
    won = together(16, lambda number: store.settle("s", SCOPE, "key", claimed.fence, number))
    assert sorted(won, key=bool) == [False] * 15 + [True]
    assert store.peek("s", SCOPE, "key") == Done(outcome=won.index(True))


def test_a_reader_among_writers_misses_no_change_and_sees_none_twice(concurrent_database: str) -> None:
    store = make(concurrent_database)
    start, _ = store.changes_since("s", None)
    writers, each = 8, 25
    finished: list[int] = []

    def work(number: int) -> list[str]:
        if number < writers:
            for step in range(each):
                store.publish_change("s", "resource", f"file:///{number}/{step}")
            finished.append(number)
            return []
        cursor, seen = start, list[str]()
        while True:
            is_last = len(finished) == writers
            cursor, changes = store.changes_since("s", cursor)
            seen += [uri for _, uri in changes]
            if is_last:
                return seen

    results = together(writers + 2, work)
    assert all(isinstance(result, list) for result in results), results
    expected = [uri for _, uri in store.changes_since("s", start)[1]]
    assert sorted(expected) == sorted(f"file:///{n}/{s}" for n in range(writers) for s in range(each))
    assert results[writers] == results[writers + 1] == expected


def test_a_deadlock_is_run_again_and_both_transactions_succeed(concurrent_database: str) -> None:
    """Two transactions lock two rows in opposite order, having met in the middle: the database ends one of them."""
    store = make(concurrent_database)
    for server in ("one", "two"):
        store.publish_change(server, "tools")
    barrier = threading.Barrier(2)
    attempts: list[int] = []

    def work(number: int) -> bool:
        order = ["one", "two"] if number == 0 else ["two", "one"]

        def body() -> bool:
            attempts.append(number)
            changes = Change.objects.using(concurrent_database)
            changes.filter(server=order[0]).update(kind="prompts")
            if attempts.count(number) == 1:
                barrier.wait(timeout=30)
            changes.filter(server=order[1]).update(kind="prompts")
            return True

        return transact(body, using=concurrent_database)

    assert together(2, work) == [True, True]
    assert len(attempts) >= 3


# Bounds


@pytest.mark.django_db
def test_a_principal_claims_so_many_keys_and_no_other_is_held_up_by_it() -> None:
    store = make(MAX_CLAIMS_PER_PRINCIPAL=3)
    terms: dict[str, Any] = {"lease_seconds": 30, "lifetime_seconds": 60}
    for key in ("1", "2", "3"):
        assert isinstance(store.claim("s", SCOPE, key, **terms), Claimed)
    with pytest.raises(Overloaded, match="Too many idempotency keys") as caught:
        store.claim("s", SCOPE, "4", **terms)
    assert caught.value.scope == "principal"
    assert store.claim("s", SCOPE, "3", **terms) == Running()
    assert isinstance(store.claim("s", "another", "4", **terms), Claimed)


@pytest.mark.django_db
def test_the_oldest_result_of_a_principal_makes_room_for_a_new_one() -> None:
    store = make(MAX_RESULTS_PER_PRINCIPAL=2)
    names = [store.put_result("s", "", ALICE, "text/plain", b"%d" % number) for number in range(3)]
    other = store.put_result("s", "", ANONYMOUS, "text/plain", b"other")
    found = [store.get_result(name, server="s", tenant="", principal=ALICE) for name in names]
    assert found == [None, ("text/plain", b"1"), ("text/plain", b"2")]
    assert store.get_result(other, server="s", tenant="", principal=ANONYMOUS) == ("text/plain", b"other")


@pytest.mark.django_db
def test_a_sweep_deletes_the_claims_and_results_that_are_over() -> None:
    store = make()
    claimed = store.claim("s", SCOPE, "key", lease_seconds=30, lifetime_seconds=0)
    store.put_result("s", "", ALICE, "text/plain", b"over", lifetime_seconds=0)
    assert isinstance(claimed, Claimed)
    assert store.settle("s", SCOPE, "key", claimed.fence, 1)
    assert [store.sweep(), store.sweep()] == [2, 0]
    assert not Claim.objects.exists()
    assert not StoredResult.objects.exists()


@pytest.mark.django_db
def test_old_notices_go_and_a_cursor_before_them_means_that_everything_changed() -> None:
    store = make()
    store.publish_change("s", "tools")
    start, _ = store.changes_since("s", None)
    store.publish_change("s", "tools")
    store.publish_change("s", "prompts")
    Change.objects.update(created_at=timezone.now() - timedelta(hours=2))
    store.publish_change("s", "resource", "file:///new")
    assert Change.objects.count() == 1
    cursor, changes = store.changes_since("s", start)
    assert changes == list(EVERYTHING)
    assert store.changes_since("s", cursor) == (cursor, [])
    assert store.changes_since("s", cursor - 1) == (cursor, [("resource", "file:///new")])


@pytest.mark.django_db
def test_the_newest_notice_stays_so_that_an_idle_reader_is_not_told_of_changes() -> None:
    store = make()
    store.publish_change("s", "tools")
    Change.objects.update(created_at=timezone.now() - timedelta(days=2))
    cursor, _ = store.changes_since("s", None)
    assert store.changes_since("s", cursor) == (cursor, [])
    assert Change.objects.count() == 1


@pytest.mark.django_db
def test_neither_names_nor_keys_nor_secrets_are_kept_in_clear() -> None:
    store = make()
    store.claim("s", SCOPE, "the key itself", lease_seconds=30, lifetime_seconds=60)
    name = store.put_result("s", "", ALICE, "text/plain", b"")
    assert "the key itself" not in json.dumps(list(Claim.objects.values()), default=str)
    assert name not in json.dumps(list(StoredResult.objects.values()), default=str)


@pytest.mark.django_db
def test_polling_costs_one_query(django_assert_num_queries: DjangoAssertNumQueries) -> None:
    store = make()
    store.publish_change("s", "tools")
    cursor, _ = store.changes_since("s", None)
    with django_assert_num_queries(1):
        store.changes_since("s", cursor)


# Outages


@pytest.mark.django_db
@pytest.mark.parametrize("error", [OperationalError, InterfaceError])
def test_an_outage_is_never_taken_for_an_empty_store(error: type[Exception]) -> None:
    def down(*args: object) -> None:
        raise error("the server is gone")

    store = make()
    with connections["default"].execute_wrapper(down):
        for ask in (
            lambda: store.peek("s", SCOPE, "key"),
            lambda: store.claim("s", SCOPE, "key", lease_seconds=1, lifetime_seconds=1),
            lambda: store.changes_since("s", None),
            lambda: store.get_result("name", server="s", tenant="", principal=ALICE),
            lambda: store.put_result("s", "", ALICE, "text/plain", b""),
            lambda: store.publish_change("s", "tools"),
        ):
            with pytest.raises(StoreUnavailable, match="The store is unavailable") as caught:
                ask()
            assert isinstance(caught.value.__cause__, DatabaseError | InterfaceError)


def test_an_unknown_option_is_refused_by_name() -> None:
    with pytest.raises(ConfigurationError, match=r"OPTIONS'\] has the unknown keys \['DATABASE'\]"):
        DatabaseStore("default", {"OPTIONS": {"DATABASE": "x"}})


def test_a_store_on_a_database_that_is_not_there_is_an_error_of_the_check() -> None:
    (message,) = make("nowhere").check()
    assert message.id == "django_mcp.E010"
    assert message.msg == "The store 'default' uses the database 'nowhere', which is not in DATABASES."

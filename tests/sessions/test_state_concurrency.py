"""Many callers at once on real databases: nothing is lost, and some order explains everything that was answered."""

from collections import Counter

import pytest
from pytest_django import Settings

from django_mcp.sessions.stores.state import StateStore
from tests.sessions.calls import make
from tests.sessions.linearizability import linearize
from tests.sessions.state_checks import MANY, assignments, crashes, increments, record_history

SEEDS = range(6)


class Races:
    """Subclass it and define the fixture `store`."""

    @pytest.fixture
    def store(self) -> StateStore:
        raise NotImplementedError("Define the fixture `store` in the subclass.")

    @pytest.fixture(autouse=True)
    def keep_all_generations(self, settings: Settings) -> None:
        settings.DJANGO_MCP = {"STATE_HISTORY": MANY}

    def test_a_thousand_increments_of_64_callers_are_a_thousand(self, store: StateStore) -> None:
        assert increments(store, callers=64, total=1_000) == []

    def test_an_assignment_is_kept_or_is_a_conflict(self, store: StateStore) -> None:
        assert assignments(store, callers=16, each=12) == []

    def test_of_those_who_read_the_same_one_for_each_key_is_kept(self, store: StateStore) -> None:
        assert assignments(store, callers=9, each=5, in_step=True) == []

    def test_one_order_explains_what_was_done_at_once(self, store: StateStore) -> None:
        verbs: Counter[str] = Counter()
        for seed in SEEDS:
            history = record_history(store, seed=seed, callers=6, each=6)
            assert linearize(history) is not None, history
            verbs.update(operation.verb for operation in history)
        assert min(verbs.values()) >= 5, f"too tame to prove anything: {verbs}"
        assert len(verbs) == 4


class DatabaseRaces(Races):
    def test_a_commit_is_whole_or_not_there_wherever_the_process_dies(self, store: StateStore) -> None:
        assert crashes(store) == []


@pytest.mark.django_db(transaction=True)
class TestOnTheTestDatabase(DatabaseRaces):
    @pytest.fixture
    def store(self) -> StateStore:
        return make()


class TestOnRealServers(DatabaseRaces):
    @pytest.fixture
    def store(self, concurrent_database: str) -> StateStore:
        return make(concurrent_database)

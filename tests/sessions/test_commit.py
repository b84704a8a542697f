"""How a commit takes its turn among others of its process; what it may change, the model and the races say."""

import pytest

from django_mcp.exceptions import StateNotSaved
from django_mcp.sessions import commit as commits
from tests.sessions.calls import make
from tests.sessions.state_checks import begin, read


@pytest.mark.django_db(transaction=True)
def test_a_newcomer_does_not_overtake_those_who_have_lost_a_race(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or they lose the next one too: one of 64 callers waited for 20 seconds while most others waited for none."""
    store = make()
    record = begin(store)
    found: list[int] = []

    class Lane:
        def acquire(self, *, timeout: float) -> bool:
            found.append(store.inspect(record.id).generation)
            return True

        def release(self) -> None:
            found.append(store.inspect(record.id).generation)

    monkeypatch.setattr(commits, "_LANES", (Lane(),))
    call = read(store, record)
    call.state["a"] = 1
    assert call.commit().generation == 1
    assert found == [0, 1]


@pytest.mark.django_db(transaction=True)
def test_whoever_waits_in_vain_for_its_turn_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    store = make()
    record = begin(store)

    class Lane:
        def acquire(self, *, timeout: float) -> bool:
            return False

    monkeypatch.setattr(commits, "_LANES", (Lane(),))
    call = read(store, record)
    call.state["a"] = 1
    with pytest.raises(StateNotSaved, match="too many other calls change the same conversation"):
        call.commit()
    assert store.inspect(record.id).generation == 0


@pytest.mark.django_db
def test_whoever_is_in_a_transaction_waits_for_no_other_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    store = make()
    record = begin(store)
    monkeypatch.setattr(commits, "_LANES", ())
    call = read(store, record)
    call.state["a"] = 1
    assert call.commit().generation == 1

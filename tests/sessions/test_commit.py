"""How a commit takes its turn among others of its process; what it may change, the model and the races say."""

import pytest

from django_mcp.sessions import commit as commits
from tests.sessions.calls import make
from tests.sessions.state_checks import begin, read


@pytest.mark.django_db(transaction=True)
def test_a_newcomer_does_not_overtake_those_who_have_lost_a_race(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or they lose the next one too: one of 64 callers waited for 20 seconds while most others waited for none."""
    store = make()
    record = begin(store)
    found: list[int] = []

    class BusyLane:
        def locked(self) -> bool:
            return True

        def __enter__(self) -> None:
            found.append(store.inspect(record.id).generation)

        def __exit__(self, *_: object) -> None:
            return None

    monkeypatch.setattr(commits, "_LANES", (BusyLane(),))
    call = read(store, record)
    call.state["a"] = 1
    assert call.commit().generation == 1
    assert found == [0]

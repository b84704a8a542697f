"""A little collection by the way, where a call has committed."""

from datetime import timedelta
from typing import Any

import pytest
from django.db import transaction
from django.utils import timezone

from django_mcp.core.principal import Principal
from django_mcp.exceptions import StoreUnavailable
from django_mcp.models import Conversation
from django_mcp.models.transactions import Pace
from django_mcp.sessions import upkeep
from django_mcp.sessions.stores.database_state import DatabaseStateStore
from django_mcp.sessions.stores.state import Collected

pytestmark = pytest.mark.django_db(transaction=True)

OWNER: dict[str, Any] = {"server": "s", "tenant": "", "principal": Principal(kind="oauth", id="ada")}


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> DatabaseStateStore:
    monkeypatch.setattr(upkeep, "_paces", {"mine": Pace(0)})
    return DatabaseStateStore("mine", {})


def test_what_is_over_is_taken_along(store: DatabaseStateStore) -> None:
    old = store.begin(**OWNER).conversation.id
    Conversation.objects.filter(pk=old).update(last_used_at=timezone.now() - timedelta(days=8))
    young = store.begin(**OWNER).conversation.id
    upkeep.tidy(store)
    assert dict(Conversation.objects.values_list("pk", "state")) == {old: "expired", young: "active"}


def test_a_transaction_is_left_alone(store: DatabaseStateStore) -> None:
    old = store.begin(**OWNER).conversation.id
    Conversation.objects.filter(pk=old).update(last_used_at=timezone.now() - timedelta(days=8))
    with transaction.atomic():
        upkeep.tidy(store)
    assert Conversation.objects.get().state == "active"


def test_it_happens_once_in_a_while(store: DatabaseStateStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upkeep, "_paces", {"mine": Pace(3_600)})
    old = store.begin(**OWNER).conversation.id
    Conversation.objects.filter(pk=old).update(last_used_at=timezone.now() - timedelta(days=8))
    upkeep.tidy(store)
    assert Conversation.objects.get().state == "active"


def test_a_failure_harms_nobody(store: DatabaseStateStore, caplog: pytest.LogCaptureFixture) -> None:
    class Broken(DatabaseStateStore):
        def collect(self, *args: Any, **kwargs: Any) -> Collected:
            raise StoreUnavailable

    upkeep.tidy(Broken("mine", {}))
    assert "nothing was collected" in caplog.text

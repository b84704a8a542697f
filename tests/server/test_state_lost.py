"""A store that lost what it had acknowledged tells the client, once of what a user keeps, and never in silence."""

from collections.abc import Iterator
from typing import Any, ClassVar

import pytest
from django.contrib.auth.models import User
from django.test import override_settings

from django_mcp import Context, Server, State, UserState
from django_mcp.exceptions import REFUSED_HANDLE, STATE_LOST
from django_mcp.sessions.stores.cache_state import CacheStateStore
from django_mcp.sessions.stores.database import DatabaseStore
from django_mcp.sessions.stores.state import StateStore
from django_mcp.testing import Client
from tests import services
from tests.redis_stores import cache_on, make_state

pytestmark = [pytest.mark.services, pytest.mark.django_db(transaction=True)]


class RedisStateStore(DatabaseStore):
    """The log in the database, conversations on Redis."""

    made: ClassVar[list[CacheStateStore]] = []

    @property
    def state(self) -> StateStore:
        return self.made[-1]


@pytest.fixture(autouse=True)
def store() -> Iterator[CacheStateStore]:
    with services.redis() as service, cache_on(service) as cache:
        RedisStateStore.made.append(make_state(cache))
        backend = {"BACKEND": f"{__name__}.RedisStateStore"}
        with override_settings(DJANGO_MCP={"STORES": {"default": backend}}):
            yield RedisStateStore.made[-1]
        RedisStateStore.made.clear()


@pytest.fixture
def ada() -> User:
    return User.objects.create_user("ada")


def call(user: User, tool: str, arguments: dict[str, Any] | None = None, **options: Any) -> Any:
    return Client(user, server="tested", **options).call(tool, arguments)


@pytest.mark.parametrize("mode", ["legacy", "modern"])
def test_a_client_is_told_of_a_loss_and_begins_anew(
    server: Server, ada: User, store: CacheStateStore, mode: Any
) -> None:
    runs: list[str] = []

    @server.tool
    def prefer(user: UserState, seat: str) -> None:
        runs.append(seat)
        user["seat"] = seat

    @server.tool
    def preferred(user: UserState) -> str:
        runs.append("read")
        return str(user.get("seat", "any"))

    @server.tool
    def count(state: State) -> int:
        state["n"] = state.get("n", 0) + 1
        return int(state["n"])

    call(ada, "prefer", {"seat": "12A"}, mode=mode)
    handle = call(ada, "count", mode=mode).handle
    assert call(ada, "count", {"handle": handle}, mode=mode).structured["result"] == 2
    assert call(ada, "preferred", mode=mode).structured["result"] == "12A"

    store.link.client.flushdb()
    runs.clear()
    lost = call(ada, "preferred", mode=mode)
    assert (lost.is_error, lost.text, runs) == (True, STATE_LOST, [])
    assert call(ada, "preferred", mode=mode).structured["result"] == "any"
    refused = call(ada, "count", {"handle": handle}, mode=mode)
    assert (refused.is_error, refused.text) == (True, REFUSED_HANDLE)
    call(ada, "prefer", {"seat": "1B"}, mode=mode)
    assert call(ada, "preferred", mode=mode).structured["result"] == "1B"


def test_a_call_under_way_is_told_that_its_state_was_not_saved(
    server: Server, ada: User, store: CacheStateStore
) -> None:
    @server.tool
    def prefer(ctx: Context, user: UserState, is_lost: bool = False) -> None:
        user["seat"] = str(is_lost)
        if is_lost:
            store.link.client.flushdb()

    call(ada, "prefer")
    told = call(ada, "prefer", {"is_lost": True})
    assert told.is_error
    assert told.text == ("The call ran, but its state was not saved: the store has lost what was kept for this user.")
    assert not call(ada, "prefer").is_error

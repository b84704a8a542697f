"""A last round sent again: the state changes once, the same carriers come back, and the record tells nothing."""

from typing import Annotated, Any, ClassVar

import pytest
from django.contrib.auth.models import User
from pydantic import BaseModel
from pytest_django import Settings

from django_mcp import Elicit, Resolve, Server, State, ToolError
from django_mcp.models import Claim, Conversation
from django_mcp.sessions.stores.database import DatabaseStore
from django_mcp.testing import Client

pytestmark = pytest.mark.django_db


class Consent(BaseModel):
    ok: bool


def may_i() -> Elicit[Consent]:
    return Elicit("May I?", Consent)


Agreed = Annotated[Consent, Resolve(may_i)]


class LateStore(DatabaseStore):
    """A store where somebody else has taken the claim over by the time of its end."""

    is_late: ClassVar[bool] = False

    def settle(self, *args: Any, **kwargs: Any) -> bool:
        return not LateStore.is_late and super().settle(*args, **kwargs)


@pytest.fixture
def ada() -> User:
    return User.objects.create_user("ada")


@pytest.mark.parametrize("atomic", [False, True])
def test_a_replay_changes_nothing_and_carries_the_same(server: Server, ada: User, atomic: bool) -> None:
    @server.tool(atomic=atomic)
    def buy(state: State, agreed: Agreed) -> int:
        User.objects.create_user(f"bought {state.get('bought', 0)}")
        return int(state.update("bought", lambda bought: bought + 1, default=0))

    client = Client(ada, server="tested", answers={"may_i": {"ok": True}})
    asked = client.call("buy", answer=False)
    first, again = (client.call("buy", after=asked) for _ in range(2))
    assert first.structured == again.structured == {"result": 1, "handle": first.handle}
    assert first.handle is not None
    assert first.headers["mcp-resumption-token"] == again.headers["mcp-resumption-token"]
    assert User.objects.filter(username__startswith="bought").count() == 1
    assert Conversation.objects.get().generation == 1
    record = str(Claim.objects.values().get())
    assert first.handle not in record
    assert first.headers["mcp-resumption-token"] not in record


def test_a_failure_is_replayed_as_one(server: Server, ada: User) -> None:
    runs: list[int] = []

    @server.tool(atomic=True)
    def buy(state: State, agreed: Agreed) -> None:
        runs.append(1)
        state["bought"] = True
        User.objects.create_user("bought")
        raise ToolError("sold out")

    client = Client(ada, server="tested", answers={"may_i": {"ok": True}})
    asked = client.call("buy", answer=False)
    for _ in range(2):
        failed = client.call("buy", after=asked)
        assert (failed.is_error, failed.text, failed.token) == (True, "sold out", None)
    assert runs == [1]
    assert not User.objects.filter(username="bought").exists()
    assert not Conversation.objects.active().exists()


def test_an_atomic_tool_whose_outcome_cannot_be_recorded_is_taken_back(
    server: Server, ada: User, settings: Settings
) -> None:
    settings.DJANGO_MCP = {"STORES": {"default": {"BACKEND": f"{__name__}.LateStore"}}}

    @server.tool(atomic=True)
    def buy(state: State, agreed: Agreed) -> None:
        state["bought"] = True
        User.objects.create_user("bought")

    client = Client(ada, server="tested", answers={"may_i": {"ok": True}})
    asked = client.call("buy", answer=False)
    LateStore.is_late = True
    try:
        failed = client.call("buy", after=asked)
    finally:
        LateStore.is_late = False
    assert (failed.is_error, failed.text) == (True, "Nothing was changed: its time was over.")
    assert not User.objects.filter(username="bought").exists()

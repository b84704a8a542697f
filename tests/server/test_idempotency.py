"""Idempotency keys: a call that is sent again under its key is the same call, in both eras."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Annotated, Any, ClassVar

import pytest
from django.contrib.auth.models import User
from django.utils import timezone
from mcp.shared.exceptions import MCPError
from mcp_types import InputRequiredResult
from pydantic import BaseModel
from pytest_django import Settings

from django_mcp import Context, Elicit, Resolve, Server, State, ToolError
from django_mcp.exceptions import Overloaded, StoreUnavailable
from django_mcp.models import Claim, Conversation
from django_mcp.server import single_use
from django_mcp.server.carriers import EXTENSION
from django_mcp.server.idempotency import IDEMPOTENCY_META_KEY
from django_mcp.server.outcome import Outcome
from django_mcp.server.threads import HandlerThreads
from django_mcp.sessions.stores.base import ClaimOutcome, Standing
from django_mcp.sessions.stores.database import DatabaseStore
from django_mcp.testing import Client, MCPClientError
from tests.servers import defined

BOUND_SECONDS = 10
MODES = ("modern", "legacy")

both_eras = pytest.mark.parametrize("mode", MODES)
alone = pytest.mark.django_db
on_threads = pytest.mark.django_db(transaction=True)


class Consent(BaseModel):
    ok: bool


def may_i() -> Elicit[Consent]:
    return Elicit("May I?", Consent)


Agreed = Annotated[Consent, Resolve(may_i)]


class HookedStore(DatabaseStore):
    """A store that can be down, or late, at one operation on a claim."""

    before_claim: ClassVar[Callable[[], object] | None] = None
    late: ClassVar[tuple[str, ...]] = ()
    seen: ClassVar[list[str]] = []
    looks: ClassVar[list[object]] = []

    def peek(self, *args: Any, **terms: Any) -> Standing | None:
        found = super().peek(*args, **terms)
        HookedStore.looks.append(found)
        return found

    def claim(self, server: str, scope: str, key: str, **terms: Any) -> ClaimOutcome:
        if HookedStore.before_claim is not None:
            HookedStore.before_claim()
        return super().claim(server, scope, key, **terms)

    def settle(self, server: str, scope: str, key: str, fence: int, outcome: Any) -> bool:
        if key.partition(":")[0] in HookedStore.late:
            return False
        HookedStore.seen.append(key.partition(":")[0])
        return super().settle(server, scope, key, fence, outcome)


@pytest.fixture(autouse=True)
def hooked(settings: Settings) -> Iterator[None]:
    settings.DJANGO_MCP = {"POLL_SECONDS": 0.05, "STORES": {"default": {"BACKEND": f"{__name__}.HookedStore"}}}
    yield
    HookedStore.before_claim, HookedStore.late = None, ()
    HookedStore.looks.clear()
    HookedStore.seen.clear()


@pytest.fixture
def ada() -> User:
    return User.objects.create_user("ada")


@pytest.fixture
def pool() -> HandlerThreads:
    return HandlerThreads(size=4, queue=64)


@pytest.fixture
def runs(server: Server) -> list[str]:
    """Define tools of every kind, which note that they ran."""
    made: list[str] = []

    def note(name: str) -> Callable[[str], str]:
        def body(text: str = "") -> str:
            made.append(f"{name} {text}".strip())
            return f"{name} {text}, run {len(made)}"

        return body

    server.tool(name="write")(note("write"))
    server.tool(name="rewrite")(note("rewrite"))
    server.tool(name="put", idempotent=True)(note("put"))
    server.tool(name="read", read_only=True)(note("read"))
    return made


# A repeat


@alone
@both_eras
@pytest.mark.parametrize("tool", ["write", "put", "read"])
def test_a_repeat_returns_the_recorded_result_of_any_tool(ada: User, runs: list[str], mode: str, tool: str) -> None:
    client = Client(ada, server="tested", mode=mode)
    first, again = (client.call(tool, {"text": "a"}, idempotency_key="k") for _ in range(2))
    assert first.raw == again.raw
    assert first.text == f"{tool} a, run 1"
    assert runs == [f"{tool} a"]
    assert client.call(tool, {"text": "a"}, idempotency_key="another").text == f"{tool} a, run 2"
    assert client.call(tool, {"text": "a"}).text == f"{tool} a, run 3"


@alone
def test_a_repeat_may_come_in_the_other_era(server: Server, ada: User) -> None:
    runs: list[int] = []

    @server.tool
    def count() -> list[int]:
        runs.append(1)
        return [1, 2]

    @server.tool(structured=False, output_schema={"type": "array"})
    def bare() -> list[int]:
        runs.append(1)
        return [1, 2]

    clients = [Client(ada, server="tested", mode=mode) for mode in MODES]
    wrapped = [client.call("count", idempotency_key="k") for client in clients]
    assert [result.structured for result in wrapped] == [{"result": [1, 2]}] * 2
    plain = [client.call("bare", idempotency_key="bare") for client in clients]
    assert [result.structured for result in plain] == [[1, 2], None]
    assert runs == [1, 1]


@alone
@both_eras
@pytest.mark.parametrize("atomic", [False, True])
@pytest.mark.parametrize("declares", [False, True])
def test_a_repeat_carries_what_the_first_did(
    server: Server, ada: User, mode: str, atomic: bool, declares: bool
) -> None:
    @server.tool(atomic=atomic)
    def buy(state: State) -> int:
        User.objects.create_user(f"bought {state.get('bought', 0)}")
        return int(state.update("bought", lambda bought: bought + 1, default=0))

    extension: dict[str, Any] = {"extensions" if mode == "modern" else "experimental": {EXTENSION: {}}}
    client = Client(ada, server="tested", mode=mode, capabilities=extension if declares else {})
    first, again = (client.call("buy", idempotency_key="k") for _ in range(2))
    assert first.raw == again.raw
    assert first.token == again.token
    assert first.token is not None
    assert (first.handle is None) == declares
    assert User.objects.filter(username__startswith="bought").count() == 1
    assert Conversation.objects.get().generation == 1
    record = str(Claim.objects.values().get())
    assert first.token not in record
    assert first.handle is None or first.handle not in record


@alone
@both_eras
def test_what_carries_a_conversation_is_not_compared(server: Server, ada: User, mode: str) -> None:
    @server.tool
    def add(state: State, by: int) -> int:
        return int(state.update("total", lambda total: total + by, default=0))

    client = Client(ada, server="tested", mode=mode)
    begun = client.call("add", {"by": 1})
    once = client.call("add", {"by": 2, "handle": begun.handle}, idempotency_key="k")
    without = client.call("add", {"by": 2}, idempotency_key="k")
    assert once.raw == without.raw
    params = {"name": "add", "arguments": {"by": 2}, "_meta": {IDEMPOTENCY_META_KEY: "k", "com.example/x": 1}}
    assert client.request("tools/call", params).raw == once.raw
    assert client.call("add", {"by": 0, "handle": begun.handle}).structured["result"] == 3


@alone
@both_eras
def test_an_argument_that_is_called_handle_is_compared_where_it_carries_nothing(
    server: Server, ada: User, mode: str
) -> None:
    @server.tool
    def grab(handle: str) -> str:
        return handle

    client = Client(ada, server="tested", mode=mode)
    assert client.call("grab", {"handle": "a"}, idempotency_key="k").text == "a"
    with pytest.raises(MCPClientError, match="idempotency_mismatch"):
        client.call("grab", {"handle": "b"}, idempotency_key="k")


@alone
@both_eras
def test_the_order_of_arguments_and_a_missing_object_of_them_do_not_matter(
    server: Server, ada: User, mode: str
) -> None:
    runs: list[int] = []

    @server.tool
    def write(a: int = 0, b: int = 0) -> int:
        runs.append(1)
        return a - b

    client = Client(ada, server="tested", mode=mode)
    for arguments in ({"a": 3, "b": 1}, {"b": 1, "a": 3}):
        assert client.call("write", arguments, idempotency_key="k").text == "2"
    meta = {"_meta": {IDEMPOTENCY_META_KEY: "none"}}
    for params in ({"name": "write", **meta}, {"name": "write", "arguments": {}, **meta}):
        assert client.request("tools/call", params).raw["content"][0]["text"] == "0"
    assert runs == [1, 1]


# Refusals


@alone
@pytest.mark.parametrize(("mode", "status"), [("modern", 400), ("legacy", 200)])
@pytest.mark.parametrize(
    ("tool", "arguments"), [("write", {"text": "b"}), ("rewrite", {"text": "a"}), ("write", {"wrong": []})]
)
def test_another_call_under_the_key_is_refused(
    ada: User, runs: list[str], mode: str, status: int, tool: str, arguments: dict[str, Any]
) -> None:
    client = Client(ada, server="tested", mode=mode)
    first = client.call("write", {"text": "a"}, idempotency_key="k")
    with pytest.raises(MCPClientError) as caught:
        client.call(tool, arguments, idempotency_key="k")
    refused = caught.value
    assert (refused.code, refused.data, refused.status) == (-32602, {"reason": "idempotency_mismatch"}, status)
    assert str(refused).startswith("idempotency_mismatch: the key stands for another call")
    assert runs == ["write a"]
    assert client.call("write", {"text": "a"}, idempotency_key="k").raw == first.raw


@alone
@pytest.mark.parametrize(("mode", "status"), [("modern", 400), ("legacy", 200)])
@pytest.mark.parametrize("key", ["", "k" * 201, 1, True, [], {}], ids=str)
def test_what_is_no_key_is_refused(ada: User, runs: list[str], mode: str, status: int, key: Any) -> None:
    client = Client(ada, server="tested", mode=mode)
    with pytest.raises(MCPClientError) as caught:
        client.call("read", idempotency_key=key)
    problem = "Invalid params: org.django-mcp/idempotencyKey must be a string of 1 to 200 characters"
    assert (caught.value.code, caught.value.status) == (-32602, status)
    assert problem in str(caught.value)
    assert runs == []
    assert client.call("read", idempotency_key="é" * 200).text == "read , run 1"


@alone
def test_an_anonymous_caller_of_the_modern_era_has_no_keys(runs: list[str], settings: Settings) -> None:
    with pytest.raises(MCPClientError) as caught:
        Client(server="tested").call("write", idempotency_key="k")
    assert (caught.value.code, caught.value.status) == (-32602, 400)
    assert "needs an authenticated caller or a session" in str(caught.value)
    assert runs == []


# Whose key it is


@alone
def test_a_key_of_an_anonymous_caller_belongs_to_the_session(runs: list[str]) -> None:
    one, two = (Client(server="tested", mode="legacy") for _ in range(2))
    for _ in range(2):
        assert one.call("write", {"text": "a"}, idempotency_key="k").text == "write a, run 1"
        assert two.call("write", {"text": "b"}, idempotency_key="k").text == "write b, run 2"


@alone
@both_eras
def test_a_key_of_a_user_belongs_to_user_tenant_and_server(ada: User, runs: list[str], mode: str) -> None:
    bob = User.objects.create_user("bob")
    with defined("other") as other:

        @other.tool
        def write(text: str) -> str:
            return f"other {text}"

        clients = [
            Client(ada, server="tested", mode=mode),
            Client(bob, server="tested", mode=mode),
            Client(ada, server="tested", mode=mode, tenant="acme"),
            Client(ada, server="other", mode=mode),
        ]
        results = [
            [client.call("write", {"text": str(number)}, idempotency_key="k").text for _ in range(2)]
            for number, client in enumerate(clients)
        ]
    assert results == [[f"write {n}, run {n + 1}"] * 2 for n in range(3)] + [["other 3"] * 2]
    # Sessions of one user share their keys: a client comes back in a new one.
    assert Client(ada, server="tested", mode=mode).call("write", {"text": "0"}, idempotency_key="k").text == (
        "write 0, run 1"
    )


# What is recorded


@alone
@both_eras
@pytest.mark.parametrize("idempotent", [False, True])
def test_an_error_of_a_body_is_an_outcome(server: Server, ada: User, mode: str, idempotent: bool) -> None:
    runs: list[int] = []

    @server.tool(idempotent=idempotent)
    def write() -> None:
        runs.append(1)
        raise ToolError("sold out")

    @server.tool(idempotent=idempotent)
    def refuse() -> None:
        runs.append(1)
        raise MCPError(-31000, "not today", {"until": "tomorrow"})

    client = Client(ada, server="tested", mode=mode)
    for _ in range(2):
        failed = client.call("write", idempotency_key="k")
        assert (failed.is_error, failed.text) == (True, "sold out")
    for _ in range(2):
        with pytest.raises(MCPClientError, match="not today") as caught:
            client.call("refuse", idempotency_key="refused")
        assert (caught.value.code, caught.value.data) == (-31000, {"until": "tomorrow"})
    assert runs == [1, 1]


@alone
@both_eras
def test_a_result_that_cannot_be_recorded_is_a_failure_that_is(server: Server, ada: User, mode: str) -> None:
    runs: list[int] = []

    @server.tool
    def write() -> dict[str, int]:
        runs.append(1)
        return {"digits": 10**5_000}

    client = Client(ada, server="tested", mode=mode)
    for _ in range(2):
        assert client.call("write", idempotency_key="k").is_error
    assert runs == [1]


def test_an_outcome_is_read_however_deep_it_is() -> None:
    value: list[Any] = []
    for _ in range(100):
        value = [value]
    outcome = Outcome(result={"structuredContent": {"value": value}})
    assert Outcome.unsealed(outcome.sealed()) == outcome


@alone
@both_eras
def test_where_no_body_ran_the_key_is_free(ada: User, runs: list[str], mode: str) -> None:
    client = Client(ada, server="tested", mode=mode)
    refused = client.call("write", {"text": []}, idempotency_key="k")
    assert refused.text.startswith("Invalid arguments")
    with pytest.raises(MCPClientError, match="Unknown tool"):
        client.call("nothing", idempotency_key="k")
    assert client.call("write", {"text": "a"}, idempotency_key="k").text == "write a, run 1"


@alone
@both_eras
@pytest.mark.parametrize("error", [Overloaded(1), StoreUnavailable()], ids=["overloaded", "down"])
def test_a_repeatable_body_that_met_an_outage_may_run_again(
    server: Server, ada: User, mode: str, error: Exception
) -> None:
    runs: list[int] = []

    @server.tool(idempotent=True)
    def put() -> str:
        runs.append(1)
        if len(runs) == 1:
            raise error
        return "put"

    client = Client(ada, server="tested", mode=mode)
    with pytest.raises(MCPClientError) as caught:
        client.call("put", idempotency_key="k")
    assert caught.value.status == 503
    assert client.call("put", idempotency_key="k").text == "put"
    assert runs == [1, 1]


@alone
@both_eras
def test_a_store_that_is_down_at_the_claim_leaves_the_key_as_it_was(ada: User, runs: list[str], mode: str) -> None:
    client = Client(ada, server="tested", mode=mode)
    client.call("read")

    def fail() -> None:
        raise StoreUnavailable

    HookedStore.before_claim = fail
    with pytest.raises(MCPClientError) as caught:
        client.call("write", idempotency_key="k")
    assert caught.value.status == 503
    HookedStore.before_claim = None
    assert client.call("write", idempotency_key="k").text == "write , run 2"


@alone
def test_an_outcome_is_kept_as_long_as_the_setting_says(ada: User, runs: list[str], settings: Settings) -> None:
    client = Client(ada, server="tested")
    client.call("write", idempotency_key="a day")
    settings.DJANGO_MCP = {**settings.DJANGO_MCP, "IDEMPOTENCY_SECONDS": 5}
    client.call("write", idempotency_key="short")
    claims = Claim.objects.order_by("pk")
    assert [claim.expires_at - claim.created_at for claim in claims] == [timedelta(days=1), timedelta(seconds=5)]
    claims.update(expires_at=timezone.now())
    assert client.call("write", {"text": "new"}, idempotency_key="short").text == "write new, run 3"


@alone
@pytest.mark.parametrize("tool", ["write", "put"])
def test_an_outcome_that_no_key_of_the_project_opens_is_unknown(
    ada: User, runs: list[str], settings: Settings, tool: str
) -> None:
    client = Client(ada, server="tested")
    client.call(tool, idempotency_key="k")
    settings.SECRET_KEY = "another secret key, and the former one was thrown away"
    with pytest.raises(MCPClientError, match="worker_lost") as caught:
        client.call(tool, idempotency_key="k")
    assert (caught.value.code, caught.value.data) == (-32603, {"reason": "worker_lost"})
    assert len(runs) == 1


# Questions


@alone
@both_eras
@pytest.mark.parametrize("idempotent", [False, True])
def test_a_round_of_questions_leaves_the_key_free_and_the_repeat_is_not_asked(
    server: Server, ada: User, mode: str, idempotent: bool
) -> None:
    runs: list[int] = []

    @server.tool(idempotent=idempotent)
    def write(agreed: Agreed) -> str:
        runs.append(1)
        return f"run {len(runs)}"

    client = Client(ada, server="tested", mode=mode)
    asked = client.call("write", idempotency_key="k", answer=False)
    assert client.call("write", idempotency_key="k", answer=False).stopped
    assert asked.stopped
    assert not Claim.objects.exists()
    first = client.call("write", idempotency_key="k", after=asked, answers={"may_i": {"ok": True}})
    assert first.text == "run 1"
    again = client.call("write", idempotency_key="k")
    assert (again.raw, again.questions) == (first.raw, [])
    assert runs == [1]


@alone
@pytest.mark.parametrize("idempotent", [False, True])
def test_a_body_that_asks_by_its_result_leaves_the_key_free(server: Server, ada: User, idempotent: bool) -> None:
    runs: list[str | None] = []
    form = {"method": "elicitation/create", "params": {"message": "?", "requestedSchema": SCHEMA}}

    @server.tool(idempotent=idempotent)
    def write(ctx: Context) -> Any:
        runs.append(ctx.request_state)
        if ctx.request_state is None:
            return InputRequiredResult.model_validate({"inputRequests": {"it": form}, "requestState": "one"})
        return "written"

    client = Client(ada, server="tested", answers={"it": {}})
    asked = client.call("write", idempotency_key="k", answer=False)
    assert asked.stopped
    for _ in range(2):
        assert client.call("write", idempotency_key="k", after=asked).text == "written"
    assert runs == [None, "one"]


SCHEMA = {"type": "object", "properties": {}}


@alone
@pytest.mark.parametrize("atomic", [False, True])
def test_a_last_round_under_a_key_claims_both(server: Server, ada: User, atomic: bool) -> None:
    @server.tool(atomic=atomic)
    def buy(state: State, agreed: Agreed) -> int:
        User.objects.create_user(f"bought {state.get('bought', 0)}")
        return int(state.update("bought", lambda bought: bought + 1, default=0))

    client = Client(ada, server="tested", answers={"may_i": {"ok": True}})
    asked = client.call("buy", answer=False)
    first = client.call("buy", after=asked, idempotency_key="k")
    assert sorted(HookedStore.seen) == ["idempotencyKey", "requestState"]
    assert [claim.state for claim in Claim.objects.all()] == ["done", "done"]
    for repeat in ({"after": asked}, {"idempotency_key": "k"}, {"after": asked, "idempotency_key": "later"}):
        again = client.call("buy", answer=False, **repeat)
        assert (again.raw, again.token) == (first.raw, first.token)
    assert client.call("buy", answer=False, idempotency_key="later").raw == first.raw
    assert User.objects.filter(username__startswith="bought").count() == 1


@alone
@pytest.mark.parametrize("late", ["idempotencyKey", "requestState"])
def test_an_atomic_tool_is_taken_back_where_either_claim_is_lost(server: Server, ada: User, late: str) -> None:
    @server.tool(atomic=True)
    def buy(state: State, agreed: Agreed) -> None:
        state["bought"] = True
        User.objects.create_user("bought")

    client = Client(ada, server="tested", answers={"may_i": {"ok": True}})
    asked = client.call("buy", answer=False)
    HookedStore.late = (late,)
    failed = client.call("buy", after=asked, idempotency_key="k")
    assert (failed.is_error, failed.text) == (True, "Nothing was changed: its time was over.")
    # What the other claim recorded was taken back too; it stands for the failure instead.
    assert Claim.objects.filter(state="done").count() == 1
    HookedStore.late = ()
    repeat = {"after": asked} if late == "idempotencyKey" else {"idempotency_key": "k"}
    assert client.call("buy", **repeat).raw == failed.raw
    assert not User.objects.filter(username="bought").exists()
    assert not Conversation.objects.active().exists()


@alone
@both_eras
def test_an_atomic_tool_that_fails_is_rolled_back_and_recorded(server: Server, ada: User, mode: str) -> None:
    runs: list[int] = []

    @server.tool(atomic=True)
    def buy() -> None:
        runs.append(1)
        User.objects.create_user("bought")
        raise ToolError("sold out")

    client = Client(ada, server="tested", mode=mode)
    for _ in range(2):
        assert client.call("buy", idempotency_key="k").text == "sold out"
    assert runs == [1]
    assert not User.objects.filter(username="bought").exists()


# While it runs


class Held:
    """A body that waits to be let go, and counts its runs."""

    def __init__(self) -> None:
        self.runs = 0
        self.began, self.go_on = threading.Semaphore(0), threading.Event()

    def __call__(self) -> str:
        self.runs += 1
        run = self.runs
        self.began.release()
        assert self.go_on.wait(BOUND_SECONDS)
        return f"run {run}"

    async def has_begun(self) -> None:
        assert await asyncio.to_thread(self.began.acquire, timeout=BOUND_SECONDS)


@pytest.fixture
def held(server: Server) -> Held:
    body = Held()

    @server.tool
    def write() -> str:
        return body()

    @server.tool(idempotent=True)
    def put() -> str:
        return body()

    return body


@pytest.fixture(params=MODES)
async def client(request: pytest.FixtureRequest, held: Held, pool: HandlerThreads) -> Client:
    ada = await User.objects.acreate(username="ada")
    client = Client(ada, server="tested", mode=request.param, threads=pool)
    await client.alist_tools()
    return client


async def wait(count: int) -> None:
    """Wait until so many calls wait for the first: they have looked twice, and it has once."""
    async with asyncio.timeout(BOUND_SECONDS):
        while len(HookedStore.looks) < 1 + 2 * count:  # noqa: ASYNC110 - threads count
            await asyncio.sleep(0)


@on_threads
@pytest.mark.parametrize("tool", ["write", "put"])
async def test_a_repeat_attaches_to_the_running_call_and_is_woken(
    client: Client, held: Held, settings: Settings, tool: str
) -> None:
    settings.DJANGO_MCP = {**settings.DJANGO_MCP, "POLL_SECONDS": 3_600, "LEASE_SECONDS": 3_600}
    async with asyncio.timeout(BOUND_SECONDS), asyncio.TaskGroup() as group:
        first = group.create_task(client.acall(tool, idempotency_key="k"))
        await held.has_begun()
        others = [group.create_task(client.acall(tool, idempotency_key="k")) for _ in range(5)]
        await wait(5)
        held.go_on.set()
    assert [other.result().raw for other in others] == [first.result().raw] * 5
    assert (first.result().text, held.runs) == ("run 1", 1)


@on_threads
async def test_a_repeat_needs_no_wake(client: Client, held: Held, monkeypatch: pytest.MonkeyPatch) -> None:
    async def drop() -> None:
        pass

    monkeypatch.setattr(single_use, "wake_everywhere", drop)
    async with asyncio.timeout(BOUND_SECONDS), asyncio.TaskGroup() as group:
        first = group.create_task(client.acall("write", idempotency_key="k"))
        await held.has_begun()
        other = group.create_task(client.acall("write", idempotency_key="k"))
        await wait(1)
        held.go_on.set()
    assert (other.result().raw, held.runs) == (first.result().raw, 1)


@on_threads
async def test_another_call_is_refused_while_the_first_runs(client: Client, held: Held) -> None:
    async with asyncio.timeout(BOUND_SECONDS), asyncio.TaskGroup() as group:
        first = group.create_task(client.acall("write", idempotency_key="k"))
        await held.has_begun()
        with pytest.raises(MCPClientError, match="idempotency_mismatch"):
            await client.acall("put", idempotency_key="k")
        held.go_on.set()
    assert (first.result().text, held.runs) == ("run 1", 1)


@on_threads
async def test_many_at_once_run_once(client: Client, held: Held) -> None:
    held.go_on.set()
    async with asyncio.timeout(BOUND_SECONDS):
        results = await asyncio.gather(*(client.acall("write", idempotency_key="k") for _ in range(20)))
    assert {result.text for result in results} == {"run 1"}
    assert held.runs == 1


@on_threads
async def test_who_waits_learns_of_a_lost_owner_and_the_late_outcome_still_counts(client: Client, held: Held) -> None:
    async with asyncio.timeout(BOUND_SECONDS), asyncio.TaskGroup() as group:
        first = group.create_task(client.acall("write", idempotency_key="k"))
        await held.has_begun()
        await Claim.objects.aupdate(lease_until=timezone.now())
        for _ in range(2):
            with pytest.raises(MCPClientError, match="worker_lost") as caught:
                await client.acall("write", idempotency_key="k")
            assert (caught.value.code, caught.value.data) == (-32603, {"reason": "worker_lost"})
        held.go_on.set()
    assert (await client.acall("write", idempotency_key="k")).raw == first.result().raw
    assert held.runs == 1


@on_threads
async def test_a_lost_owner_of_a_repeatable_call_is_replaced_by_one(client: Client, held: Held) -> None:
    async with asyncio.timeout(BOUND_SECONDS), asyncio.TaskGroup() as group:
        first = group.create_task(client.acall("put", idempotency_key="k"))
        await held.has_begun()
        waiting = [group.create_task(client.acall("put", idempotency_key="k")) for _ in range(3)]
        await wait(3)
        await Claim.objects.aupdate(lease_until=timezone.now())
        await held.has_begun()
        held.go_on.set()
    assert {task.result().text for task in waiting} == {"run 2"}
    assert (first.result().text, held.runs) == ("run 1", 2)
    assert (await client.acall("put", idempotency_key="k")).text == "run 2"


# Threads


@on_threads
@both_eras
async def test_claims_need_no_thread_besides_the_one_of_their_call(server: Server, mode: str) -> None:
    @server.tool
    async def write(state: State, agreed: Agreed) -> int:
        return await User.objects.acount()

    @server.tool
    def write_here(state: State, agreed: Agreed) -> int:
        return User.objects.count()

    ada = await User.objects.acreate(username="ada")
    client = Client(
        ada, server="tested", mode=mode, answers={"may_i": {"ok": True}}, threads=HandlerThreads(size=1, queue=1)
    )
    for tool in ("write", "write_here"):
        async with asyncio.timeout(BOUND_SECONDS):
            first = await client.acall(tool, idempotency_key=tool)
            again = await client.acall(tool, idempotency_key=tool)
        assert first.structured["result"] == 1
        assert again.raw == first.raw

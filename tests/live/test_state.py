"""State over several processes: exact under contention, there after a crash, alike for every client and era."""

import asyncio
import contextlib
import itertools
import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests import services
from tests.live.node_client import typescript
from tests.live.official import connect
from tests.live.server import Kind, Served
from tests.live.wire import HANDSHAKE, MODERN, Answer, Caller

pytestmark = [pytest.mark.live, pytest.mark.timeout(600)]

CALLERS = 64
LIVES = 4
META_KEY = "org.django-mcp/resumptionToken"
HEADER = "mcp-resumption-token"
MAX_TOKEN_LENGTH = 300
KINDS = (Kind.DAPHNE, Kind.UVICORN, Kind.UVICORN)
DATABASES = [
    "sqlite",
    pytest.param("postgres", marks=pytest.mark.services),
    pytest.param("mariadb", marks=pytest.mark.services),
]
Send = Callable[[Caller, str, dict[str, Any]], Answer]


@contextlib.contextmanager
def several(folder: Path, database: str, *kinds: Kind, **mcp: Any) -> Iterator[list[Served]]:
    """Serve with each kind on one database of its own."""
    with contextlib.ExitStack() as stack:
        if database == "postgres":
            url = stack.enter_context(services.postgres()).url
        elif database == "mariadb":
            url = stack.enter_context(services.mariadb()).url
        else:
            url = f"sqlite:///{folder / 'state.sqlite3'}"
        kept = {"LIVE_CONN_MAX_AGE": "60"}
        yield [stack.enter_context(Served(kind, folder, database=url, mcp=mcp, environment=kept)) for kind in kinds]


@pytest.fixture(scope="module", params=DATABASES)
def trio(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Served]]:
    with several(tmp_path_factory.mktemp("trio"), str(request.param), *KINDS, HANDLER_QUEUE=512) as trio:
        yield trio
        for served in trio:
            assert "Traceback" not in served.log


@pytest.fixture(scope="module")
def tokens(trio: list[Served]) -> dict[str, str]:
    return dict(json.loads(trio[0].run("tests.live.accounts", "make")))


@pytest.fixture
def alice(tokens: dict[str, str]) -> Caller:
    return caller(tokens["alice"])


def caller(token: str) -> Caller:
    return Caller(port=0, headers=[("Authorization", f"Bearer {token}")])


def structured(answer: Answer) -> dict[str, Any]:
    assert not answer.result.get("isError"), answer.result
    return dict(answer.result["structuredContent"])


def at_once(work: Callable[[int], Answer], number: int) -> list[Answer]:
    """Do something so many times, by 64 callers that begin together."""
    barrier = threading.Barrier(CALLERS)
    numbers = itertools.count()
    answers: list[Answer] = []

    def run(_: int) -> None:
        barrier.wait(30)
        while (mine := next(numbers)) < number:
            answers.append(work(mine))

    with ThreadPoolExecutor(CALLERS) as pool:
        list(pool.map(run, range(CALLERS)))
    return answers


def test_an_assignment_commits_or_says_that_it_does_not(trio: list[Served], alice: Caller) -> None:
    handle = structured(alice.at(trio[0].port).modern_call("assign", {"key": "x", "value": -1}))["handle"]

    def assign(number: int) -> Answer:
        return alice.at(trio[number % 3].port).modern_call("assign", {"key": "x", "value": number, "handle": handle})

    answers = at_once(assign, 200)
    conflicts = [answer.text for answer in answers if answer.result.get("isError")]
    assert set(conflicts) <= {"The call ran, but its state was not saved: another call changed 'x' meanwhile."}
    history = alice.at(trio[1].port).modern("org.django-mcp/resumption/history", {"handle": handle}).result
    assert history["generation"] == 1 + len(answers) - len(conflicts)
    # Each that committed was made on the value of the one before it: from the last back to the first, none is lost.
    made = {structured(answer)["value"] for answer in answers if not answer.result.get("isError")}
    assert len(made) == len(answers) - len(conflicts)


def by_handle(carried: Answer) -> dict[str, Any]:
    return {"handle": structured(carried)["handle"]}


def modern(there: Caller, tool: str, carried: Answer | None, carrier: str) -> Answer:
    return send(there, tool, carried, carrier, lambda one, params: one.modern("tools/call", params))


def handshake(there: Caller, tool: str, carried: Answer | None, carrier: str) -> Answer:
    if there.session is None or carrier != "session":
        there.initialize()
    return send(there, tool, carried, carrier, lambda one, params: one.request("tools/call", params))


def send(
    there: Caller,
    tool: str,
    carried: Answer | None,
    carrier: str,
    request: Callable[[Caller, dict[str, Any]], Answer],
) -> Answer:
    """Call a stateful tool, in the conversation that `carried` came from."""
    arguments: dict[str, Any] = {}
    params: dict[str, Any] = {"name": tool, "arguments": arguments}
    if carrier == "meta":
        there.capabilities = {
            "extensions": {"org.django-mcp/resumption": {}},
            "experimental": {"org.django-mcp/resumption": {}},
        }
    if carried is not None:
        if carrier == "handle":
            arguments.update(by_handle(carried))
        elif carrier == "header":
            assert len(carried.headers[HEADER]) <= MAX_TOKEN_LENGTH
            there.headers = [*there.headers, (HEADER, carried.headers[HEADER])]
        elif carrier == "meta":
            params["_meta"] = {META_KEY: carried.result["_meta"][META_KEY]}
    return request(there, params)


@pytest.mark.parametrize("carrier", ["handle", "header", "meta"])
def test_a_conversation_goes_on_across_processes_and_eras(trio: list[Served], alice: Caller, carrier: str) -> None:
    answer: Answer | None = None
    for number in range(12):
        there = alice.at(trio[number % 3].port)
        era = (modern, handshake)[number % 2]
        answer = era(there, ("increment", "increment_async")[number // 2 % 2], answer, carrier)
        assert structured(answer)["total"] == number + 1


def test_every_type_comes_back_at_another_process(trio: list[Served], alice: Caller) -> None:
    handle = structured(alice.at(trio[0].port).modern_call("keep_types"))["handle"]
    for served in trio:
        assert structured(alice.at(served.port).modern_call("differing_types", {"handle": handle}))["result"] == []


def test_conversations_and_users_do_not_see_each_other(
    trio: list[Served], alice: Caller, tokens: dict[str, str]
) -> None:
    first, second, third = trio
    one = structured(alice.at(first.port).modern_call("assign", {"key": "x", "value": 1}))["handle"]
    two = structured(alice.at(second.port).modern_call("assign", {"key": "x", "value": 2}))["handle"]
    for served in trio:
        there = alice.at(served.port)
        assert structured(there.modern_call("recall", {"key": "x", "handle": one}))["value"] == 1
        assert structured(there.modern_call("recall", {"key": "x", "handle": two}))["value"] == 2
        bob = caller(tokens["bob"]).at(served.port)
        stolen, unknown = (bob.modern_call("recall", {"key": "x", "handle": name}).result for name in (one, "a" * 26))
        assert stolen["isError"] is True
        assert stolen["content"] == unknown["content"]
    structured(alice.at(first.port).modern_call("prefer", {"seat": "12A"}))
    assert structured(alice.at(third.port).modern_call("preferred"))["value"] == "12A"
    assert structured(caller(tokens["bob"]).at(third.port).modern_call("preferred"))["value"] is None


@pytest.mark.parametrize("mode", ["legacy", MODERN])
async def test_the_official_python_client_keeps_a_conversation(
    trio: list[Served], tokens: dict[str, str], mode: str
) -> None:
    arguments: dict[str, Any] = {}
    for number in range(4):
        async with connect(trio[number % 3].url, mode, token=tokens["alice"]) as client:
            await client.list_tools()
            result = await client.call_tool("increment", arguments)
            assert result.structured_content is not None
            assert result.structured_content["total"] == number + 1
            arguments = {"handle": result.structured_content["handle"]}


async def test_the_official_python_client_keeps_two_conversations_in_one_session(
    trio: list[Served], tokens: dict[str, str]
) -> None:
    async with connect(trio[0].url, "legacy", token=tokens["alice"]) as client:
        begun = [await client.call_tool("increment", {"by": by}) for by in (1, 10)]
        handles = [dict(result.structured_content or {})["handle"] for result in begun]
        again = await asyncio.gather(*(client.call_tool("increment", {"handle": handle}) for handle in handles))
        assert [dict(result.structured_content or {})["total"] for result in again] == [2, 11]


def test_the_official_typescript_client_keeps_a_conversation(
    trio: list[Served], tokens: dict[str, str], tmp_path: Path
) -> None:
    report = typescript(tmp_path, "conversation.mjs", "increment", tokens["alice"], *(one.url for one in trio))
    assert [result["total"] for result in report["results"]] == [1, 2, 3]
    assert len({result["handle"] for result in report["results"]}) == 1


@pytest.mark.parametrize("kind", [Kind.DAPHNE, Kind.UVICORN])
def test_a_conversation_survives_a_crash_between_any_two_requests(tmp_path: Path, kind: Kind) -> None:
    with several(tmp_path, "sqlite", kind, SESSION_CONVERSATIONS=True) as (served,):
        alice = caller(json.loads(served.run("tests.live.accounts", "make"))["alice"])
        in_session = alice.at(served.port)
        answers: dict[str, Answer | None] = dict.fromkeys(["handle", "header", "meta", "session"])
        for number in range(LIVES):
            for carrier, carried in answers.items():
                there = in_session if carrier == "session" else alice.at(served.port)
                era = handshake if carrier == "session" else (modern, handshake)[number % 2]
                there.port = served.port
                answer = answers[carrier] = era(there, "increment", carried, carrier)
                assert structured(answer)["total"] == number + 1, carrier
            if number < LIVES - 1:
                served.kill()
                served.restart()


def test_the_session_carrier_is_off_by_default(trio: list[Served], alice: Caller) -> None:
    there = alice.at(trio[0].port)
    assert there.initialize(HANDSHAKE).result["capabilities"]["experimental"] == {"org.django-mcp/resumption": {}}
    assert [structured(there.call("increment"))["total"] for _ in range(2)] == [1, 1]

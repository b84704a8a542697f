"""Two servers on one database are one service: whatever begins at one goes on at the other."""

import contextlib
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests import services
from tests.live.bad_inputs import SESSION_NOT_FOUND, STATE_REFUSED
from tests.live.server import Kind, Served
from tests.live.wire import BATCHING, HANDSHAKE, Answer, Caller, Streaming

pytestmark = pytest.mark.live

REPLAYS = 64
CONSENT = {"ask_consent": {"action": "accept", "content": {"ok": True}}}
Pair = tuple[Served, Served]


@contextlib.contextmanager
def two(folder: Path, database: str, **terms: Any) -> Iterator[Pair]:
    """Serve twice on one database, under one ASGI server each."""
    with (
        Served(Kind.DAPHNE, folder, database=database, **terms) as first,
        Served(Kind.UVICORN, folder, database=database, **terms) as second,
    ):
        yield first, second


@pytest.fixture(
    scope="module",
    params=[
        "sqlite",
        pytest.param("postgres", marks=pytest.mark.services),
        pytest.param("mariadb", marks=pytest.mark.services),
    ],
)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    folder = tmp_path_factory.mktemp("pair")
    with contextlib.ExitStack() as stack:
        database = ""
        if request.param == "postgres":
            database = stack.enter_context(services.postgres()).url
        elif request.param == "mariadb":
            database = stack.enter_context(services.mariadb()).url
        yield stack.enter_context(two(folder, database or f"sqlite:///{folder / 'pair.sqlite3'}"))


@pytest.fixture(scope="module")
def tokens(pair: Pair) -> dict[str, str]:
    return dict(json.loads(pair[0].run("tests.live.accounts", "make")))


def test_a_session_begun_at_one_is_served_listed_and_terminated_at_the_other(pair: Pair) -> None:
    first, second = pair
    here = Caller(port=first.port)
    assert here.initialize().result["protocolVersion"] == HANDSHAKE
    there = here.at(second.port)
    assert "test_simple_text" in {tool["name"] for tool in there.request("tools/list").result["tools"]}
    for number in range(20):
        answer = (here, there)[number % 2].call("test_simple_text")
        assert (answer.status, answer.text) == (200, "This is a simple text response for testing."), number
    assert there.terminate().status == 200
    for caller in (here, there):
        refused = caller.call("test_simple_text")
        assert (refused.status, refused.error["message"]) == (404, SESSION_NOT_FOUND)


def test_what_a_session_says_at_one_holds_at_the_other(pair: Pair) -> None:
    first, second = pair
    here = Caller(port=first.port)
    here.initialize(BATCHING)
    there = here.at(second.port)
    assert there.post([{"jsonrpc": "2.0", "id": 1, "method": "ping"}]).status == 200
    assert here.request("logging/setLevel", {"level": "error"}).status == 200
    quiet = there.call("test_tool_with_logging")
    assert (quiet.media_type, quiet.text) == ("application/json", "logged")
    assert here.request("logging/setLevel", {"level": "info"}).status == 200
    assert b"Tool processing data" in there.call("test_tool_with_logging").body


def test_the_rounds_of_one_call_go_to_either(pair: Pair) -> None:
    first, second = pair
    here = Caller(port=first.port)
    there = here.at(second.port)
    name = "test_input_required_result_multi_round"
    begun = here.modern_call(name).result
    assert list(begun["inputRequests"]) == ["step1"]
    asked = there.modern_call(
        name, requestState=begun["requestState"], inputResponses=accept("step1", name="Ada")
    ).result
    assert list(asked["inputRequests"]) == ["step2"]
    done = here.modern_call(name, requestState=asked["requestState"], inputResponses=accept("step2", color="green"))
    assert done.text == "Ada likes green."


def test_a_state_is_of_use_to_its_own_caller_and_arguments_alone(pair: Pair, tokens: dict[str, str]) -> None:
    first, second = pair
    note = "bound"
    alice, bob = (
        Caller(port=first.port, headers=[("Authorization", f"Bearer {tokens[name]}")]) for name in ("alice", "bob")
    )
    state = alice.modern_call("write_entry", {"note": note}).result["requestState"]
    nobody = Caller(port=second.port)
    elsewhere = Caller(port=second.port, headers=[*alice.headers, ("X-Tenant", "other")])
    refusals = [
        finish(bob.at(second.port), note, state),
        finish(bob, note, state),
        finish(nobody, note, state),
        finish(elsewhere, note, state),
        finish(alice.at(second.port), "changed", state),
        alice.at(second.port).modern_call(
            "test_input_required_result_request_state", requestState=state, inputResponses=CONSENT
        ),
    ]
    for refused in refusals:
        assert (refused.status, refused.error["code"], refused.error["message"]) == (400, -32602, STATE_REFUSED)
    assert count(first, note) == count(first, "changed") == 0
    done = finish(alice.at(second.port), note, state)
    assert done.result["isError"] is False
    assert count(first, note) == 1


def test_a_change_made_at_one_reaches_a_subscription_at_the_other(pair: Pair) -> None:
    first, second = pair
    for here, there in ((first, second), (second, first)):
        with subscribe(there) as stream:
            assert Caller(port=here.port).modern_call("test_trigger_tool_change").text == "told"
            assert "tools/list_changed" in stream.next_message()["method"]


def test_a_change_made_at_one_reaches_a_handshake_stream_at_the_other(pair: Pair) -> None:
    first, second = pair
    for here, there in ((first, second), (second, first)):
        caller = Caller(port=here.port)
        caller.initialize()
        with caller.at(there.port).listen() as stream:
            assert stream.next_event().data == ""
            assert caller.call("test_trigger_prompt_change").text == "told"
            assert stream.next_message()["method"] == "notifications/prompts/list_changed"


def test_parallel_replays_of_the_last_round_at_both_run_the_body_once(pair: Pair) -> None:
    first, second = pair
    note = "replayed"
    caller = Caller(port=first.port)
    state = caller.modern_call("write_entry", {"note": note}).result["requestState"]
    barrier = threading.Barrier(REPLAYS)

    def replay(number: int) -> Answer:
        barrier.wait(30)
        return finish(caller.at(pair[number % 2].port), note, state)

    with ThreadPoolExecutor(REPLAYS) as pool:
        answers = list(pool.map(replay, range(REPLAYS)))
    assert {answer.status for answer in answers} == {200}
    results = {json.dumps(answer.result, sort_keys=True) for answer in answers}
    assert len(results) == 1
    assert answers[0].result["isError"] is False
    assert count(first, note) == count(second, note) == 1


@pytest.mark.services
def test_with_a_shared_channel_layer_a_change_needs_no_poll(tmp_path: Path) -> None:
    patience = {"POLL_SECONDS": 3_600}
    with (
        services.redis() as layer,
        two(
            tmp_path, f"sqlite:///{tmp_path / 'layer.sqlite3'}", mcp=patience, environment={"REDIS_URL": layer.url}
        ) as (first, second),
    ):
        for here, there in ((first, second), (second, first)):
            caller = Caller(port=here.port)
            caller.initialize()
            with subscribe(there) as modern, caller.at(there.port).listen() as handshake:
                assert handshake.next_event().data == ""
                # The first may have been found when the process began to listen; then it listens.
                for _ in range(2):
                    caller.call("test_trigger_tool_change")
                    assert modern.next_message()["method"] == "notifications/tools/list_changed"
                    assert handshake.next_message("notifications/tools/list_changed")


def accept(question: str, **content: Any) -> dict[str, Any]:
    return {question: {"action": "accept", "content": content}}


def finish(caller: Caller, note: str, state: str) -> Answer:
    return caller.modern_call("write_entry", {"note": note}, requestState=state, inputResponses=CONSENT)


def count(served: Served, note: str) -> int:
    counted = Caller(port=served.port).modern_call("count_entries", {"note": note}).result
    return int(counted["structuredContent"]["result"])


def subscribe(served: Served) -> Streaming:
    """Open a subscription to every list, and return it once it is acknowledged."""
    wanted = {"toolsListChanged": True, "promptsListChanged": True}
    stream = Caller(port=served.port).modern_stream("subscriptions/listen", {"notifications": wanted})
    assert stream.next_message()["method"] == "notifications/subscriptions/acknowledged"
    return stream

"""A server that is told to end while it has work: calls finish, streams end, and it goes in time."""

import json
import signal
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.live.asgi_project import SAID
from tests.live.server import CONSUMERS, Kind, Served
from tests.live.test_leaving import begin_round, count
from tests.live.wire import Caller, Streaming, exchange
from tests.services import HOST, wait_until

pytestmark = pytest.mark.live

LONG_SECONDS = 30
SHORT_SECONDS = 1
SLACK_SECONDS = 8
"""What handing over, ending, flushing and a busy machine may take beyond the time to drain."""

ENDINGS = {Kind.DAPHNE: 0, Kind.UVICORN: -signal.SIGTERM}
"""How each server ends when it is told to: uvicorn passes the signal on to its own end."""

PROJECT = "tests.live.asgi_project:application"


@pytest.fixture(params=CONSUMERS)
def kind(request: pytest.FixtureRequest) -> Kind:
    return Kind(request.param)


Serve = Callable[..., AbstractContextManager[tuple[Served, Caller]]]


@pytest.fixture
def serve(kind: Kind, tmp_path: Path) -> Serve:
    @contextmanager
    def serve(drain_seconds: float, **environment: str) -> Iterator[tuple[Served, Caller]]:
        mcp = {"TENANT": None, "DRAIN_SECONDS": drain_seconds}
        patient = {"LIVE_PATIENT": "1", **environment}
        with Served(kind, tmp_path, mcp=mcp, environment=patient) as served:
            yield served, Caller(port=served.port)
            assert "Traceback" not in served.log

    return serve


def begun(caller: Caller, name: str, **arguments: Any) -> Streaming:
    """Call a tool, and return its response when the body has begun."""
    params = {"name": name, "arguments": arguments, "_meta": {"progressToken": "t"}}
    streaming = caller.modern_stream("tools/call", params)
    assert streaming.next_message()["method"] == "notifications/progress"
    return streaming


def subscribed(caller: Caller) -> Streaming:
    streaming = caller.modern_stream("subscriptions/listen", {"notifications": {"toolsListChanged": True}})
    assert streaming.next_message()["method"] == "notifications/subscriptions/acknowledged"
    return streaming


def probe(caller: Caller, path: str) -> int:
    return exchange(caller.port, "GET", path).status


def tell_to_go(served: Served, caller: Caller) -> None:
    """Send SIGTERM to a server that has work, and wait until the probe says so."""
    assert probe(caller, "/readyz") == 200
    served.signal(signal.SIGTERM)
    wait_until(lambda: probe(caller, "/readyz") == 503, seconds=10, what="the drain to begin")


def seconds_to_end(served: Served, code: int) -> float:
    began = time.monotonic()
    assert served.ended(LONG_SECONDS) == code
    return time.monotonic() - began


def test_a_call_that_runs_is_answered_and_then_the_server_ends(serve: Serve, kind: Kind) -> None:
    with serve(LONG_SECONDS) as (served, caller):
        with begun(caller, "hold") as call:
            tell_to_go(served, caller)
            assert probe(caller, "/healthz") == 200
            served_meanwhile = caller.modern_call("let_go")
            assert served_meanwhile.text == "let go"
            assert served_meanwhile.headers["connection"] == "close"
            assert call.next_message()["result"]["content"][0]["text"] == "held"
            with pytest.raises(EOFError):
                call.next_event()
        assert seconds_to_end(served, ENDINGS[kind]) < SLACK_SECONDS


def test_no_stream_without_an_end_begins_while_the_server_drains(serve: Serve) -> None:
    with serve(LONG_SECONDS) as (served, caller):
        caller.initialize()
        with begun(caller, "hold"):
            tell_to_go(served, caller)
            refused = caller.modern("subscriptions/listen", {"notifications": {"toolsListChanged": True}})
            with caller.listen() as listening:
                assert listening.status == 503
                assert listening.headers["retry-after"] == "5"
            assert refused.status == 503
            assert refused.headers["retry-after"] == "5"
            assert refused.error["code"] == -32603
            assert caller.modern_call("let_go").status == 200


def test_a_call_that_takes_too_long_is_ended(serve: Serve, kind: Kind) -> None:
    with serve(SHORT_SECONDS) as (served, caller):
        with begun(caller, "wait_for_cancel", note="cut") as call, begun(caller, "hold") as held:
            served.signal(signal.SIGTERM)
            for cut in (call, held):
                with pytest.raises(EOFError):
                    cut.next_event()
        assert seconds_to_end(served, ENDINGS[kind]) < SLACK_SECONDS


def test_a_call_that_takes_too_long_and_said_nothing_is_lost(serve: Serve, kind: Kind) -> None:
    with serve(SHORT_SECONDS) as (served, caller), ThreadPoolExecutor(1) as executor:
        consented = begin_round(caller)
        silent = executor.submit(caller.modern, "tools/call", consented)
        wait_until(lambda: count(caller) == 1, seconds=20, what="the body to begin")
        served.signal(signal.SIGTERM)
        lost = silent.result(LONG_SECONDS)
        assert lost.status == 200
        assert lost.error["code"] == -32603
        assert lost.error["data"] == {"reason": "worker_lost"}
        assert isinstance(lost.message["id"], int)
        assert seconds_to_end(served, ENDINGS[kind]) < SLACK_SECONDS


def test_a_subscription_ends_with_its_result(serve: Serve, kind: Kind) -> None:
    with serve(LONG_SECONDS) as (served, caller):
        with subscribed(caller) as one, subscribed(caller) as other:
            served.signal(signal.SIGTERM)
            for listening in (one, other):
                assert listening.next_message()["method"] == "notifications/cancelled"
                result = listening.next_message()
                assert result["result"]["_meta"]["io.modelcontextprotocol/subscriptionId"] == result["id"]
                with pytest.raises(EOFError):
                    listening.next_event()
        assert seconds_to_end(served, ENDINGS[kind]) < SLACK_SECONDS


@contextmanager
def unread(caller: Caller) -> Iterator[None]:
    """Call the tool that floods its response, and read no more than that it began."""
    message = caller.modern_request("tools/call", {"name": "flood", "arguments": {}, "_meta": {"progressToken": "t"}})
    body = json.dumps(message).encode()
    headers = [*caller.modern_headers(message), ("Host", f"{HOST}:{caller.port}"), ("Content-Length", str(len(body)))]
    head = "".join(f"{name}: {value}\r\n" for name, value in headers)
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        client.settimeout(LONG_SECONDS)
        client.connect((HOST, caller.port))
        client.sendall(f"POST /mcp HTTP/1.1\r\n{head}\r\n".encode() + body)
        assert client.recv(1_000).startswith(b"HTTP/1.1 200")
        yield


def test_a_client_that_does_not_read_does_not_hold_the_server(serve: Serve, kind: Kind) -> None:
    with serve(SHORT_SECONDS) as (served, caller), unread(caller):
        served.signal(signal.SIGTERM)
        assert seconds_to_end(served, ENDINGS[kind]) < SHORT_SECONDS + SLACK_SECONDS
        if kind == Kind.UVICORN:
            assert "the connection of a client that does not read is cut" in served.log


def test_nor_does_it_behind_a_middleware(serve: Serve, kind: Kind) -> None:
    with serve(SHORT_SECONDS, LIVE_APPLICATION=PROJECT) as (served, caller), unread(caller):
        served.signal(signal.SIGTERM)
        assert seconds_to_end(served, ENDINGS[kind]) < SHORT_SECONDS + 2 * SLACK_SECONDS


def test_the_handler_of_the_project_runs(serve: Serve, kind: Kind) -> None:
    with serve(LONG_SECONDS, LIVE_APPLICATION=PROJECT) as (served, caller):
        with begun(caller, "hold") as call:
            tell_to_go(served, caller)
            caller.modern_call("let_go")
            assert call.next_message()["result"]["content"][0]["text"] == "held"
        assert seconds_to_end(served, ENDINGS[kind]) < SLACK_SECONDS
        assert served.log.count(SAID.decode()) == 1


def test_a_second_signal_ends_the_server_at_once(serve: Serve, kind: Kind) -> None:
    with serve(LONG_SECONDS) as (served, caller), begun(caller, "hold"):
        tell_to_go(served, caller)
        served.signal(signal.SIGTERM)
        assert seconds_to_end(served, ENDINGS[kind]) < SLACK_SECONDS


@pytest.mark.parametrize("kind", [Kind.UVICORN])
def test_an_interrupt_goes_to_the_server_at_once_and_ends_streams(serve: Serve, kind: Kind) -> None:
    with serve(LONG_SECONDS) as (served, caller):
        with subscribed(caller) as listening:
            served.signal(signal.SIGINT)
            assert listening.next_message("notifications/cancelled")
            assert "result" in listening.next_message()
        assert seconds_to_end(served, 0) < SLACK_SECONDS


@pytest.mark.parametrize("kind", [Kind.UVICORN])
def test_each_of_several_workers_finishes_its_calls(serve: Serve, kind: Kind) -> None:
    with serve(LONG_SECONDS, LIVE_WORKERS="2") as (served, caller):
        calls = [begun(caller, "work_for", seconds=2) for _ in range(6)]
        served.signal(signal.SIGTERM)
        for call in calls:
            with call:
                assert call.next_message()["result"]["content"][0]["text"] == "worked"
        assert seconds_to_end(served, 0) < SLACK_SECONDS


def test_a_server_without_work_ends_at_once(serve: Serve, kind: Kind) -> None:
    with serve(LONG_SECONDS) as (served, caller):
        assert caller.modern_call("let_go").status == 200
        served.signal(signal.SIGTERM)
        assert seconds_to_end(served, ENDINGS[kind]) < SLACK_SECONDS

"""A server that is told to end while sessions stream from it: another one goes on."""

import contextlib
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from django_mcp.server.drain import DRAIN_RETRY_MILLISECONDS
from tests.live.failover.stage import begin, new_name, progress, resume, succeeded
from tests.live.server import CONSUMERS, Kind, Served
from tests.live.test_drain import ENDINGS, SLACK_SECONDS, seconds_to_end
from tests.live.wire import Caller

pytestmark = pytest.mark.live

DRAIN_SECONDS = 1.0
RETRY = str(DRAIN_RETRY_MILLISECONDS)
STEPS = 60
PAUSE_MILLISECONDS = 100
LEASE_SECONDS = 3_600
"""Longer than any test waits: what is taken over was handed over."""


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the URL of a database that is migrated."""
    folder = tmp_path_factory.mktemp("drained")
    served = Served(Kind.UVICORN, folder)
    served.run("django", "migrate", "--verbosity", "0")
    return served.database


@pytest.fixture(params=CONSUMERS)
def pair(request: pytest.FixtureRequest, database: str, tmp_path: Path) -> Iterator[tuple[Served, Served]]:
    """Yield two processes of one service."""
    terms = {"DRAIN_SECONDS": DRAIN_SECONDS, "LEASE_SECONDS": LEASE_SECONDS, "POLL_SECONDS": 0.2}
    environment = {"LIVE_MIGRATED": "1"}
    kind = Kind(request.param)
    both = [Served(kind, tmp_path, database=database, mcp=terms, environment=environment) for _ in range(2)]
    with contextlib.ExitStack() as stack, ThreadPoolExecutor(2) as pool:
        a, b = pool.map(stack.enter_context, both)
        yield a, b


def begun(a: Served, b: Served) -> tuple[Caller, Caller]:
    """Return a session as a client of both processes, of which B serves by now."""
    here = Caller(port=a.port)
    assert here.initialize().status == 200
    there = here.at(b.port)
    assert there.request("tools/list").status == 200
    return here, there


def test_a_call_that_may_be_repeated_is_handed_over_with_its_stream(pair: tuple[Served, Served]) -> None:
    a, b = pair
    here, there = begun(a, b)
    stream, message = begin(here, "pace", upto=STEPS, pause_ms=PAUSE_MILLISECONDS)
    with stream:
        heard, place = progress(stream, 3), None
        a.signal(signal.SIGTERM)
        while (event := stream.next_event()).retry is None:
            place = event.id
            heard.append(float(event.message["params"]["progress"]))
        assert event.retry == RETRY
        with pytest.raises(EOFError):
            stream.next_event()
    assert seconds_to_end(a, ENDINGS[a.kind]) < SLACK_SECONDS
    with resume(there, place) as rest:
        heard += progress(rest, STEPS)
        final = rest.next_message()
    assert final["id"] == message["id"]
    assert succeeded(final)["process"] == b.pid
    assert heard == sorted(set(heard))


def test_a_call_that_had_effects_is_ended_as_after_a_crash(pair: tuple[Served, Served]) -> None:
    a, b = pair
    here, there = begun(a, b)
    stream, message = begin(here, "follow_once", name=new_name(), upto=1)
    with stream:
        place = stream.next_event().id
        a.signal(signal.SIGTERM)
        while stream.next_event().retry is None:
            pass
    with resume(there, place) as rest:
        final = rest.next_message()
    assert (final["id"], final["error"]["data"]) == (message["id"], {"reason": "worker_lost"})
    assert seconds_to_end(a, ENDINGS[a.kind]) < SLACK_SECONDS


def test_a_call_that_is_done_in_time_ends_where_it_began(pair: tuple[Served, Served]) -> None:
    a, b = pair
    here, _ = begun(a, b)
    stream, message = begin(here, "pace", upto=6, pause_ms=PAUSE_MILLISECONDS)
    with stream:
        progress(stream, 2)
        a.signal(signal.SIGTERM)
        progress(stream, 6)
        final = stream.next_message()
        with pytest.raises(EOFError):
            stream.next_event()
    assert final["id"] == message["id"]
    assert succeeded(final)["process"] != b.pid
    assert seconds_to_end(a, ENDINGS[a.kind]) < SLACK_SECONDS


def test_a_get_stream_ends_at_once_and_goes_on_elsewhere(pair: tuple[Served, Served]) -> None:
    a, b = pair
    here, there = begun(a, b)
    with here.listen() as stream:
        place = stream.next_event().id
        a.signal(signal.SIGTERM)
        event = stream.next_event()
        assert (event.retry, event.data) == (RETRY, "")
        with pytest.raises(EOFError):
            stream.next_event()
    there.call("tell", {"tools": True})
    with resume(there, place) as rest:
        rest.next_message("notifications/tools/list_changed")
    assert seconds_to_end(a, ENDINGS[a.kind]) < SLACK_SECONDS

"""Official clients, unmodified, behind a load balancer: what is cut they resume by themselves, at another process."""

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.live.balancer import SERVED_BY, Balancer
from tests.live.cutter import Cut, Cutter, Passage
from tests.live.failover.stage import new_name, structured
from tests.live.node_client import typescript
from tests.live.python_client import python_call
from tests.live.server import Kind, Served, at_once
from tests.live.wire import Caller
from tests.services import Unavailable, skip_or_fail, wait_until

pytestmark = [pytest.mark.live, pytest.mark.timeout(300)]

STEPS = 10
ALL = [float(number) for number in range(1, STEPS + 1)]
CALL, RESUMED = b"tools/call", b"last-event-id"
PRIMED = b"data:\n\n"
FOURTH = b'"progress":4'
HASTE = {"POLL_SECONDS": 0.2, "RETRY_MILLISECONDS": 50, "KEEPALIVE_SECONDS": 1, "LEASE_SECONDS": 4}
Client = Callable[[str, str, dict[str, Any]], dict[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """Two processes of one service, and the load balancer before them."""

    both: tuple[Served, Served]
    balancer: Balancer

    def at(self, passage: Passage) -> Served:
        """Return the process that served a request; the last one, where the balancer had to try two."""
        port = passage.header(SERVED_BY).rpartition(":")[2]
        return next(served for served in self.both if str(served.port) == port)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    if not Balancer.is_installed():
        pytest.skip("no nginx on this machine")
    folder = tmp_path_factory.mktemp("balanced")
    database = f"sqlite:///{folder / 'balanced.sqlite3'}"
    both = [
        Served(kind, folder, database=database, mcp=HASTE, environment={"LIVE_MIGRATED": "1"})
        for kind in (Kind.DAPHNE, Kind.UVICORN)
    ]
    both[0].run("django", "migrate", "--verbosity", "0")
    with at_once(*both) as (first, second):
        balancer = Balancer([first.port, second.port])
        try:
            balancer.start()
        except Unavailable as reason:
            skip_or_fail(f"no nginx: {reason}")
        with balancer:
            yield Service(both=(first, second), balancer=balancer)


@pytest.fixture(params=["python", "typescript"])
def client(request: pytest.FixtureRequest, tmp_path: Path) -> Client:
    if request.param == "python":
        return python_call

    def typescript_call(url: str, tool: str, arguments: dict[str, Any]) -> dict[str, Any]:
        return typescript(tmp_path, "resumed.mjs", url, tool, json.dumps(arguments))

    return typescript_call


def test_a_call_that_is_cut_in_the_middle_goes_on_at_another_process(service: Service, client: Client) -> None:
    with Cutter(service.balancer.port, [Cut(request=CALL, answer=FOURTH)]) as cutter:
        report = client(cutter.url, "pace", {"upto": STEPS, "pause_ms": 100})
    is_whole(report)
    (resumed,) = cutter.that_ask(RESUMED)
    assert service.at(resumed) is not service.at(cutter.that_ask(CALL)[0])
    assert report["resumed"] == [200]


def test_a_resumed_call_that_is_cut_before_its_first_message_goes_on(service: Service, client: Client) -> None:
    cuts = [Cut(request=CALL, answer=FOURTH), Cut(request=RESUMED, answer=PRIMED)]
    with Cutter(service.balancer.port, cuts) as cutter:
        report = client(cutter.url, "pace", {"upto": STEPS, "pause_ms": 100})
    is_whole(report)
    assert cutter.cuts_left == 0
    places = [served.port for served in map(service.at, cutter.that_ask(RESUMED))]
    assert len(places) == len(set(places)) == 2
    assert report["resumed"] == [200, 200]


def test_a_repeatable_call_whose_process_is_killed_goes_on(service: Service, client: Client) -> None:
    name = new_name()
    with Cutter(service.balancer.port) as cutter, ThreadPoolExecutor(1) as pool:
        calling = pool.submit(client, cutter.url, "follow", {"name": name, "upto": STEPS})

        def has_fourth() -> bool:
            return calling.done() or any(FOURTH in passage.answer for passage in cutter.that_ask(CALL))

        allow(service.both[0], name, 4)
        wait_until(has_fourth, seconds=60, what="the fourth progress")
        lost = service.at(cutter.that_ask(CALL)[0])
        (kept,) = (served for served in service.both if served is not lost)
        lost.kill()
        try:
            allow(kept, name, STEPS)
            report = calling.result()
        finally:
            lost.restart()
    is_whole(report)
    assert {service.at(passage) for passage in cutter.that_ask(RESUMED)} == {kept}
    runs = Caller(port=kept.port).modern_call("count_entries", {"note": f"{name}: run"})
    assert runs.result["structuredContent"]["result"] == 2


def test_a_call_that_closes_its_stream_is_polled(service: Service, client: Client) -> None:
    name, every = new_name(), 3
    with Cutter(service.balancer.port) as cutter, ThreadPoolExecutor(1) as pool:
        calling = pool.submit(client, cutter.url, "poll", {"name": name, "upto": STEPS, "every": every})
        for times in range(1, STEPS // every + 1):
            allow(service.both[times % 2], name, every)

            def is_back(times: int = times) -> bool:
                back = [passage for passage in cutter.that_ask(RESUMED) if PRIMED in passage.answer]
                return calling.done() or len(back) == times

            wait_until(is_back, seconds=60, what="the client to come back")
        allow(service.both[0], name, STEPS)
        report = calling.result()
    is_whole(report)
    assert len(report["resumed"]) == STEPS // every
    assert {service.at(passage).port for passage in cutter.that_ask(RESUMED)} == {one.port for one in service.both}


def allow(served: Served, name: str, steps: int) -> None:
    """Let the tool that was called with this name take so many more steps."""
    structured(Caller(port=served.port).modern_call("allow", {"name": name, "steps": steps}))


def is_whole(report: dict[str, Any]) -> None:
    """Check that a client saw every step of a call once and in order, then its result, and can go on."""
    assert report["progress"] == ALL
    assert not report["result"].get("isError"), report["result"]
    assert report["result"]["structuredContent"]["process"] > 0
    assert report["again"] == "This is a simple text response for testing."
    assert "pace" in report["tools"]

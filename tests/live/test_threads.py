"""Synchronous tools run on a fixed set of threads, counted and not timed."""

import secrets
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest

from tests import services
from tests.live.server import CONSUMERS, Kind, Served
from tests.live.wire import Caller
from tests.services import postgres_server, wait_until

pytestmark = [pytest.mark.live, pytest.mark.services]

CALLS = 20
BARRIER_PARTIES = 10  # of the ledger's tool `meet`
SIZE = BARRIER_PARTIES
LOG_SIZE = 2
DOOR_SIZE = 2


@dataclass(frozen=True, kw_only=True)
class Watched:
    """A server and what its database says about its connections."""

    served: Served
    database: services.Service
    name: str

    @property
    def caller(self) -> Caller:
        return Caller(port=self.served.port)

    def connections(self) -> int:
        """Return how many connections the server holds."""
        with postgres_server.connect(self.database) as connection:
            query = "SELECT count(*) FROM pg_stat_activity WHERE application_name = %s"
            row = connection.execute(query, [self.name]).fetchone()
        assert row is not None
        return int(row[0])

    def threads(self) -> list[str]:
        """Return the names of the server's threads."""
        return list(self.caller.modern_call("list_threads").result["structuredContent"]["result"])


@pytest.fixture(scope="module", params=CONSUMERS)
def watched(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    name = f"live_{secrets.token_hex(4)}"
    kind: Kind = request.param
    with (
        services.postgres() as database,
        Served(
            kind,
            tmp_path_factory.mktemp("threads"),
            database=f"{database.url}?application_name={name}",
            environment={"LIVE_CONN_MAX_AGE": "600"},
            mcp={"HANDLER_THREADS": SIZE, "LOG_THREADS": LOG_SIZE, "DOOR_THREADS": DOOR_SIZE, "TENANT": None},
        ) as served,
    ):
        yield Watched(served=served, database=database, name=name)


def test_calls_that_wait_for_each_other_finish_on_few_connections(watched: Watched) -> None:
    assert SIZE < CALLS
    with ThreadPoolExecutor(CALLS) as pool:
        calls = [pool.submit(watched.caller.modern_call, "meet") for _ in range(CALLS)]
        counts = []

        def all_done() -> bool:
            counts.append(watched.connections())
            return all(call.done() for call in calls)

        wait_until(all_done, seconds=60, what="the calls that wait for each other")
    assert [call.result().text for call in calls] == ["met"] * CALLS
    assert max([*counts, watched.connections()]) == SIZE


def test_calls_in_parallel_use_the_set_of_threads_and_no_other(watched: Watched) -> None:
    def call(_: int) -> Any:
        return watched.caller.modern_call("in_thread").text

    with ThreadPoolExecutor(SIZE) as pool:
        # Calls that meet need every thread there is; whatever else the server needs is started as well.
        meetings = [pool.submit(watched.caller.modern_call, "meet") for _ in range(SIZE)]
        assert [meeting.result().text for meeting in meetings] == ["met"] * SIZE
        before = watched.threads()
        names = set(pool.map(call, range(200)))
        after = watched.threads()
    handlers = {name for name in before if name.startswith("mcp-handler-")}
    assert names <= handlers
    assert len(handlers) == SIZE
    assert after == before
    assert watched.connections() <= SIZE + LOG_SIZE + DOOR_SIZE


def test_an_idle_stream_holds_no_thread_and_no_connection(watched: Watched) -> None:
    caller = watched.caller
    caller.initialize()
    streams = []
    try:
        for _ in range(3 * SIZE):
            wanted = {"notifications": {"toolsListChanged": True}}
            streams.append(caller.modern_stream("subscriptions/listen", wanted))
            assert streams[-1].next_message()["method"] == "notifications/subscriptions/acknowledged"
        assert caller.modern_call("in_thread").status == 200
        assert len([name for name in watched.threads() if name.startswith("mcp-handler-")]) <= SIZE
        assert watched.connections() <= SIZE + LOG_SIZE + DOOR_SIZE
        assert caller.modern_call("test_trigger_tool_change").text == "told"
        assert {stream.next_message()["method"] for stream in streams} == {"notifications/tools/list_changed"}
    finally:
        for stream in streams:
            stream.close()


def test_who_comes_is_served_while_handlers_hold_every_thread(watched: Watched) -> None:
    caller = watched.caller
    caller.initialize()
    params = {"name": "hold", "arguments": {}, "_meta": {"progressToken": 1}}
    held = [watched.caller.modern_stream("tools/call", params) for _ in range(SIZE)]
    try:
        for stream in held:
            assert stream.next_message()["method"] == "notifications/progress"
        other = watched.caller
        other.initialize()
        assert other.request("ping").status == caller.request("ping").status == 200
        assert other.request("logging/setLevel", {"level": "error"}).status == 200
        assert other.terminate().status == 200
        assert other.request("ping").status == 404
    finally:
        assert caller.call("let_go").text == "let go"
        for stream in held:
            stream.close()
        assert caller.call("close_gate").text == "closed"

"""What streams may cost: one that breaks costs no other, one that is not read no memory, an idle one nothing."""

import contextlib
import http.client
import itertools
import secrets
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests import services
from tests.live.failover.stage import new_name, structured
from tests.live.server import CONSUMERS, Kind, Served
from tests.live.wire import Answer, Caller, HeaderList, Streaming, tool_call
from tests.services import postgres_server, wait_until

pytestmark = [
    pytest.mark.live,
    pytest.mark.timeout(600),
    pytest.mark.skipif(sys.platform != "linux", reason="the processes are measured in /proc"),
]

BREAKS = 1_000
BREAK_IN_TOOL = ("raise", "progress", "log", "surrogate", "result")
FINE = "nothing-is-wrong"
BREAK_UNDERNEATH: tuple[HeaderList, ...] = tuple(
    [(f"X-Break-{where}", str(after)), *([("X-Break-With", error)] if error else [])]
    for where in ("Frames", "Send")
    for after in (0, 1)
    for error in ("", "os", "cancelled", "stop")
)
POURED_BYTES = 256 * 1024 * 1024
MESSAGE_BYTES = 64 * 1024
BOUND_KIB = 48 * 1024
STALLED_SECONDS = 2.0
SLOW_BYTES = 4_096
IDLE = 1_000
FIRST = 100
WATCHED_SECONDS = 6.0  # some polls
FEW = 6
PARTIES = 10  # of the ledger's tool `meet`
LOG_LEVEL = "io.modelcontextprotocol/logLevel"
LISTS = {"notifications": {"toolsListChanged": True}}


@pytest.mark.parametrize("kind", CONSUMERS)
def test_a_stream_that_breaks_harms_no_other(kind: Kind, tmp_path: Path) -> None:
    with Served(kind, tmp_path, mcp={"POLL_SECONDS": 0.2}, environment={"LIVE_BREAKS": "1"}) as served:
        caller = Caller(port=served.port)
        caller.initialize()
        ways = itertools.cycle([*((how, ()) for how in BREAK_IN_TOOL), *((FINE, way) for way in BREAK_UNDERNEATH)])
        with caller.listen() as handshake, caller.modern_stream("subscriptions/listen", LISTS) as modern:
            for number, (how, headers) in enumerate(itertools.islice(ways, BREAKS)):
                breaking = Caller(port=served.port, headers=headers, session=caller.session)
                for said in break_off(breaking, how, is_modern=number % 2 == 0):
                    assert said.media_type == "text/event-stream"
                    assert b"secret-of-the-server" not in said.body
                    assert FINE.encode() not in said.body, headers
                assert caller.modern_call("test_simple_text").status == 200, number
            assert structured(caller.modern_call("tell", {"tools": True}))
            for stream in (handshake, modern):
                stream.next_message("notifications/tools/list_changed")
        # The server underneath still looks after its applications.
        assert Caller(port=served.port, headers=[("X-Break-Start", "1")]).modern_call("test_simple_text").status == 500


@pytest.mark.parametrize("reads", ["never", "slowly"])
@pytest.mark.parametrize("era", ["modern", "handshake"])
@pytest.mark.parametrize("kind", CONSUMERS)
def test_a_client_that_does_not_read_costs_a_bounded_number_of_bytes(
    kind: Kind, era: str, reads: str, tmp_path: Path
) -> None:
    with Served(kind, tmp_path, mcp={"POLL_SECONDS": 0.2}) as served:
        caller = Caller(port=served.port)
        caller.initialize()
        name = new_name()
        arguments = {"name": name, "messages": POURED_BYTES // MESSAGE_BYTES, "size": MESSAGE_BYTES}
        structured(caller.modern_call("pour", {**arguments, "messages": 1}))
        before = served.status("VmRSS")
        meta = {LOG_LEVEL: "info"}
        sent = (
            caller.leave_open("tools/call", {"name": "pour", "arguments": arguments, "_meta": meta})
            if era == "modern"
            else caller.leave_session_open(tool_call("pour", arguments))
        )
        with sent as socket, reading_slowly(socket) if reads == "slowly" else contextlib.nullcontext():
            most = watch(served, name) - before
        assert most < BOUND_KIB, f"{most} KiB more"
        assert caller.modern_call("test_simple_text").status == 200
        assert "Traceback" not in served.log


@pytest.mark.services
@pytest.mark.parametrize("kind", CONSUMERS)
def test_idle_streams_hold_no_connection_and_no_thread(kind: Kind, tmp_path: Path) -> None:
    name = f"idle_{secrets.token_hex(4)}"
    with (
        services.postgres() as database,
        Served(
            kind,
            tmp_path,
            database=f"{database.url}?application_name={name}",
            # A comment is not idleness, and what looks for changes keeps its connection a moment for the next look.
            mcp={"HANDLER_THREADS": PARTIES, "POLL_SECONDS": 2, "KEEPALIVE_SECONDS": 600},
        ) as served,
        postgres_server.connect(database) as watching,
        contextlib.ExitStack() as stack,
    ):

        def connections() -> int:
            query = "SELECT count(*) FROM pg_stat_activity WHERE application_name = %s"
            row = watching.execute(query, [name]).fetchone()
            assert row is not None
            return int(row[0])

        def open_one(number: int) -> Streaming:
            return open_idle(served.port, number)

        caller = Caller(port=served.port)
        with ThreadPoolExecutor(PARTIES) as pool:
            # Calls that meet need every thread there is.
            met = pool.map(lambda _: caller.modern_call("meet").text, range(PARTIES))
            assert set(met) == {"met"}
            # The first of them start what all of them share.
            streams = [stack.enter_context(stream) for stream in pool.map(open_one, range(FIRST))]
            threads = served.status("Threads")
            streams += [stack.enter_context(stream) for stream in pool.map(open_one, range(FIRST, IDLE))]
        assert served.status("Threads") <= threads
        wait_until(lambda: connections() == 0, seconds=60, what="the streams to be idle")
        counts = []
        until = time.monotonic() + WATCHED_SECONDS
        while time.monotonic() < until:
            counts.append(connections())
        assert served.status("Threads") <= threads
        assert max(counts) <= FEW
        assert counts.count(0) > len(counts) / 2, f"{len(counts) - counts.count(0)} of {len(counts)} samples"
        structured(caller.modern_call("tell", {"tools": True}))
        for stream in streams:
            stream.next_message("notifications/tools/list_changed")


def break_off(caller: Caller, how: str, *, is_modern: bool) -> Iterator[Answer]:
    """Make a call whose stream breaks, and yield what came of it, if anything did."""
    with contextlib.suppress(http.client.HTTPException, ConnectionError):
        if is_modern:
            yield caller.modern_call("break_off", {"how": how}, _meta={LOG_LEVEL: "info", "progressToken": 1})
        else:
            yield caller.post(tool_call("break_off", {"how": how}))


def watch(served: Served, name: str) -> int:
    """Return the most memory in KiB that a server takes until `pour` ends or stalls."""
    most = 0
    poured, since = -1, time.monotonic()

    def has_stalled() -> bool:
        nonlocal most, poured, since
        most = max(most, served.status("VmRSS"))
        found = int(structured(Caller(port=served.port).modern_call("poured", {"name": name}))["result"])
        if found != poured:
            poured, since = found, time.monotonic()
        return poured == POURED_BYTES or time.monotonic() - since > STALLED_SECONDS

    wait_until(has_stalled, seconds=120, what="the tool to end or to stall")
    return most


@contextlib.contextmanager
def reading_slowly(socket: Any) -> Iterator[None]:
    over = threading.Event()

    def read() -> None:
        with contextlib.suppress(OSError):
            while not over.wait(0.02) and socket.recv(SLOW_BYTES):
                pass

    thread = threading.Thread(target=read)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def open_idle(port: int, number: int) -> Streaming:
    """Open a stream on which nothing happens, of one era or the other, and return it once it is there."""
    caller = Caller(port=port)
    if number % 2:
        stream = caller.modern_stream("subscriptions/listen", LISTS)
        assert stream.next_message()["method"] == "notifications/subscriptions/acknowledged"
        return stream
    caller.initialize()
    stream = caller.listen()
    assert stream.next_event().data == ""
    return stream

"""The thread that writes the call log: in batches, within bounds, and never to the harm of a call."""

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import User
from pytest_django import Settings

from django_mcp import Server
from django_mcp.contrib.call_log import models, writer
from django_mcp.contrib.call_log.models import LoggedCall, LoggedCallQuerySet
from django_mcp.contrib.call_log.writer import AT_ONCE, CallLogWriter, logged_calls, process_writer
from django_mcp.exceptions import StoreUnavailable
from django_mcp.server.drain import Drain
from django_mcp.server.finished_call import FinishedCall
from django_mcp.server.threads import HandlerThreads
from django_mcp.testing import Client
from tests.contrib.call_log.conftest import finished
from tests.databases import together

BOUND_SECONDS = 20

pytestmark = pytest.mark.django_db(transaction=True)


class Gate:
    """Stands before the database: what is to be written waits until it is opened, or meets an error."""

    def __init__(self) -> None:
        self.opened = threading.Event()
        self.reached = threading.Event()
        self.errors: list[Exception] = []
        self.batches: list[int] = []
        self.threads: set[str] = set()

    def log(self, calls: Sequence[FinishedCall], write: Callable[[Sequence[FinishedCall]], None]) -> None:
        self.reached.set()
        assert self.opened.wait(BOUND_SECONDS)
        if self.errors:
            raise self.errors.pop(0)
        self.batches.append(len(calls))
        self.threads.add(threading.current_thread().name)
        write(calls)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    gate, log = Gate(), LoggedCallQuerySet.log
    monkeypatch.setattr(LoggedCallQuerySet, "log", lambda rows, calls: gate.log(calls, lambda them: log(rows, them)))
    monkeypatch.setattr(writer, "FIRST_PAUSE_SECONDS", 0.01)
    yield gate
    gate.opened.set()


def put(log: CallLogWriter, *tools: Any) -> None:
    for tool in tools:
        log.put(finished(tool=str(tool)))


def kept() -> list[str]:
    return list(LoggedCall.objects.order_by("pk").values_list("tool", flat=True))


def test_a_burst_is_written_in_batches_in_its_order_by_one_thread(gate: Gate) -> None:
    log = CallLogWriter()
    put(log, "first")
    assert gate.reached.wait(BOUND_SECONDS)
    put(log, *range(2 * AT_ONCE + 50))
    gate.opened.set()
    assert log.flush(BOUND_SECONDS)
    assert gate.batches == [1, AT_ONCE, AT_ONCE, 50]
    assert gate.threads == {"mcp-call-log-1"}
    assert kept() == ["first", *map(str, range(2 * AT_ONCE + 50))]


def test_it_begins_again_after_every_pause(gate: Gate) -> None:
    log = CallLogWriter()
    gate.opened.set()
    for number in range(30):
        put(log, number)
        assert log.flush(BOUND_SECONDS)
    assert kept() == [str(number) for number in range(30)]


def test_calls_from_many_threads_are_all_written(gate: Gate) -> None:
    log = CallLogWriter()
    gate.opened.set()
    assert together(8, lambda number: put(log, *[number] * 100)) == [None] * 8
    assert log.flush(BOUND_SECONDS)
    assert sorted(kept()) == sorted(str(number) for number in range(8) for _ in range(100))
    assert sum(gate.batches) == 800


def test_what_finds_no_room_is_counted_and_warned_of_once(gate: Gate, caplog: pytest.LogCaptureFixture) -> None:
    log = CallLogWriter(max_waiting=10)
    put(log, "first")
    assert gate.reached.wait(BOUND_SECONDS)
    put(log, *range(25))
    assert log.lost == 15
    warnings = [record.getMessage() for record in caplog.records if record.name == "django_mcp.call_log"]
    assert warnings == ["calls are not logged: too many wait to be written"]
    gate.opened.set()
    assert log.flush(BOUND_SECONDS)
    assert kept() == ["first", *map(str, range(10))]
    assert caplog.messages[-1] == "calls are logged again; 15 were not, since this process began"


def test_an_outage_is_outlasted(gate: Gate, caplog: pytest.LogCaptureFixture) -> None:
    log = CallLogWriter()
    gate.errors = [StoreUnavailable() for _ in range(4)]
    gate.opened.set()
    put(log, *range(3))
    assert log.flush(BOUND_SECONDS)
    assert (kept(), log.lost) == (["0", "1", "2"], 0)
    assert caplog.text.count("calls are not logged while the database is down") == 1


def test_what_the_database_refuses_is_lost_and_the_next_is_written(
    gate: Gate, caplog: pytest.LogCaptureFixture
) -> None:
    log = CallLogWriter()
    gate.errors = [ValueError("no")]
    put(log, "refused")
    assert gate.reached.wait(BOUND_SECONDS)
    put(log, "taken")
    gate.opened.set()
    assert log.flush(BOUND_SECONDS)
    assert (kept(), log.lost) == (["taken"], 1)
    assert "calls are not logged: the database refused them" in caplog.text


def test_a_process_that_goes_waits_for_an_outage_no_longer_than_it_may(
    gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "FIRST_PAUSE_SECONDS", 3_600)
    log = CallLogWriter()
    assert log.flush(0)
    put(log, "late")
    assert gate.reached.wait(BOUND_SECONDS)
    assert not log.flush(0.01)
    gate.errors = [StoreUnavailable()]
    gate.opened.set()
    # It does not rest for an hour: the database is tried once more.
    assert log.flush(BOUND_SECONDS)
    assert kept() == ["late"]


async def test_a_drain_ends_with_what_is_not_written_yet(settings: Settings) -> None:
    drain, log = Drain(), CallLogWriter()
    drain.last(log.flush)
    put(log, "last")
    happened: list[list[str]] = []
    await drain.run(lambda: happened.append([]))
    assert happened == [[]]
    assert await sync_to_async(kept)() == ["last"]


async def test_what_fails_at_last_lets_the_process_go(caplog: pytest.LogCaptureFixture) -> None:
    drain, happened = Drain(), []

    def fail() -> None:
        raise ValueError("no")

    drain.last(fail)
    await drain.run(lambda: happened.append("went on"))
    assert happened == ["went on"]
    assert "what was to be done last failed" in caplog.text


def test_it_deletes_what_is_over_by_the_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "SWEEP_SECONDS", 0)
    monkeypatch.setattr(models, "SWEEP_ROWS", 2)
    logged_calls().log([finished(days_ago=31, tool="old")] * 3)
    log = CallLogWriter()
    put(log, "new")
    assert log.flush(BOUND_SECONDS)
    assert kept() == ["old", "new"]


# Under a server


@pytest.mark.usefixtures("listening")
@pytest.mark.parametrize("mode", ["modern", "legacy"])
async def test_no_call_waits_for_the_database_of_the_log(server: Server, gate: Gate, mode: str) -> None:
    @server.tool
    def greet(name: str) -> str:
        return f"Hello {name}"

    gate.errors = [StoreUnavailable(), StoreUnavailable()]
    ada = await User.objects.acreate(username="ada")
    client = Client(ada, server="tested", mode=mode, threads=HandlerThreads(size=2, queue=10))
    for name in ("Bob", "Eve", "Ada"):
        assert (await client.acall("greet", {"name": name})).text == f"Hello {name}"
    gate.opened.set()
    assert await sync_to_async(process_writer().flush)(BOUND_SECONDS)
    assert await LoggedCall.objects.filter(tool="greet", principal=f"user:{ada.pk}", outcome="ok").acount() == 3

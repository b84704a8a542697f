"""A call that is sent again under its key, at another process: while it runs, afterwards, and after a crash."""

import contextlib
import functools
import json
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests import services
from tests.live.server import Kind, Served
from tests.live.wire import Answer, Caller
from tests.services import wait_until

pytestmark = pytest.mark.live

KEY = "org.django-mcp/idempotencyKey"
ERAS = ("modern", "handshake")
REPEATS = 16
SECONDS = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Keyed:
    """A caller who sends calls under keys, in one era."""

    caller: Caller
    era: str

    def at(self, served: Served) -> "Keyed":
        return Keyed(caller=self.caller.at(served.port), era=self.era)

    def params(self, tool: str, note: str, key: str) -> dict[str, Any]:
        return {"name": tool, "arguments": {"note": note}, "_meta": {KEY: key}}

    def call(self, tool: str, note: str, key: str) -> Answer:
        params = self.params(tool, note, key)
        return (
            self.caller.modern("tools/call", params) if self.is_modern else self.caller.request("tools/call", params)
        )

    def call_plainly(self, tool: str, arguments: Mapping[str, Any] | None = None) -> Answer:
        return (
            self.caller.modern_call(tool, arguments)
            if self.is_modern
            else self.caller.call(tool, dict(arguments or {}))
        )

    def count(self, note: str) -> int:
        return int(self.call_plainly("count_entries", {"note": note}).result["structuredContent"]["result"])

    @property
    def is_modern(self) -> bool:
        return self.era == "modern"


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """Two processes on one database, under one ASGI server each, and a user's access token."""

    first: Served
    second: Served
    secret: str

    def keyed(self, era: str) -> Keyed:
        caller = Caller(port=self.first.port, headers=[("Authorization", f"Bearer {self.secret}")])
        if era == "handshake":
            caller.initialize()
        return Keyed(caller=caller, era=era)

    def close_gates(self) -> None:
        for served in (self.first, self.second):
            assert Caller(port=served.port).modern_call("close_gate").text == "closed"

    def open_gate(self, served: Served) -> None:
        assert Caller(port=served.port).modern_call("let_go").text == "let go"


@contextlib.contextmanager
def service_on(database: str, folder: Path) -> Iterator[Service]:
    with (
        Served(Kind.UVICORN, folder, database=database) as first,
        Served(Kind.DAPHNE, folder, database=database) as second,
    ):
        secrets = json.loads(first.run("tests.live.accounts", "make"))
        yield Service(first=first, second=second, secret=secrets["alice"])


@pytest.fixture(
    scope="module",
    params=[
        "sqlite",
        pytest.param("postgres", marks=pytest.mark.services),
        pytest.param("mariadb", marks=pytest.mark.services),
    ],
)
def service(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("keyed")
    with contextlib.ExitStack() as stack:
        database = f"sqlite:///{folder / 'keyed.sqlite3'}"
        if request.param == "postgres":
            database = stack.enter_context(services.postgres()).url
        elif request.param == "mariadb":
            database = stack.enter_context(services.mariadb()).url
        yield stack.enter_context(service_on(database, folder))


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(REPEATS + 1) as pool:
        yield pool


def begun(service: Service, pool: ThreadPoolExecutor, here: Keyed, tool: str, note: str) -> "Future[Answer]":
    """Send a call whose body waits, and return once it has begun."""
    service.close_gates()
    running = pool.submit(here.call, tool, note, note)
    wait_until(lambda: here.count(note) == 1, seconds=SECONDS, what="the body to begin")
    return running


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("tool", ["add_entry", "put_entry"])
def test_a_repeat_elsewhere_attaches_to_the_running_call_and_later_gets_its_result(
    service: Service, pool: ThreadPoolExecutor, era: str, tool: str
) -> None:
    note = f"attached {era} {tool}"
    here = service.keyed(era)
    there = here.at(service.second)
    running = begun(service, pool, here, tool, note)
    refused = there.call(tool, "something else", note)
    assert refused.error["data"] == {"reason": "idempotency_mismatch"}
    repeats = [pool.submit(there.call, tool, note, note) for _ in range(3)]
    service.open_gate(service.first)
    answers = [running.result(SECONDS), *(repeat.result(SECONDS) for repeat in repeats), there.call(tool, note, note)]
    results = [json.dumps(answer.result, sort_keys=True) for answer in answers]
    assert results == results[:1] * 5
    assert running.result().result["isError"] is False
    assert there.count(note) == 2


@pytest.mark.parametrize(("era", "status"), [("modern", 400), ("handshake", 200)])
def test_another_call_under_the_key_is_refused_elsewhere(service: Service, era: str, status: int) -> None:
    note = f"refused {era}"
    here = service.keyed(era)
    service.open_gate(service.first)
    done = here.call("add_entry", note, note)
    assert done.result["isError"] is False
    there = here.at(service.second)
    for tool, other in (("add_entry", "something else"), ("put_entry", note)):
        refused = there.call(tool, other, note)
        assert refused.status == status
        assert (refused.error["code"], refused.error["data"]) == (-32602, {"reason": "idempotency_mismatch"})
    assert there.call("add_entry", note, note).result == done.result
    assert (there.count(note), there.count("something else")) == (2, 0)


def test_a_key_of_an_anonymous_session_holds_at_either_and_for_that_session_alone(service: Service) -> None:
    for served in (service.first, service.second):
        service.open_gate(served)
    nobody = Keyed(caller=Caller(port=service.first.port), era="modern")
    for note in ("session one", "session two"):
        caller = Caller(port=service.first.port)
        caller.initialize()
        here = Keyed(caller=caller, era="handshake")
        results = [keyed.call("add_entry", note, "shared").result for keyed in (here, here.at(service.second))]
        assert results[0] == results[1]
        assert nobody.count(note) == 2
    refused = nobody.call("add_entry", "nobody", "shared")
    assert (refused.status, refused.error["code"]) == (400, -32602)


@pytest.mark.parametrize("era", ERAS)
def test_many_at_both_run_once(service: Service, pool: ThreadPoolExecutor, era: str) -> None:
    note = f"many {era}"
    here = service.keyed(era)
    there = here.at(service.second)
    for served in (service.first, service.second):
        service.open_gate(served)
    barrier = threading.Barrier(REPEATS)

    def send(number: int) -> Answer:
        barrier.wait(SECONDS)
        return (here, there)[number % 2].call("add_entry", note, note)

    answers = list(pool.map(send, range(REPEATS)))
    results = {json.dumps(answer.result, sort_keys=True) for answer in answers}
    assert len(results) == 1
    assert here.count(note) == 2


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("tool", ["add_entry", "put_entry"])
def test_after_a_kill_only_a_repeatable_call_runs_again(tmp_path: Path, era: str, tool: str) -> None:
    with contextlib.ExitStack() as stack:
        service = stack.enter_context(service_on(f"sqlite:///{tmp_path / 'killed.sqlite3'}", tmp_path))
        here = service.keyed(era)
        there = here.at(service.second)
        with ThreadPoolExecutor(1) as pool:
            running = pool.submit(here.call, tool, "killed", "k")
            wait_until(functools.partial(has_entries, there, 1), seconds=SECONDS, what="the body to begin")
            service.first.kill()
            assert running.exception(SECONDS) is not None
        assert int(service.second.run("tests.live.leases")) == 1
        service.open_gate(service.second)
        answers = [there.call(tool, "killed", "k") for _ in range(2)]
        if tool == "put_entry":
            assert answers[0].result == answers[1].result
            assert answers[0].result["isError"] is False
            assert there.count("killed") == 3
        else:
            for answer in answers:
                assert (answer.status, answer.error["code"]) == (200, -32603)
                assert answer.error["data"] == {"reason": "worker_lost"}
            assert there.count("killed") == 1


def has_entries(keyed: Keyed, count: int) -> bool:
    return keyed.count("killed") == count


@pytest.mark.services
def test_with_a_shared_channel_layer_a_repeat_needs_no_poll(tmp_path: Path, pool: ThreadPoolExecutor) -> None:
    """Without a wake the repeat would look again when a lease is due to be renewed, after ten seconds."""
    terms: dict[str, Any] = {"database": f"sqlite:///{tmp_path / 'woken.sqlite3'}", "mcp": {"POLL_SECONDS": 3_600}}
    with (
        services.redis() as layer,
        Served(Kind.UVICORN, tmp_path, environment={"REDIS_URL": layer.url}, **terms) as first,
        Served(Kind.DAPHNE, tmp_path, environment={"REDIS_URL": layer.url}, **terms) as second,
    ):
        secrets = json.loads(first.run("tests.live.accounts", "make"))
        service = Service(first=first, second=second, secret=secrets["alice"])
        here = service.keyed("modern")
        running = begun(service, pool, here, "add_entry", "woken")
        repeat = pool.submit(here.at(second).call, "add_entry", "woken", "woken")
        wait_until(functools.partial(listens, layer), seconds=SECONDS, what="the repeat to wait")
        service.open_gate(first)
        assert repeat.result(5).result == running.result(SECONDS).result


def listens(layer: services.Service) -> bool:
    """Tell whether a process listens for wakes on the Redis of a channel layer."""
    with services.redis_server.connect(layer) as client:
        return int(client.zcard("asgi:group:django_mcp.wake")) == 1

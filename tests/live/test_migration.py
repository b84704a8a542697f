"""Conversations move to another store and back while clients call: nothing is lost, and no client sees an error.

`LIVE_CONVERSATIONS` says how many conversations there are beside those that are called (300), `LIVE_PACE` how many
seconds a client thinks between two calls (0).
"""

import contextlib
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from tests import services
from tests.live.server import ROOT, Kind, Served
from tests.live.test_state import caller, structured
from tests.live.wire import Caller
from tests.services import wait_until

pytestmark = [pytest.mark.live, pytest.mark.services, pytest.mark.timeout(7_200)]

COUNT: Final = int(os.environ.get("LIVE_CONVERSATIONS", "300"))
CALLERS: Final = 6
PACE_SECONDS: Final = float(os.environ.get("LIVE_PACE", "0"))
"""How long each client thinks between two calls."""
RUN_SECONDS: Final = 3_000.0
STORES: Final[dict[str, Any]] = {
    "default": {"BACKEND": "django_mcp.sessions.stores.database.DatabaseStore"},
    "redis": {"BACKEND": "django_mcp.sessions.stores.cache.CacheStore"},
}


@contextlib.contextmanager
def pair(folder: Path, database: str) -> Iterator[list[Served]]:
    """Serve by two processes whose conversations may be in the database and on Redis."""
    with contextlib.ExitStack() as stack:
        redis = stack.enter_context(services.redis())
        url = f"sqlite:///{folder / 'moving.sqlite3'}"
        if database == "postgres":
            url = stack.enter_context(services.postgres()).url
        elif database == "mariadb":
            url = stack.enter_context(services.mariadb()).url
        mcp = {"STORES": STORES, "HANDLER_QUEUE": 512}
        cache = {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": redis.url}
        environment = {"LIVE_CACHES": json.dumps({"default": cache}), "LIVE_CONN_MAX_AGE": "60"}
        yield [
            stack.enter_context(Served(kind, folder, database=url, mcp=mcp, environment=environment))
            for kind in (Kind.DAPHNE, Kind.UVICORN)
        ]


class Clients:
    """Callers that count, each in a conversation of its own and all in one, at either process in turn."""

    def __init__(self, served: list[Served], token: str) -> None:
        self._served = served
        self._caller: Caller = caller(token)
        self._over = threading.Event()
        self._lock = threading.Lock()
        self.counts: Counter[str] = Counter()
        self.errors: list[str] = []
        first = self._caller.at(served[0].port)
        self.handles = [self._begun(first) for _ in range(CALLERS + 1)]
        self._threads = [threading.Thread(target=self._call, args=(number,)) for number in range(CALLERS)]

    def _begun(self, there: Caller) -> str:
        handle = str(structured(there.modern_call("increment"))["handle"])
        self.counts[handle] += 1
        return handle

    def _call(self, number: int) -> None:
        step = 0
        while not self._over.wait(PACE_SECONDS):
            step += 1
            handle = self.handles[number if step % 2 else CALLERS]
            tool = ("increment", "increment_async")[step % 3 == 0]
            try:
                answer = self._caller.at(self._served[(number + step) % 2].port).modern_call(tool, {"handle": handle})
                structured(answer)
            except Exception as error:
                with self._lock:
                    self.errors.append(f"{handle[:4]}… {tool}: {error!r}")
            else:
                with self._lock:
                    self.counts[handle] += 1

    def __enter__(self) -> "Clients":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    @property
    def calls(self) -> int:
        with self._lock:
            return sum(self.counts.values())

    def differing(self) -> dict[str, tuple[int, int]]:
        """Return what each process says that is not what was counted."""
        found = {}
        for handle in self.handles:
            for served in self._served:
                there = self._caller.at(served.port)
                total = structured(there.modern_call("recall", {"key": "total", "handle": handle}))["value"]
                if total != self.counts[handle]:
                    found[handle] = (total, self.counts[handle])
        return found


def start(served: Served, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "django", "mcp", "migrate-store", *words],
        cwd=ROOT,
        env=served.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def migrate(served: Served, *words: str) -> dict[str, str]:
    """Run the command to its end; return the columns of what its table says of conversations."""
    process = start(served, *words)
    told, errors = process.communicate(timeout=RUN_SECONDS)
    assert process.returncode == 0, told + errors
    head, line, _ = (re.split(r"  +", text) for text in told.strip().splitlines())
    assert line[0] == "conversations"
    return dict(zip(head, line, strict=True))


def run(served: Served, *words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "tests.live.conversations", *words],
        cwd=ROOT,
        env=served.environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=RUN_SECONDS,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def exported(served: Served, folder: Path, name: str) -> list[str]:
    run(served, "export", str(folder / name))
    return (folder / name).read_text().splitlines()


@pytest.mark.parametrize("database", ["postgres", "mariadb", "sqlite"])
def test_conversations_go_to_redis_and_back_under_calls(tmp_path: Path, database: str) -> None:
    with pair(tmp_path, database) as served:
        first = served[0]
        token = dict(_json(first.run("tests.live.accounts", "make")))["alice"]
        made = int(run(first, "make", str(COUNT)))
        before = exported(first, tmp_path, "before")
        assert len(before) == made >= COUNT
        _tell(f"{database}: {made} conversations")
        with Clients(served, token) as clients:
            for words in (("default", "redis"), ("redis", "default")):
                calls, began = clients.calls, time.monotonic()
                table = migrate(first, *words)
                seconds = time.monotonic() - began
                assert int(table["moved"]) == made + len(clients.handles)
                assert table["left"] == "0"
                _tell(
                    f"{' to '.join(words)}: {table['moved']} conversations, {table['bytes']} bytes, "
                    f"{table['seconds']} s ({seconds:.1f} s with the start), {clients.calls - calls} calls meanwhile"
                )
                if words[1] == "redis":
                    assert exported(first, tmp_path, "there") == before
            wait_until(lambda: clients.calls > calls + CALLERS, seconds=30, what="calls after the move")
        assert clients.errors == []
        assert clients.differing() == {}
        assert exported(first, tmp_path, "after") == before
        for one in served:
            assert "Traceback" not in one.log


@pytest.mark.parametrize("words", [("default", "redis"), ("redis", "default")], ids=["to redis", "from redis"])
def test_a_run_that_is_killed_is_gone_on_with(tmp_path: Path, words: tuple[str, str]) -> None:
    with pair(tmp_path, "postgres") as served:
        first = served[0]
        token = dict(_json(first.run("tests.live.accounts", "make")))["alice"]
        made = int(run(first, "make", str(min(COUNT, 300))))
        before = exported(first, tmp_path, "before")
        if words[0] == "redis":
            migrate(first, "default", "redis")
        with Clients(served, token) as clients:
            moved = 0
            for _ in range(3):
                process = start(first, *words, "--workers", "1")
                goal = min(moved + 40, made // 2)
                wait_until(lambda: _kept(first, words[1]) >= goal, seconds=120, what="some that moved")  # noqa: B023
                process.kill()
                process.communicate()
                moved = _kept(first, words[1])
            assert 0 < moved < made
            table = migrate(first, *words)
            assert int(table["already there"]) + int(table["moved"]) >= made
            assert table["left"] == "0"
        assert clients.errors == []
        assert clients.differing() == {}
        assert exported(first, tmp_path, "after") == before


def _kept(served: Served, alias: str) -> int:
    """Return how many conversations a store keeps by now."""
    import psycopg

    with psycopg.connect(served.database) as connection:
        store = "" if alias == "default" else alias
        found = connection.execute("SELECT count(*) FROM django_mcp_conversation WHERE store = %s", [store]).fetchone()
    assert found is not None
    return int(found[0])


def _tell(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


def _json(text: str) -> Any:
    return json.loads(text)

"""What runs: server processes of two kinds on one database, and what stands before and behind them.

On PostgreSQL they stand behind nginx, with a Redis for the channel layer, and for the store where that is on one; on
SQLite there is nothing else.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from tests.chaos.balancer import Balancer
from tests.chaos.options import Options
from tests.live.server import CONSUMERS, ROOT, Kind, Served
from tests.services import PrivatePostgres, PrivateRedis

SETTINGS: Final = "tests.chaos.settings"
STOP_SECONDS: Final = 30.0
RUN_SECONDS: Final = 900.0
MCP: Final[dict[str, Any]] = {
    "ACCESS": "required",
    "RETRY_MILLISECONDS": 300,
    "KEEPALIVE_SECONDS": 5,
    "HANDLER_QUEUE": 1_024,
    # Nothing that is checked at the end may go because of its age or number.
    "STATE_HISTORY": 1_000_000,
    "MAX_SESSIONS_PER_PRINCIPAL": 100_000,
    "MAX_CONVERSATIONS_PER_PRINCIPAL": 100_000,
}
PERSISTENCE: Final[dict[str, dict[str, Any]]] = {
    "always": {"appendonly": "yes", "appendfsync": "always"},
    # One log, which can be cut where its disk was.
    "everysec": {"appendonly": "yes", "appendfsync": "everysec", "auto_aof_rewrite_percentage": "0"},
    "none": {},
}
SYNC_SECONDS: Final = 1.0
STORES: Final = {
    "database": "django_mcp.sessions.stores.database.DatabaseStore",
    "cache": "django_mcp.sessions.stores.cache.CacheStore",
}


@dataclass(slots=True)
class Memory:
    """Resident memory of one server in all its lives, in MiB."""

    first: float = 0.0
    last: float = 0.0
    highest: float = 0.0

    def note(self, mib: float) -> None:
        self.first = self.first or mib
        self.last = mib
        self.highest = max(self.highest, mib)


class Server(Served):
    """One server process that is killed, stopped and started again. The methods block."""

    def __init__(self, kind: Kind, folder: Path, options: Options, **terms: Any) -> None:
        params = {"BACKEND": STORES[options.store], "OPTIONS": {"MAX_CLAIMS_PER_PRINCIPAL": 1_000_000}}
        mcp = {**MCP, "LEASE_SECONDS": options.lease_seconds, "STORES": {"default": params}}
        super().__init__(kind, folder, settings=SETTINGS, mcp=mcp, **terms)
        self.memory = Memory()
        self.is_held = False
        """Whether a fault is at work on it."""
        self.logs: list[str] = []

    @property
    def name(self) -> str:
        return f"{self.kind}:{self.port}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def kill(self) -> None:
        """End the server as `kill -9` does."""
        self.measure()
        super().kill()
        self._keep_log()

    def terminate(self) -> None:
        """End the server by SIGTERM, as a deploy does."""
        assert self._process is not None
        self.measure()
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None
        self._keep_log()

    def measure(self) -> None:
        """Note how much memory it has now."""
        if self.is_running:
            with contextlib.suppress(OSError):
                for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
                    if line.startswith("VmRSS:"):
                        self.memory.note(int(line.split()[1]) / 1_024)

    def all_logs(self) -> str:
        """Return what it printed in all its lives."""
        return "".join([*self.logs, self.log])

    def _keep_log(self) -> None:
        # The next life writes the file anew.
        self.logs.append(self.log)


@dataclass(slots=True)
class Topology:
    """All that runs for one run; entered, everything is up and the database is ready."""

    options: Options
    folder: Path
    servers: list[Server] = field(default_factory=list)
    database: PrivatePostgres | None = None
    layer: PrivateRedis | None = None
    balancer: Balancer | None = None
    tokens: dict[str, str] = field(default_factory=dict)
    _stack: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            self._start(stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, traceback)

    @property
    def ports(self) -> tuple[int, ...]:
        """Return where clients knock."""
        return (self.balancer.port,) if self.balancer is not None else tuple(server.port for server in self.servers)

    def run(self, *words: str) -> str:
        """Run a Python module with the servers' settings on their database; return what it prints."""
        return subprocess.run(
            [sys.executable, "-m", *words],
            cwd=ROOT,
            env=self.servers[0].environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
            timeout=RUN_SECONDS,
        ).stdout

    def up(self) -> list[Server]:
        """Return the servers that run and on which no fault is at work."""
        return [server for server in self.servers if server.is_running and not server.is_held]

    def restart_database(self) -> None:
        """End PostgreSQL as `pg_ctl -m immediate` does, without a checkpoint, and start it again."""
        assert self.database is not None
        assert self.database.process is not None
        self.database.process.send_signal(signal.SIGQUIT)
        self.database.process.wait(STOP_SECONDS)
        self.database.start()

    def end_redis(self) -> None:
        """End Redis as `kill -9` does; where it syncs once a second, what it wrote in the last one is gone too.

        A killed process leaves what it has written with the kernel: this is what a power cut takes besides.
        """
        assert self.layer is not None
        assert self.layer.folder is not None
        sizes: dict[Path, int] = {}
        if self.options.fsync == "everysec" and self.options.is_on_redis:
            sizes = {path: path.stat().st_size for path in self.layer.folder.glob("appendonlydir/*.aof")}
            time.sleep(SYNC_SECONDS)
        self.layer.kill()
        for path, size in sizes.items():
            os.truncate(path, size)

    def _start(self, stack: contextlib.ExitStack) -> None:
        environment = {"LIVE_CONN_MAX_AGE": "60", "LIVE_MIGRATED": "1"}
        database = f"sqlite:///{self.folder / 'chaos.sqlite3'}"
        if self.options.database == "postgres":
            self.database = stack.enter_context(PrivatePostgres())
            self.layer = stack.enter_context(
                PrivateRedis(**PERSISTENCE[self.options.fsync]) if self.options.is_on_redis else PrivateRedis()
            )
            database = self.database.service.url
            environment["REDIS_URL"] = self.layer.service.url
        self.servers = [
            Server(
                CONSUMERS[number % 2],
                self.folder,
                self.options,
                database=database,
                environment=environment,
            )
            for number in range(self.options.servers)
        ]
        self.tokens = json.loads(self.run("tests.chaos.prepare", str(self.options.users)))
        for server in self.servers:
            stack.enter_context(server)
            server.measure()
        if self.options.database == "postgres":
            self.balancer = stack.enter_context(Balancer([server.port for server in self.servers]))

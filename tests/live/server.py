"""A server process for one test or a module of them. Several on one database are one service."""

import contextlib
import enum
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest

from tests.services import HOST, accepts, free_port, wait_until

ROOT = Path(__file__).parents[2]
START_SECONDS = 180.0
STOP_SECONDS = 20.0


class Kind(enum.StrEnum):
    """What serves: the consumer under two ASGI servers, or the plain Django view under ASGI and under WSGI."""

    DAPHNE = "daphne"
    UVICORN = "uvicorn"
    VIEW_ASGI = "view-asgi"
    VIEW_WSGI = "view-wsgi"

    @property
    def is_consumer(self) -> bool:
        return self in (Kind.DAPHNE, Kind.UVICORN)


CONSUMERS = (Kind.DAPHNE, Kind.UVICORN)


class Served:
    """Start a server on a free port of 127.0.0.1 when entered, and stop it by its process id at the end.

    Args:
        folder: where its log is, and its database if `database` names none.
        database: a URL as `DATABASE_URL` takes it.
        mcp: changes to `settings.DJANGO_MCP`.
        environment: changes to the environment; with None a name is taken away.
    """

    def __init__(
        self,
        kind: Kind,
        folder: Path,
        *,
        database: str = "",
        settings: str = "tests.live.settings",
        mcp: Mapping[str, Any] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.kind = kind
        self.port = free_port()
        self.database = database or f"sqlite:///{folder / 'live.sqlite3'}"
        self.environment = {
            **{key: value for key, value in os.environ.items() if key not in {"REDIS_URL", "LIVE_MIGRATED"}},
            "DJANGO_SETTINGS_MODULE": settings,
            "DATABASE_URL": self.database,
            "LIVE_MCP": json.dumps(mcp or {}),
            "PYTHONUNBUFFERED": "1",
            **(environment or {}),
        }
        self.folder = folder
        self._log = folder / f"{kind}-{self.port}.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}/mcp"

    @property
    def log(self) -> str:
        """Return what the server has printed so far."""
        return self._log.read_text(errors="replace")

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def status(self, field: str) -> int:
        """Return a number that the kernel keeps of the process, such as `Threads`, or `VmRSS` in KiB."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            name, _, value = line.partition(":")
            if name == field:
                return int(value.split()[0])
        raise LookupError(field)

    def run(self, *words: str) -> str:
        """Run a Python module with the server's settings on its database; return what it prints."""
        done = subprocess.run(
            [sys.executable, "-m", *words],
            cwd=ROOT,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        if done.returncode:
            pytest.fail(f"{words}: {done.stdout}{done.stderr}")
        return done.stdout

    def __enter__(self) -> Self:
        with self._log.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.live.serve", self.kind, str(self.port)],
                cwd=ROOT,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        try:
            wait_until(
                lambda: not self.is_running or accepts(self.port),
                seconds=START_SECONDS,
                what=f"a server of the kind {self.kind}",
            )
            if not self.is_running:
                pytest.fail(f"the server of the kind {self.kind} ended:\n{self.log[-4000:]}")
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        died = self._process is not None and not self.is_running
        self._stop()
        if died and kind is None:
            pytest.fail(f"the server of the kind {self.kind} died:\n{self.log[-4000:]}")

    def kill(self) -> None:
        """End the server as `kill -9` does."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        self._process = None

    def signal(self, number: int) -> None:
        """Send a signal, and let the server do with it what it does."""
        assert self._process is not None
        self._process.send_signal(number)

    def ended(self, seconds: float) -> int:
        """Wait until the server has ended by itself, and return its exit code."""
        assert self._process is not None
        try:
            code = self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            pytest.fail(f"the server of the kind {self.kind} did not end in {seconds} s:\n{self.log[-4000:]}")
        self._process = None
        return code

    def restart(self) -> None:
        """Start it again on the same port, after `kill()`."""
        self.__enter__()

    def _stop(self) -> None:
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


@contextlib.contextmanager
def at_once(*several: Served) -> Iterator[tuple[Served, ...]]:
    """Start several servers side by side, which takes no longer than one where there are processors for it."""
    with contextlib.ExitStack() as stack, ThreadPoolExecutor(len(several)) as pool:
        starting = [pool.submit(one.__enter__) for one in several]
        failures = [failure for start in starting if (failure := start.exception()) is not None]
        for one, start in zip(several, starting, strict=True):
            if start.exception() is None:
                stack.push(one)
        if failures:
            raise failures[0]
        yield several

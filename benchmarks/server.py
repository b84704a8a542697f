"""An ASGI application under uvicorn in a process of its own, on one core."""

import os
import shutil
import socket
import subprocess
import sys
import time
from types import TracebackType
from typing import Self

from benchmarks import wire

HOST = "127.0.0.1"
START_SECONDS = 30


class Server:
    """A server between `with` and the end of its block.

    Args:
        name: how the report calls it.
        application: `module:attribute`.
        core: where it runs.
    """

    def __init__(self, name: str, application: str, *, core: int | None) -> None:
        self.name = name
        port = _free_port()
        self.url = f"http://{HOST}:{port}/mcp"
        self._command = [
            *pinned(core),
            *(sys.executable, "-m", "uvicorn", "--host", HOST, "--port", str(port)),
            *("--workers", "1", "--loop", "uvloop", "--http", "httptools"),
            *("--no-access-log", "--log-level", "warning", application),
        ]

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(self._command)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def answer(self, tool: str) -> str:
        """Call `tool` once, as soon as the server can be called.

        Raises:
            RuntimeError: it ended, or does not answer in time.
        """
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                return wire.call(self.url, tool)
            except OSError as error:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    msg = f"{self.name} does not answer: {error}"
                    raise RuntimeError(msg) from error
            time.sleep(0.05)


def pinned(core: int | None) -> list[str]:
    """Return what starts a command on one core; nothing where there is none to spare."""
    return [] if core is None else ["taskset", "--cpu-list", str(core)]


def two_cores() -> tuple[int, int] | tuple[None, None]:
    """Return a core for the server and one for the load; None where they cannot be had."""
    if not hasattr(os, "sched_getaffinity") or shutil.which("taskset") is None:
        return None, None
    cores = sorted(os.sched_getaffinity(0))
    return (cores[0], cores[1]) if len(cores) > 1 else (None, None)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port

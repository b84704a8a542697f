"""One run of wrk: the same call over some connections for some seconds, every answer compared."""

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from benchmarks import wire
from benchmarks.server import pinned

CONNECTIONS = 16
SCRIPT = Path(__file__).with_name("post.lua")


class WrongAnswers(Exception):
    """A run is worth nothing: some of its answers were errors, or not the answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """wrk on one core."""

    core: int | None

    def run(self, url: str, tool: str, expected: str, *, seconds: int) -> float:
        """Call `tool` for so long and return the requests per second, each answered by `expected`.

        Raises:
            WrongAnswers: not each was.
        """
        sent = [part for name, value in wire.headers(tool).items() for part in ("--header", f"{name}: {value}")]
        command = [
            *pinned(self.core),
            *("wrk", "--threads", "1", "--connections", str(CONNECTIONS), "--duration", f"{seconds}s", *sent),
            *("--script", str(SCRIPT), url, "--", wire.body(tool), expected),
        ]
        output = subprocess.run(command, check=True, capture_output=True, text=True, timeout=seconds + 30).stdout
        return rate_of(output)


def rate_of(output: str) -> float:
    """Return the requests per second in what wrk printed; raise WrongAnswers where some failed."""
    line = next((line for line in output.splitlines() if line.startswith("measured ")), "measured 0 0 0")
    requests, microseconds, wrong = map(int, line.split()[1:])
    if wrong or not requests:
        msg = f"{wrong} of {requests} answers were wrong or missing"
        raise WrongAnswers(msg)
    return requests * 1_000_000 / microseconds


def is_installed() -> bool:
    return shutil.which("wrk") is not None

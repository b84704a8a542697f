"""Measure what each store costs: `python -m benchmarks.stores` prints a table of milliseconds.

One server for each store, all on one PostgreSQL and one Redis of their own; one client calls them in turns, so that
whatever else the machine does falls on all. Exit code 2 where nothing can be measured.
"""

import argparse
import contextlib
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Final

from benchmarks.stores.mcp_tools import WORDS
from tests.live.server import Kind, Served
from tests.live.wire import Caller, tool_call
from tests.services import PrivatePostgres, PrivateRedis, Unavailable

STORES: Final[Mapping[str, Mapping[str, Any]]] = {
    "database": {"BACKEND": "django_mcp.sessions.stores.database.DatabaseStore"},
    "database, objects in files": {
        "BACKEND": "django_mcp.sessions.stores.database.DatabaseStore",
        "OPTIONS": {"BLOBS": "default"},
    },
    "cached database": {
        "BACKEND": "django_mcp.sessions.stores.cached_database.CachedDatabaseStore",
        "OPTIONS": {"CACHE": "default", "CACHE_MAX_BYTES": 10_000_000},
    },
    "Redis": {"BACKEND": "django_mcp.sessions.stores.cache.CacheStore"},
}
MCP: Final[dict[str, Any]] = {"ACCESS": "public", "ANONYMOUS_STATE": True, "TENANT": None}
SIZES: Final = {"stateful call, 1 KB": 1_000, "stateful call, 100 KB": 100_000, "stateful call, 5 MB": 5_000_000}


@dataclass(slots=True)
class Bench:
    """One store: its server, one conversation for each size, one session."""

    caller: Caller
    handles: dict[int, str] = field(default_factory=dict)

    def keep(self, size: int) -> None:
        arguments: dict[str, Any] = {"size": size}
        if size in self.handles:
            arguments["handle"] = self.handles[size]
        kept = self.caller.modern_call("keep", arguments).result["structuredContent"]
        if kept["former"] != (size if size in self.handles else 0):
            raise RuntimeError(f"the state was not kept: {kept}")
        self.handles[size] = kept["handle"]

    def answer(self) -> None:
        if self.caller.call("answer").text != "answer":
            raise RuntimeError("a call of the session failed")

    def talk(self) -> None:
        with self.caller.post_stream(tool_call("talk")) as stream:
            said = stream.rest()
        if len(said) != WORDS + 1 or "result" not in said[-1]:
            raise RuntimeError(f"a streamed reply has {len(said)} messages")

    def cases(self) -> dict[str, Callable[[], None]]:
        """Return what is measured, by its title."""
        keeping = {title: (lambda size=size: self.keep(size)) for title, size in SIZES.items()}
        return {**keeping, "call of a session": self.answer, f"streamed reply, {WORDS} messages": self.talk}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.stores", description=__doc__)
    parser.add_argument("--rounds", type=int, default=30, help="calls of each kind at each store (%(default)s)")
    options = parser.parse_args()
    try:
        with contextlib.ExitStack() as stack:
            found = _measure(_serve(stack), options.rounds)
    except Unavailable as reason:
        print(f"Nothing can be measured here: {reason}", file=sys.stderr)
        return 2
    print(table(found))
    return 0


def _serve(stack: contextlib.ExitStack) -> dict[str, Bench]:
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="django-mcp-bench-")))
    database = stack.enter_context(PrivatePostgres()).service.url
    environment = {
        "BENCH_REDIS": stack.enter_context(PrivateRedis(durable=True)).service.url,
        "BENCH_FILES": str(folder / "files"),
    }
    benches = {}
    for name, params in STORES.items():
        served = Served(
            Kind.UVICORN,
            folder,
            database=database,
            settings="benchmarks.stores.settings",
            mcp={**MCP, "STORES": {"default": params}},
            environment=environment,
        )
        benches[name] = Bench(Caller(port=stack.enter_context(served).port))
        benches[name].caller.initialize()
        environment["LIVE_MIGRATED"] = "1"
    return benches


def _measure(benches: Mapping[str, Bench], rounds: int) -> dict[str, dict[str, float]]:
    """Return the median milliseconds of each case, by store."""
    seconds: dict[str, dict[str, list[float]]] = {name: {} for name in benches}
    titles = list(next(iter(benches.values())).cases())
    for title in titles:
        print(title, file=sys.stderr)
        for number in range(rounds + 2):
            for name, bench in benches.items():
                case = bench.cases()[title]
                began = time.perf_counter()
                case()
                if number >= 2:
                    seconds[name].setdefault(title, []).append(time.perf_counter() - began)
    return {
        name: {title: median(times) * 1_000 for title, times in by_title.items()} for name, by_title in seconds.items()
    }


def table(found: Mapping[str, Mapping[str, float]]) -> str:
    """Return the figures as a table in Markdown: a row for each store, milliseconds, and the ratio to the first."""
    first = next(iter(found.values()))
    lines = ["| store | " + " | ".join(first) + " |", "| --- |" + " ---: |" * len(first)]
    for name, figures in found.items():
        cells: Sequence[str] = [f"{value:.1f} ms ({value / first[title]:.2f})" for title, value in figures.items()]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())

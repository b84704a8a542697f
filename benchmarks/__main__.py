"""Measure `tools/call` beside the official SDK's own server: `python -m benchmarks`.

Both run under the same uvicorn, on one core; wrk has the other. After a warm-up of each, their runs alternate second
by second, so that whatever else the machine does falls on both. Exit codes: 1 with --check where a goal is missed, 2
where nothing can be measured.
"""

import argparse
import sys
from dataclasses import dataclass
from statistics import mean

from benchmarks import load, wire
from benchmarks.functions import add, add_in_thread
from benchmarks.load import Load, WrongAnswers
from benchmarks.report import Comparison, table
from benchmarks.server import Server, two_cores

NO_WRK = """wrk, the load generator, is not on PATH. It is one package:
  Debian, Ubuntu   apt-get install wrk
  macOS            brew install wrk
  elsewhere        https://github.com/wg/wrk"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    title: str
    tool: str
    goal: float


CASES = (
    Case(title="async tool", tool=add.__name__, goal=1.5),
    Case(title="sync tool", tool=add_in_thread.__name__, goal=1.0),
)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--check", action="store_true", help="exit with 1 where a ratio is below its goal")
    parser.add_argument("--runs", type=int, default=3, help="runs of each server and tool (3)")
    parser.add_argument("--seconds", type=int, default=5, help="length of a run (5)")
    parser.add_argument("--warm-up", type=int, default=2, metavar="SECONDS", help="length of the warm-up (2)")
    options = parser.parse_args()
    if not load.is_installed():
        print(NO_WRK, file=sys.stderr)
        return 2
    server_core, load_core = two_cores()
    if server_core is None:
        print("The server and the load share what cores there are: the figures say less.", file=sys.stderr)
    wrk = Load(core=load_core)
    with (
        Server("django_mcp", "benchmarks.asgi_ours:application", core=server_core) as ours,
        Server("official SDK", "benchmarks.asgi_sdk:application", core=server_core) as theirs,
    ):
        try:
            found = [_compare(case, ours, theirs, wrk, options) for case in CASES]
        except (RuntimeError, WrongAnswers) as error:
            print(f"Nothing was measured: {error}", file=sys.stderr)
            return 2
    print(table(found, ours.name, theirs.name))
    return 1 if options.check and not all(comparison.is_reached for comparison in found) else 0


def _compare(case: Case, ours: Server, theirs: Server, wrk: Load, options: argparse.Namespace) -> Comparison:
    expected = {server: server.answer(case.tool) for server in (ours, theirs)}
    results = [wire.result_of(answer) for answer in expected.values()]
    if results[0] != results[1] or results[0].get("structuredContent") != {"result": wire.SUM}:
        msg = f"the servers do not give the same right result: {results[0]} and {results[1]}"
        raise RuntimeError(msg)
    rates: dict[Server, list[float]] = {ours: [], theirs: []}
    for server in (ours, theirs):
        wrk.run(server.url, case.tool, expected[server], seconds=options.warm_up)
    for number in range(options.runs):
        print(f"{case.title}: run {number + 1} of {options.runs}", file=sys.stderr)
        seconds: dict[Server, list[float]] = {ours: [], theirs: []}
        for _ in range(options.seconds):
            for server in (ours, theirs):
                seconds[server].append(wrk.run(server.url, case.tool, expected[server], seconds=1))
        for server, found in seconds.items():
            rates[server].append(mean(found))
    return Comparison(title=case.title, goal=case.goal, ours=rates[ours], theirs=rates[theirs])


if __name__ == "__main__":
    sys.exit(main())

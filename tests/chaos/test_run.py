"""A short run of each kind: everything breaks a few times, and nothing is lost unsaid, doubled or stuck."""

from pathlib import Path

import pytest

from tests.chaos.figures import figures
from tests.chaos.options import Options
from tests.chaos.run import run
from tests.chaos.table import shown, table
from tests.services import Unavailable, skip_or_fail

pytestmark = [pytest.mark.live, pytest.mark.timeout(600)]

RUNS = {
    "postgres": Options(
        kills=4,
        rolls=1,
        store_restarts=2,
        flushes=1,
        reloads=1,
        clients=16,
        users=2,
        seconds=30,
        lease_seconds=3,
        pause=0.5,
        cuts=0.1,
    ),
    "sqlite": Options(
        kills=3,
        rolls=1,
        clients=8,
        users=2,
        seconds=20,
        lease_seconds=3,
        pause=0.5,
        cuts=0.1,
        database="sqlite",
        servers=2,
    ),
    # A Redis that forgets its newest writes, then everything.
    "redis": Options(
        kills=2,
        store_restarts=4,
        flushes=1,
        clients=10,
        users=2,
        seconds=15,
        lease_seconds=3,
        pause=0.5,
        cuts=0.1,
        store="cache",
        fsync="everysec",
        servers=2,
    ),
}
SERVICES = pytest.mark.services


@pytest.mark.parametrize(
    "kind", [pytest.param("postgres", marks=SERVICES), "sqlite", pytest.param("redis", marks=SERVICES)]
)
def test_nothing_is_lost_doubled_or_stuck_while_everything_breaks(kind: str, tmp_path: Path) -> None:
    options = RUNS[kind]
    try:
        report = run(options, tmp_path / "history.jsonl")
    except Unavailable as reason:
        skip_or_fail(str(reason))
    found = figures(report.history.lines, report.truth)
    print(table(found, report.broken, report.memory, report.seconds))
    assert not report.broken, shown(report.broken)
    assert found.faults["kill"] == options.kills
    assert found.faults["roll"] == options.rolls * options.servers
    assert sum(found.faults.values()) == options.faults - options.rolls + options.rolls * options.servers
    assert found.client_cuts > 0
    assert found.resumptions > 0
    answered = {tool for (_, tool), outcomes in found.calls.items() if outcomes["answered"]}
    assert answered >= {"add", "agree", "count", "count_again", "look", "write"}
    if options.is_on_redis:
        assert found.outage_answers > 0
        assert len(found.returns) >= options.store_restarts // 2
        assert found.epochs > options.store_restarts // 2

"""The plan of faults: it follows from the seed, and has what was asked for."""

from collections import Counter

import pytest

from tests.chaos.faults import LONGEST_DOWN_SECONDS, QUIET_SECONDS, FaultKind, forgotten, plan
from tests.chaos.history import Forgotten
from tests.chaos.options import Options, parse

OPTIONS = Options(kills=9, rolls=2, store_restarts=5, flushes=1, reloads=3, seconds=100)


def test_the_plan_has_as_many_of_each_as_asked_for() -> None:
    counts = Counter(fault.kind for fault in plan(OPTIONS))
    assert counts == {
        "kill": 9,
        "roll": 2,
        "restart of PostgreSQL": 3,
        "restart of Redis": 2,
        "flush": 1,
        "reload": 3,
    }
    assert OPTIONS.faults == sum(counts.values())


def test_on_sqlite_servers_alone_are_struck() -> None:
    sqlite = Options(kills=9, rolls=2, store_restarts=5, flushes=1, reloads=3, seconds=100, database="sqlite")
    assert Counter(fault.kind for fault in plan(sqlite)) == {"kill": 9, "roll": 2}


def test_faults_come_one_after_the_other_over_the_whole_run() -> None:
    times = [fault.at for fault in plan(OPTIONS)]
    assert times == sorted(times)
    assert times[0] >= QUIET_SECONDS
    assert 90 <= times[-1] <= OPTIONS.seconds
    assert all(0 <= fault.down <= LONGEST_DOWN_SECONDS for fault in plan(OPTIONS))


def test_the_plan_follows_from_the_seed() -> None:
    other = Options(kills=9, rolls=2, store_restarts=5, flushes=1, reloads=3, seconds=100, seed=2)
    assert plan(OPTIONS) == plan(OPTIONS) != plan(other)


def test_a_run_without_a_length_has_time_for_all_its_faults() -> None:
    options, path = parse(["--kills", "100", "--store-restarts", "20", "--clients", "200"])
    assert (options.kills, options.clients) == (100, 200)
    assert options.seconds > 8 * options.faults > 960
    assert path.parent.is_dir()
    path.parent.rmdir()


@pytest.mark.parametrize(
    ("kind", "fsync", "forgets"),
    [
        ("restart of Redis", "always", ""),
        ("restart of Redis", "everysec", "the newest"),
        ("restart of Redis", "none", "all"),
        ("flush", "always", "all"),
        ("restart of PostgreSQL", "none", ""),
        ("kill", "none", ""),
    ],
)
def test_what_a_store_on_redis_forgets_follows_from_how_that_is_kept(
    kind: FaultKind, fsync: str, forgets: Forgotten
) -> None:
    assert forgotten(kind, Options(store="cache", fsync=fsync)) == forgets
    assert forgotten(kind, Options(store="database", fsync=fsync)) == ""

"""Failover: one script of steps, on every server, database and channel layer that there is."""

import contextlib
import json
from collections.abc import Callable, Generator, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests import services
from tests.live.failover.script import STEPS
from tests.live.failover.stage import Stage, Step
from tests.live.server import CONSUMERS, Kind, Served, at_once

pytestmark = [pytest.mark.live, pytest.mark.services, pytest.mark.timeout(300)]

HASTE = {
    "POLL_SECONDS": 0.2,
    "RETRY_MILLISECONDS": 50,
    "KEEPALIVE_SECONDS": 1,
    "LEASE_SECONDS": 9,
    "HANDLER_QUEUE": 512,
    "HANDLER_THREADS": 10,
}
AT_ONCE = 8
LAYERS = ("redis", "memory", "none", "deaf")
Failures = dict[str, Exception]


@pytest.fixture(scope="module", params=["sqlite", "postgres", "mariadb"])
def database(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Yield the URL of a database that is migrated."""
    with contextlib.ExitStack() as stack:
        url = f"sqlite:///{tmp_path_factory.mktemp('failover') / 'failover.sqlite3'}"
        if request.param == "postgres":
            url = stack.enter_context(services.postgres()).url
        elif request.param == "mariadb":
            url = stack.enter_context(services.mariadb()).url
        _account(tmp_path_factory.mktemp("migrate"), url, "django", "migrate", "--verbosity", "0")
        yield url


@pytest.fixture(scope="module")
def tokens(database: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return dict(json.loads(_account(tmp_path_factory.mktemp("tokens"), database, "tests.live.accounts", "make")))


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("kind", CONSUMERS)
def test_whatever_begins_at_one_process_goes_on_at_the_other(
    database: str, tokens: Mapping[str, str], kind: Kind, layer: str, tmp_path: Path
) -> None:
    with stage(kind, tmp_path, database, layer, tokens) as found:
        failures = play([step for step in STEPS if not step.loses_a], found)
        failures |= play_to_the_death([step for step in STEPS if step.loses_a], found)
        logs = found.a.log + found.b.log
    if failures:
        for title, error in failures.items():
            error.add_note(f"in the step: {title}")
        raise ExceptionGroup(f"{len(failures)} of {len(STEPS)} steps: {'; '.join(failures)}", [*failures.values()])
    assert "Traceback" not in logs


@contextlib.contextmanager
def stage(kind: Kind, folder: Path, database: str, layer: str, tokens: Mapping[str, str]) -> Iterator[Stage]:
    """Start two processes of one service at once."""
    # Tools that wait look into the database all the time, and connecting to it costs more than looking.
    environment = {"LIVE_LAYER": layer, "LIVE_MIGRATED": "1", "LIVE_CONN_MAX_AGE": "60"}
    with contextlib.ExitStack() as stack:
        if layer == "redis":
            environment["REDIS_URL"] = stack.enter_context(services.redis()).url
        both = [Served(kind, folder, database=database, mcp=HASTE, environment=environment) for _ in range(2)]
        a, b = stack.enter_context(at_once(*both))
        found = Stage(a=a, b=b, tokens=tokens)
        stack.callback(found.close)
        yield found


def play(steps: list[Step], stage: Stage) -> Failures:
    """Play steps at once, and those that tell everybody of a change in their order beside them."""
    telling = [step for step in steps if step.tells]
    lanes = [[step] for step in steps if not step.tells]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        failures = pool.map(
            lambda lane: _failures({step.title: _playing(step, stage) for step in lane}), [telling, *lanes]
        )
    return {title: error for found in failures for title, error in found.items()}


def play_to_the_death(steps: list[Step], stage: Stage) -> Failures:
    """Play steps to the point where they lose process A, kill it, let its leases end, and play them to their end."""
    running: dict[str, Generator[None]] = {}
    for step in steps:
        play = step.play(stage)
        assert isinstance(play, Generator)
        running[step.title] = play
    failures: Failures = {}

    def all_of(go_on: Callable[[Generator[None]], object]) -> None:
        left = [title for title in running if title not in failures]
        for found in pool.map(lambda title: _failures({title: lambda: go_on(running[title])}), left):
            failures.update(found)

    with ThreadPoolExecutor(len(steps)) as pool:
        all_of(next)
        process = stage.a.pid
        stage.a.kill()
        all_of(next)
        stage.end_leases(process)
        all_of(_end)
    return failures


def _playing(step: Step, stage: Stage) -> Callable[[], object]:
    return lambda: step.play(stage)


def _failures(plays: Mapping[str, Callable[[], object]]) -> Failures:
    failures: Failures = {}
    for title, play in plays.items():
        try:
            play()
        except Exception as error:
            failures[title] = error
    return failures


def _end(playing: Generator[None]) -> None:
    assert next(playing, "ended") == "ended", "a step goes on after its end"


def _account(folder: Path, database: str, *words: str) -> str:
    return Served(Kind.UVICORN, folder, database=database).run(*words)

"""The plain view keeps to Django's own rules about database connections.

With CONN_MAX_AGE 0: both servers give each request a thread of its own, where Django advises against another age.
"""

import secrets
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests import services
from tests.live.server import Kind, Served
from tests.live.wire import Caller
from tests.services import postgres_server, wait_until

pytestmark = [pytest.mark.live, pytest.mark.services]

PARALLEL = 8
CALLS = 80


@pytest.mark.parametrize("kind", [Kind.VIEW_ASGI, Kind.VIEW_WSGI])
def test_connections_are_given_back(kind: Kind, tmp_path: Path) -> None:
    name = f"view_{secrets.token_hex(4)}"
    with (
        services.postgres() as database,
        Served(
            kind,
            tmp_path,
            database=f"{database.url}?application_name={name}",
            environment={"LIVE_CONN_MAX_AGE": "0"},
        ) as served,
        postgres_server.connect(database) as watching,
    ):
        query = "SELECT count(*) FROM pg_stat_activity WHERE application_name = %s"
        counts: list[int] = []

        def count() -> int:
            row = watching.execute(query, [name]).fetchone()
            assert row is not None
            counts.append(int(row[0]))
            return counts[-1]

        sessions = [Caller(port=served.port) for _ in range(PARALLEL)]
        for caller in sessions:
            assert caller.initialize().status == 200

        def call(number: int) -> int:
            caller = sessions[number % PARALLEL]
            modern = caller.modern_call("in_thread").status
            return modern if number % 2 else caller.call("in_thread").status

        with ThreadPoolExecutor(PARALLEL) as pool:
            calls = [pool.submit(call, number) for number in range(CALLS)]
            while not all(done.done() for done in calls):
                count()
        assert {done.result() for done in calls} == {200}
        assert max(counts) <= 2 * PARALLEL
        wait_until(lambda: count() == 0, seconds=20, what="the connections to be given back")

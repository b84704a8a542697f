"""Ending Redis: what it has lost when it is there again is what its setting allows it to lose."""

import itertools
import threading
from pathlib import Path

import pytest
from redis.exceptions import RedisError

from tests.chaos.options import Options
from tests.chaos.topology import PERSISTENCE, Topology
from tests.services import PrivateRedis, Unavailable, redis_server, skip_or_fail

pytestmark = pytest.mark.services


class Counting:
    """Counts up in a Redis until that goes; `acknowledged` is how far it was told that it came."""

    def __init__(self, server: PrivateRedis) -> None:
        self.acknowledged = 0
        self._server = server
        self._began = threading.Event()
        self._thread = threading.Thread(target=self._count)

    def __enter__(self) -> "Counting":
        self._thread.start()
        assert self._began.wait(10)
        return self

    def __exit__(self, *details: object) -> None:
        self._thread.join(10)

    def _count(self) -> None:
        try:
            with redis_server.connect(self._server.service) as client:
                for number in itertools.count(1):
                    client.set("number", number)
                    self.acknowledged = number
                    if number == 100:
                        self._began.set()
        except RedisError:
            return


@pytest.mark.parametrize("fsync", PERSISTENCE)
def test_a_redis_that_was_ended_has_what_its_setting_promises(fsync: str, tmp_path: Path) -> None:
    topology = Topology(Options(store="cache", fsync=fsync), tmp_path)
    try:
        with PrivateRedis(**PERSISTENCE[fsync]) as topology.layer:
            with Counting(topology.layer) as counting:
                topology.end_redis()
            topology.layer.start()
            with redis_server.connect(topology.layer.service) as client:
                kept = int(client.get("number") or 0)
    except Unavailable as reason:
        skip_or_fail(str(reason))
    if fsync == "always":
        assert kept >= counting.acknowledged
    elif fsync == "everysec":
        assert 100 <= kept < counting.acknowledged
    else:
        assert kept == 0

"""A service that is stopped on one store and started on another: its clients go on where they were."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import services
from tests.live.failover.stage import begin, new_name, progress, resume, structured, succeeded
from tests.live.server import Kind, Served
from tests.live.wire import Caller

pytestmark = [pytest.mark.live, pytest.mark.services]

KEY = "org.django-mcp/idempotencyKey"
DATABASE = {"BACKEND": "django_mcp.sessions.stores.database.DatabaseStore"}
CACHE = {"BACKEND": "django_mcp.sessions.stores.cache.CacheStore"}


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[Served, Served]]:
    """Yield a process on the database and one on Redis, which has the other store beside it; neither runs."""
    with services.redis() as redis:
        caches = {"default": {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": redis.url}}
        environment = {"LIVE_CACHES": json.dumps(caches)}
        terms: dict[str, Any] = {"POLL_SECONDS": 0.2, "LEASE_SECONDS": 9}
        yield (
            Served(Kind.UVICORN, tmp_path, mcp={**terms, "STORES": {"default": DATABASE}}, environment=environment),
            Served(
                Kind.UVICORN,
                tmp_path,
                mcp={**terms, "STORES": {"default": CACHE, "former": DATABASE}},
                environment=environment,
            ),
        )


def allow(caller: Caller, name: str, steps: int = 1, key: str = "") -> dict[str, Any]:
    meta = {"_meta": {KEY: key}} if key else {}
    return structured(
        caller.request("tools/call", {"name": "allow", "arguments": {"name": name, "steps": steps}, **meta})
    )


def count(caller: Caller, name: str, what: str) -> int:
    return int(structured(caller.call("count_entries", {"note": f"{name}: {what}"}))["result"])


def test_a_service_goes_on_with_another_store(pair: tuple[Served, Served]) -> None:
    old, new = pair
    running, ended, lost, keyed = (new_name() for _ in range(4))
    with old:
        caller = Caller(port=old.port)
        assert caller.initialize().status == 200
        outcome = allow(caller, keyed, key="key")
        streams = {}
        for tool, name in (("follow", running), ("follow_once", ended), ("follow_once", lost)):
            stream, message = begin(caller, tool, name=name, upto=3)
            allow(caller, name)
            assert progress(stream, 1) == [1]
            stream.close()
            streams[name] = stream.last_event_id, message
        allow(caller, ended, 3)
        with resume(caller, streams[ended][0]) as resumed:
            whole = [*resumed.rest()]
    moved = json.loads(new.run("tests.live.move_log", "former", "default"))
    assert moved["left"] == 0
    assert (moved["continued"], moved["interrupted"]) == (1, 1)
    assert moved["changed"]["streams"] == moved["read"]["streams"] >= 3
    with new:
        there = caller.at(new.port)
        place, message = streams[ended]
        with resume(there, place) as resumed:
            assert resumed.rest() == whole
        assert [one["params"]["progress"] for one in whole[:-1]] == [2, 3]
        assert "result" in whole[-1]

        place, message = streams[running]
        with resume(there, place) as resumed:
            allow(there, running, 3)
            assert progress(resumed, 3) == [2, 3]
            assert succeeded(resumed.next_response(message))["process"] == new.pid
            assert resumed.rest() == []

        place, message = streams[lost]
        with resume(there, place) as resumed:
            error = resumed.next_response(message)["error"]
        assert error["data"] == {"reason": "worker_lost"}
        assert count(there, lost, "run") == 1

        assert allow(there, keyed, key="key") == outcome
        assert count(there, keyed, "step") == 1

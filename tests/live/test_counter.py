"""A counter that 64 callers raise at three processes at once is exact, wherever the state is kept."""

import contextlib
import itertools
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import boto3
import pytest
from django.test import override_settings
from redis import Redis

from django_mcp.core.token import TokenClaims
from django_mcp.sessions.sealing import unseal
from tests import services
from tests.everything.settings import SECRET_KEY
from tests.live.server import Kind, Served
from tests.live.test_state import CALLERS, META_KEY, caller, structured
from tests.live.wire import Caller
from tests.sessions.aws_stores import bucket_storage
from tests.sessions.aws_stores import make as make_on_dynamodb
from tests.sessions.objects import names_in

pytestmark = [pytest.mark.live, pytest.mark.timeout(600)]

EACH: Final = 10
KINDS: Final = (Kind.DAPHNE, Kind.UVICORN, Kind.UVICORN)
ENTRIES: Final = {"number": 100, "size": 1_000}
"""Entries beside the counter: more than the root of a manifest holds, so that the counter stands on a page."""
DOCUMENT_BYTES: Final = 5 * 1024 * 1024
BEFORE: Final = 2
"""Generations before the counting."""
BUSY: Final = "too many other calls change the same conversation at once"
STORES: Final = "django_mcp.sessions.stores"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """Where three processes keep what they know.

    Args:
        store: the dotted path of the backend below the stores' package.
        each: how often each caller raises the counter.
        is_stand_in: the server of it is one for tests, which serves one request after the other: where the machine is
            busy, a call may wait for its turn longer than a commit goes on trying, and is turned away.
        count: says how many values are kept outside of the database; None where nothing is.
    """

    database: str
    store: str = "database.DatabaseStore"
    options: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    each: int = EACH
    is_stand_in: bool = False
    count: Callable[[], int] | None = None


@contextlib.contextmanager
def on_sqlite(folder: Path) -> Iterator[Ground]:
    yield Ground(database=f"sqlite:///{folder / 'counter.sqlite3'}")


@contextlib.contextmanager
def on_postgres(_: Path) -> Iterator[Ground]:
    with services.postgres() as service:
        yield Ground(database=service.url)


@contextlib.contextmanager
def on_mariadb(_: Path) -> Iterator[Ground]:
    with services.mariadb() as service:
        yield Ground(database=service.url)


@contextlib.contextmanager
def behind_a_cache(_: Path) -> Iterator[Ground]:
    with services.postgres() as database, services.redis() as service, client_of(service) as client:
        yield Ground(
            database=database.url,
            store="cached_database.CachedDatabaseStore",
            environment=cache_of(service),
            count=lambda: len(client.keys()),
        )


@contextlib.contextmanager
def beside_files(folder: Path) -> Iterator[Ground]:
    files = folder / "files"
    storage = {"BACKEND": "django.core.files.storage.FileSystemStorage", "OPTIONS": {"location": str(files)}}
    with services.postgres() as database:
        yield Ground(database=database.url, **blobs_in(storage), count=lambda: len(names_in(files)))


@contextlib.contextmanager
def beside_s3(_: Path) -> Iterator[Ground]:
    with services.postgres() as database, services.aws() as server:
        storage = bucket_storage(server)
        pages = boto3.client("s3", endpoint_url=server.url).get_paginator("list_objects_v2")

        def count() -> int:
            found = pages.paginate(Bucket=storage["OPTIONS"]["bucket_name"])
            return sum(len(page.get("Contents", ())) for page in found)

        yield Ground(database=database.url, **blobs_in(storage), each=3, is_stand_in=True, count=count)


@contextlib.contextmanager
def on_redis(_: Path) -> Iterator[Ground]:
    with services.postgres() as database, services.redis() as service, client_of(service) as client:
        yield Ground(
            database=database.url,
            store="cache.CacheStore",
            environment=cache_of(service),
            count=lambda: len(client.keys("*:b:*")),
        )


@contextlib.contextmanager
def on_dynamodb(_: Path) -> Iterator[Ground]:
    with services.postgres() as database, services.aws() as server:
        options = server.new_table()
        table = make_on_dynamodb(options).table
        assert table.create()
        pages = table.client.get_paginator("scan")
        yield Ground(
            database=database.url,
            store="dynamodb.DynamoDBStore",
            options=options,
            each=2,
            is_stand_in=True,
            count=lambda: sum(page["Count"] for page in pages.paginate(TableName=table.name, Select="COUNT")),
        )


def blobs_in(storage: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "options": {"BLOBS": "blobs", "BLOBS_FROM_BYTES": 1_000},
        "environment": {"LIVE_STORAGES": json.dumps({"blobs": storage})},
    }


def cache_of(service: services.Service) -> dict[str, str]:
    cache = {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": service.url}
    return {"LIVE_CACHES": json.dumps({"default": cache})}


def client_of(service: services.Service) -> Redis:
    return Redis(host=service.host, port=service.port, db=int(service.database))


GROUNDS: Final = [
    on_sqlite,
    *(
        pytest.param(ground, marks=pytest.mark.services)
        for ground in (on_postgres, on_mariadb, behind_a_cache, beside_files, beside_s3, on_redis, on_dynamodb)
    ),
]


@contextlib.contextmanager
def three(folder: Path, ground: Ground) -> Iterator[list[Served]]:
    store = {"BACKEND": f"{STORES}.{ground.store}", "OPTIONS": dict(ground.options)}
    # Every generation is kept, so that each can be looked at.
    mcp = {"HANDLER_QUEUE": 512, "STATE_HISTORY": 1_000, "STORES": {"default": store}}
    environment = {"LIVE_CONN_MAX_AGE": "60", **ground.environment}
    with contextlib.ExitStack() as stack:
        yield [
            stack.enter_context(Served(kind, folder, database=ground.database, mcp=mcp, environment=environment))
            for kind in KINDS
        ]


@pytest.mark.parametrize("place", GROUNDS, ids=lambda place: place.__name__)
def test_the_counter_is_as_many_as_were_acknowledged(
    place: Callable[[Path], contextlib.AbstractContextManager[Ground]], tmp_path: Path
) -> None:
    with place(tmp_path) as ground, three(tmp_path, ground) as served:
        alice = caller(json.loads(served[0].run("tests.live.accounts", "make"))["alice"])
        here, *others = (alice.at(one.port) for one in served)
        handle = structured(here.modern_call("keep_entries", ENTRIES))["handle"]
        here.modern_call("keep_document", {"size": DOCUMENT_BYTES, "handle": handle})

        for there in (here, *others):
            there.capabilities = {"extensions": {"org.django-mcp/resumption": {}}}
        calls = CALLERS * ground.each
        tally = count_at_once([here, *others], handle, ground.each)
        assert tally.errors == []
        assert tally.processes == {one.pid for one in served}
        # Each call made one generation, and no two the same.
        assert sorted(tally.generations) == list(range(BEFORE + 1, BEFORE + calls + 1))

        for there in (here, *others):
            assert structured(there.modern_call("recall", {"key": "total", "handle": handle}))["value"] == calls
            assert structured(there.modern_call("measure_document", {"handle": handle}))["result"] == DOCUMENT_BYTES
        history = here.modern("org.django-mcp/resumption/history", {"handle": handle, "limit": 1_000}).result
        assert history["generation"] == BEFORE + calls
        assert [past["generation"] for past in history["generations"]] == list(range(BEFORE + calls, 0, -1))
        assert len({past["snapshot"] for past in history["generations"]}) == BEFORE + calls
        for generation in range(BEFORE + 1, BEFORE + calls, calls // 8):
            assert total_at(others[0], handle, generation) == generation - BEFORE
        if ground.count is not None:
            assert ground.count() >= calls
        # A store that turns calls away under this load leaves its callers to do its work.
        assert tally.busy == 0 or ground.is_stand_in
        for one in served:
            assert "Traceback" not in one.log


@dataclass(slots=True)
class Tally:
    """What the callers were told: of each acknowledged call its generation, and how many had to come again."""

    generations: list[int] = field(default_factory=list)
    processes: set[int] = field(default_factory=set)
    errors: list[str] = field(default_factory=list)
    busy: int = 0


def count_at_once(places: list[Caller], handle: str, each: int) -> Tally:
    """Have 64 callers raise the counter, so often each, at one process after the other."""
    barrier, lock, numbers, tally = threading.Barrier(CALLERS), threading.Lock(), itertools.count(), Tally()

    def work(number: int) -> None:
        barrier.wait(30)
        for step in range(each):
            tool = ("increment", "increment_async")[(number + step) % 2]
            while not counted(places[next(numbers) % len(places)], tool):
                pass

    def counted(there: Caller, tool: str) -> bool:
        answer = there.modern_call(tool, {"handle": handle})
        is_busy = bool(answer.result.get("isError")) and BUSY in answer.text
        with lock:
            if is_busy:
                tally.busy += 1
            elif answer.result.get("isError"):
                tally.errors.append(answer.text)
            else:
                tally.generations.append(generation_of(answer.result["_meta"][META_KEY]))
                tally.processes.add(structured(answer)["process"])
        return not is_busy

    with override_settings(SECRET_KEY=SECRET_KEY), ThreadPoolExecutor(CALLERS) as pool:
        list(pool.map(work, range(CALLERS)))
    return tally


def generation_of(token: str) -> int:
    """Return the generation that a token of the servers names."""
    return TokenClaims.unpack(unseal("django_mcp.resumption", token, prefix="v2:")).generation


def total_at(there: Caller, handle: str, generation: int) -> int:
    """Return the counter as it was at a generation."""
    fork = there.modern("org.django-mcp/resumption/fork", {"handle": handle, "generation": generation}).result
    return int(structured(there.modern_call("recall", {"key": "total", "handle": fork["handle"]}))["value"])

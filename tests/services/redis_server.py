"""Redis for tests: a server that is there or a private one, and a numbered database of the test's own on it."""

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from redis import Redis
from redis.exceptions import RedisError

from tests.services.ports import HOST
from tests.services.private import PrivateServer, find_binary
from tests.services.service import Service
from tests.services.unavailable import Unavailable, skip_or_fail

PORT = 6379
DATABASES = range(1, 16)
CLAIM_SECONDS = 6 * 60 * 60

# Deletes a claim only where it is still one's own.
RELEASE = "if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) end return 0"


def connect(service: Service) -> Redis:
    """Return a client that gives up within seconds."""
    return Redis(
        host=service.host,
        port=service.port,
        db=int(service.database or 0),
        username=service.user or None,
        password=service.password or None,
        socket_connect_timeout=3,
        socket_timeout=10,
    )


class PrivateRedis(PrivateServer):
    """Run a Redis of the tests' own; with `durable` every write is on disk before its answer, and outlives a kill."""

    title: ClassVar[str] = "Redis"
    users: ClassVar[tuple[str, ...]] = ("redis",)

    def __init__(self, *, durable: bool = False, **options: str) -> None:
        super().__init__()
        self.options = {"appendonly": "yes" if durable else "no", "appendfsync": "always", "save": "", **options}

    def prepare(self, folder: Path) -> None:
        find_binary("redis-server", "valkey-server")

    def command(self, folder: Path) -> list[str]:
        settings = {"bind": HOST, "port": str(self.port), "dir": str(folder), "daemonize": "no", **self.options}
        words = [word for key, value in settings.items() for word in (f"--{key.replace('_', '-')}", value)]
        return [find_binary("redis-server", "valkey-server"), *words]

    def is_ready(self) -> bool:
        return is_reachable(self.service)

    @property
    def service(self) -> Service:
        return Service(scheme="redis", host=HOST, port=self.port, database="0")


def is_reachable(service: Service) -> bool:
    """Tell whether the server lets us in."""
    try:
        with connect(service) as client:
            return bool(client.ping())
    except RedisError:
        return False


def find_default() -> Service | None:
    """Return the server at the default port of this machine, if it lets us in."""
    service = Service(scheme="redis", host=HOST, port=PORT, database="0")
    return service if is_reachable(service) else None


@contextlib.contextmanager
def own_database(server: Service) -> Iterator[Service]:
    """Claim an empty numbered database of the server, and empty it again at the end.

    Raises Unavailable where none is empty. Publish and subscribe know no databases: prefix their channels.
    """
    mark = secrets.token_hex(8)
    claimed: Service | None = None
    with connect(server.on("0")) as client:
        for number in DATABASES:
            key = f"django_mcp:test:database:{number}"
            if not client.set(key, mark, nx=True, ex=CLAIM_SECONDS):
                continue
            with connect(server.on(str(number))) as own:
                if own.dbsize() == 0:
                    claimed = server.on(str(number))
                    break
            client.eval(RELEASE, 1, key, mark)
    if claimed is None:
        msg = f"every database of the Redis on port {server.port} is in use"
        raise Unavailable(msg)
    try:
        yield claimed
    finally:
        # A server that the test has killed took the database with it.
        with contextlib.suppress(RedisError), connect(claimed) as own, connect(server.on("0")) as client:
            own.flushdb()
            client.eval(RELEASE, 1, f"django_mcp:test:database:{claimed.database}", mark)


@contextlib.contextmanager
def redis() -> Iterator[Service]:
    """Give an empty database of one's own on a real Redis; skip or fail where none can be had.

    The server is the one of `TEST_REDIS_URL`, else the one at the default port, else a private one.
    """
    with contextlib.ExitStack() as stack:
        try:
            service = stack.enter_context(own_database(_find_server()))
        except Unavailable:
            try:
                service = stack.enter_context(own_database(stack.enter_context(PrivateRedis()).service))
            except Unavailable as reason:
                skip_or_fail(f"no Redis: {reason}")
        yield service


def _find_server() -> Service:
    if url := os.environ.get("TEST_REDIS_URL"):
        return Service.from_url(url, scheme="redis", port=PORT)
    if service := find_default():
        return service
    msg = f"nothing lets us in at port {PORT}"
    raise Unavailable(msg)

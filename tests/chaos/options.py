"""How a run is to be: read from the command line, or given by a test."""

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

FSYNC: Final = ("always", "everysec", "none")


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Numbers of faults are exact: a run goes on until each has happened, and at least for `seconds`."""

    kills: int = 0
    rolls: int = 0
    store_restarts: int = 0
    flushes: int = 0
    reloads: int = 0
    clients: int = 20
    users: int = 4
    seconds: float = 30.0
    seed: int = 1
    database: str = "postgres"
    store: str = "database"
    fsync: str = "always"
    servers: int = 3
    keys: bool = True
    patience: float = 120.0
    """So many seconds after the last fault each piece of work has come to an end."""
    pause: float = 1.0
    """How long a client rests between two pieces of work, on average."""
    cuts: float = 0.05
    """How probable it is that a client cuts its own connection at an event."""
    lease_seconds: int = 30

    @property
    def is_on_redis(self) -> bool:
        """Say whether streams and states are on Redis."""
        return self.store == "cache" and self.database == "postgres"

    @property
    def faults(self) -> int:
        return self.kills + self.rolls + self.store_restarts + self.flushes + self.reloads


def parse(words: Sequence[str] | None = None) -> tuple[Options, Path]:
    """Read the command line; return how the run is to be, and where its history goes."""
    given = vars(_parser().parse_args(words))
    seconds, path = given.pop("seconds"), given.pop("history")
    if path is None:
        path = Path(tempfile.mkdtemp(prefix="django-mcp-chaos-")) / "history.jsonl"
    options = Options(**given, seconds=0)
    # About as often as a server can die and be back again on a busy machine.
    least = 30.0 + 8.0 * options.faults
    return Options(**given, seconds=least if seconds is None else seconds), path


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    add = parser.add_argument
    add("--kills", type=int, default=20, help="kill -9 of a server, which is started again (%(default)s)")
    add("--rolls", type=int, default=1, help="restarts of all servers by SIGTERM, one after the other (%(default)s)")
    add("--store-restarts", type=int, default=4, help="restarts of PostgreSQL and Redis, in turns (%(default)s)")
    add("--flushes", type=int, default=1, help="FLUSHALL of Redis (%(default)s)")
    add("--reloads", type=int, default=1, help="reloads of nginx (%(default)s)")
    add("--clients", type=int, default=50, help="clients of both eras (%(default)s)")
    add("--users", type=int, default=6, help="users that they belong to (%(default)s)")
    add("--seconds", type=float, default=None, help="at least so long (what the faults need)")
    add("--seed", type=int, default=1, help="chooses every fault and every client's work (%(default)s)")
    add("--database", choices=("postgres", "sqlite"), default="postgres", help="sqlite: no nginx, no Redis")
    add("--store", choices=("database", "cache"), default="database", help="cache: streams and states on Redis")
    add("--fsync", choices=FSYNC, default="always", help="its appendfsync; none: nothing on disk (%(default)s)")
    add("--servers", type=int, default=3, help="server processes, Daphne and uvicorn in turns (%(default)s)")
    add("--no-keys", dest="keys", action="store_false", help="send no idempotency keys, so repeat less")
    add(
        "--patience",
        type=float,
        default=120.0,
        metavar="SECONDS",
        help="no client may wait longer when nothing breaks any more (%(default)s)",
    )
    add("--pause", type=float, default=1.0, metavar="SECONDS", help="rest between pieces of work (%(default)s)")
    add("--cuts", type=float, default=0.05, metavar="SHARE", help="events at which a client leaves (%(default)s)")
    add("--lease-seconds", type=int, default=30, help="time of a lease on a call (%(default)s)")
    add("--history", type=Path, default=None, metavar="FILE", help="where the history goes (a new temporary folder)")
    return parser

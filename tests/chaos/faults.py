"""What is broken, and when. The plan follows from the seed alone; whom a fault strikes is chosen among who is up."""

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Literal

from tests.chaos.history import Forgotten, History, Struck
from tests.chaos.options import Options
from tests.chaos.outages import Outages
from tests.chaos.topology import Server, Topology
from tests.services import redis_server

FaultKind = Literal["kill", "roll", "restart of PostgreSQL", "restart of Redis", "flush", "reload"]

LONGEST_DOWN_SECONDS: Final = 3.0
QUIET_SECONDS: Final = 5.0
"""How long clients work undisturbed before the first fault."""
DOWN_SECONDS: Final = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One fault; `down` is how long what was struck stays down."""

    at: float
    kind: FaultKind
    down: float


def plan(options: Options) -> list[Fault]:
    """Return all faults of a run, by time: as many as asked for, spread over its length."""
    rng = random.Random(f"{options.seed} faults")
    counts: dict[FaultKind, int] = {"kill": options.kills, "roll": options.rolls}
    if options.database == "postgres":
        # PostgreSQL has the first turn.
        restarts = options.store_restarts
        counts |= {"restart of PostgreSQL": (restarts + 1) // 2, "restart of Redis": restarts // 2}
        counts |= {"flush": options.flushes, "reload": options.reloads}
    kinds = [kind for kind, count in counts.items() for _ in range(count)]
    rng.shuffle(kinds)
    step = max(options.seconds - QUIET_SECONDS, 0) / max(len(kinds), 1)
    return [
        Fault(at=QUIET_SECONDS + (number + rng.random()) * step, kind=kind, down=rng.uniform(0, LONGEST_DOWN_SECONDS))
        for number, kind in enumerate(kinds)
    ]


def forgotten(kind: FaultKind, options: Options) -> Forgotten:
    """Say what the store may not know any more after a fault."""
    if not options.is_on_redis or kind not in {"flush", "restart of Redis"}:
        return ""
    if kind == "flush" or options.fsync == "none":
        return "all"
    return "the newest" if options.fsync == "everysec" else ""


@dataclass(slots=True)
class Striker:
    """Strikes a topology as planned. What takes time goes on beside the faults that come after it."""

    topology: Topology
    history: History
    options: Options
    tell: Callable[[str], None]
    _rng: random.Random = field(init=False)
    outages: Outages | None = None
    _released: asyncio.Condition = field(default_factory=asyncio.Condition)
    _store: asyncio.Lock = field(default_factory=asyncio.Lock)

    def __post_init__(self) -> None:
        self._rng = random.Random(f"{self.options.seed} targets")

    async def strike_all(self) -> None:
        """Strike, and return when everything is up again."""
        began = self.history.now()
        async with asyncio.TaskGroup() as group:
            for fault in plan(self.options):
                await asyncio.sleep(max(0.0, began + fault.at - self.history.now()))
                await self._strike(fault, group)
        await asyncio.sleep(max(0.0, began + self.options.seconds - self.history.now()))

    async def _strike(self, fault: Fault, group: asyncio.TaskGroup) -> None:
        match fault.kind:
            case "kill":
                group.create_task(self._kill(await self._hold(), fault))
            case "roll":
                group.create_task(self._roll(fault))
            case "restart of Redis":
                group.create_task(self._restart_redis(fault))
            case _:
                group.create_task(self._strike_store(fault))

    async def _kill(self, server: Server, fault: Fault) -> None:
        began = self.history.now()
        await asyncio.to_thread(server.kill)
        await asyncio.sleep(fault.down)
        await self._start(server)
        self._note(fault.kind, server.name, began)

    async def _roll(self, fault: Fault) -> None:
        for server in self.topology.servers:
            await self._hold(server)
            began = self.history.now()
            await asyncio.to_thread(server.terminate)
            await self._start(server)
            self._note(fault.kind, server.name, began)

    async def _strike_store(self, fault: Fault) -> None:
        async with self._store:
            began = self.history.now()
            await asyncio.to_thread(self._break_store, fault)
            self._note(fault.kind, "", began)

    async def _restart_redis(self, fault: Fault) -> None:
        """End Redis, and start it after a while, in which it is asked of every server what it says."""
        topology = self.topology
        layer = topology.layer
        assert layer is not None
        async with self._store:
            began = self.history.now()
            await asyncio.to_thread(topology.end_redis)
            if self.outages is not None:
                await self.outages.ask_all()
            await asyncio.sleep(max(0.0, began + fault.down - self.history.now()))
            await asyncio.to_thread(layer.start)
            self._note(fault.kind, "", began)
            if self.outages is not None:
                await self.outages.see_all_return()

    def _break_store(self, fault: Fault) -> None:
        topology = self.topology
        match fault.kind:
            case "restart of PostgreSQL":
                topology.restart_database()
            case "flush" if topology.layer is not None:
                with redis_server.connect(topology.layer.service) as client:
                    client.flushall()
            case "reload" if topology.balancer is not None:
                topology.balancer.reload()

    async def _hold(self, wanted: Server | None = None) -> Server:
        """Return a server that is up, or the wanted one, which nobody else strikes meanwhile.

        Another one stays up, so that somebody is left to go on.
        """
        least = min(2, len(self.topology.servers))

        def can_be_struck() -> bool:
            up = self.topology.up()
            return len(up) >= least and (wanted is None or wanted in up)

        async with asyncio.timeout(DOWN_SECONDS), self._released:
            await self._released.wait_for(can_be_struck)
            server = wanted or self._rng.choice(self.topology.up())
            server.is_held = True
            return server

    async def _start(self, server: Server) -> None:
        await asyncio.to_thread(server.restart)
        async with self._released:
            server.is_held = False
            self._released.notify_all()

    def _note(self, kind: FaultKind, target: str, began: float) -> None:
        now = self.history.now()
        lasted = round(now - began, 2)
        self.history.add(
            Struck(at=began, kind=kind, target=target, lasted=lasted, forgets=forgotten(kind, self.options))
        )
        self.tell(f"{began:6.1f} s  {kind} {target}".rstrip())

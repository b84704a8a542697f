"""One run: everything is started, clients work while things break, and at the end it is judged what they saw."""

import asyncio
import itertools
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.chaos.client import Client, Doors, Scene, Seat
from tests.chaos.client_handshake import HandshakeClient
from tests.chaos.client_modern import ModernClient
from tests.chaos.conversation import Conversation, Shared
from tests.chaos.epochs import note_epochs
from tests.chaos.faults import Striker
from tests.chaos.history import History
from tests.chaos.judge import judge
from tests.chaos.options import Options
from tests.chaos.outages import Outages
from tests.chaos.rules.broken import Broken
from tests.chaos.strangers import Loot
from tests.chaos.topology import Memory, Topology
from tests.chaos.truth import Truth

TENANTS = ("", "north")


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a run came to."""

    history: History
    truth: Truth
    broken: list[Broken]
    memory: dict[str, Memory]
    seconds: float
    path: Path
    logs: Path


def run(options: Options, path: Path, *, tell: Callable[[str], None] = lambda text: None) -> Report:
    """Do one run, and leave its history at `path`, beside it what the database held and the logs of the servers.

    Each fault is told when it is over.

    Raises Unavailable where the machine lacks something, and what the harness itself did wrong.
    """
    with tempfile.TemporaryDirectory(prefix="django-mcp-chaos-") as name, Topology(options, Path(name)) as topology:
        history = History()
        try:
            asyncio.run(_play(topology, options, history, tell))
        finally:
            seconds = history.now()
            history.write(path)
            logs = path.with_suffix(".log")
            logs.write_text("".join(f"==> {server.name}\n{server.all_logs()}" for server in topology.servers))
        for server in topology.servers:
            server.measure()
        kept = path.with_suffix(".database.json")
        topology.run("tests.chaos.truth", str(kept))
        truth = Truth.read(kept)
        return Report(
            history=history,
            truth=truth,
            broken=judge(history.lines, truth),
            memory={server.name: server.memory for server in topology.servers},
            seconds=seconds,
            path=path,
            logs=logs,
        )


async def _play(topology: Topology, options: Options, history: History, tell: Callable[[str], None]) -> None:
    principals = [(user, tenant) for user in topology.tokens for tenant in TENANTS]
    scene = Scene(
        options=options,
        doors=Doors(*topology.ports),
        history=history,
        loot=Loot(),
        shared={_name(*one): Shared(Conversation(name=f"shared {_name(*one)}")) for one in principals},
    )
    clients: list[Client] = []
    for number, (user, tenant) in zip(range(options.clients), itertools.cycle(principals)):
        headers = {"Authorization": f"Bearer {topology.tokens[user]}", "X-Tenant": tenant}
        seat = Seat(number=number, principal=_name(user, tenant), headers=headers)
        # Every principal has clients of both eras.
        era = HandshakeClient if (number // len(principals)) % 2 == 0 else ModernClient
        clients.append(era(seat, scene))
    async with asyncio.TaskGroup() as group:
        for client in clients:
            group.create_task(client.live())
        outages = watcher = None
        if options.is_on_redis and topology.layer is not None:
            outages = Outages(topology, history)
            await outages.prepare()
            watcher = group.create_task(note_epochs(topology.layer.service, history))
        try:
            await Striker(topology, history, options, tell, outages).strike_all()
        finally:
            scene.end()
            if watcher is not None:
                watcher.cancel()
    if scene.crashes:
        raise scene.crashes[0]


def _name(user: str, tenant: str) -> str:
    return f"{user} of {tenant}" if tenant else user

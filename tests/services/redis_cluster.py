"""A Redis cluster of one node: there a script whose keys are of two slots fails."""

from typing import Any, ClassVar, Final

from tests.services.ports import free_port, wait_until
from tests.services.redis_server import PrivateRedis, connect

SLOTS: Final = 16_384


class PrivateRedisCluster(PrivateRedis):
    """Run one node that has all slots of a cluster."""

    title: ClassVar[str] = "Redis cluster"

    def __init__(self) -> None:
        # By itself the node would talk to others on a port that is higher by 10,000, which there may not be.
        super().__init__(cluster_enabled="yes", cluster_port=str(free_port()))

    def start(self) -> None:
        super().start()
        with connect(self.service) as client:
            if not _is_whole(client):
                client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, SLOTS - 1)
                wait_until(lambda: _is_whole(client), seconds=20, what="the slots of the cluster")


def _is_whole(client: Any) -> bool:
    return bool(client.execute_command("CLUSTER INFO")["cluster_state"] == "ok")

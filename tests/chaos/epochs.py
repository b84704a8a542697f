"""What the Redis of the store says of its epoch, noted whenever it is another one."""

import asyncio
from contextlib import suppress
from typing import Final

from redis.exceptions import RedisError

from tests.chaos.history import Epoch, History
from tests.services import Service, redis_server

KEY: Final = "django_mcp:default:{epoch}"
LOOK_SECONDS: Final = 0.1


async def note_epochs(service: Service, history: History) -> None:
    """Note each epoch from now on, until cancelled."""
    known = ""
    while True:
        found = await asyncio.to_thread(_epoch, service)
        if found and found != known:
            known = found
            history.add(Epoch(at=history.now(), name=found))
        await asyncio.sleep(LOOK_SECONDS)


def _epoch(service: Service) -> str:
    """Return the epoch, nothing where Redis is away or has none."""
    with suppress(RedisError), redis_server.connect(service) as client:
        found = client.hget(KEY, "epoch")
        return found.decode() if isinstance(found, bytes) else ""
    return ""

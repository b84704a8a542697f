"""A channel layer that takes every message and delivers none."""

import asyncio
import secrets
from typing import Any, NoReturn

from channels.layers import BaseChannelLayer


class DeafChannelLayer(BaseChannelLayer):  # type: ignore[misc]
    extensions = ("groups",)

    async def send(self, channel: str, message: dict[str, Any]) -> None:
        pass

    async def receive(self, channel: str) -> NoReturn:
        await asyncio.Event().wait()
        raise RuntimeError("nothing comes")

    async def new_channel(self, prefix: str = "deaf") -> str:
        return f"{prefix}.{secrets.token_hex(8)}"

    async def group_add(self, group: str, channel: str) -> None:
        pass

    async def group_discard(self, group: str, channel: str) -> None:
        pass

    async def group_send(self, group: str, message: dict[str, Any]) -> None:
        pass

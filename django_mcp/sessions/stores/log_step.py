"""The steps of the log store on Redis: bodies that stand on what `lua/log.lua` defines."""

from dataclasses import dataclass

from django_mcp.sessions.stores.redis_link import Step


@dataclass(frozen=True, slots=True)
class LogStep(Step):
    shared: str = "log"

"""A call of the past, as a handler of the same conversation sees it."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class PastCall:
    """A call of the conversation.

    Args:
        outcome: `succeeded`, `failed`, `conflict` or `cancelled`.
        milliseconds: how long it took.
        generation: what it made of the state is this generation; None if it changed nothing.
    """

    name: str
    outcome: str
    at: datetime
    milliseconds: int | None
    generation: int | None

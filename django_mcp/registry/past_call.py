"""A call of the past, as a handler of the same conversation sees it."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class PastCall:
    """A call that changed the conversation's state.

    Args:
        generation: what it made of the state is this generation.
    """

    name: str
    outcome: str
    at: datetime
    milliseconds: int | None
    generation: int

"""The cap on all conversations of a store: counted anew in good time before so many may have begun."""

from collections.abc import Callable
from typing import Final

from django_mcp.exceptions import Overloaded
from django_mcp.models.conversation import ConversationQuerySet
from django_mcp.models.session import RETRY_AFTER_SECONDS
from django_mcp.models.transactions import Pace, outages

MAX_CONVERSATIONS: Final = 1_000_000
COUNT_INTERVAL_SECONDS: Final = 60
EXPIRED_AT_ONCE: Final = 500


class Census:
    """What one process knows of how many there are. `rows()` returns those of the store.

    The processes together overshoot by a sixteenth of what was free, each, and less the closer it gets.
    """

    def __init__(self, rows: Callable[[], ConversationQuerySet], *, limit: int, using: str) -> None:
        self._rows = rows
        self._limit = limit
        self._using = using
        self._pace = Pace(COUNT_INTERVAL_SECONDS)
        self._uncounted = 0

    def admit(self) -> None:
        """Let one more begin. Raises Overloaded where there are as many as may be, and none of them is due."""
        self._uncounted -= 1
        if self._uncounted >= 0 and not self._pace.is_due(self._using):
            return
        with outages(self._using):
            free = self._limit - self._rows().active().count()
            if free <= 0:
                free += self._rows().expire(EXPIRED_AT_ONCE)
        if free <= 0:
            raise Overloaded(RETRY_AFTER_SECONDS, "global", message="Too many conversations")
        self._uncounted = free // 16

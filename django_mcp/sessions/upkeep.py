"""Collection by the way: now and then a call that commits takes a little of what is over along."""

import logging
import time
from threading import Lock
from typing import Final

from django_mcp.core.manifest import references
from django_mcp.models.transactions import Pace
from django_mcp.sessions.stores.state import StateStore

logger = logging.getLogger("django_mcp.state")

INTERVAL_SECONDS: Final = 60.0
CONVERSATIONS_AT_ONCE: Final = 10
"""Few enough that the call which does it is not late for it; `manage.py mcp gc` does the rest."""

_paces: dict[str, Pace] = {}
_lock = Lock()


def tidy(store: StateStore) -> None:
    """Collect a little, once in INTERVAL_SECONDS in this process, and never inside a transaction."""
    with _lock:
        pace = _paces.setdefault(store.alias, Pace(INTERVAL_SECONDS))
        if not pace.is_due(store.write_alias):
            return
    began = time.perf_counter()
    try:
        taken = store.collect(references, limit=CONVERSATIONS_AT_ONCE)
    except Exception:
        # What the call itself kept is committed, and its result must not suffer.
        logger.exception("nothing was collected")
        return
    logger.debug("collected %s in %.3f s", taken, time.perf_counter() - began)

"""Whether this process serves, and whether it should be given traffic: two views without authentication.

Stands beside the doors: a probe is an ordinary Django request, so Django's middleware and ALLOWED_HOSTS apply. What is
told is names, never why something failed; that is in the log.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from concurrent.futures import Future
from contextlib import suppress
from functools import cache
from typing import Final

from django.contrib.auth.decorators import login_not_required
from django.db import connections
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.http import require_safe

from django_mcp.conf import mcp_settings
from django_mcp.exceptions import ConfigurationError
from django_mcp.server.drain import RETRY_AFTER_SECONDS, process_drain
from django_mcp.server.threads import HandlerThreads
from django_mcp.sessions.stores import store, stores

logger = logging.getLogger("django_mcp.health")

ANSWER_SECONDS: Final = 2.0
"""A store that takes longer does not answer."""

FRESH_SECONDS: Final = 1.0
"""How long an answer is good for others who ask: a view that is open to all costs the stores next to nothing."""

DRAINING: Final = "draining"

_QUEUE: Final = 1_000
_NAME: Final = "ready"
"""Names nothing: that there is none is an answer too."""


@login_not_required
@require_safe
async def healthz(request: HttpRequest) -> HttpResponse:
    """Say that the process serves."""
    return _answer(200, {"status": "ok"})


@login_not_required
@require_safe
async def readyz(request: HttpRequest) -> HttpResponse:
    """Say whether this process should be given traffic: it is not about to go, and every store answers."""
    drain = process_drain()
    drain.attend()
    failing = [DRAINING] if drain.is_draining else await store_checks().failing()
    if not failing:
        return _answer(200, {"status": "ok"})
    response = _answer(503, {"status": "unavailable", "failing": failing})
    response.headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
    return response


class StoreChecks:
    """Asks the stores, each on a thread of its own that keeps no connection: busy handlers do not delay a probe, and
    a store that hangs holds one thread however often is asked.
    """

    def __init__(self) -> None:
        self._threads = HandlerThreads(size=len(mcp_settings.STORES), queue=_QUEUE)
        self._lock = threading.Lock()
        self._asked: dict[str, tuple[float, Future[bool]]] = {}

    async def failing(self) -> list[str]:
        """Return the names of what does not answer, `store:<alias>`, in ANSWER_SECONDS at most."""
        asked = {alias: asyncio.wrap_future(self._ask(alias)) for alias in stores}
        done, _ = await asyncio.wait(asked.values(), timeout=ANSWER_SECONDS)
        return [f"store:{alias}" for alias, future in asked.items() if future not in done or not future.result()]

    def _ask(self, alias: str) -> Future[bool]:
        with self._lock:
            since, future = self._asked.get(alias, (0.0, None))
            if future is None or (future.done() and time.monotonic() - since > FRESH_SECONDS):
                lease = self._threads.lease()
                future = lease.submit(_answers, alias)
                future.add_done_callback(lambda _: lease.release())
                self._asked[alias] = time.monotonic(), future
        return future


def _answers(alias: str) -> bool:
    try:
        asked = store(alias)
        asked.peek(_NAME, _NAME, _NAME)
        # A backend may keep conversations somewhere else, or not at all.
        with suppress(ConfigurationError):
            asked.state.probe()
    except Exception:
        logger.warning("the store %r does not answer", alias, exc_info=True)
        return False
    finally:
        connections.close_all()
    return True


@cache
def store_checks() -> StoreChecks:
    """Return the checks of this process."""
    return StoreChecks()


def _answer(status: int, body: dict[str, object]) -> HttpResponse:
    return JsonResponse(body, status=status, headers={"Cache-Control": "no-store"})

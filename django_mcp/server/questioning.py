"""Questions to the client of a session, put by one process and answered at any other.

A question is in the store before it is on a stream, and what waits for its answer holds neither thread nor connection.
A process that takes a call over finds there what the call had asked, and goes on with the answers that it has.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

from django.utils import timezone
from mcp.shared.exceptions import MCPError
from mcp_types import INTERNAL_ERROR, ErrorData

from django_mcp.conf import mcp_settings
from django_mcp.core.canonical import digest
from django_mcp.exceptions import StoreUnavailable
from django_mcp.server.capabilities import require_declared_for
from django_mcp.server.event_writer import Entry
from django_mcp.server.log import Log, outlasting
from django_mcp.server.wake import wake_bus
from django_mcp.server.watch import watch_of
from django_mcp.server.wire import encode_notification, encode_request, logger
from django_mcp.sessions.stores import QuestionRecord

if TYPE_CHECKING:
    from django_mcp.server.run import Run

_GRACE_SECONDS = 1.0
"""A question ends in the store by the clock of whoever reads it; so long after its time nobody waits for that."""


class Questioning:
    """What one call asks. `continues` says that another process may have asked some of it before."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._asked: Counter[str] = Counter()
        self._open: set[str] = set()
        self.continues = False

    async def ask(self, method: str, params: Mapping[str, Any] | None, timeout: float | None) -> dict[str, Any]:
        """Return the client's answer.

        Raises:
            MCPError: the client answered with an error or not in time, or cannot be asked this.
        """
        run = self._run
        require_declared_for(method, params, run.session.capabilities_data)
        seconds = timeout or mcp_settings.QUESTION_SECONDS
        try:
            async with asyncio.timeout(seconds):
                await run.reply.opened()
                key = self._key(method, params)
                record = await self._known(key)
                question = record.id if record is not None else await self._put(method, params, seconds, key)
        except TimeoutError:
            raise _in_time(method) from None
        answer = await _answer(run.reply.log, run.session.key, question, seconds)
        self._open.discard(question)
        if answer is None:
            reason = {"requestId": question, "reason": "timed out"}
            run.reply.say(Entry(author=run, body=encode_notification("notifications/cancelled", reason)))
            raise _in_time(method)
        return _result(answer)

    async def withdraw(self) -> None:
        """Cancel what is not answered: the call has ended."""
        if not self._open:
            return
        log = self._run.reply.log
        try:
            await log.do(log.store.withdraw, self._run.session.key, self._open)
        except StoreUnavailable as error:
            # They end by the clock.
            logger.warning("questions of a call that has ended were not withdrawn: %s", error)

    def _key(self, method: str, params: Mapping[str, Any] | None) -> str:
        """Return what a question is called by, whichever process runs the call that asks it."""
        name = f"{self._run.call.question or ''}:{digest([method, params])}"[-180:]
        self._asked[name] += 1
        return f"{name}:{self._asked[name]}"

    async def _known(self, key: str) -> QuestionRecord | None:
        """Return the question of this name that another process has put, if it counts and the client has seen it."""
        if not self.continues:
            return None
        run = self._run
        log = run.reply.log
        for record in await outlasting(lambda: log.do(log.store.questions_of, run.id)):
            if record.key != key:
                continue
            if record.state == "answered" or (record.state == "waiting" and await run.reply.holds(record.id)):
                self._open.add(record.id)
                return record
        return None

    async def _put(self, method: str, params: Mapping[str, Any] | None, seconds: float, key: str) -> str:
        run = self._run
        log = run.reply.log
        question = await outlasting(
            lambda: log.do(log.store.ask, run.session.key, lifetime_seconds=seconds, call=run.id, key=key)
        )
        self._open.add(question)
        entry = Entry(author=run, body=encode_request(question, method, params))
        run.reply.say(entry)
        await run.reply.written(entry)
        return question


async def ask_apart(
    log: Log,
    session: str,
    method: str,
    params: Mapping[str, Any] | None,
    timeout: float | None,
    send: Callable[[bytes], Awaitable[None]],
) -> dict[str, Any]:
    """Ask something that belongs to no call, by `send`, and return the answer. Raises as `Questioning.ask` does."""
    seconds = timeout or mcp_settings.QUESTION_SECONDS
    question = await log.do(log.store.ask, session, lifetime_seconds=seconds)
    try:
        await send(encode_request(question, method, params))
        answer = await _answer(log, session, question, seconds)
    except BaseException:
        await log.do(log.store.withdraw, session, [question])
        raise
    if answer is None:
        raise _in_time(method)
    return _result(answer)


async def take_answer(log: Log, session: str, message: Mapping[str, Any]) -> None:
    """Record a response that a client posted, if it is the first in time to a question of its session."""
    question = message.get("id")
    if not isinstance(question, str):
        return
    answer = {key: message[key] for key in ("result", "error") if key in message}
    if await log.do(log.store.answer, session, question, answer):
        watch_of(log).touch("questions", question)
        wake_bus().wake_others()


async def _answer(log: Log, session: str, question: str, seconds: float) -> Mapping[str, Any] | None:
    """Wait for what was answered; None where nothing was, in time."""
    changed = asyncio.Event()
    loop = asyncio.get_running_loop()
    give_up_at = loop.time() + seconds + _GRACE_SECONDS
    with watch_of(log).on("questions", question, changed.set):
        while True:
            changed.clear()
            found = await outlasting(lambda: log.do(log.store.read_questions, session, [question]))
            record = found.get(question)
            if record is not None and record.state == "answered":
                return record.answer if isinstance(record.answer, dict) else {}
            if record is None or record.state != "waiting" or loop.time() >= give_up_at:
                return None
            left = (record.expires_at - timezone.now()).total_seconds()
            try:
                async with asyncio.timeout(max(0.0, min(left, give_up_at - loop.time())) + 0.01):
                    await changed.wait()
            except TimeoutError:
                pass


def _result(answer: Mapping[str, Any]) -> dict[str, Any]:
    result, error = answer.get("result"), answer.get("error")
    if isinstance(result, dict):
        return result
    if isinstance(error, dict) and isinstance(error.get("code"), int) and isinstance(error.get("message"), str):
        raise MCPError.from_error_data(ErrorData.model_validate(error))
    raise MCPError(INTERNAL_ERROR, "malformed response")


def _in_time(method: str) -> MCPError:
    return MCPError(INTERNAL_ERROR, f"the client did not answer {method} in time")

"""One request of a session while this process runs it, from its arrival to its terminal event.

It is recorded in the store when its response becomes a stream, and from then on held under a lease; a process that
finds the lease over takes it from there.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from contextlib import ExitStack
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from django_mcp.core import strict_json
from django_mcp.core.canonical import digest
from django_mcp.exceptions import CallCancelled
from django_mcp.models import MCPSession
from django_mcp.server.call import Call, NoOutlet
from django_mcp.server.caller import Arrival
from django_mcp.server.connection import connection_of
from django_mcp.server.idempotency import has_key
from django_mcp.server.kernel import Kernel
from django_mcp.server.parcel import Parcel
from django_mcp.server.questioning import Questioning
from django_mcp.server.run_outlet import RunOutlet, SessionOutbound
from django_mcp.server.watch import watch_of
from django_mcp.server.wire import Answer, failure_of
from django_mcp.sessions.stores import CallHold, CallRecord, CallState, NewCall
from django_mcp.sessions.stores.calls import new_call_id

if TYPE_CHECKING:
    from django_mcp.server.reply import Reply

logger = logging.getLogger("django_mcp.calls")

DEFAULT_LOG_LEVEL: Final = "info"


def request_id_text(request_id: Any) -> str:
    """Return the id of a request as the store knows it, so that 1 and "1" are two."""
    return strict_json.encode(request_id).decode("ascii")


def request_digest(message: Mapping[str, Any]) -> str:
    """Return what two requests have in common that ask for the same."""
    return digest([message.get("method"), message.get("params")])


class Run:
    """One request and what has become of it."""

    def __init__(
        self, kernel: Kernel, arrival: Arrival, session: MCPSession, message: Mapping[str, Any], reply: Reply
    ) -> None:
        self.kernel = kernel
        self.message = message
        self.reply = reply
        self.session = session
        self.id = new_call_id()
        self.hold: CallHold | None = None
        self.final: Answer | None = None
        self.is_over = False
        self.is_lost = False
        self.begins = False
        self._following = ExitStack()
        self.questioning = Questioning(self)
        params = message.get("params")
        self.call = Call(
            kernel.server,
            arrival,
            connection=connection_of(
                session.protocol_version,
                session.client_info_data,
                session.capabilities_data,
                outbound=SessionOutbound(reply.log, session),
            ),
            outlet=RunOutlet(self) if reply.streams else NoOutlet(),
            request_id=message["id"],
            params=params if isinstance(params, dict) else None,
            session=session,
            log_level=session.log_level or DEFAULT_LOG_LEVEL,
        )
        self.call.on_begin = self._body_begins

    @property
    def request_id(self) -> str:
        return request_id_text(self.message["id"])

    @cached_property
    def is_repeatable(self) -> bool:
        """Whether it does no harm to run it twice."""
        params = self.message.get("params")
        if self.message["method"] != "tools/call" or not isinstance(params, dict):
            return True
        tool = self.kernel.server.tools.get(str(params.get("name")))
        return tool is None or tool.definition.repeatable

    @property
    def may_go_on(self) -> bool:
        """Whether its body has begun, or another process may begin it."""
        return self.begins or self.hold is not None or self.reply.is_opening

    @property
    def may_have_had_effects(self) -> bool:
        """Whether it could do harm to send the request again."""
        return self.may_go_on and not self.is_repeatable and not has_key(self.message)

    def start(self) -> asyncio.Task[None]:
        """Run it, on the loop, to its end."""
        task = self.call.task = asyncio.get_running_loop().create_task(self._run(), name="mcp-call")
        return task

    def continue_from(self, record: CallRecord) -> None:
        """Take it for one that another process began."""
        self.hold = record.hold
        self.id = record.id
        self.call.resume_progress(record.progress)
        self.questioning.continues = True
        self.call.is_takeover = True

    def described(self) -> NewCall:
        """Return it as it is recorded. Once its body may have begun, no other process needs its arguments."""
        body_began = self.begins and not self.is_repeatable
        arrival = self.call.arrival
        parcel = Parcel(message=self.message, path=arrival.request.path, principal=arrival.caller.principal)
        return NewCall(
            id=self.id,
            request_id=self.request_id,
            digest=request_digest(self.message),
            payload="" if body_began else parcel.seal(),
            is_repeatable=self.is_repeatable,
            body_began=body_began,
        )

    def follow(self) -> None:
        """Let what other processes say of the session concern the call from now on."""
        watch = watch_of(self.reply.log)

        def look() -> None:
            glance = watch.session(self.session.key)
            if glance is not None:
                self.call.log_level = glance.log_level or DEFAULT_LOG_LEVEL
                self.call.roots_changed = glance.roots_changes != self.session.roots_changes
            elif watch.has_ended(self.session.key):
                self.lose(session_ended=True)

        self._following.enter_context(watch.on_session(self.session.key, look))

    def lose(self, *, session_ended: bool = False) -> None:
        """Stop without a word: the call is not this process's any more, or its session has ended."""
        self.is_lost = True
        self.call.is_elsewhere = self.hold is not None and not session_ended
        self.call.cancel()

    async def _body_begins(self) -> None:
        """Record that the tool itself runs from now on, so that no other process runs it again.

        Raises:
            CallCancelled: the call is another process's by now.
        """
        self.begins = True
        if self.is_repeatable:
            return
        async with self.reply.recording:
            if self.hold is None:
                return
            log = self.reply.log
            if not await log.do(log.store.begin_body, self.hold):
                self.lose()
                raise CallCancelled

    async def _run(self) -> None:
        state: CallState = "failed"
        final: Answer | None = None
        call, method, request_id = self.call, self.message["method"], self.message["id"]
        try:
            final = await self.kernel.answer(call, method, request_id, self.message.get("params"))
            state = "failed" if call.came_to == "failed" else "succeeded"
        except asyncio.CancelledError:
            if not call.cancelled:
                # The loop ends. What was recorded goes on elsewhere when the lease is over.
                self._let_go()
                self.reply.drop(self)
                raise
        except Exception as error:
            final = failure_of(error, modern=False).answer(request_id)
        # A cancelled request gets no response (basic/utilities/cancellation).
        self.final = None if call.cancelled else final
        self.is_over = True
        state = "cancelled" if call.cancelled else state
        self._let_go()
        if not self.is_lost:
            # Whoever has the call now waits for the same answers.
            await self.questioning.withdraw()
        await self.reply.end(self, state)

    def _let_go(self) -> None:
        self.call.finish()
        self._following.close()

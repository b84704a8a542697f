"""What one process holds of a handshake session while something of it runs here: streams, calls, open questions.

The session's record is in the database. This is the seam behind which streams, questions and calls stand; here they
are held in the memory of the process that runs them, bounded, and forgotten when nothing of them is left.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Mapping
from typing import Any, Final
from weakref import WeakKeyDictionary

from mcp.shared.dispatcher import CallOptions
from mcp.shared.exceptions import MCPError, NoBackChannelError
from mcp_types import INTERNAL_ERROR, ErrorData, RequestId

from django_mcp.conf import mcp_settings
from django_mcp.models import MCPSession
from django_mcp.server.call import Call
from django_mcp.server.capabilities import require_declared_for
from django_mcp.server.stream import Stream
from django_mcp.server.wire import encode_notification, encode_request

KEPT_SECONDS: Final = 15 * 60
"""How long a closed stream can be replayed."""

MAX_STREAMS: Final = 100
"""Streams of one session that are kept at once; over it the oldest retired one is forgotten first."""

POST_STREAM: Final = "p"
STANDALONE: Final = "g"


class LocalSession:
    """The streams, calls and questions of one session in this process."""

    def __init__(self) -> None:
        self.streams: dict[str, Stream] = {}
        self.calls: dict[RequestId, Call] = {}
        self.standalone: Stream | None = None
        self._feeding: asyncio.Task[None] | None = None
        self._retired_at: dict[str, float] = {}
        self._questions: dict[str, asyncio.Future[dict[str, Any]]] = {}

    @property
    def is_empty(self) -> bool:
        return not (self.streams or self.calls or self._questions)

    def open_stream(self) -> Stream:
        """Return a new stream for the response of a POST, kept for replay."""
        return self._add(Stream(f"{POST_STREAM}{secrets.token_hex(8)}", kept=True))

    def open_standalone(self, name: str | None = None) -> Stream:
        """Return the standalone stream called `name`, if it is still here, or else a new one.

        It is the session's only one from now on: the former ends, because a message goes to one stream only.
        """
        former = self.standalone
        known = self.streams.get(name) if name is not None else None
        if known is None:
            known = self._add(Stream(f"{STANDALONE}{secrets.token_hex(8)}", kept=True, sheds=True))
        self._retired_at.pop(known.name, None)
        self.standalone = known
        if former is not None:
            former.disconnect()
            if former is not known:
                self.retire(former)
        return known

    def feed(self, feeding: asyncio.Task[None]) -> None:
        """Note the task that feeds the standalone stream from now on, as long as there is one; the former one ends."""
        if self._feeding is not None:
            self._feeding.cancel()
        self._feeding = feeding
        feeding.add_done_callback(self._fed)

    def _fed(self, feeding: asyncio.Task[None]) -> None:
        if self._feeding is not feeding:
            return
        self._feeding = None
        if self.standalone is not None:
            self.retire(self.standalone)
            self.standalone = None

    def retire(self, stream: Stream) -> None:
        """Keep a stream that nobody writes or reads any more for a while, then forget it."""
        self._retired_at[stream.name] = time.monotonic()
        asyncio.get_running_loop().call_later(KEPT_SECONDS + 1, self.sweep)

    def drop(self, stream: Stream) -> None:
        """Forget a stream of which no event id was ever given out."""
        self.streams.pop(stream.name, None)

    def sweep(self) -> None:
        """Forget retired streams that are past their time, and the oldest ones when there are too many."""
        now = time.monotonic()
        for name, retired_at in sorted(self._retired_at.items(), key=lambda item: item[1]):
            if now - retired_at > KEPT_SECONDS or len(self.streams) >= MAX_STREAMS:
                self.streams.pop(name, None)
                del self._retired_at[name]

    def _add(self, stream: Stream) -> Stream:
        self.sweep()
        self.streams[stream.name] = stream
        return stream

    async def ask(
        self, stream: Stream, method: str, params: Mapping[str, Any] | None, timeout: float | None
    ) -> dict[str, Any]:
        """Send a request to the client on `stream` and wait for its answer, which may be posted later.

        Raises:
            MCPError: the client answered with an error, or not in time.
        """
        question = f"q-{secrets.token_hex(8)}"
        future = self._questions[question] = asyncio.get_running_loop().create_future()
        try:
            stream.append(encode_request(question, method, params))
            async with asyncio.timeout(timeout or mcp_settings.QUESTION_SECONDS):
                answer: dict[str, Any] = await future
                return answer
        except TimeoutError:
            stream.append(
                encode_notification("notifications/cancelled", {"requestId": question, "reason": "timed out"})
            )
            raise MCPError(INTERNAL_ERROR, f"the client did not answer {method} in time") from None
        finally:
            del self._questions[question]

    def take_answer(self, message: Mapping[str, Any]) -> None:
        """Give a posted response to the question that waits for it; a second one changes nothing."""
        future = self._questions.get(str(message.get("id")))
        if future is None or future.done():
            return
        if isinstance(result := message.get("result"), dict):
            future.set_result(result)
            return
        error = message.get("error")
        known = (
            isinstance(error, dict) and isinstance(error.get("code"), int) and isinstance(error.get("message"), str)
        )
        detail = (
            ErrorData.model_validate(error) if known else ErrorData(code=INTERNAL_ERROR, message="malformed response")
        )
        future.set_exception(MCPError.from_error_data(detail))

    def end(self) -> None:
        """Cancel the calls and close the streams: the session has ended."""
        for call in list(self.calls.values()):
            call.cancel()
        for stream in self.streams.values():
            stream.close()
        self.streams.clear()
        self._retired_at.clear()
        self.standalone = None


class StandaloneOutbound:
    """The connection-wide way to the client: the session's newest GET stream, if there is one."""

    def __init__(self, session: MCPSession, local: LocalSession) -> None:
        self._session = session
        self._local = local

    async def notify(self, method: str, params: Mapping[str, Any] | None, opts: CallOptions | None = None) -> None:
        if self._local.standalone is not None:
            self._local.standalone.append(encode_notification(method, params))

    async def send_raw_request(
        self, method: str, params: Mapping[str, Any] | None, opts: CallOptions | None = None
    ) -> dict[str, Any]:
        if self._local.standalone is None:
            raise NoBackChannelError(method)
        require_declared_for(method, params, self._session.capabilities_data)
        return await self._local.ask(self._local.standalone, method, params, opts.get("timeout") if opts else None)


_sessions: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, LocalSession]] = WeakKeyDictionary()


def local_session(key: str) -> LocalSession:
    """Return what this process holds of a session, on the running event loop. Empty ones are forgotten on the way."""
    sessions = _sessions.setdefault(asyncio.get_running_loop(), {})
    if key not in sessions:
        for other in [other for other, local in sessions.items() if local.is_empty]:
            del sessions[other]
        sessions[key] = LocalSession()
    return sessions[key]


def forget_if_empty(key: str) -> None:
    """Forget a session of which nothing runs here."""
    sessions = _sessions.get(asyncio.get_running_loop(), {})
    if key in sessions and sessions[key].is_empty:
        del sessions[key]

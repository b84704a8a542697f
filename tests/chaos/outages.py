"""What each server says while Redis is down, of every kind of request that needs it, and how soon it serves again."""

import asyncio
import json
import secrets
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from tests.chaos.client import IDEMPOTENCY_KEY, PATH
from tests.chaos.client_handshake import JSON, STREAM
from tests.chaos.client_handshake import VERSION as HANDSHAKE_VERSION
from tests.chaos.client_modern import modern_headers, modern_message
from tests.chaos.connection import Cut, NoAnswer, Response, Unreached, send
from tests.chaos.history import Asked, History, Returned
from tests.chaos.topology import Server, Topology

SILENCE_SECONDS: Final = 10.0
RETURN_SECONDS: Final = 60.0
LOOK_SECONDS: Final = 0.02
_ERRORS: Final = (Unreached, NoAnswer, Cut, TimeoutError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One request, by what it is."""

    what: str
    method: str
    headers: Mapping[str, str]
    message: Mapping[str, Any] | None = None


class Outages:
    """Asks the servers themselves, not whoever stands before them, as one user of its own sessions."""

    def __init__(self, topology: Topology, history: History) -> None:
        self._topology = topology
        self._history = history
        self._headers = {"Authorization": f"Bearer {next(iter(topology.tokens.values()))}", "X-Tenant": "outages"}
        self._session = ""
        self._event = ""
        self._number = 0

    async def prepare(self) -> None:
        """Begin the session whose streams are asked for while Redis is down. Raises what goes wrong."""
        server = self._topology.servers[0]
        self._session = await self._initialize(server)
        params = {"name": "count", "arguments": {"key": "outages", "steps": 3, "pause": 0.0, "pad": 0}}
        message = {"jsonrpc": "2.0", "id": "0", "method": "tools/call", "params": params}
        params["_meta"] = {"progressToken": "0"}
        async with await self._send(server, "POST", self._handshake(self._session), message) as response:
            async for event in response.events(silence=SILENCE_SECONDS):
                self._event = self._event or event.id or ""
        if not self._event:
            raise RuntimeError("a call that tells of its progress had no event with an id")

    async def ask_all(self) -> None:
        """Ask each server that is up, while Redis is down."""
        await asyncio.gather(*(self._ask(server) for server in self._topology.up()))

    async def see_all_return(self) -> None:
        """Redis answers again: wait for a call at each server that is up."""
        began = time.monotonic()
        await asyncio.gather(*(self._see_return(server, began) for server in self._topology.up()))

    async def _ask(self, server: Server) -> None:
        pid = server.pid
        doomed = await self._initialize(server)
        for question in self._questions(doomed):
            began = self._history.now()
            try:
                async with asyncio.timeout(SILENCE_SECONDS):
                    status, retry_after, detail = await self._answer(server, question)
            except _ERRORS as error:
                status, retry_after, detail = 0, "", f"{type(error).__name__} {error}"
            if not _is_the_same(server, pid):
                return
            now = self._history.now()
            self._history.add(
                Asked(
                    at=now,
                    server=server.name,
                    what=question.what,
                    status=status,
                    retry_after=retry_after,
                    detail=detail,
                    lasted=round(now - began, 4),
                )
            )

    def _questions(self, doomed: str) -> Sequence[Question]:
        """Return one of each kind; `doomed` is the session to end."""
        number = self._next()
        key = {IDEMPOTENCY_KEY: f"outage-{number}"}
        look = {"name": "look", "arguments": {"key": number}}
        write = {"name": "write", "arguments": {"key": number, "pause": 0.0}}
        stateful = modern_message(number, "tools/call", look)
        keyed = modern_message(number, "tools/call", write, key)
        mine = self._handshake(self._session)

        def post(what: str, **message: Any) -> Question:
            return Question(what=what, method="POST", headers=mine, message={"jsonrpc": "2.0", **message})

        return (
            Question(
                what="a stateful call (modern)", method="POST", headers=modern_headers(stateful), message=stateful
            ),
            Question(what="a call under a key (modern)", method="POST", headers=modern_headers(keyed), message=keyed),
            post("a stateful call", id=number, method="tools/call", params=look),
            post("a call under a key", id=f"{number}k", method="tools/call", params={**write, "_meta": key}),
            post(
                "an answer", id=f"q-{secrets.token_hex(8)}", result={"action": "accept", "content": {"word": number}}
            ),
            post("a cancellation", method="notifications/cancelled", params={"requestId": number}),
            Question(what="a stream", method="GET", headers={**mine, **STREAM}),
            Question(
                what="the rest of a stream", method="GET", headers={**mine, **STREAM, "Last-Event-ID": self._event}
            ),
            Question(what="an end", method="DELETE", headers=self._handshake(doomed)),
        )

    async def _see_return(self, server: Server, began: float) -> None:
        pid = server.pid
        while _is_the_same(server, pid):
            seconds = time.monotonic() - began
            with suppress(*_ERRORS):
                async with asyncio.timeout(SILENCE_SECONDS):
                    if await self._serves(server):
                        self._note_return(server, time.monotonic() - began)
                        return
            if seconds > RETURN_SECONDS:
                self._note_return(server, seconds, has_returned=False)
                return
            await asyncio.sleep(LOOK_SECONDS)

    def _note_return(self, server: Server, seconds: float, *, has_returned: bool = True) -> None:
        self._history.add(
            Returned(at=self._history.now(), server=server.name, seconds=round(seconds, 4), has_returned=has_returned)
        )

    async def _serves(self, server: Server) -> bool:
        """Say whether a call of which Redis keeps something is answered."""
        number = self._next()
        message = modern_message(number, "tools/call", {"name": "look", "arguments": {"key": number}})
        async with await self._send(server, "POST", modern_headers(message), message) as response:
            if response.status != 200:
                return False
            result = json.loads(await response.read()).get("result", {})
            return "isError" not in result or not result["isError"]

    async def _initialize(self, server: Server) -> str:
        params = {
            "protocolVersion": HANDSHAKE_VERSION,
            "capabilities": {},
            "clientInfo": {"name": "outages", "version": "1"},
        }
        message = {"jsonrpc": "2.0", "id": self._next(), "method": "initialize", "params": params}
        for _ in range(20):
            with suppress(*_ERRORS):
                async with await self._send(server, "POST", JSON, message) as response:
                    if response.status == 200:
                        return response.headers["mcp-session-id"]
            await asyncio.sleep(LOOK_SECONDS)
        return "none"

    async def _answer(self, server: Server, question: Question) -> tuple[int, str, str]:
        async with await self._send(server, question.method, question.headers, question.message) as response:
            detail = ""
            if not response.is_stream:
                detail = (await response.read()).decode(errors="replace")[:300]
            return response.status, response.headers.get("retry-after", ""), detail

    async def _send(
        self, server: Server, method: str, headers: Mapping[str, str], message: Mapping[str, Any] | None = None
    ) -> Response:
        body = b"" if message is None else json.dumps(message).encode()
        return await send(server.port, method, PATH, {**self._headers, **headers}, body)

    def _handshake(self, session: str) -> dict[str, str]:
        return {**JSON, "Mcp-Session-Id": session, "MCP-Protocol-Version": HANDSHAKE_VERSION}

    def _next(self) -> str:
        self._number += 1
        return f"outage-{self._number}"


def _is_the_same(server: Server, pid: int) -> bool:
    """Say whether a server has not been struck meanwhile."""
    return server.is_running and not server.is_held and server.pid == pid

"""A client of the handshake era (MCP 2025-11-25): sessions, and streams that are resumed wherever they were cut."""

import asyncio
import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

from tests.chaos.client import (
    BUSY,
    IDEMPOTENCY_KEY,
    RETRY_SECONDS,
    SILENCE_SECONDS,
    Busy,
    Client,
    Expired,
    Gone,
    Scene,
    Seat,
    outcome_of,
)
from tests.chaos.connection import Cut, Event, NoAnswer, Response, Unreached
from tests.chaos.handshake_listener import HandshakeListener
from tests.chaos.history import Accepted, Cancelled, Era, Resumed
from tests.chaos.jobs import Job
from tests.chaos.strangers import STOLEN, What, probe

VERSION: Final = "2025-11-25"
LINGER_SECONDS: Final = 5.0
JSON: Final = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
EXPIRED: Final = '"reason":"event_expired"'
STREAM: Final = {"Accept": "text/event-stream"}
_PROBES: Final[tuple[What, ...]] = ("session", "event", "question", "handle")


@dataclass(slots=True)
class Reading:
    """How far the answer to one request was read."""

    op: str
    attempt: int
    cancels: bool
    final: dict[str, Any] | None = None
    ids: list[str] = field(default_factory=list)
    retry_seconds: float = RETRY_SECONDS
    is_cancelled: bool = False
    questions: set[str] = field(default_factory=set)

    @property
    def request_id(self) -> str:
        return f"{self.op}.{self.attempt}"


class HandshakeClient(Client):
    """A client with one session at a time, and often a standalone stream on it."""

    era: Era = "handshake"

    def __init__(self, seat: Seat, scene: Scene) -> None:
        super().__init__(seat, scene)
        self.session: str | None = None
        self._listener: HandshakeListener | None = None

    async def turn(self) -> None:
        chance = self.rng.random()
        if chance < 0.02 and self.session is not None:
            await self.bounded(self.terminate(self.session), "DELETE")
        elif chance < 0.05:
            await self.bounded(self._probe(), "probe")
        else:
            await super().turn()

    async def leave(self) -> None:
        if self._listener is not None:
            self._listener.close()
        await super().leave()

    async def attempt(self, op: str, attempts: Iterator[int], job: Job) -> dict[str, Any]:
        session = await self._ensure_session(op)
        reading = Reading(op, next(attempts), job.cancels)
        params: dict[str, Any] = {**job.params(op), "_meta": {"progressToken": reading.request_id}}
        if job.idempotency:
            params["_meta"][IDEMPOTENCY_KEY] = job.idempotency
        message = {"jsonrpc": "2.0", "id": reading.request_id, "method": "tools/call", "params": params}
        self.note_sent(op, reading.attempt, job)
        async with await self.send("POST", self.headers(session), message) as response:
            if response.status != 200:
                raise await self._refusal(op, "tools/call", response)
            if not response.is_stream:
                return self.note_got(op, reading.attempt, await self.body_of(response)).message
            await self._read(response, session, reading)
        if not reading.ids:
            raise NoAnswer("the stream was cut before it had an id")
        self.history.add(Accepted(at=self.history.now(), op=op, attempt=reading.attempt))
        while reading.final is None:
            await asyncio.sleep(reading.retry_seconds)
            if self.rng.random() < 0.1:
                # The newest of two readers of one stream wins; the other one ends, and neither is told anything else.
                self.spawn(self._resume_beside(session, reading, reading.ids[-1]))
            await self._resume(session, reading, reading.ids[-1])
        if self.rng.random() < 0.1:
            # What was read once is there to be read again, and is the same.
            with suppress(Expired):
                await self._resume(session, reading, self.rng.choice(reading.ids[:-1] or reading.ids))
        self.loot("event", self.rng.choice(reading.ids))
        return reading.final

    async def request(self, session: str, op: str, method: str, params: Mapping[str, Any]) -> dict[str, Any]:
        """Send a request that may be repeated until it is answered, and return the result."""
        message = {"jsonrpc": "2.0", "id": op, "method": method, "params": dict(params)}
        while True:
            try:
                async with await self.send("POST", self.headers(session), message) as response:
                    if response.status != 200:
                        raise await self._refusal(op, method, response)
                    answer = await self._answer_in(response)
                    if "result" in answer:
                        return dict(answer["result"])
                    outcome, _, detail = outcome_of(answer)
                    if outcome == "refused":
                        raise self.note_refused(op, method, response.status, detail)
            except (Unreached, NoAnswer, Busy):
                pass
            await self.wait_a_while()

    async def _answer_in(self, response: Response) -> dict[str, Any]:
        """Return the one message of a response, however it comes. Raises NoAnswer."""
        if not response.is_stream:
            return dict(json.loads(await self.body_of(response)))
        with suppress(Cut):
            async for event in response.events(silence=SILENCE_SECONDS):
                if event.data:
                    return dict(json.loads(event.data))
        raise NoAnswer("the stream ended without an answer")

    async def terminate(self, session: str) -> None:
        """End the session, and see that it has ended."""
        op = self.name_op()
        if self._listener is not None:
            self._listener.close()
        self.session = self._listener = None
        has_ended = is_seen = False
        while not is_seen:
            try:
                if not has_ended:
                    async with await self.send("DELETE", self.headers(session)) as response:
                        # Of a session whose DELETE lost its answer the next one finds nothing.
                        has_ended = response.status in {200, 404}
                        if not has_ended:
                            await self.refuse(op, "DELETE", response)
                ping = {"jsonrpc": "2.0", "id": op, "method": "ping"}
                async with await self.send("POST", self.headers(session), ping) as response:
                    if has_ended and response.status not in BUSY:
                        is_seen = True
                        await self.refuse(op, "after the end", response, is_expected=response.status == 404)
            except (Unreached, NoAnswer, Cut):
                pass
            await self.wait_a_while()

    def headers(self, session: str) -> dict[str, str]:
        return {**JSON, "Mcp-Session-Id": session, "MCP-Protocol-Version": VERSION}

    async def _refusal(self, op: str, what: str, response: Response) -> Exception:
        """Note an answer that is no success; a session that is unknown all of a sudden is given up."""
        if response.status == 404:
            self.session = None
        return await self.refuse(op, what, response)

    async def _ensure_session(self, op: str) -> str:
        if self.session is None:
            params = {
                "protocolVersion": VERSION,
                "capabilities": {"elicitation": {}},
                "clientInfo": {"name": "chaos", "version": "1"},
            }
            message = {"jsonrpc": "2.0", "id": op, "method": "initialize", "params": params}
            while self.session is None:
                with suppress(Unreached, NoAnswer):
                    async with await self.send("POST", JSON, message) as response:
                        if response.status == 200:
                            self.session = response.headers["mcp-session-id"]
                            break
                        error = await self.refuse(op, "initialize", response)
                        if not isinstance(error, Busy):
                            raise error
                await self.wait_a_while()
            self.loot("session", self.session)
            if self.rng.random() < 0.5:
                self._listener = HandshakeListener(self, self.session, f"{op}-listener")
        return self.session

    async def _read(self, response: Response, session: str, reading: Reading) -> None:
        """Read on until the stream ends, or is cut by either side."""
        try:
            async for event in response.events(silence=SILENCE_SECONDS):
                if event.id is not None:
                    reading.ids.append(event.id)
                if event.retry is not None:
                    reading.retry_seconds = event.retry / 1_000
                if event.data:
                    await self._take(event, session, reading)
                if reading.final is None and self.leaves(reading.op):
                    return
        except Cut:
            if reading.final is None:
                self.note_broken(reading.op, by_client=False)

    async def _take(self, event: Event, session: str, reading: Reading) -> None:
        got = self.note_got(reading.op, reading.attempt, event.data, event.id or "")
        message = got.message
        if got.answers == reading.request_id:
            reading.final = message
        elif "id" in message and message.get("method") == "elicitation/create":
            question = str(message["id"])
            if question not in reading.questions:
                reading.questions.add(question)
                self.loot("question", question)
                word = str(message["params"]["message"]).removesuffix("?")
                self.spawn(self._answer(session, message["id"], word))
        elif reading.cancels and not reading.is_cancelled:
            reading.is_cancelled = True
            self.spawn(self._cancel(session, reading))

    async def _resume(self, session: str, reading: Reading, after: str) -> None:
        """Read what is left behind an event, at whatever process."""
        headers = {**self.headers(session), **STREAM, "Last-Event-ID": after}
        try:
            async with await self.send("GET", headers) as response:
                if response.status == 405 and (reading.final is not None or reading.is_cancelled):
                    if reading.final is None:
                        raise Gone
                    return
                if response.status != 200:
                    error = await self._refusal(reading.op, "resume", response)
                    raise Expired(str(error)) if EXPIRED in str(error) else error
                self.history.add(Resumed(at=self.history.now(), op=reading.op, after=after))
                await self._read(response, session, reading)
        except (Unreached, NoAnswer, Busy, Cut):
            return

    async def _resume_beside(self, session: str, reading: Reading, after: str) -> None:
        with suppress(Gone, Expired):
            await self._resume(session, reading, after)

    async def _answer(self, session: str, question: str | int, word: str) -> None:
        """Answer a question after a while, until the answer is taken."""
        await asyncio.sleep(self.rng.uniform(0, 1.5))
        result = {"action": "accept", "content": {"word": word}}
        await self._say(session, {"jsonrpc": "2.0", "id": question, "result": result}, "answer")

    async def _cancel(self, session: str, reading: Reading) -> None:
        params = {"requestId": reading.request_id}
        message = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": params}
        await self._say(session, message, "cancel")
        self.history.add(Cancelled(at=self.history.now(), op=reading.op))

    async def _say(self, session: str, message: Mapping[str, Any], what: str) -> None:
        """Post what has no answer, until it is accepted."""
        while True:
            try:
                async with await self.send("POST", self.headers(session), message) as response:
                    if response.status in {200, 202}:
                        return
                    await self._refusal("", what, response)
                    if response.status not in BUSY:
                        return
            except (Unreached, NoAnswer, Cut):
                pass
            await self.wait_a_while()

    async def _probe(self) -> None:
        """Try, as a stranger, what belongs to another principal."""
        secret = self.scene.loot.pick(self.rng, self.rng.choice(_PROBES), self.seat.principal)
        if secret is None:
            return
        op = self.name_op()
        try:
            session = await self._ensure_session(op)
        except (Unreached, NoAnswer, Busy):
            return

        def attempt(name: str) -> Any:
            if secret.what == "event":
                return self.send("GET", {**self.headers(session), **STREAM, "Last-Event-ID": name})
            if secret.what == "question":
                result = {"action": "accept", "content": {"word": STOLEN}}
                question = int(name) if name.isdecimal() else name
                return self.send("POST", self.headers(session), {"jsonrpc": "2.0", "id": question, "result": result})
            arguments = {"key": op, "handle": name} if secret.what == "handle" else {"key": op}
            params = {"name": "look", "arguments": arguments}
            message = {"jsonrpc": "2.0", "id": op, "method": "tools/call", "params": params}
            return self.send("POST", self.headers(name if secret.what == "session" else session), message)

        await probe(secret, self.seat.principal, self.rng, self.history, attempt)

"""A client of the modern era (MCP 2026-07-28): each request for itself; what was cut is asked for again by its key."""

import asyncio
from collections.abc import Iterator, Mapping
from typing import Any, Final

from tests.chaos.app.topics import TOPICS, uri_of
from tests.chaos.client import (
    BUSY,
    IDEMPOTENCY_KEY,
    RETRY_SECONDS,
    SILENCE_SECONDS,
    Busy,
    Client,
    Gone,
    Scene,
    Seat,
)
from tests.chaos.connection import Cut, NoAnswer, Response, Unreached
from tests.chaos.history import Cancelled, Deaf, Era, Heard, Listening
from tests.chaos.jobs import Job
from tests.chaos.strangers import What, probe

VERSION: Final = "2026-07-28"
TOKEN_HEADER: Final = "mcp-resumption-token"
UPDATED: Final = "notifications/resources/updated"
ACKNOWLEDGED: Final = "notifications/subscriptions/acknowledged"
_META: Final = "io.modelcontextprotocol/"
_PROBES: Final[tuple[What, ...]] = ("handle", "token", "state")


class ModernClient(Client):
    """A client without a session, and often with a stream of changes."""

    era: Era = "modern"

    def __init__(self, seat: Seat, scene: Scene) -> None:
        super().__init__(seat, scene)
        self._listener: asyncio.Task[None] | None = None

    async def turn(self) -> None:
        if self._listener is None and self.rng.random() < 0.1:
            self._listener = self.spawn(self._listen())
        if self.rng.random() < 0.03:
            await self.bounded(self._probe(), "probe")
        else:
            await super().turn()

    async def attempt(self, op: str, attempts: Iterator[int], job: Job) -> dict[str, Any]:
        params = job.params(op)
        meta = {IDEMPOTENCY_KEY: job.idempotency} if job.idempotency else {}
        message = await self._round(op, next(attempts), job, params, meta)
        while "inputRequests" in message.get("result", {}):
            result = message["result"]
            self.loot("state", result["requestState"])
            answer = {"action": "accept", "content": {"word": job.key or op}}
            given = {
                "requestState": result["requestState"],
                "inputResponses": dict.fromkeys(result["inputRequests"], answer),
            }
            await asyncio.sleep(self.rng.uniform(0, 1))
            message = await self._last_round(op, attempts, job, {**params, **given}, meta)
        return message

    async def _last_round(
        self, op: str, attempts: Iterator[int], job: Job, params: Mapping[str, Any], meta: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Send a round with answers until it is answered: its state is good for one run."""
        while True:
            try:
                return await self._round(op, next(attempts), job, params, meta)
            except (Unreached, NoAnswer, Busy):
                await self.wait_a_while()

    async def _round(
        self, op: str, attempt: int, job: Job, params: Mapping[str, Any], meta: Mapping[str, Any]
    ) -> dict[str, Any]:
        request_id = f"{op}.{attempt}"
        message = modern_message(request_id, "tools/call", params, {**meta, "progressToken": request_id})
        self.note_sent(op, attempt, job)
        async with await self.send("POST", modern_headers(message), message) as response:
            if response.status in BUSY:
                raise await self.refuse(op, "tools/call", response)
            if not response.is_stream:
                if TOKEN_HEADER in response.headers:
                    self.loot("token", response.headers[TOKEN_HEADER])
                return self.note_got(op, attempt, await self.body_of(response)).message
            return await self._read(op, attempt, job, response)

    async def _read(self, op: str, attempt: int, job: Job, response: Response) -> dict[str, Any]:
        try:
            async for event in response.events(silence=SILENCE_SECONDS):
                if not event.data:
                    continue
                got = self.note_got(op, attempt, event.data)
                if got.answers == f"{op}.{attempt}":
                    return got.message
                if job.cancels:
                    self.history.add(Cancelled(at=self.history.now(), op=op))
                    raise Gone
                if self.leaves(op):
                    raise NoAnswer("the client left")
        except Cut as error:
            self.note_broken(op, by_client=False)
            raise NoAnswer(str(error)) from error
        raise NoAnswer("the stream ended without an answer")

    async def _listen(self) -> None:
        """Hear of two topics, on one stream after the other; what happens between two is missed."""
        uris = tuple(uri_of(topic) for topic in self.rng.sample(TOPICS, 2))
        wanted = {"notifications": {"resourceSubscriptions": uris}}
        while True:
            name = f"{self.name_op()}-listener"
            message = modern_message(name, "subscriptions/listen", wanted)
            try:
                async with await self.send("POST", modern_headers(message), message) as response:
                    if response.status == 200 and response.is_stream:
                        await self._hear(name, uris, response)
                    elif response.status not in BUSY:
                        await self.refuse(name, "subscriptions/listen", response)
                        return
            except (Unreached, NoAnswer, Cut):
                pass
            finally:
                self.history.add(Deaf(at=self.history.now(), listener=name))
            await asyncio.sleep(RETRY_SECONDS)

    async def _hear(self, name: str, uris: tuple[str, ...], response: Response) -> None:
        async for event in response.events(silence=SILENCE_SECONDS):
            if not event.data:
                continue
            now = self.history.now()
            message = self.note_got(name, 0, event.data).message
            if message.get("method") == ACKNOWLEDGED:
                self.history.add(Listening(at=now, listener=name, uris=uris, can_resume=False))
            elif message.get("method") == UPDATED:
                self.history.add(Heard(at=now, listener=name, uri=message["params"]["uri"]))
            if self.rng.random() < self.options.cuts:
                return

    async def _probe(self) -> None:
        """Try, as a stranger, what belongs to another principal."""
        secret = self.scene.loot.pick(self.rng, self.rng.choice(_PROBES), self.seat.principal)
        if secret is None:
            return
        op = self.name_op()

        def attempt(name: str) -> Any:
            arguments = {"key": op, "handle": name} if secret.what == "handle" else {"key": op}
            tool = "agree" if secret.what == "state" else "look"
            params: dict[str, Any] = {"name": tool, "arguments": arguments}
            if secret.what == "state":
                answer = {"action": "accept", "content": {"word": op}}
                params |= {"requestState": name, "inputResponses": {"ask_first": answer}}
            message = modern_message(op, "tools/call", params)
            headers = modern_headers(message) | ({TOKEN_HEADER: name} if secret.what == "token" else {})
            return self.send("POST", headers, message)

        await probe(secret, self.seat.principal, self.rng, self.history, attempt)


def modern_message(
    request_id: str, method: str, params: Mapping[str, Any], meta: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return a request of the modern era."""
    envelope = {
        f"{_META}protocolVersion": VERSION,
        f"{_META}clientInfo": {"name": "chaos", "version": "1"},
        f"{_META}clientCapabilities": {"elicitation": {}},
        **(meta or {}),
    }
    return {"jsonrpc": "2.0", "id": request_id, "method": method, "params": {**params, "_meta": envelope}}


def modern_headers(message: Mapping[str, Any]) -> dict[str, str]:
    """Return the headers that go with it."""
    headers = {
        "Content-Type": "application/json",
        "Accept": "application/json, text/event-stream",
        "MCP-Protocol-Version": VERSION,
        "Mcp-Method": message["method"],
    }
    name = message["params"].get("name")
    return headers if name is None else {**headers, "Mcp-Name": name}

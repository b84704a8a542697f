"""A standalone stream of the handshake era: opened again wherever it was cut, so that no change is missed."""

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from tests.chaos.app.topics import TOPICS, uri_of
from tests.chaos.client import BUSY, RETRY_SECONDS, SILENCE_SECONDS, Strange
from tests.chaos.connection import Cut, Event, NoAnswer, Response, Unreached
from tests.chaos.history import Deaf, Heard, Listening, Resumed

if TYPE_CHECKING:
    from tests.chaos.client_handshake import HandshakeClient

UPDATED: Final = "notifications/resources/updated"


class HandshakeListener:
    """Subscribes a session to some topics and hears of them until it is closed."""

    def __init__(self, client: "HandshakeClient", session: str, name: str) -> None:
        self._client = client
        self._session = session
        self._name = name
        self._uris = tuple(uri_of(topic) for topic in client.rng.sample(TOPICS, 2))
        self._last: str | None = None
        self._retry_seconds = RETRY_SECONDS
        self._hears = False
        self._task = client.spawn(self._listen())

    def close(self) -> None:
        """Hear nothing more."""
        self._task.cancel()
        self._become_deaf()

    async def _listen(self) -> None:
        with suppress(Strange):
            for number, uri in enumerate(self._uris):
                name = f"{self._name}-{number}"
                await self._client.request(self._session, name, "resources/subscribe", {"uri": uri})
            while True:
                pause = await self._read()
                await asyncio.sleep(pause)
        self._become_deaf()

    async def _read(self) -> float:
        """Read one response to its end, and return how long to wait before the next."""
        client, history = self._client, self._client.history
        headers = {**client.headers(self._session), "Accept": "text/event-stream"}
        if self._last is not None:
            headers["Last-Event-ID"] = self._last
        try:
            async with await client.send("GET", headers) as response:
                if response.status in BUSY:
                    return RETRY_SECONDS
                if response.status != 200:
                    raise await client.refuse(self._name, "listen", response)
                if self._last is not None:
                    history.add(Resumed(at=history.now(), op=self._name, after=self._last))
                leaves = await self._hear(response)
                client.note_broken(self._name, by_client=leaves)
                return self._retry_seconds
        except (Unreached, NoAnswer, Cut):
            return RETRY_SECONDS

    async def _hear(self, response: Response) -> bool:
        """Take what comes until the response ends; say whether it was the client that left."""
        try:
            async for event in response.events(silence=SILENCE_SECONDS):
                self._take(event)
                if self._client.rng.random() < self._client.options.cuts:
                    return True
        except Cut:
            self._retry_seconds = RETRY_SECONDS
        return False

    def _take(self, event: Event) -> None:
        history = self._client.history
        if event.retry is not None:
            self._retry_seconds = event.retry / 1_000
        if event.id is not None:
            self._last = event.id
            if not self._hears:
                self._hears = True
                history.add(Listening(at=history.now(), listener=self._name, uris=self._uris, can_resume=True))
        if event.data:
            message: dict[str, Any] = self._client.note_got(self._name, 0, event.data, event.id or "").message
            if message.get("method") == UPDATED:
                history.add(Heard(at=history.now(), listener=self._name, uri=message["params"]["uri"]))

    def _become_deaf(self) -> None:
        if self._hears:
            self._hears = False
            self._client.history.add(Deaf(at=self._client.history.now(), listener=self._name))

"""A TCP proxy that cuts connections where a test says. It knows bytes, and no HTTP but the names of headers."""

import contextlib
import socket
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from tests.services import HOST

CHUNK_BYTES = 65_536


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """Cut a connection whose request holds some bytes, in any case, where its answer has come to others."""

    request: bytes
    answer: bytes


@dataclass(slots=True, kw_only=True)
class Passage:
    """What went over one connection, in both directions."""

    request: bytearray = field(default_factory=bytearray)
    answer: bytearray = field(default_factory=bytearray)
    was_cut: bool = False

    def asks(self, what: bytes) -> bool:
        return what.lower() in self.request.lower()

    def header(self, name: str) -> str:
        """Return a header of the answer; "" where there is none (yet)."""
        for line in self.answer.partition(b"\r\n\r\n")[0].split(b"\r\n"):
            key, _, value = line.partition(b":")
            if key.lower() == name.encode():
                return value.strip().decode()
        return ""


class Cutter:
    """Pass connections on to a port; make the cuts in their order, each once."""

    def __init__(self, port: int, cuts: Sequence[Cut] = ()) -> None:
        self._target = port
        self._cuts = [*cuts]
        self._lock = threading.Lock()
        self._listener = socket.create_server((HOST, 0))
        self._sockets: set[socket.socket] = {self._listener}
        self._threads: list[threading.Thread] = []
        self.port: int = self._listener.getsockname()[1]
        self.passages: list[Passage] = []

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}/mcp"

    @property
    def cuts_left(self) -> int:
        return len(self._cuts)

    def that_ask(self, what: bytes) -> list[Passage]:
        """Return the passages whose request holds some bytes, in their order."""
        return [passage for passage in list(self.passages) if passage.asks(what)]

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for one in list(self._sockets):
            _close(one)
        for thread in list(self._threads):
            thread.join(10)

    def _start(self, target: Callable[..., None], *words: object) -> None:
        thread = threading.Thread(target=target, args=words, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self._sockets.add(client)
                self._start(self._pass, client)

    def _pass(self, client: socket.socket) -> None:
        passage = Passage()
        self.passages.append(passage)
        server: socket.socket | None = None
        with contextlib.suppress(OSError):
            server = socket.create_connection((HOST, self._target))
            self._sockets.add(server)
            self._start(self._pass_up, client, server, passage)
            while not passage.was_cut and (data := server.recv(CHUNK_BYTES)):
                before = len(passage.answer)
                passage.answer += data
                if (end := self._cut(passage)) is not None:
                    del passage.answer[end:]
                    passage.was_cut = True
                client.sendall(passage.answer[before:])
        for one in (client, server):
            if one is not None:
                _close(one)
                self._sockets.discard(one)

    def _pass_up(self, client: socket.socket, server: socket.socket, passage: Passage) -> None:
        with contextlib.suppress(OSError):
            while data := client.recv(CHUNK_BYTES):
                passage.request += data
                server.sendall(data)
        # Who made the request has gone, and so does who answers it.
        _close(server)

    def _cut(self, passage: Passage) -> int | None:
        """Return where the answer is to end, if it has come to the next cut."""
        with self._lock:
            if not self._cuts or not passage.asks(self._cuts[0].request):
                return None
            found = passage.answer.find(self._cuts[0].answer)
            if found < 0:
                return None
            return found + len(self._cuts.pop(0).answer)


def _close(one: socket.socket) -> None:
    with contextlib.suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
    one.close()

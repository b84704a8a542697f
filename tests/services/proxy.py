"""What stands between a client and an HTTP service, and answers badly: it drops answers, or gives its own."""

import http.client
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

from tests.services.ports import HOST

Fault = Callable[[str, bytes], "Answer | Lost | None"]
"""What becomes of a request, by its `X-Amz-Target` and its body: None is what should."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer in the service's place, which does not hear of the request."""

    status: int
    body: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Lost:
    """No answer: the connection ends, after the service has done its work or (not `is_done`) before it hears of it."""

    is_done: bool = True


@dataclass
class Times:
    """The fault of so many requests of one operation; the others are as they should be."""

    operation: str
    outcome: Answer | Lost
    left: int = 1
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def __call__(self, target: str, body: bytes) -> Answer | Lost | None:
        with self.lock:
            if not target.endswith(f".{self.operation}") or self.left <= 0:
                return None
            self.left -= 1
            return self.outcome


class FaultyProxy:
    """Listens at `url`; `fault` may be set at any time."""

    def __init__(self, port: int) -> None:
        self.fault: Fault = lambda target, body: None
        self.targets: list[str] = []
        self._server = ThreadingHTTPServer((HOST, 0), self._handler(port))
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _handler(self, port: int) -> type[BaseHTTPRequestHandler]:
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                target = self.headers.get("X-Amz-Target", "")
                proxy.targets.append(target.rpartition(".")[2])
                fault = proxy.fault(target, body)
                if isinstance(fault, Answer):
                    self._reply(fault.status, json.dumps(fault.body).encode())
                    return
                if fault is None or fault.is_done:
                    status, answer = self._forward(body)
                    if fault is None:
                        self._reply(status, answer)

            def _forward(self, body: bytes) -> tuple[int, bytes]:
                connection = http.client.HTTPConnection(HOST, port, timeout=30)
                try:
                    connection.request("POST", self.path, body, dict(self.headers))
                    response = connection.getresponse()
                    return response.status, response.read()
                finally:
                    connection.close()

            def _reply(self, status: int, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Type", "application/x-amz-json-1.0")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name
                return

        return Handler

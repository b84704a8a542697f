"""Ports of 127.0.0.1 and waiting with a bound. Knows nothing about what listens there."""

import socket
import time
from collections.abc import Callable

HOST = "127.0.0.1"


def free_port() -> int:
    """Return a port of 127.0.0.1 that nothing listens on."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def accepts(port: int, host: str = HOST, *, timeout: float = 1) -> bool:
    """Tell whether something accepts TCP connections there."""
    try:
        with socket.create_connection((host, port), timeout):
            return True
    except OSError:
        return False


def wait_until(condition: Callable[[], bool], *, seconds: float, what: str) -> None:
    """Return when `condition()` holds; raise TimeoutError naming `what` when it does not within `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            msg = f"{what}: not within {seconds:g} s"
            raise TimeoutError(msg)
        time.sleep(0.02)

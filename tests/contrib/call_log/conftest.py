"""The call log at work, for the time of one test, and calls to keep."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from django_mcp import Server
from django_mcp.contrib.call_log.writer import listen, stop_listening
from django_mcp.server.finished_call import FinishedCall
from tests.servers import defined


@pytest.fixture
def listening() -> Iterator[None]:
    listen()
    yield
    stop_listening()


@pytest.fixture
def server() -> Iterator[Server]:
    with defined("tested") as server:
        yield server


def finished(*, days_ago: float = 0, **changes: Any) -> FinishedCall:
    values: dict[str, Any] = {
        "server": "s",
        "tool": "work",
        "principal": "user:1",
        "tenant": "",
        "era": "modern",
        "protocol_version": "2026-07-28",
        "client_name": "editor",
        "client_version": "1.2",
        "arguments_digest": "0123456789abcdef",
        "outcome": "ok",
        "milliseconds": 12,
        "session": "",
        "conversation": "",
        "ended_at": timezone.now() - timedelta(days=days_ago),
    }
    return FinishedCall(**{**values, **changes})

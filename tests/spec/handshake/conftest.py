"""A public server of the test's own."""

from collections.abc import Iterator

import pytest
from pytest_django import Settings

from django_mcp import Server
from tests.servers import defined
from tests.spec.handshake.peer import SERVER


@pytest.fixture(autouse=True)
def public(settings: Settings) -> None:
    # Streams are woken by each change; polling beside it would only hold the tables of SQLite.
    settings.DJANGO_MCP = {"ACCESS": "public", "POLL_SECONDS": 60}


@pytest.fixture
def server() -> Iterator[Server]:
    with defined(SERVER) as server:
        yield server

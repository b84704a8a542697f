"""A server of the test's own."""

from collections.abc import Iterator

import pytest

from django_mcp import Server
from tests.servers import defined


@pytest.fixture
def server() -> Iterator[Server]:
    with defined("tested") as server:
        yield server

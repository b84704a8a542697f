"""A view answers a tool's call as it answers REST: the same data, refusals, effects, and number of queries."""

import pytest

from django_mcp import Server
from tests.contrib.rest_framework.asks import asks
from tests.contrib.rest_framework.pairs import Ask, by_rest, by_tool

ASKS = list(asks())


def test_the_table_has_over_a_hundred_requests() -> None:
    assert len(ASKS) > 100


@pytest.mark.parametrize("ask", ASKS, ids=str)
def test_a_tool_answers_as_rest_does(library: Server, ask: Ask) -> None:
    expected, came = by_rest(ask), by_tool(ask, library.name)
    assert came == expected

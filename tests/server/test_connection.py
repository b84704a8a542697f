"""Requests with one envelope share its typed form and nothing else."""

from __future__ import annotations

from typing import Any

import pytest
from mcp.server.connection import Connection

from django_mcp.server.connection import connection_of

VERSION = "2026-07-28"
INFO = {"name": "client", "version": "1"}
CAPABILITIES: dict[str, Any] = {"elicitation": {}}


async def test_it_knows_what_the_sdk_would_know() -> None:
    ours, theirs = (make(VERSION, INFO, CAPABILITIES) for make in (connection_of, Connection.from_envelope))

    assert vars(ours).keys() == vars(theirs).keys()
    assert ours.client_params == theirs.client_params
    assert ours.client_capabilities == theirs.client_capabilities
    assert ours.protocol_version == VERSION
    assert ours.initialize_accepted


async def test_two_requests_share_no_state() -> None:
    first, second = (connection_of(VERSION, INFO, CAPABILITIES) for _ in range(2))
    first.state["secret"] = "of the first"

    assert second.state == {}
    assert first.exit_stack is not second.exit_stack
    assert connection_of(VERSION, INFO, CAPABILITIES).state == {}


async def test_a_channel_belongs_to_its_request() -> None:
    channel: Any = object()

    assert connection_of(VERSION, INFO, CAPABILITIES, outbound=channel).outbound is channel
    assert connection_of(VERSION, INFO, CAPABILITIES).outbound is not channel


@pytest.mark.parametrize(
    "info",
    [None, 7, [], {"name": 1}, {"name": "\ud800", "version": "1"}, {"name": "x" * 10_000, "version": "1"}],
    ids=["none", "number", "list", "wrong type", "surrogate", "large"],
)
async def test_a_misshaped_envelope_is_read_as_the_sdk_reads_it(info: Any) -> None:
    ours, theirs = (make(VERSION, info, CAPABILITIES) for make in (connection_of, Connection.from_envelope))

    assert ours.client_params == theirs.client_params
    assert ours.client_capabilities == theirs.client_capabilities


async def test_the_versions_of_one_client_are_apart() -> None:
    older, newer = (connection_of(version, INFO, CAPABILITIES) for version in ("2025-11-25", VERSION))

    assert (older.protocol_version, newer.protocol_version) == ("2025-11-25", VERSION)
    assert newer.client_params is not None
    assert newer.client_params.protocol_version == VERSION

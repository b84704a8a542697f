"""Fixtures of all tests."""

import pytest

from django_mcp.contrib.call_log.writer import stop_listening
from tests.databases import concurrent_database, migrated_database

__all__ = ["concurrent_database", "migrated_database"]


@pytest.fixture(autouse=True, scope="session")
def no_call_log() -> None:
    """Only the tests of the call log write one: a row for each call is for no other to expect."""
    stop_listening()

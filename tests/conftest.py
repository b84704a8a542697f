"""Fixtures of all tests."""

from tests.databases import concurrent_database, migrated_database

__all__ = ["concurrent_database", "migrated_database"]

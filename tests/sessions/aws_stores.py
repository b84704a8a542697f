"""Stores of the tests' own on what stands for AWS: states in a table of DynamoDB, large values in a bucket of S3."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from typing import Any

import pytest
from pytest_django import Settings

from django_mcp.sessions.stores.dynamodb import DynamoDBStateStore
from tests import services
from tests.services import PrivateAWS

Options = dict[str, Any]


def make(options: Options, using: str = "default", **more: Any) -> DynamoDBStateStore:
    """Return a store of another process: it remembers nothing that others do."""
    return DynamoDBStateStore("dynamodb", {"OPTIONS": {**options, "USING": using, **more}})


def bucket_storage(server: PrivateAWS, name: str = "") -> Options:
    """Return an entry of `STORAGES` for a bucket, of the storage's own where it has no name."""
    options = server.bucket(name or f"bucket-{secrets.token_hex(6)}")
    return {"BACKEND": "storages.backends.s3.S3Storage", "OPTIONS": options}


@pytest.fixture(scope="module")
def aws() -> Iterator[PrivateAWS]:
    with services.aws() as server:
        yield server


@pytest.fixture
def options(aws: PrivateAWS) -> Options:
    """Return the options of a store with a table of its own."""
    made = aws.new_table()
    assert make(made).table.create()
    return made


@pytest.fixture
def bucket(aws: PrivateAWS, settings: Settings) -> str:
    """Make the storage `blobs` a bucket, and return its name."""
    storage = bucket_storage(aws)
    settings.STORAGES = {**settings.STORAGES, "blobs": storage}
    return str(storage["OPTIONS"]["bucket_name"])

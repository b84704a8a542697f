"""`manage.py mcp table`: a table of the right shape, made once."""

import io
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from pytest_django import Settings

from django_mcp.sessions.stores import store
from django_mcp.sessions.stores.dynamodb import DynamoDBStore
from tests.services import PrivateAWS
from tests.sessions.aws_stores import aws

__all__ = ["aws"]

BACKEND = "django_mcp.sessions.stores.dynamodb.DynamoDBStore"
DATABASE = {"BACKEND": "django_mcp.sessions.stores.database.DatabaseStore"}


def run(*words: str) -> str:
    stdout = io.StringIO()
    call_command("mcp", "table", *words, stdout=stdout)
    return stdout.getvalue()


def stores(settings: Settings, **options: Any) -> None:
    settings.DJANGO_MCP = {"STORES": {"default": DATABASE, "aws": {"BACKEND": BACKEND, "OPTIONS": options}}}


def test_the_table_is_made_once_with_its_keys_and_its_time_to_live(aws: PrivateAWS, settings: Settings) -> None:
    options = aws.new_table()
    stores(settings, **options)
    assert run() == f"aws: the table {options['TABLE']} was created.\n"
    assert run("aws") == f"aws: the table {options['TABLE']} is there.\n"
    backend = store("aws")
    assert isinstance(backend, DynamoDBStore)
    client = backend.state.table.client
    made = client.describe_table(TableName=options["TABLE"])["Table"]
    keys = [(key["AttributeName"], key["KeyType"]) for key in made["KeySchema"]]
    assert keys == [("family", "HASH"), ("item", "RANGE")]
    assert made["BillingModeSummary"]["BillingMode"] == "PAY_PER_REQUEST"
    lives = client.describe_time_to_live(TableName=options["TABLE"])["TimeToLiveDescription"]
    assert (lives["TimeToLiveStatus"], lives["AttributeName"]) == ("ENABLED", "expires")


def test_what_cannot_be_made_is_said(aws: PrivateAWS, settings: Settings) -> None:
    stores(settings)
    with pytest.raises(CommandError, match=r"has no region\. Set DJANGO_MCP"):
        run()
    stores(settings, REGION="eu-central-1")
    with pytest.raises(CommandError, match=r"has no table\. Set DJANGO_MCP"):
        run()
    with pytest.raises(CommandError, match="The store 'default' is not on DynamoDB"):
        run("default")
    with pytest.raises(CommandError, match="There is no store 'other'"):
        run("other")
    settings.DJANGO_MCP = {}
    with pytest.raises(CommandError, match="No store in STORES is on DynamoDB"):
        run()

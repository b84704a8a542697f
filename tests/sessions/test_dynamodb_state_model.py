"""Whatever is done in whatever order, the store on DynamoDB says what the model says that the database's has to."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import Any, ClassVar

import pytest
from hypothesis import settings

from django_mcp.sessions.stores import dynamodb_generations, indexed_generations
from django_mcp.sessions.stores.dynamodb_state import DynamoDBState
from django_mcp.sessions.stores.dynamodb_table import DynamoDBTable, Item
from django_mcp.sessions.stores.state import StateStore
from tests.services import PrivateAWS
from tests.sessions.aws_stores import aws, make
from tests.sessions.indexed_machine import IndexedMachine, ModelTests, UncheckedCommit
from tests.sessions.state_machine import SETTINGS, StateMachine
from tests.sessions.state_model import TRIM_EVERY, Modelled

__all__ = ["aws"]

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.services, pytest.mark.timeout(900)]


class DynamoDBMachine(IndexedMachine):
    """Each run has a table of its own."""

    writes = ((DynamoDBTable, "put_all"), (DynamoDBTable, "transact"))
    server: ClassVar[PrivateAWS]

    def _made(self) -> StateStore:
        self.on_dynamodb = make(self.server.new_table())
        assert self.on_dynamodb.table.create()
        return self.on_dynamodb

    def teardown(self) -> None:
        super().teardown()
        table = self.on_dynamodb.table
        table.client.delete_table(TableName=table.name)

    def _items_of(self, family: str, prefix: str) -> dict[str, Item]:
        store = self.on_dynamodb
        found = store.table.query(f"django_mcp:{store.alias}:f:{family}", prefix)
        return {item["item"]: item for item in found}

    def _blobs_of(self, family: str) -> set[str]:
        return {name[2:] for name in self._items_of(family, "b:")}

    def _lines_of(self, of: Modelled) -> dict[str, Item]:
        return self._items_of(of.record.family, f"c:{of.record.id}:g")

    def _manifests_of(self, of: Modelled) -> list[bytes]:
        return [line["manifest"] for line in self._lines_of(of).values()]

    def _is_more_than_needed(self) -> bool:
        return any(self._items_of(of.record.family, f"c:{of.record.id}:") for of in self.known if of.is_over)

    def _stored(self) -> dict[str, tuple[Any, ...]]:
        stored: dict[str, tuple[Any, ...]] = {}
        for of in self._live:
            lines = self._lines_of(of)
            numbers = [int(name.rpartition(":g")[2]) for name in lines]
            stored[of.record.id] = (of.head, numbers, lines, self._blobs_of(of.record.family))
        return stored


class UncheckedDynamoDB(UncheckedCommit, DynamoDBState):
    """The remote part on DynamoDB, with commits that are not checked."""


class TestOnDynamoDB(ModelTests):
    # The server that stands for DynamoDB is slow.
    runs = few_runs = settings(SETTINGS, max_examples=6)
    broken = ("django_mcp.sessions.stores.dynamodb.DynamoDBState", UncheckedDynamoDB)

    @pytest.fixture
    def machine(self, aws: PrivateAWS, monkeypatch: pytest.MonkeyPatch) -> type[StateMachine]:
        """Return a machine whose store keeps what is over by the clock until it is collected, as the database does."""
        monkeypatch.setattr(indexed_generations, "LEEWAY", timedelta(days=365))
        monkeypatch.setattr(dynamodb_generations, "TRIM_EVERY", TRIM_EVERY)
        DynamoDBMachine.seen = Counter()
        DynamoDBMachine.server = aws
        return DynamoDBMachine

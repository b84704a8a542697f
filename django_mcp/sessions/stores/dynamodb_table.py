"""How a store reaches DynamoDB: one table, its keys `family` and `item`, and writes that each say on what condition.

Knows no conversation. Values are text, bytes, whole numbers and truth; reads are strongly consistent. What expires
carries the second in `expires`, which is the table's time to live: DynamoDB deletes late, so whoever reads such an
item looks at the time. Credentials are found by boto3, as always.
"""

from __future__ import annotations

import logging
import random
import re
import secrets
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final, TypeAlias

from django_mcp.exceptions import ConfigurationError, StoreUnavailable
from django_mcp.setting import SETTING

Value: TypeAlias = str | bytes | int | bool
Item: TypeAlias = dict[str, Any]
Key: TypeAlias = tuple[str, str]
"""The `family` and the `item` of an item."""

logger = logging.getLogger("django_mcp.stores")

MOST_WRITES: Final = 100
"""Items of one transaction."""
PART_BYTES: Final = 384 * 1024
"""What of a body one item holds: an item has 400 KB, its names among them."""
_PUTS_AT_ONCE: Final = 8
_DELETES_AT_ONCE: Final = 25
_GETS_AT_ONCE: Final = 100
_ATTEMPTS: Final = 8
_CONFLICTS: Final = 4
"""After so many the caller looks at what the others made of it."""
_FIRST_PAUSE_SECONDS: Final = 0.02
_CONNECT_SECONDS: Final = 3
_READ_SECONDS: Final = 5
_CONNECTIONS: Final = 50
_PASSING: Final = frozenset({"None", "ProvisionedThroughputExceeded", "ThrottlingError", "TransactionConflict"})
_NAME: Final = re.compile(r"#(\w+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Write:
    """A write of one item: `item` is put whole, or `update` is done, or it is deleted; else its condition is asked.

    `update` and `condition` are DynamoDB's expressions: every attribute is `#its_name`, each value is in `values`.
    """

    key: Key
    item: Item | None = field(default=None, repr=False)
    update: str = ""
    is_delete: bool = False
    condition: str = ""
    values: Mapping[str, Value] = field(default_factory=dict, repr=False)

    @property
    def verb(self) -> str:
        if self.item is not None:
            return "Put"
        if self.is_delete:
            return "Delete"
        return "Update" if self.update else "ConditionCheck"

    def request(self, table: str) -> dict[str, Any]:
        """Return the parameters of the write, alone or in a transaction."""
        asked: dict[str, Any] = {"TableName": table}
        if self.item is None:
            asked["Key"] = _packed_key(self.key)
        else:
            asked["Item"] = _packed({**self.item, "family": self.key[0], "item": self.key[1]})
        if self.update:
            asked["UpdateExpression"] = self.update
        if self.condition:
            asked["ConditionExpression"] = self.condition
        asked |= _names(self.update, self.condition)
        if self.values:
            asked["ExpressionAttributeValues"] = _packed(self.values)
        return asked


class DynamoDBTable:
    """The table of one alias in `STORES`.

    Args:
        name: of the table; without one whoever uses it gets a ConfigurationError.
        region, endpoint_url: as boto3 takes them, None for what its own configuration says.
    """

    def __init__(
        self, alias: str, name: str | None, *, region: str | None = None, endpoint_url: str | None = None
    ) -> None:
        self.alias = alias
        self.region = region
        self.endpoint_url = endpoint_url
        self._name = name

    @property
    def name(self) -> str:
        if not self._name:
            raise ConfigurationError(
                f"The store {self.alias!r} has no table. Set {SETTING}['STORES'][{self.alias!r}]['OPTIONS']['TABLE']."
            )
        return self._name

    @cached_property
    def client(self) -> Any:
        """Return the client that all threads share. Raises ConfigurationError without boto3, or a region for it."""
        try:
            import boto3
            from botocore.config import Config
            from botocore.exceptions import NoRegionError
        except ImportError as error:
            raise ConfigurationError(
                f'The store {self.alias!r} needs boto3: pip install "django-mcp-durable[dynamodb]".'
            ) from error
        config = Config(
            connect_timeout=_CONNECT_SECONDS,
            read_timeout=_READ_SECONDS,
            max_pool_connections=_CONNECTIONS,
            retries={"mode": "standard", "total_max_attempts": 3},
        )
        session = boto3.session.Session()
        try:
            return session.client("dynamodb", region_name=self.region, endpoint_url=self.endpoint_url, config=config)
        except NoRegionError as error:
            raise ConfigurationError(
                f"The store {self.alias!r} has no region. Set {SETTING}['STORES'][{self.alias!r}]['OPTIONS']['REGION']"
                " or, in the environment, AWS_DEFAULT_REGION."
            ) from error

    # Read

    def get(self, key: Key) -> Item | None:
        """Return an item, None if there is none."""
        with self.outages():
            answer = self.client.get_item(TableName=self.name, Key=_packed_key(key), ConsistentRead=True)
        return _unpacked(answer["Item"]) if "Item" in answer else None

    def get_all(self, keys: Iterable[Key], *names: str) -> dict[Key, Item]:
        """Return those that there are, with the attributes of these names (all where none is named)."""
        left = [_packed_key(key) for key in dict.fromkeys(keys)]
        projection = _projection(names)
        found: dict[Key, Item] = {}
        pauses = _pauses()
        while left:
            chunk, left = left[:_GETS_AT_ONCE], left[_GETS_AT_ONCE:]
            with self.outages():
                answer = self.client.batch_get_item(
                    RequestItems={self.name: {"Keys": chunk, "ConsistentRead": True, **projection}}
                )
            got = [_unpacked(item) for item in answer["Responses"].get(self.name, ())]
            found |= {(item["family"], item["item"]): item for item in got}
            over = answer.get("UnprocessedKeys", {}).get(self.name, {}).get("Keys", [])
            if over and not got:
                _pause(pauses)
            left += over
        return found

    def query(
        self, family: str, prefix: str, *names: str, limit: int | None = None, newest_first: bool = False
    ) -> list[Item]:
        """Return the items whose `item` begins with `prefix`, by its order; `limit` at most."""
        asked: dict[str, Any] = {
            "TableName": self.name,
            "ConsistentRead": True,
            "ScanIndexForward": not newest_first,
            "KeyConditionExpression": "#family = :family AND begins_with(#item, :prefix)",
            "ExpressionAttributeValues": _packed({":family": family, ":prefix": prefix}),
        }
        if not prefix:
            asked["KeyConditionExpression"] = "#family = :family"
            del asked["ExpressionAttributeValues"][":prefix"]
        asked |= _projection(names, asked["KeyConditionExpression"])
        found: list[Item] = []
        while limit is None or len(found) < limit:
            if limit is not None:
                asked["Limit"] = limit - len(found)
            with self.outages():
                answer = self.client.query(**asked)
            found += map(_unpacked, answer["Items"])
            if "LastEvaluatedKey" not in answer:
                break
            asked["ExclusiveStartKey"] = answer["LastEvaluatedKey"]
        return found

    # Write

    def apply(self, write: Write) -> Item | None:
        """Do one write; return None if its condition is not met, else the item, as it is after an update or was before
        a delete.
        """
        asked = write.request(self.name)
        pauses = _pauses()
        while True:
            with self.outages():
                try:
                    if write.verb == "Put":
                        self.client.put_item(**asked)
                        return {}
                    if write.verb == "Delete":
                        return _unpacked(
                            self.client.delete_item(**asked, ReturnValues="ALL_OLD").get("Attributes", {})
                        )
                    return _unpacked(self.client.update_item(**asked, ReturnValues="ALL_NEW")["Attributes"])
                except self.client.exceptions.ConditionalCheckFailedException:
                    return None
                except self.client.exceptions.TransactionConflictException as error:
                    logger.debug("A write of the store %r is sent again: %s", self.alias, error)
            _pause(pauses)

    def transact(self, writes: Sequence[Write]) -> bool:
        """Do all of these writes, MOST_WRITES of different items at most, or none.

        False if a condition is not met, or others write the same items again and again. One that is sent again because
        its answer was lost is not done again for as long as DynamoDB remembers it, and False then: who gets that looks
        at what is there.
        """
        items = [{write.verb: write.request(self.name)} for write in writes]
        pauses = _pauses()
        for attempt in range(1, _ATTEMPTS + 1):
            with self.outages():
                try:
                    self.client.transact_write_items(TransactItems=items, ClientRequestToken=secrets.token_hex(16))
                except self.client.exceptions.TransactionCanceledException as error:
                    reasons = {reason.get("Code", "None") for reason in error.response.get("CancellationReasons", ())}
                    if "ConditionalCheckFailed" in reasons:
                        return False
                    if not reasons <= _PASSING:
                        raise
                    if attempt == _CONFLICTS and "TransactionConflict" in reasons:
                        return False
                    logger.debug("A transaction of the store %r is sent again: %s", self.alias, error)
                else:
                    return True
            _pause(pauses)
        raise StoreUnavailable("DynamoDB is too busy")

    def put_all(self, items: Mapping[Key, Item]) -> None:
        """Put items of any number, in no order, one by one."""
        puts = [
            {"PutRequest": {"Item": _packed({**item, "family": key[0], "item": key[1]})}}
            for key, item in items.items()
        ]
        self._write_all(puts, _PUTS_AT_ONCE)

    def delete_all(self, keys: Iterable[Key]) -> None:
        """Delete items of any number, in no order, one by one."""
        deletes = [{"DeleteRequest": {"Key": _packed_key(key)}} for key in dict.fromkeys(keys)]
        self._write_all(deletes, _DELETES_AT_ONCE)

    def _write_all(self, requests: list[dict[str, Any]], at_once: int) -> None:
        pauses = _pauses()
        while requests:
            chunk, requests = requests[:at_once], requests[at_once:]
            with self.outages():
                answer = self.client.batch_write_item(RequestItems={self.name: chunk})
            over = answer.get("UnprocessedItems", {}).get(self.name, [])
            if len(over) == len(chunk):
                _pause(pauses)
            requests = over + requests

    # The table itself

    def create(self) -> bool:
        """Create the table, paid by request, with its time to live; False if it is there (and has one by now)."""
        with self.outages():
            try:
                self.client.create_table(
                    TableName=self.name,
                    BillingMode="PAY_PER_REQUEST",
                    AttributeDefinitions=[
                        {"AttributeName": name, "AttributeType": "S"} for name in ("family", "item")
                    ],
                    KeySchema=[
                        {"AttributeName": "family", "KeyType": "HASH"},
                        {"AttributeName": "item", "KeyType": "RANGE"},
                    ],
                )
                is_new = True
            except self.client.exceptions.ResourceInUseException:
                is_new = False
            self.client.get_waiter("table_exists").wait(TableName=self.name, WaiterConfig={"Delay": 2})
            lives = self.client.describe_time_to_live(TableName=self.name)["TimeToLiveDescription"]
            if lives["TimeToLiveStatus"] not in {"ENABLED", "ENABLING"}:
                self.client.update_time_to_live(
                    TableName=self.name, TimeToLiveSpecification={"Enabled": True, "AttributeName": "expires"}
                )
        return is_new

    @contextmanager
    def outages(self) -> Iterator[None]:
        """Raise StoreUnavailable for what says that DynamoDB is away or refuses us, with the cause chained."""
        self.client  # noqa: B018 - says what is missing before botocore is imported
        from botocore import exceptions as errors

        try:
            yield
        except errors.ClientError as error:
            code = error.response.get("Error", {}).get("Code", "")
            if code in {"TransactionCanceledException", "ValidationException"}:
                raise
            if code == "ResourceNotFoundException":
                raise StoreUnavailable(f"DynamoDB has no table {self.name!r}") from error
            raise StoreUnavailable(f"DynamoDB cannot serve for now ({code})") from error
        except errors.ParamValidationError:
            raise
        except (errors.BotoCoreError, OSError) as error:
            raise StoreUnavailable("DynamoDB does not answer") from error


def _pauses() -> Iterator[float]:
    return (random.uniform(0.5, 1.5) * _FIRST_PAUSE_SECONDS * 2**attempt for attempt in range(_ATTEMPTS))  # noqa: S311


def _pause(pauses: Iterator[float]) -> None:
    """Wait for the next of these times. Raises StoreUnavailable where there are no more."""
    seconds = next(pauses, None)
    if seconds is None:
        raise StoreUnavailable("DynamoDB is too busy")
    time.sleep(seconds)


def _names(*expressions: str) -> dict[str, Any]:
    found = {f"#{name}": name for expression in expressions for name in _NAME.findall(expression)}
    return {"ExpressionAttributeNames": found} if found else {}


def _projection(names: Sequence[str], *expressions: str) -> dict[str, Any]:
    if not names:
        return _names(*expressions)
    projection = ", ".join(f"#{name}" for name in dict.fromkeys(("family", "item", *names)))
    return {"ProjectionExpression": projection, **_names(projection, *expressions)}


def _packed_key(key: Key) -> dict[str, Any]:
    return _packed({"family": key[0], "item": key[1]})


def _packed(values: Mapping[str, Value]) -> dict[str, Any]:
    return {name: _pack(value) for name, value in values.items()}


def _pack(value: Value) -> dict[str, Any]:
    if isinstance(value, bool):
        return {"BOOL": value}
    if isinstance(value, int):
        return {"N": str(value)}
    return {"B": value} if isinstance(value, bytes) else {"S": value}


def _unpacked(item: Mapping[str, Mapping[str, Any]]) -> Item:
    found: Item = {}
    for name, typed in item.items():
        ((kind, value),) = typed.items()
        found[name] = int(value) if kind == "N" else value
    return found

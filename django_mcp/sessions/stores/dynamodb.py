"""The store with its state on DynamoDB. Sessions' logs and the index of conversations stay in the database.

Options: `TABLE`, its name; `REGION` and `ENDPOINT_URL`, as boto3 takes them (None: as its own configuration says);
`USING`, `MAX_CONVERSATIONS` and the other options of `DatabaseStore`. Credentials are boto3's own business.
"""

from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from typing import Any, Final

from django.core.checks import CheckMessage, Error

from django_mcp.exceptions import ConfigurationError
from django_mcp.sessions.stores.database import OPTIONS as DATABASE_OPTIONS
from django_mcp.sessions.stores.database import DatabaseStore
from django_mcp.sessions.stores.dynamodb_state import DynamoDBState
from django_mcp.sessions.stores.dynamodb_table import DynamoDBTable
from django_mcp.sessions.stores.indexed_state import IndexedStateStore
from django_mcp.setting import SETTING

OPTIONS: Final = frozenset({"ENDPOINT_URL", "REGION", "TABLE"})


class DynamoDBStateStore(IndexedStateStore):
    """Options: `TABLE`, `REGION`, `ENDPOINT_URL`; those of `IndexedStateStore`."""

    def __init__(self, alias: str, params: Mapping[str, Any]) -> None:
        options = params.get("OPTIONS", {})
        self.table = DynamoDBTable(
            alias, options.get("TABLE"), region=options.get("REGION"), endpoint_url=options.get("ENDPOINT_URL")
        )
        super().__init__(alias, params, DynamoDBState(self.table))


class DynamoDBStore(DatabaseStore):
    def __init__(self, alias: str, params: Mapping[str, Any]) -> None:
        options: Mapping[str, Any] = params.get("OPTIONS", {})
        unknown = options.keys() - OPTIONS - DATABASE_OPTIONS
        if unknown:
            raise ConfigurationError(
                f"{SETTING}['STORES'][{alias!r}]['OPTIONS'] has the unknown keys {sorted(map(str, unknown))}; "
                f"the known ones are {', '.join(sorted(OPTIONS | DATABASE_OPTIONS))}."
            )
        rest = {name: value for name, value in options.items() if name not in OPTIONS}
        super().__init__(alias, {**params, "OPTIONS": rest})
        self._conversations = DynamoDBStateStore(alias, params)

    @property
    def state(self) -> DynamoDBStateStore:
        return self._conversations

    def check(self, **kwargs: Any) -> Iterable[CheckMessage]:
        yield from super().check(**kwargs)
        options = f"{SETTING}['STORES'][{self.alias!r}]['OPTIONS']"
        if find_spec("boto3") is None:
            yield Error(
                f"The store {self.alias!r} keeps its state on DynamoDB, and boto3 is not installed.",
                hint='Run pip install "django-mcp-durable[dynamodb]".',
                id="django_mcp.E013",
            )
        if not self._conversations.options.get("TABLE"):
            yield Error(
                f"The store {self.alias!r} keeps its state on DynamoDB, and has no table.",
                hint=f"Set {options}['TABLE'] to its name; `manage.py mcp table` creates it.",
                id="django_mcp.E013",
            )

"""From an alias to a store."""

from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from pytest_django import Settings

from django_mcp.sessions.stores import LogStore, state_store, store, stores
from django_mcp.sessions.stores.database import DatabaseStore
from django_mcp.sessions.stores.database_state import DatabaseStateStore
from tests.databases import together

DATABASE = "django_mcp.sessions.stores.database.DatabaseStore"


def test_an_alias_has_one_store_until_the_settings_change(settings: Settings) -> None:
    first = store()
    assert isinstance(first, DatabaseStore)
    assert store() is first
    settings.DJANGO_MCP = {
        "STORES": {
            "default": {"BACKEND": DATABASE},
            "other": {"BACKEND": DATABASE, "OPTIONS": {"USING": "replica"}},
        }
    }
    assert store() is not first
    other = store("other")
    assert isinstance(other, DatabaseStore)
    assert other.write_alias == "replica"
    assert list(stores) == ["default", "other"]


def test_one_backend_of_an_alias_gives_both_stores(settings: Settings) -> None:
    settings.DJANGO_MCP = {"STORES": {"default": {"BACKEND": DATABASE, "OPTIONS": {"USING": "replica"}}}}
    found = state_store()
    assert isinstance(found, DatabaseStateStore)
    assert (found.alias, found.write_alias) == ("default", "replica")
    assert state_store() is found


def test_a_backend_without_conversations_says_so() -> None:
    with pytest.raises(ImproperlyConfigured, match=r"The store 'default' \(DatabaseStore\) keeps no conversations"):
        LogStore.state.fget(store())  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("backend", "message"),
    [
        ("nowhere.Store", "'nowhere.Store' cannot be imported: No module named 'nowhere'"),
        ("django_mcp.sessions.stores.database.Stor", "cannot be imported: Module"),
        ("os.path.join", "'os.path.join' is not a LogStore"),
        ("collections.OrderedDict", "'collections.OrderedDict' is not a LogStore"),
    ],
)
def test_a_wrong_backend_is_named(settings: Settings, backend: str, message: str) -> None:
    settings.DJANGO_MCP = {"STORES": {"default": {"BACKEND": backend}}}
    with pytest.raises(ImproperlyConfigured) as caught:
        store()
    assert str(caught.value).startswith("DJANGO_MCP['STORES']['default']: ")
    assert message in str(caught.value)


def test_an_unknown_alias_is_refused_with_the_known_ones() -> None:
    with pytest.raises(
        ImproperlyConfigured, match=r"There is no store 'other' in DJANGO_MCP\['STORES'\]; it has 'def"
    ):
        store("other")


def test_threads_that_ask_at_once_get_the_same_store() -> None:
    stores.reset()
    found: list[Any] = together(16, lambda _: store())
    assert len(set(map(id, found))) == 1
